"""Inference optimisers beside each other on the same states and the same critic: what each reaches, at what cost."""

from __future__ import annotations

import functools as ft
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Float

from estep.core.agent import Agent
from estep.core.objective import soft_value
from estep.core.slots import Inference, Posterior
from estep.core.types import Key, Obs, Scalar
from estep.inference.cem import Fittable
from estep.inference.direct import Direct
from estep.inference.iterative import Iterative
from estep.inference.named import InferenceSettings, Trained, make
from estep.inference.starts import AtPrior
from estep.instruments.gap import check_parametric
from estep.instruments.interval import interval

SAMPLES = 256
"""Draws with which V is measured, the same for all optimisers in one state."""
PATIENCE = 0.3
"""Seconds for which a program is called again and again: the shortest call counts."""
MOST_CALLS = 5


class Candidate(NamedTuple):
    """An optimiser with a number of iterations, and what it asks of the critic in one state."""

    optimiser: str
    iterations: int
    inference: Inference
    evaluations: int
    """Pairs (s, a) at which Q̂ is evaluated."""
    gradients: int
    """How many of these with the gradient to the action, which costs about twice as much again."""


class Outcome(NamedTuple):
    """Where a rung ends, in every state."""

    rung: Candidate
    lam: npt.NDArray[np.float32]
    """[b, l]."""
    value: npt.NDArray[np.float64]
    """V(s; q_λ) [b]."""
    seconds: float
    """For all states in one compiled call."""


class Compared(NamedTuple):
    """One point of the comparison: V(λ) - V(λ_0) over states, λ_0 the family's start in each, and how much is missing
    to the best λ that any of them found in that state; both with 95 % intervals."""

    optimiser: str
    iterations: int
    evaluations: int
    gradients: int
    milliseconds: float
    """For all states in one call of the compiled program."""
    mean: float
    low: float
    high: float
    missing: float
    missing_low: float
    missing_high: float


START = Candidate("start", 0, AtPrior(), 0, 0)
"""λ_0 of the family."""


EFFORTS: Mapping[str, tuple[int, ...]] = {
    "gradient": (3, 10, 30, 100),
    "semi-amortised": (10, 30),
    "cem": (3, 10, 30, 100),
    "importance": (1, 3, 10),
}
"""Optimisers that any critic can be optimised with, by name, and their numbers of iterations."""


def candidates(agent: Agent) -> list[Candidate]:
    """The agent's own optimiser, and those of EFFORTS that fit its family, each with growing effort."""
    own = agent.acting(agent.inference.model)
    networks = Trained(agent.spec, agent.posterior, own)
    unfit = set() if isinstance(agent.posterior, Fittable) else {"cem", "importance"}
    if agent.spec.discrete:  # an elite is of samples, and these are all choices
        unfit.add("cem")
    named = [
        (name, k, make(name, networks, InferenceSettings(iterations=k)))
        for name, efforts in EFFORTS.items()
        for k in efforts
        if name not in unfit
    ]
    choices = agent.spec.action_dim if agent.spec.discrete else None
    return [START, *(Candidate(*each, *each[-1].evaluations(choices)) for each in [*_own(own), *named])]


def climbs(agent: Agent, obs: Float[Array, "b o"], key: Key, rungs: list[Candidate]) -> list[Outcome]:
    """Every rung in every state. The same optimiser goes the same way however far: its noise is the same.

    Raises:
        UsageError: the posterior is particles and has no λ to optimise.
    """
    check_parametric(agent)
    k_infer, k_value = jax.random.split(key)
    lowered = [_lowered(agent, rung.inference, obs, k_infer) for rung in rungs]
    with ThreadPoolExecutor() as pool:  # compiling takes longer than everything else, and one core
        programs = list(pool.map(lambda program: program(), lowered))
    ends = [_timed(program) for program in programs]
    lams = jnp.stack([lam for lam, _ in ends], axis=1)
    values = np.asarray(_values(agent, obs, lams, k_value), np.float64)
    return [
        Outcome(rung, np.asarray(lam), values[:, i], seconds)
        for i, (rung, (lam, seconds)) in enumerate(zip(rungs, ends, strict=True))
    ]


def compared(found: list[Outcome]) -> list[Compared]:
    """The comparison of climbs, of which the first is the start."""
    start, best = found[0].value, np.nanmax([climb.value for climb in found], axis=0)
    return [
        Compared(
            *(climb.rung.optimiser, climb.rung.iterations, climb.rung.evaluations, climb.rung.gradients),
            1e3 * climb.seconds,
            *interval(climb.value - start),
            *interval(best - climb.value),
        )
        for climb in found[1:]
    ]


def _own(own: Any) -> list[tuple[str, int, Any]]:
    """The agent's optimiser: with numbers of iterations where a network iterates, else as it is; and the direct network
    that it may start from."""
    if isinstance(own, Iterative):
        further = [("iterative", k, replace(own, steps=k, average=1)) for k in sorted({1, 2, own.steps, 2 * own.steps})]
        return [*(_own(own.start) if isinstance(own.start, Direct) else []), *further]
    return [("direct" if isinstance(own, Direct) else "own", 1, own)]


def _lowered(
    agent: Agent, inference: Inference, obs: Float[Array, "b o"], key: Key
) -> Callable[[], Callable[[], Array]]:
    """What compiles a program that gives λ in every state."""

    def infer(agent: Agent, inference: Inference, obs: Array, key: Key) -> Array:
        def one(obs: Obs, key: Key) -> Array:
            return agent.infer(inference, agent.likelihood.model, obs, key)[2].lam

        return jax.vmap(one)(obs, jax.random.split(key, obs.shape[0]))

    arguments = agent, inference, obs, key
    lowered = jax.jit(infer).lower(*arguments)
    return lambda: ft.partial(lowered.compile(), *arguments)


def _timed(program: Callable[[], Array]) -> tuple[Array, float]:
    """What a program gives, and the shortest time of a warm call."""
    lam = program().block_until_ready()
    times: list[float] = []
    while not times or (sum(times) < PATIENCE and len(times) < MOST_CALLS):
        begun = time.perf_counter()
        program().block_until_ready()
        times.append(time.perf_counter() - begun)
    return lam, min(times)


@jax.jit
def _values(agent: Agent, obs: Float[Array, "b o"], lams: Float[Array, "b r l"], key: Key) -> Float[Array, "b r"]:
    def one(obs: Obs, lams: Float[Array, "r l"], key: Key) -> Float[Array, " r"]:
        return values_at(agent, obs, lams, key, SAMPLES)

    return jax.vmap(one)(obs, lams, jax.random.split(key, obs.shape[0]))


def values_at(agent: Agent, obs: Obs, lams: Float[Array, "n l"], key: Key, samples: int) -> Float[Array, " n"]:
    """V(s; q_λ) at several λ of one state, with common random numbers."""
    posterior: Posterior = agent.posterior
    problem = agent.problem(agent.likelihood.model, obs)

    def value(lam: Array) -> Scalar:
        return soft_value(posterior(lam), problem, key, samples)[0]

    values: Array = jax.lax.map(value, lams, batch_size=64)
    return values
