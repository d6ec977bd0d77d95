"""The Gymnasium ids of environments that are pure functions. This module does not import JAX."""

from __future__ import annotations

import gymnasium

IDS = {"pure/Pendulum-v1": 200, "pure/CartPole-v1": 500}
"""The environments of `estep.envs.pure.classic`, and the steps after which an episode is truncated."""
ENTRY = "estep.envs.pure.adapter:make"


def register_id(env_id: str, limit: int) -> None:
    """Let `gymnasium.make` know a pure environment.

    Args:
        env_id: its id, which `estep.envs.pure.adapter.find` knows when the environment is made.
        limit: steps after which an episode is truncated.
    """
    if env_id not in gymnasium.registry:
        gymnasium.register(env_id, entry_point=ENTRY, kwargs={"env_id": env_id}, max_episode_steps=limit)


for known, steps in IDS.items():
    register_id(known, steps)
