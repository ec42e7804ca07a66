"""Training of the networks: steps and epochs in plain torch, bound to Ray Train in `worker`."""
