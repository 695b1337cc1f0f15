"""`visionflows up` (server, worker and deployments on this machine) and `visionflows doctor`."""
