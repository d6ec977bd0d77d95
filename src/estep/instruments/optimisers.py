"""Compares inference optimisers on the same states and the same critic: the value of each result and its cost."""

from __future__ import annotations

import functools as ft
import math
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
"""Number of samples with which V is estimated. They are the same for all optimisers in a state."""
PATIENCE = 0.3
"""Seconds in which a program is called repeatedly to measure its time. The shortest time counts."""
MOST_CALLS = 5


class Candidate(NamedTuple):
    """An optimiser with a number of iterations, and how often it evaluates the critic in one state."""

    optimiser: str
    iterations: int
    inference: Inference
    evaluations: int
    """Number of pairs (s, a) at which Q̂ is evaluated."""
    gradients: int
    """Number of these pairs at which the gradient with respect to the action is computed too. A gradient takes about
    twice the time of an evaluation."""


class Outcome(NamedTuple):
    """The result of a candidate in every state."""

    candidate: Candidate
    lam: npt.NDArray[np.float32]
    """λ [b, l]."""
    value: npt.NDArray[np.float64]
    """V(s; q_λ) [b]."""
    seconds: float
    """Time for all states in one compiled call."""


class Compared(NamedTuple):
    """One point of the comparison: two means over states with 95 % intervals.

    The first is V(λ) - V(λ_0), where λ_0 is the family's start. The second is V of the best λ of all candidates in the
    state minus V(λ).
    """

    optimiser: str
    iterations: int
    evaluations: int
    gradients: int
    milliseconds: float
    """Time for all states in one compiled call."""
    mean: float
    low: float
    high: float
    missing: float
    missing_low: float
    missing_high: float


START = Candidate("start", 0, AtPrior(), 0, 0)
"""The family's start, λ_0."""


EFFORTS: Mapping[str, tuple[int, ...]] = {
    "gradient": (3, 10, 30, 100),
    "semi-amortised": (10, 30),
    "cem": (3, 10, 30, 100),
    "importance": (1, 3, 10),
}
"""Optimisers that work with any critic, by name, and their numbers of iterations."""


def candidates(agent: Agent) -> list[Candidate]:
    """The agent's optimiser and those of EFFORTS that fit its posterior family, with several numbers of iterations."""
    own = agent.acting(agent.inference.model)
    networks = Trained(agent.spec, agent.posterior, own)
    unfit = set() if isinstance(agent.posterior, Fittable) else {"cem", "importance"}
    if agent.spec.factors:  # all choices are evaluated, so there are no samples of which cem could take an elite
        unfit.add("cem")
    named = [
        (name, k, make(name, networks, InferenceSettings(iterations=k)))
        for name, efforts in EFFORTS.items()
        for k in efforts
        if name not in unfit
    ]
    choices = math.prod(agent.spec.factors) if agent.spec.factors else None
    return [START, *(Candidate(*each, *each[-1].evaluations(choices)) for each in [*_agent_candidates(own), *named])]


def run_candidates(agent: Agent, obs: Float[Array, "b o"], key: Key, chosen: list[Candidate]) -> list[Outcome]:
    """Run every candidate in every state, with the same noise for all.

    Args:
        agent: the agent.
        obs: states [b, o], as the networks get them.
        key: key of the random numbers.
        chosen: the candidates.

    Raises:
        UsageError: the posterior has no parameters λ.
    """
    check_parametric(agent)
    k_infer, k_value = jax.random.split(key)
    lowered = [_lowered(agent, candidate.inference, obs, k_infer) for candidate in chosen]
    with ThreadPoolExecutor() as pool:  # compiling takes most of the time, and only one core
        programs = list(pool.map(lambda program: program(), lowered))
    ends = [_timed(program) for program in programs]
    lams = jnp.stack([lam for lam, _ in ends], axis=1)
    values = np.asarray(_values(agent, obs, lams, k_value), np.float64)
    return [
        Outcome(candidate, np.asarray(lam), values[:, i], seconds)
        for i, (candidate, (lam, seconds)) in enumerate(zip(chosen, ends, strict=True))
    ]


def compare(outcomes: list[Outcome]) -> list[Compared]:
    """Compare outcomes. The first outcome must be that of START."""
    start, best = outcomes[0].value, np.nanmax([outcome.value for outcome in outcomes], axis=0)
    return [
        Compared(
            *(
                outcome.candidate.optimiser,
                outcome.candidate.iterations,
                outcome.candidate.evaluations,
                outcome.candidate.gradients,
            ),
            1e3 * outcome.seconds,
            *interval(outcome.value - start),
            *interval(best - outcome.value),
        )
        for outcome in outcomes[1:]
    ]


def _agent_candidates(own: Any) -> list[tuple[str, int, Any]]:
    """The agent's optimiser, with several numbers of iterations if it iterates, and the direct network if iterations
    start from one."""
    if isinstance(own, Iterative):
        further = [("iterative", k, replace(own, steps=k, average=1)) for k in sorted({1, 2, own.steps, 2 * own.steps})]
        return [*(_agent_candidates(own.start) if isinstance(own.start, Direct) else []), *further]
    return [("direct" if isinstance(own, Direct) else "own", 1, own)]


def _lowered(
    agent: Agent, inference: Inference, obs: Float[Array, "b o"], key: Key
) -> Callable[[], Callable[[], Array]]:
    """A function that compiles the program that infers λ in every state."""

    def infer(agent: Agent, inference: Inference, obs: Array, key: Key) -> Array:
        def in_state(obs: Obs, key: Key) -> Array:
            return agent.infer(inference, agent.likelihood.model, obs, key)[2].lam

        return jax.vmap(in_state)(obs, jax.random.split(key, obs.shape[0]))

    arguments = agent, inference, obs, key
    lowered = jax.jit(infer).lower(*arguments)
    return lambda: ft.partial(lowered.compile(), *arguments)


def _timed(program: Callable[[], Array]) -> tuple[Array, float]:
    """The result of a program, and the shortest time of a call after the first."""
    lam = program().block_until_ready()
    times: list[float] = []
    while not times or (sum(times) < PATIENCE and len(times) < MOST_CALLS):
        begun = time.perf_counter()
        program().block_until_ready()
        times.append(time.perf_counter() - begun)
    return lam, min(times)


@jax.jit
def _values(agent: Agent, obs: Float[Array, "b o"], lams: Float[Array, "b r l"], key: Key) -> Float[Array, "b r"]:
    def in_state(obs: Obs, lams: Float[Array, "r l"], key: Key) -> Float[Array, " r"]:
        return values_at(agent, obs, lams, key, SAMPLES)

    return jax.vmap(in_state)(obs, lams, jax.random.split(key, obs.shape[0]))


def values_at(agent: Agent, obs: Obs, lams: Float[Array, "n l"], key: Key, samples: int) -> Float[Array, " n"]:
    """V(s; q_λ) at several λ of one state, with common random numbers.

    Args:
        agent: the agent.
        obs: the state [o], as the networks get it.
        lams: λ [n, l].
        key: key of the random numbers.
        samples: number of samples with which V is estimated.

    Returns:
        V [n].
    """
    posterior: Posterior = agent.posterior
    problem = agent.problem(agent.likelihood.model, obs)

    def value(lam: Array) -> Scalar:
        return soft_value(posterior(lam), problem, key, samples)[0]

    values: Array = jax.lax.map(value, lams, batch_size=64)
    return values
