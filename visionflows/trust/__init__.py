"""How far an answer can be believed: calibrated, or left to a person.

Here belongs what is said of an answer; not how a network comes to it, nor where it is written.
"""
