"""estep: variational reinforcement learning for continuous control."""
