"""The Prefect tasks of the flows; each is a thin decorator over a function of `visionflows`."""
