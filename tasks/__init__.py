"""The Prefect tasks of the flows and nothing else, a chapter a file.

Each is a thin decorator over a function of `visionflows`; what a step does is never decided here.
"""
