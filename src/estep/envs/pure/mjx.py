"""Gymnasium's MuJoCo tasks on the device: their own models and constants, stepped by MJX.

A state has positions, velocities and the solver's start alone, so that a reset is a choice between short vectors.
"""

from __future__ import annotations

import functools as ft
import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
from jaxtyping import Array

from estep.core.types import Key, Spec
from estep.envs.pure.environment import PureEnv
from estep.envs.pure.rules import RULES, Physics, near
from estep.errors import UsageError
from estep.settings.references import MJX


def simulator() -> Any:
    """The module of MJX. Raises UsageError if it is not installed."""
    try:
        with redirect_stdout(io.StringIO()):  # its import prints which optional parts are missing
            from mujoco import mjx
    except ImportError as error:
        what = f"Environments mjx:ID need mujoco-mjx, which cannot be imported: {error}."
        raise UsageError(what, "Run pip install estep[mjx]; or give the id without mjx: for the host.") from error
    return mjx


@ft.cache
def make(task: str) -> PureEnv:
    """The task of a Gymnasium id on the device.

    Args:
        task: a key of `RULES`.

    Raises:
        UsageError: mujoco-mjx is not installed.
    """
    mjx, rules = simulator(), RULES[task]
    made = gymnasium.make(task, disable_env_checker=True)
    gym: Any = made.unwrapped
    low, high = jnp.asarray(gym.action_space.low), jnp.asarray(gym.action_space.high)
    with as_mjx_needs():
        model, blank = mjx.put_model(gym.model, impl="jax"), mjx.make_data(gym.model, impl="jax")

    def seen(data: Any) -> dict[str, Array]:
        return {} if rules.see is None else rules.see(gym, data)

    @as_mjx_needs()
    def reset(key: Key) -> Physics:
        qpos, qvel = start(gym, rules.normal, key) if rules.reset is None else rules.reset(gym, key)
        found = Physics(qpos, qvel, jnp.zeros_like(qvel), {})
        if rules.see is None:
            return found
        return found._replace(seen=seen(mjx.forward(model, blank.replace(qpos=qpos, qvel=qvel))))

    @as_mjx_needs()
    def step(state: Physics, action: Array) -> tuple[Physics, Array, Array]:
        native = jnp.clip(action * (high / 2 - low / 2) + (high / 2 + low / 2), low, high)
        data = blank.replace(qpos=state.qpos, qvel=state.qvel, qacc_warmstart=state.warm, ctrl=native)
        data = jax.lax.fori_loop(0, gym.frame_skip, lambda _, data: mjx.step(model, data), data)
        after = Physics(data.qpos, data.qvel, data.qacc_warmstart, seen(data))
        reward, ended = rules.judge(gym, state, after, native)
        return after, reward, ended

    spec = Spec(gym.observation_space.shape[0], low.shape[0])
    limit = made.spec.max_episode_steps if made.spec else None
    return PureEnv(MJX + task, spec, reset, rules.observe, step, limit or 1_000)


@contextmanager
def as_mjx_needs() -> Iterator[None]:
    """JAX as MJX is written for: matrix products with full precision, also where a device would round them."""
    with (
        jax.default_matmul_precision("highest"),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        yield


def start(gym: Any, normal: bool, key: Key) -> tuple[Array, Array]:
    """First positions and velocities: the initial ones with noise.

    Args:
        gym: Gymnasium's environment.
        normal: whether the noise of velocities is normal, not uniform.
        key: a random key.
    """
    size, (first, second) = gym._reset_noise_scale, jax.random.split(key)
    qvel = jnp.asarray(gym.init_qvel, jnp.float32)
    moved = qvel + size * jax.random.normal(second, qvel.shape) if normal else near(qvel, second, size)
    return near(gym.init_qpos, first, size), moved
