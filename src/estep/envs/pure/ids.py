"""The Gymnasium ids of environments that are pure functions. This module does not import JAX."""

from __future__ import annotations

import gymnasium

from estep.errors import UsageError
from estep.settings.references import MJX

IDS = {"pure/Pendulum-v1": 200, "pure/CartPole-v1": 500}
"""The environments of `estep.envs.pure.classic`, and the steps after which an episode is truncated."""
BY_JAX = ("pure/", MJX)
"""Beginnings of the ids of environments that JAX computes."""
TASKS = {
    "InvertedPendulum-v5": 1_000,
    "InvertedDoublePendulum-v5": 1_000,
    "Swimmer-v5": 1_000,
    "Hopper-v5": 1_000,
    "HalfCheetah-v5": 1_000,
    "Walker2d-v5": 1_000,
    "Reacher-v5": 50,
}
"""The tasks that `estep.envs.pure.mjx` makes, and the steps after which an episode is truncated."""
PGS = "its model asks for the PGS solver and its observation has forces and inertias, which MJX does not offer"
INEXACT = {
    "Ant-v5": "its observation and its reward have the forces of contacts (cfrc_ext), which MJX does not offer",
    "Humanoid-v5": PGS,
    "HumanoidStandup-v5": PGS,
    "Pusher-v5": "the contacts of its cylinder in MJX were not compared with those in MuJoCo",
}
"""Why tasks of Gymnasium cannot be the same on the device."""
ENTRY = "estep.envs.pure.adapter:make"


def register_id(env_id: str, limit: int) -> None:
    """Let `gymnasium.make` know a pure environment.

    Args:
        env_id: its id, which `estep.envs.pure.adapter.find` knows when the environment is made.
        limit: steps after which an episode is truncated.
    """
    if env_id not in gymnasium.registry:
        gymnasium.register(env_id, entry_point=ENTRY, kwargs={"env_id": env_id}, max_episode_steps=limit)


def inexact(env_id: str) -> UsageError | None:
    """The error for a task of MuJoCo that would be another one on the device; None for other ids."""
    task = env_id.removeprefix(MJX)
    if task == env_id or task not in INEXACT:
        return None
    return UsageError(f"{task} cannot be exact on the device: {INEXACT[task]}.", f"Give --env {task}, on the host.")


for known, steps in (IDS | {MJX + task: steps for task, steps in TASKS.items()}).items():
    register_id(known, steps)
