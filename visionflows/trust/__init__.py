"""How far answers can be believed: calibrated, left to a person, corrected, unlike other nights'.

Here belongs what judges answers, and a model at work; not how a network comes to them, nor how a
page shows them.
"""
