"""V over two elements of λ in one state, with the way of each optimiser across it."""

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
"""How far from the best λ the axes go at most."""


class Landscape(NamedTuple):
    """V in one state over two elements of λ; the others are those of the best λ that any optimiser found."""

    state: int
    names: tuple[str, str]
    x: npt.NDArray[np.float64]
    """Values of the first element [n]."""
    y: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]
    """V [n, n], the second element first."""
    paths: dict[str, npt.NDArray[np.float64]]
    """For each optimiser the two elements of λ [k, 2] at its start and after each of the numbers of iterations that
    were measured. Its other elements are its own, so its end need not lie on the summit."""


def landscape(agent: Agent, obs: Obs, found: list[Outcome], state: int, key: Key, grid: int = GRID) -> Landscape:
    """The landscape of one state under the climbs in it, over the two means in which they went furthest (with one
    action dimension: mean and log standard deviation).

    Args:
        obs: the state as the networks see it.
        found: what `compared.climbs` gave, the start first.
        state: which of its states this is.
    """
    best = max(found, key=lambda climb: float(np.nan_to_num(climb.value[state], nan=-np.inf))).lam[state]
    paths = _paths(found, state)
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
    """V(s; q_λ) [m, n] where λ has the n values of `at[0]` in its element axes[0], the m of `at[1]` in axes[1]."""
    x, y = np.meshgrid(*at)
    lams = np.tile(lam, (x.size, 1))
    lams[:, axes[0]], lams[:, axes[1]] = x.ravel(), y.ravel()
    values = _surface(agent, obs, jnp.asarray(lams), key, samples)
    return np.asarray(values, np.float64).reshape(x.shape)


_surface = jax.jit(values_at, static_argnums=4)


def _paths(found: list[Outcome], state: int) -> dict[str, npt.NDArray[np.float32]]:
    """λ [k, l] along the way of each optimiser; semi-amortised starts where the trained one ends, iterative where the
    direct network does if there is one, the others at λ_0."""
    ends: dict[str, list[npt.NDArray[np.float32]]] = {}
    for climb in found[1:]:
        ends.setdefault(climb.rung.optimiser, []).append(climb.lam[state])
    start = found[0].lam[state]
    alone = ("direct", "own", "semi-amortised")
    begins = {"iterative": ends.get("direct", [start])[0]}
    return {name: np.stack(lams if name in alone else [begins.get(name, start), *lams]) for name, lams in ends.items()}


def _axes(agent: Agent, paths: dict[str, npt.NDArray[np.float32]]) -> tuple[int, int]:
    """The two means in which the climbs went furthest, in order; mean and log scale where there is one mean."""
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
