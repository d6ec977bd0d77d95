"""The state of all seeds: agents with their replays, and environments on the device. Every array begins with a seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from estep.core.agent import Agent, Algorithm
from estep.core.em import step
from estep.core.keys import make_key
from estep.core.types import Info, Key, Spec
from estep.data.layout import Row
from estep.envs.pure.environment import PureEnv
from estep.policy.actor import INIT, Scaling, memo_widths
from estep.population import moments, ring
from estep.population.moments import Running
from estep.population.ring import Layout, Ring, layout
from estep.runs.leaves import skeleton
from estep.settings.run import RunConfig

RESET, DRAW, EXPLORE, START = range(5, 9)
"""Purposes of keys, after those of `estep.policy.actor`."""
RECENT = 10
"""The reported return is the mean over this many training episodes."""
SKIPS, BAD = 1, 2
"""Why a seed is frozen: skipped updates, or bad transitions. 0 goes on."""


class Learner(NamedTuple):
    """What a seed has wherever its environments are."""

    agent: Agent
    ring: Ring
    running: Running | tuple[()]
    """Mean and variance of observations; empty where they are not normalised."""
    frozen: Array
    """0, SKIPS or BAD."""
    skips_in_a_row: Array
    skipped: Array
    counted: Array
    """Updates in `sums`."""
    sums: dict[str, Array]
    """Sums of the metrics since the last line of metrics.jsonl."""


class World(NamedTuple):
    """E environments of a seed on the device."""

    state: Any
    """[e, ...]."""
    obs: Array
    """[e, o]: the observations to act on next."""
    length: Array
    """[e]: good steps of the unfinished episode."""
    total: Array
    """[e]: its sum of rewards."""
    bad_in_a_row: Array
    """[e]."""
    bad: Array
    """Bad transitions so far."""
    seen: Array
    """Transitions so far."""
    episodes: Array
    """Finished episodes so far."""
    recent: Array
    """[RECENT]: the returns of the last of them, as a ring."""


class Plan(NamedTuple):
    """All that a compiled program must know beside arrays. Equal plans share programs."""

    spec: Spec
    form: Layout
    batch: int
    """Sequences in one update."""
    block: int
    """Updates that are made together."""
    normalise: bool
    reward_scale: float = 1.0
    """Factor of the rewards that are learned from."""


def form_of(agent: Agent, config: RunConfig, dtype: Any) -> Layout:
    """The layout of the replay of one seed. It is not larger than the steps that the run takes.

    Args:
        agent: the agent, or its structure.
        config: the settings of the run.
        dtype: type in which observations are stored.
    """
    spec = agent.spec
    row = Row(spec.obs_dim, spec.factors, memo_widths(agent), 0 if spec.factors else spec.action_dim, dtype)
    steps = 2 * agent.rollout or min(config.replay_size, max(config.steps, config.num_envs))
    return layout(steps, config.num_envs, row)


def plan_of(agent: Agent, spec: Spec, config: RunConfig, dtype: Any) -> Plan:
    """What the compiled programs must know.

    Args:
        agent: the structure of an agent.
        spec: of the environment.
        config: the settings of the run.
        dtype: type in which replay stores observations.
    """
    batch = max(1, config.batch_size // agent.length)
    block = config.updates_per_call
    if agent.rollout:
        block = agent.epochs * max(1, agent.rollout // (batch * agent.length))
    scale = config.reward_scale[0] if config.reward_scale else 1.0
    return Plan(spec, form_of(agent, config, dtype), batch, block, config.normalise, scale)


def key_for(seed: Array, purpose: int) -> Key:
    """The key of a purpose of one seed, as `estep.policy.actor.key_of` derives it."""
    return jax.random.fold_in(make_key(seed), purpose)  # type: ignore[arg-type]


def new_learner(algorithm: Algorithm, plan: Plan, seed: Array) -> Learner:
    """A new agent of one seed with an empty replay. It is the agent that the seed has in a run of its own."""
    zero = jnp.zeros((), jnp.int32)
    agent = algorithm.init(plan.spec, key_for(seed, INIT))
    running: Any = moments.nothing(plan.spec.obs_dim) if plan.normalise else ()
    sums = {name: jnp.zeros(()) for name in info_names(algorithm, plan)}
    return Learner(agent, ring.empty(plan.form), running, zero, zero, zero, zero, sums)


def info_names(algorithm: Algorithm, plan: Plan) -> Sequence[str]:
    """The names of the metrics of an update."""
    agent = skeleton(algorithm, plan.spec)

    def info_of(agent: Agent) -> Info:
        rows = jnp.zeros((plan.batch, agent.length), jnp.int32)
        return step(agent, ring.read(plan.form, ring.empty(plan.form), rows), make_key(0))[2]

    info = jax.eval_shape(info_of, agent)
    return [name for name in info if name != "skipped"]


def new_world(env: PureEnv, num_envs: int, seed: Array) -> World:
    """New environments of one seed, at the start of their first episodes."""
    state = jax.vmap(env.reset)(jax.random.split(key_for(seed, START), num_envs))
    zeros, zero = jnp.zeros(num_envs, jnp.int32), jnp.zeros((), jnp.int32)
    obs = jax.vmap(env.observe)(state).astype(jnp.float32)
    none = jnp.zeros(RECENT)
    return World(state, obs, zeros, jnp.zeros(num_envs), zeros, zero, zero, zero, none)


def scaling_of(learner: Learner) -> Scaling:
    """Mean and scale of observations of one seed, or None."""
    return moments.scaling(learner.running) if isinstance(learner.running, Running) else None


def take(tree: Any, member: int) -> Any:
    """The part of one seed."""
    return jax.tree.map(lambda leaf: leaf[member], tree)


def stacked(shape: Any, count: int) -> Any:
    """The structure of so many trees of this structure."""

    def stack(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), tree)

    return jax.eval_shape(stack, shape)
