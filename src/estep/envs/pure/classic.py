"""Pendulum-v1 and CartPole-v1 as pure functions, by the equations of Gymnasium in float32."""

from __future__ import annotations

import functools as ft
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from estep.core.types import Key, OneHot, Scalar, Spec
from estep.envs.pure.environment import PureEnv
from estep.envs.pure.ids import IDS


@ft.cache
def pendulum() -> PureEnv:
    """Pendulum-v1. The state is the angle and its velocity. An action of ±1 is Gymnasium's torque of ±2."""

    def reset(key: Key) -> Float[Array, " 2"]:
        return jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0) * jnp.array([math.pi, 1.0])

    def observe(state: Float[Array, " 2"]) -> Float[Array, " 3"]:
        return jnp.stack([jnp.cos(state[0]), jnp.sin(state[0]), state[1]])

    def step(
        state: Float[Array, " 2"], action: Float[Array, " 1"]
    ) -> tuple[Float[Array, " 2"], Scalar, Bool[Array, ""]]:
        angle, velocity = state
        torque = 2.0 * jnp.clip(action[0], -1.0, 1.0)
        upright = jnp.mod(angle + math.pi, 2 * math.pi) - math.pi
        cost = jnp.square(upright) + 0.1 * jnp.square(velocity) + 0.001 * jnp.square(torque)
        velocity = jnp.clip(velocity + (15.0 * jnp.sin(angle) + 3.0 * torque) * 0.05, -8.0, 8.0)
        return jnp.stack([angle + velocity * 0.05, velocity]), -cost, jnp.zeros((), bool)

    return PureEnv("pure/Pendulum-v1", Spec(3, 1), reset, observe, step, IDS["pure/Pendulum-v1"])


@ft.cache
def cart_pole() -> PureEnv:
    """CartPole-v1. The state is the position of the cart, the angle of the pole, and their velocities."""

    def reset(key: Key) -> Float[Array, " 4"]:
        return jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05)

    def step(
        state: Float[Array, " 4"], action: Float[Array, " 2"]
    ) -> tuple[Float[Array, " 4"], Scalar, Bool[Array, ""]]:
        _, speed, angle, turning = state
        force = jnp.where(action[1] > action[0], 10.0, -10.0)
        push = (force + 0.05 * jnp.square(turning) * jnp.sin(angle)) / 1.1
        inertia = 0.5 * (4.0 / 3.0 - 0.1 * jnp.square(jnp.cos(angle)) / 1.1)
        tilt = (9.8 * jnp.sin(angle) - jnp.cos(angle) * push) / inertia
        pull = push - 0.05 * tilt * jnp.cos(angle) / 1.1
        after = state + 0.02 * jnp.stack([speed, pull, turning, tilt])
        ended = (jnp.abs(after[0]) > 2.4) | (jnp.abs(after[2]) > 12 * 2 * math.pi / 360)
        return after, jnp.ones(()), ended

    spec = Spec(4, 2, OneHot())
    return PureEnv("pure/CartPole-v1", spec, reset, lambda state: state, step, IDS["pure/CartPole-v1"])


MAKERS = {"pure/Pendulum-v1": pendulum, "pure/CartPole-v1": cart_pole}
