"""V as a function of two elements of λ in one state, and the path of each optimiser."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from estep.core.agent import Agent
from estep.core.types import Key, Obs
from estep.inference.starts import log_scales
from estep.instruments.optimisers import Outcome, values_at

SAMPLES = 64
GRID = 33
REACH = 5.0
"""Largest distance from the best λ on the axes."""


class Landscape(NamedTuple):
    """V in one state over two elements of λ. The other elements are those of the best λ of all optimisers."""

    state: int
    names: tuple[str, str]
    x: npt.NDArray[np.float64]
    """Values of the first element [n]."""
    y: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]
    """V [n, n]; the first axis is the second element."""
    paths: dict[str, npt.NDArray[np.float64]]
    """For each optimiser the two elements of λ [k, 2] at its start and after each measured number of iterations. The
    other elements of these λ are different from those of the map, so a path may not end at the map's maximum."""


def landscape(agent: Agent, obs: Obs, outcomes: list[Outcome], state: int, key: Key, grid: int = GRID) -> Landscape:
    """The landscape of one state, over the two means in which the paths are longest.

    With one action dimension the axes are the mean and the log standard deviation.

    Args:
        agent: the agent.
        obs: the state [o], as the networks get it.
        outcomes: the result of `optimisers.run_candidates`, the start first.
        state: index of the state in the outcomes.
        key: key of the random numbers.
        grid: number of points on each axis.
    """
    best = max(outcomes, key=lambda outcome: float(np.nan_to_num(outcome.value[state], nan=-np.inf))).lam[state]
    paths = _paths(outcomes, state)
    axes = _axes(agent, paths)
    flat = {name: path[:, axes].astype(np.float64) for name, path in paths.items()}
    everything = np.concatenate([*flat.values(), best[None, axes]])
    x, y = (_span(everything[:, i], float(best[axes[i]]), grid) for i in range(2))
    return Landscape(state, _names(agent, axes), x, y, surface(agent, obs, best, axes, (x, y), key), flat)


def surface(
    agent: Agent,
    obs: Obs,
    lam: npt.NDArray[np.float32],
    axes: tuple[int, int],
    at: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    key: Key,
    samples: int = SAMPLES,
) -> npt.NDArray[np.float64]:
    """V(s; q_λ) on a grid over two elements of λ.

    Args:
        agent: the agent.
        obs: the state [o], as the networks get it.
        lam: λ [l] with the other elements.
        axes: the two elements.
        at: their values, [n] and [m].
        key: key of the random numbers.
        samples: number of samples with which V is estimated.

    Returns:
        V [m, n].
    """
    x, y = np.meshgrid(*at)
    lams = np.tile(lam, (x.size, 1))
    lams[:, axes[0]], lams[:, axes[1]] = x.ravel(), y.ravel()
    values = _surface(agent, obs, jnp.asarray(lams), key, samples)
    return np.asarray(values, np.float64).reshape(x.shape)


_surface = jax.jit(values_at, static_argnums=4)


def _paths(outcomes: list[Outcome], state: int) -> dict[str, npt.NDArray[np.float32]]:
    """λ [k, l] along the path of each optimiser. Paths start at λ_0, except that iterative inference starts at the λ of
    the direct network, if there is one, and semi-amortised inference at the end of the trained optimiser."""
    ends: dict[str, list[npt.NDArray[np.float32]]] = {}
    for outcome in outcomes[1:]:
        ends.setdefault(outcome.candidate.optimiser, []).append(outcome.lam[state])
    start = outcomes[0].lam[state]
    alone = ("direct", "own", "semi-amortised")
    begins = {"iterative": ends.get("direct", [start])[0]}
    return {name: np.stack(lams if name in alone else [begins.get(name, start), *lams]) for name, lams in ends.items()}


def _axes(agent: Agent, paths: dict[str, npt.NDArray[np.float32]]) -> tuple[int, int]:
    """The two means in which the paths are longest, in order. With one action dimension, mean and log scale."""
    everything = np.concatenate(list(paths.values()))
    if agent.spec.action_dim == 1:
        return 0, 1
    scales = np.asarray(log_scales(agent.posterior, jnp.zeros(everything.shape[1])))
    means = np.flatnonzero(~scales)[: agent.spec.action_dim]
    extent = np.ptp(everything[:, means], axis=0)
    first, second = sorted(int(means[i]) for i in np.argsort(-extent, kind="stable")[:2])
    return first, second


def _span(points: npt.NDArray[np.float64], centre: float, grid: int) -> npt.NDArray[np.float64]:
    low, high = max(points.min(), centre - REACH), min(points.max(), centre + REACH)
    margin = 0.15 * (high - low) + 0.15
    return np.linspace(low - margin, high + margin, grid)


def _names(agent: Agent, axes: tuple[int, int]) -> tuple[str, str]:
    count = agent.spec.action_dim
    first, second = (f"mean {i + 1}" if i < count else f"log std {i - count + 1}" for i in axes)
    return first, second
