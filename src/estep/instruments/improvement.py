"""How much each iteration of iterative inference improves V: the poster's first figure."""

from __future__ import annotations

import functools as ft
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from estep.core.agent import Agent
from estep.core.objective import soft_value
from estep.core.slots import Inference
from estep.core.types import Key, Obs
from estep.errors import RejectedInput, UsageError
from estep.inference.iterative import Iterative
from estep.instruments.interval import interval
from estep.runs import checkpoint
from estep.runs.folder import RunFolder

SAMPLES = 128
"""Draws of the posterior with which V is measured, the same noise at every iterate."""
BEYOND = 2
"""Iterations are measured up to this multiple of those in training or acting."""
METRIC = "e/improvement_"


class Improvement(NamedTuple):
    """V(λ_k) - V(λ_0) over states: the mean and a 95 % interval."""

    iteration: int
    mean: float
    low: float
    high: float


class Logged(NamedTuple):
    """V(λ_k) - V(λ_0) as training met it: the mean over the batches since the last line of metrics."""

    env_steps: int
    iteration: int
    mean: float


def values_per_iteration(
    agent: Agent, obs: Float[Array, "b o"], key: Key, iterations: int, samples: int = SAMPLES
) -> Float[Array, "b k"]:
    """V(s; λ_k) for k = 0..iterations in each state, on the current critic, measured with common random numbers.

    Raises:
        UsageError: the agent's inference makes no iterations.
    """
    inference = agent.acting(agent.inference.model)
    if not isinstance(inference, Iterative):
        what = f"{type(inference).__name__} inference makes no iterations, so there is no improvement to measure."
        raise UsageError(what, "Inspect a run of iterative-sac.")

    def one(inference: Iterative, obs: Obs, key: Key) -> Float[Array, " k"]:
        k_infer, k_value = jax.random.split(key)
        problem = agent.problem(agent.likelihood.model, obs)
        lams = inference.path(problem, agent.posterior, k_infer, iterations)
        return jax.vmap(lambda lam: soft_value(agent.posterior(lam), problem, k_value, samples)[0])(lams)

    return jax.vmap(ft.partial(one, inference))(obs, jax.random.split(key, obs.shape[0]))


_measure = jax.jit(values_per_iteration, static_argnums=(3, 4))


def improvement(
    agent: Agent, obs: Float[Array, "b o"], key: Key, iterations: int, samples: int = SAMPLES
) -> list[Improvement]:
    """The improvement per iteration, over states as the networks see them.

    Raises:
        UsageError: the agent's inference makes no iterations.
    """
    values = np.asarray(_measure(agent, obs, key, iterations, samples), np.float64)
    return [Improvement(k, *interval(gain)) for k, gain in enumerate((values - values[:, :1]).T)]


def trained_iterations(inference: Inference) -> int:
    """How many iterations inference was trained with; 0 for one shot."""
    return inference.steps if isinstance(inference, Iterative) else 0


def most_iterations(agent: Agent) -> int:
    """How many iterations it infers with, in training or in acting; 0 for one shot."""
    inference = agent.inference.model
    return max(trained_iterations(inference), trained_iterations(agent.acting(inference)))


def checkpoints(run_dir: Path) -> list[int]:
    """Environment steps of the sound checkpoints of a run, in order."""
    sound = [path.name for path, reason in checkpoint.verify(run_dir) if reason is None]
    return sorted({int(name.split("_")[1].split("-")[0]) for name in sound})


def logged(run_dir: Path) -> list[Logged]:
    """The improvement that training itself wrote into the metrics of a run, up to the trained number of iterations.

    Raises:
        RejectedInput: not a run folder, or its metrics cannot be read.
    """
    folder = RunFolder.open(run_dir)
    try:
        return [
            Logged(int(record["env_steps"]), int(name.removeprefix(METRIC)), float(value))
            for record in folder.read_metrics()
            for name, value in record.items()
            if name.startswith(METRIC) and value is not None
        ]
    except (ValueError, TypeError, KeyError) as error:
        raise RejectedInput(
            f"The metrics in {folder.path} cannot be read: {error}.", "Restore them from a copy."
        ) from error
