"""Deploy a policy: save it without what training needs, load it elsewhere, and act.

Loading and acting import JAX and NumPy, but no trainer, no TensorBoard and no matplotlib.

    python deploy.py RUN
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

import estep


def serve(folder, observations):
    """The actions of a saved policy for a batch of observations [n, o]."""
    policy = estep.load(folder)
    return policy.act(observations)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        policy = estep.load(sys.argv[1])
    else:  # nothing to deploy yet: train for a few seconds
        small = {"steps": 300, "warmup_steps": 100, "hidden_sizes": (16, 16), "batch_size": 32, "eval_episodes": 1}
        policy = estep.train("sac", "Pendulum-v1", preset="none", **small)
    saved = policy.save(Path(tempfile.mkdtemp()) / "policy")
    observations = np.zeros((3, policy.agent.spec.obs_dim), np.float32)
    print(f"saved in {saved}\nactions for three observations: {serve(saved, observations).ravel()}")
