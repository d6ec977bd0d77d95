"""What an inferred action gains in the environment, beside what the critic predicts and what a random action gains.

In states of the agent's own episodes the simulator is put back. For m steps the agent acts by inference, then by the
direct policy. The discounted return, less that of the direct policy throughout, is the realised gain. If Q̂ is the value
of the direct policy, it is the sum of its advantages along the way, which is what Q̂ predicts:

    G(inferred) - G(direct) = Σ_{t<m} γ^t (Q(s_t, a_t) - Q(s_t, direct action))      (Kakade and Langford 2002)

The control has displacements of the same size: those of the inferred actions, dealt out among the states with random
signs, and held for the m steps. An optimiser that climbs errors of Q̂ predicts a gain and realises less than the
control.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Float

from estep.core.agent import Agent
from estep.core.types import Key
from estep.envs.base import HostEnv
from estep.envs.restore import Saved, Simulator
from estep.errors import UsageError
from estep.instruments.calibration import critic, members
from estep.instruments.interval import Interval, interval_of_clusters, trimmed_mean
from estep.instruments.play.lockstep import Played, Table, play
from estep.instruments.play.rollouts import Episode, rollouts
from estep.instruments.play.ways import EFFORTS, candidates, direct_way
from estep.instruments.states import evenly_spaced
from estep.policy.actor import Scaling

HORIZON = 150
"""Number of steps over which returns are counted, if the time limit is at least twice as long."""


class Extent(NamedTuple):
    """How much is measured."""

    states: int = 256
    """How many states; they are evenly spaced over all episodes."""
    episodes: int = 10
    steps: int = 25
    """m, the number of steps with inferred actions."""
    horizon: int = HORIZON
    """Number of steps over which returns are counted; at most half of the time limit."""
    efforts: Sequence[int] = EFFORTS
    """Numbers of iterations, or of particles."""


class Realised(NamedTuple):
    """One optimiser. All gains are to the direct policy, with 95 % intervals over states; episodes are clusters."""

    optimiser: str
    iterations: int
    predicted: float
    """Gain that Q̂ predicts along the way."""
    predicted_low: float
    predicted_high: float
    realised: float
    """Gain of discounted return."""
    realised_low: float
    realised_high: float
    control: float
    """Gain of discounted return of displacements of the same size."""
    control_low: float
    control_high: float
    control_predicted: float
    """Gain that Q̂ predicts for these displacements."""
    trimmed: float
    """Mean of the realised gain without a tenth of the states at each end."""
    control_trimmed: float
    share: float
    """Share of the states whose realised gain is above 0."""
    falls_caused: int
    """Number of states in which the episode terminates with inference and not without."""
    falls_prevented: int
    """Number of states in which the episode terminates without inference and not with it."""
    disagreement_before: float
    """Standard deviation of the critics at the direct action of the state; NaN if there is one critic."""
    disagreement_after: float
    """Standard deviation of the critics at the inferred action of the state; NaN if there is one critic."""
    distance: float
    """Distance of the inferred action from the direct action in the first step."""
    control_distance: float
    """Distance of the control from the direct action in the first step. It is shorter if a bound of the actions is in
    the way."""


class InState(NamedTuple):
    """One optimiser in one state."""

    optimiser: str
    iterations: int
    episode: int
    step: int
    """Steps of the episode before this state."""
    predicted: float
    realised: float
    control: float
    control_predicted: float
    fell: bool
    """Whether the episode terminates with inference."""
    direct_fell: bool


class Realisation(NamedTuple):
    """The gain of each optimiser."""

    rows: list[Realised]
    in_states: list[InState]
    steps: int
    """m, the number of steps with inferred actions."""
    horizon: int
    """Number of steps over which returns are counted."""
    states: int
    episodes: int
    direct: float
    """Mean of the discounted return of the direct policy."""


class Starts(NamedTuple):
    """The states from which the policies start."""

    saved: list[Saved]
    episode: npt.NDArray[np.int64]
    step: npt.NDArray[np.int64]


def realised(
    agent: Agent,
    env: HostEnv,
    scaling: Scaling,
    key: Key,
    extent: Extent = Extent(),
) -> Realisation:
    """Play the agent's own episodes, go back to states of them, and compare inferred actions with direct ones.

    Args:
        agent: the agent.
        env: new environments of the evaluation stream.
        scaling: mean and scale of observations.
        key: key of the random numbers.
        extent: how much is measured.

    Raises:
        UsageError: the critic is not an ensemble of Q functions, actions are discrete, the environment cannot save its
            state, or the episodes are too short.
        EnvironmentFailure: the environment raised.
    """
    check_agent(agent)
    k_episodes, k_play, k_deal = jax.random.split(key, 3)
    simulator = Simulator(env)
    played, steps = rollouts(agent, env, scaling, k_episodes, extent.episodes, simulator.save), extent.steps
    horizon = int(min(extent.horizon, simulator.limit // 2))
    starts = choose_starts(played, simulator.limit, horizon, steps, extent.states)
    simulator.check_exact(starts.saved[0], agent.spec.action_dim)
    table = Table(agent, direct_way(agent), scaling, k_play)
    direct = play(simulator, starts.saved, table, [], horizon)
    rows, in_states = [], []
    for optimiser, iterations, way in candidates(agent, extent.efforts):
        inferred = play(simulator, starts.saved, table, [way] * steps, horizon)
        displacement = deal(jnp.asarray(inferred.first.moved), k_deal)
        control = play(simulator, starts.saved, table, [displacement] * steps, horizon)
        rows.append(compare(optimiser, iterations, (direct, inferred, control), starts.episode))
        in_states += _in_states(optimiser, iterations, (direct, inferred, control), starts)
    if members(agent) == 1:
        rows = [row._replace(disagreement_before=np.nan, disagreement_after=np.nan) for row in rows]
    count = len(np.unique(starts.episode))
    return Realisation(rows, in_states, steps, horizon, len(starts.saved), count, float(direct.earned.mean()))


def check_agent(agent: Agent) -> None:
    """Check that an agent has a critic of actions, and actions that can be displaced. Raises UsageError."""
    critic(agent)
    if agent.spec.discrete:
        what = "The actions of this run are discrete, so there is no displacement of the same size to compare with."
        raise UsageError(what, "Inspect a run with continuous actions.")


def choose_starts(played: Sequence[Episode], limit: float, horizon: int, steps: int, states: int) -> Starts:
    """States that are evenly spaced over all episodes, with a whole horizon before the time limit.

    Args:
        played: the episodes, with saved states.
        limit: number of steps after which an episode is cut.
        horizon: number of steps over which returns are counted.
        steps: m, the number of steps with inferred actions.
        states: how many states.

    Raises:
        UsageError: the episodes are too short.
    """
    rooms = [min(limit, np.inf if one.terminated else len(one.saved)) - horizon for one in played]
    found = [(i, t) for i, room in enumerate(rooms) for t in range(len(played[i].saved)) if t <= room]
    if horizon < steps or not found:
        longest = max(len(one.saved) for one in played)
        what = f"Episodes of at most {longest} steps are too short to act by inference for {steps} steps."
        raise UsageError(what, "Give a smaller --realised-steps, or use an environment with longer episodes.")
    episode, step = evenly_spaced(np.asarray(found), states).T
    return Starts([played[i].saved[t] for i, t in zip(episode, step, strict=True)], episode, step)


def deal(moved: Float[Array, "n a"], key: Key) -> Float[Array, "n a"]:
    """Displacements dealt out among n states with random signs. With two states or more none keeps its own."""
    k_order, k_sign = jax.random.split(key)
    order = jax.random.permutation(k_order, moved.shape[0])
    sign = jax.random.rademacher(k_sign, (moved.shape[0], 1), moved.dtype)
    return jnp.zeros_like(moved).at[order].set(sign * moved[jnp.roll(order, 1)])


def compare(
    optimiser: str, iterations: int, played: tuple[Played, Played, Played], episode: npt.NDArray[np.int64]
) -> Realised:
    """The row of an optimiser.

    Args:
        optimiser: its name.
        iterations: its number of iterations.
        played: what the direct policy, inference and the control get from each state.
        episode: the episode of each state.
    """
    direct, inferred, control = played
    gain, random_gain = inferred.earned - direct.earned, control.earned - direct.earned

    def over_episodes(values: npt.NDArray[np.float64]) -> Interval:
        return interval_of_clusters(values, episode)

    return Realised(
        optimiser,
        iterations,
        *over_episodes(inferred.predicted),
        *over_episodes(gain),
        *over_episodes(random_gain),
        float(control.predicted.mean()),
        trimmed_mean(gain),
        trimmed_mean(random_gain),
        float((gain > 0).mean()),
        int((inferred.fell & ~direct.fell).sum()),
        int((direct.fell & ~inferred.fell).sum()),
        _mean(inferred.first.before),
        _mean(inferred.first.after),
        _mean(np.linalg.norm(inferred.first.moved, axis=1)),
        _mean(np.linalg.norm(control.first.moved, axis=1)),
    )


def _in_states(optimiser: str, iterations: int, played: tuple[Played, Played, Played], starts: Starts) -> list[InState]:
    direct, inferred, control = played
    columns: tuple[Any, ...] = (
        starts.episode,
        starts.step,
        inferred.predicted,
        inferred.earned - direct.earned,
        control.earned - direct.earned,
        control.predicted,
        inferred.fell,
        direct.fell,
    )
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [InState(optimiser, iterations, *row) for row in rows]


def _mean(values: Any) -> float:
    return float(np.asarray(values, np.float64).mean())
