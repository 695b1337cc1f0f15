"""Scoring on a Ray cluster: nodes, actor pool, scoring actors."""
