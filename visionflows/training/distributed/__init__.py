"""Distributed training: one worker process per GPU of this machine.

Accelerate's launchers are not used. `notebook_launcher` forks, which CUDA does not allow once this
process has used it (lr_find does); `accelerate launch` needs a script and a port; both install
signal handlers of torch.distributed.elastic, which do not restore ours.
"""
