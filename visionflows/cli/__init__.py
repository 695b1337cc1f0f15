"""The command line: words into settings, settings into flows, results into lines.

Here belongs what a person types and reads; nothing is computed here.
"""
