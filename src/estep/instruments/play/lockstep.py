"""Plays several policies from the same states of a simulator. All states take a step together, by one compiled call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Float

from estep.core.agent import Agent
from estep.core.types import Action, Floats, Key, Obs, Squash, Tanh
from estep.envs.restore import Saved, Simulator
from estep.instruments.calibration import critic
from estep.instruments.play.ways import ByPlan, Way
from estep.likelihoods.q_function import biased_std
from estep.policy.actor import Scaling, scale


class Table(NamedTuple):
    """What the policies of a measurement share."""

    agent: Agent
    direct: Way | None
    """How the direct policy infers; None if it is how the agent acts."""
    scaling: Scaling
    key: Key


class Choice(NamedTuple):
    """The inferred and the direct action in each of n states."""

    action: Float[Array, "n a"]
    """The inferred action as the environment takes it."""
    moved: Float[Array, "n a"]
    """The inferred action less the direct action."""
    gain: Float[Array, " n"]
    """Q̂ of the inferred action less Q̂ of the direct action, as the agent's inference reads its critics to act."""
    before: Float[Array, " n"]
    """Standard deviation of the critics at the direct action."""
    after: Float[Array, " n"]
    """Standard deviation of the critics at the inferred action."""


class Played(NamedTuple):
    """What a policy gets from each of n states."""

    earned: npt.NDArray[np.float64]
    """[n]: the discounted return."""
    predicted: npt.NDArray[np.float64]
    """[n]: the discounted sum of Q̂ of the action less Q̂ of the direct action, along the way."""
    fell: npt.NDArray[np.bool_]
    """[n]: whether the episode terminated."""
    first: Choice
    """The actions of the first step."""


def play(
    simulator: Simulator, starts: Sequence[Saved], table: Table, policies: Sequence[Way | ByPlan | Array], horizon: int
) -> Played:
    """The discounted return of a policy from each state.

    Args:
        simulator: where to play.
        starts: the states.
        table: the agent, its direct policy, scaling and key.
        policies: one for each of the first steps: a way to infer, or a displacement [n, a] of the direct action. After
            these steps the direct policy acts.
        horizon: number of steps in all.

    Raises:
        NumericHalt: an action is not finite.
        EnvironmentFailure: the environment raised.
    """
    count, gamma = len(starts), float(critic(table.agent).gamma)
    still = jnp.zeros((count, table.agent.spec.action_dim))
    states, alive = list(starts), np.arange(count)
    earned, predicted, fell = np.zeros(count), np.zeros(count), np.zeros(count, np.bool_)
    first = choice = choose(table, policies[0] if policies else still, _obs(states), np.uint32(0))
    for t in range(horizon):
        if t:
            choice = choose(table, policies[t] if t < len(policies) else still, _obs(states), np.uint32(t))
        moved = simulator.step([states[i] for i in alive], np.asarray(choice.action)[alive])
        earned[alive] += gamma**t * moved.reward
        predicted[alive] += gamma**t * np.asarray(choice.gain, np.float64)[alive]
        fell[alive] = moved.terminated
        for i, state in zip(alive, moved.states, strict=True):
            states[i] = state
        alive = alive[~np.asarray(moved.ended)]
        if not len(alive):
            break
    return Played(earned, predicted, fell, first)


def _obs(states: Sequence[Saved]) -> Floats:
    return np.stack([state.obs for state in states])


@jax.jit
def choose(table: Table, policy: Way | ByPlan | Array, obs: Floats, step: Array) -> Choice:
    """The actions of a policy and of the direct policy in n states, and what the critics say of them.

    Args:
        table: the agent, its direct policy, scaling and key.
        policy: a way to infer, or a displacement [n, a] of the direct action.
        obs: observations [n, o] as the environment gives them.
        step: number of the step, for the random numbers.
    """
    agent, squash = table.agent, table.agent.spec.squash
    model: Any = critic(agent)

    def in_state(policy: Way | ByPlan | Array, obs: Obs, key: Key) -> Choice:
        u = direct_point(table, obs, key)
        point = displaced(squash, u, policy) if isinstance(policy, jax.Array) else mode(agent, policy, obs, key)
        estimate = agent.view(agent, agent.acting_critic(agent.likelihood))
        problem = agent.problem(estimate.relative_to(obs, lambda: u), obs)
        gain = problem.likelihood(problem, point, key) - problem.likelihood(problem, u, key)
        spread = [biased_std(model.values(obs, each)) for each in (u, point)]
        action = squash(point)
        return Choice(action, action - squash(u), gain, *spread)

    rows = scale(jnp.asarray(obs), table.scaling)
    keys = jax.random.split(jax.random.fold_in(table.key, step), rows.shape[0])
    axis = 0 if isinstance(policy, jax.Array) else None
    return jax.vmap(in_state, in_axes=(axis, 0, 0))(policy, rows, keys)


def direct_point(table: Table, obs: Obs, key: Key) -> Action:
    """The point u of the direct policy in one state."""
    agent = table.agent
    return agent.behave(agent, obs, key).mode() if table.direct is None else mode(agent, table.direct, obs, key)


def mode(agent: Agent, way: Way | ByPlan, obs: Obs, key: Key) -> Action:
    """The point u that a way to infer finds in one state: the mode of its posterior."""
    if isinstance(way, ByPlan):
        return way.planner(agent, obs, key).mode()
    problem = agent.problem_from(way.inference, agent.acting_critic(agent.likelihood), obs, key)
    return way.posterior(way.inference(problem, way.posterior, key).lam).mode()


def displaced(squash: Squash, u: Action, displacement: Action) -> Action:
    """The point whose action is squash(u) plus a displacement, or the nearest one inside the bounds of actions."""
    action = squash(u) + displacement
    point = squash.inverse(action)[0] if isinstance(squash, Tanh) else action
    return jnp.where(displacement == 0.0, u, point)
