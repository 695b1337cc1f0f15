"""This machine as a server of runs: what `up` starts and stops, what `doctor` looks at.

Here belong processes that outlive a command, and what they need to be there.
"""
