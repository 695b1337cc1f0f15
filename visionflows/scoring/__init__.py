"""A scoring run: what is to score, what is done, and the books that must balance.

Here belongs whatever makes one row for every file, and a run that can be killed at any moment.
"""
