"""The flows and nothing else: each reads as a table of contents of its tasks.

What a step does is in `visionflows`; how it shows in Prefect, in `tasks` and `orchestration`.
"""
