"""How far answers can be believed: calibrated, explained, left to a person, corrected, compared.

Here belongs what judges answers, and a model at work; not how a network comes to them, nor how a
page shows them.
"""
