"""What Gymnasium's MuJoCo tasks observe, reward and end, as pure functions of what the simulator gives.

The constants are read from Gymnasium's own environment, so that they are those of the installed version.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from estep.core.types import Key, Scalar


class Physics(NamedTuple):
    """What a task reads of the simulator."""

    qpos: Float[Array, " q"]
    qvel: Float[Array, " v"]
    warm: Float[Array, " v"]
    """The accelerations from which the solver of the next step starts."""
    seen: dict[str, Array]
    """Further arrays that the task reads, as the simulator left them after its last step."""


Verdict = tuple[Scalar, Bool[Array, ""]]
"""The reward, and whether the task has ended."""


class Rules(NamedTuple):
    """One task. `gym` is Gymnasium's environment with its constants."""

    observe: Callable[[Physics], Array]
    judge: Callable[[Any, Physics, Physics, Array], Verdict]
    """From gym, the physics before and after a step, and the action in the task's own bounds."""
    normal: bool = False
    """Whether the noise of first velocities is normal, not uniform."""
    see: Callable[[Any, Any], dict[str, Array]] | None = None
    """From gym and the simulator's data to `Physics.seen`."""
    reset: Callable[[Any, Key], tuple[Array, Array]] | None = None
    """First positions and velocities, where they are not the initial ones with noise in every number."""


def forward(gym: Any, before: Physics, after: Physics, action: Array) -> Scalar:
    """The reward of running: the velocity along x over a step, less the cost of control."""
    gain = gym._forward_reward_weight * (after.qpos[0] - before.qpos[0]) / gym.dt
    found: Scalar = gain - gym._ctrl_cost_weight * jnp.square(action).sum()
    return found


def runs_on(gym: Any, before: Physics, after: Physics, action: Array) -> Verdict:
    """HalfCheetah and Swimmer: the reward of running, without an end."""
    return forward(gym, before, after, action), jnp.zeros((), bool)


def stays_up(gym: Any, before: Physics, after: Physics, action: Array) -> Verdict:
    """Hopper and Walker2d: running and a reward for being healthy, which ends the task where it fails."""
    (low_z, high_z), (low_angle, high_angle) = gym._healthy_z_range, gym._healthy_angle_range
    z, angle = after.qpos[1], after.qpos[2]
    healthy = (low_z < z) & (z < high_z) & (low_angle < angle) & (angle < high_angle)
    if hasattr(gym, "_healthy_state_range"):
        low, high = gym._healthy_state_range
        state = jnp.concatenate([after.qpos, after.qvel])[2:]
        healthy = healthy & ((low < state) & (state < high)).all()
    return forward(gym, before, after, action) + jnp.where(healthy, gym._healthy_reward, 0.0), ~healthy


def balances(gym: Any, before: Physics, after: Physics, action: Array) -> Verdict:
    """InvertedPendulum: 1 for each step until the pole leans too far."""
    ended = jnp.abs(after.qpos[1]) > 0.2
    return 1.0 - ended.astype(jnp.float32), ended


def balances_two(gym: Any, before: Physics, after: Physics, action: Array) -> Verdict:
    """InvertedDoublePendulum: a reward for each step, less costs of the tip's distance and of velocities."""
    x, y = after.seen["tip"][0], after.seen["tip"][2]
    ended = y <= 1.0
    distance = 0.01 * jnp.square(x) + jnp.square(y - 2.0)
    velocity = 1e-3 * jnp.square(after.qvel[1]) + 5e-3 * jnp.square(after.qvel[2])
    return jnp.where(ended, 0.0, gym._healthy_reward) - distance - velocity, ended


def reaches(gym: Any, before: Physics, after: Physics, action: Array) -> Verdict:
    """Reacher: the negative distance to the target, less the cost of control."""
    distance = jnp.linalg.norm(after.seen["gap"]) * gym._reward_dist_weight
    return -distance - gym._reward_control_weight * jnp.square(action).sum(), jnp.zeros((), bool)


def without(count: int, bound: float = math.inf) -> Callable[[Physics], Array]:
    """Observations of positions without the first, and of velocities within bounds."""
    return lambda now: jnp.concatenate([now.qpos[count:], jnp.clip(now.qvel, -bound, bound)])


def see_two(now: Physics) -> Array:
    """The observation of InvertedDoublePendulum."""
    parts = now.qpos[:1], jnp.sin(now.qpos[1:]), jnp.cos(now.qpos[1:]), jnp.clip(now.qvel, -10.0, 10.0)
    return jnp.concatenate([*parts, jnp.clip(now.seen["force"], -10.0, 10.0)])


def see_reach(now: Physics) -> Array:
    """The observation of Reacher."""
    angle = now.qpos[:2]
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle), now.qpos[2:], now.qvel[:2], now.seen["gap"][:2]])


def near(point: Any, key: Key, size: float) -> Array:
    """The numbers of a point with uniform noise."""
    start = jnp.asarray(point, jnp.float32)
    return start + jax.random.uniform(key, start.shape, minval=-size, maxval=size)


def reach_start(gym: Any, key: Key) -> tuple[Array, Array]:
    """First states of Reacher, with a target that is uniform on a disc."""
    keys = jax.random.split(key, 4)
    radius = 0.2 * jnp.sqrt(jax.random.uniform(keys[1]))
    angle = 2 * math.pi * jax.random.uniform(keys[2])
    target = radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)])
    qpos, qvel = near(gym.init_qpos, keys[0], 0.1), near(gym.init_qvel, keys[3], 0.005)
    return qpos.at[-2:].set(target), qvel.at[-2:].set(0.0)


def tip(gym: Any, data: Any) -> dict[str, Array]:
    """What InvertedDoublePendulum reads: the site of the tip, and the force on the cart."""
    return {"tip": data.site_xpos[0], "force": data.qfrc_constraint[:1]}


def gap(gym: Any, data: Any) -> dict[str, Array]:
    """What Reacher reads: from the target to the fingertip."""
    finger, target = (gym.model.body(name).id for name in ("fingertip", "target"))
    return {"gap": data.xpos[finger] - data.xpos[target]}


RULES = {
    "InvertedPendulum-v5": Rules(without(0), balances),
    "InvertedDoublePendulum-v5": Rules(see_two, balances_two, normal=True, see=tip),
    "Swimmer-v5": Rules(without(2), runs_on),
    "Hopper-v5": Rules(without(1, 10.0), stays_up),
    "HalfCheetah-v5": Rules(without(1), runs_on, normal=True),
    "Walker2d-v5": Rules(without(1, 10.0), stays_up),
    "Reacher-v5": Rules(see_reach, reaches, see=gap, reset=reach_start),
}
"""The tasks whose rules are here, by Gymnasium's ids."""
