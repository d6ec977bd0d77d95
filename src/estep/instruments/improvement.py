"""How much each iteration of iterative inference improves V."""

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
"""Number of samples with which V is estimated. The noise is the same at every iteration."""
BEYOND = 2
"""By default this many times the iterations of training or acting are measured."""
METRIC = "e/improvement_"


class Improvement(NamedTuple):
    """V(λ_k) - V(λ_0) over states: the mean and a 95 % interval."""

    iteration: int
    mean: float
    low: float
    high: float


class Logged(NamedTuple):
    """V(λ_k) - V(λ_0) during training: the mean over the batches since the last line of metrics."""

    env_steps: int
    iteration: int
    mean: float


class Growth(NamedTuple):
    """The improvement at one checkpoint, in the latest states of its replay."""

    env_steps: int
    iteration: int
    mean: float
    low: float
    high: float


class Improved(NamedTuple):
    """The improvement at the inspected checkpoint, at all checkpoints, and in the metrics of training."""

    curve: list[Improvement]
    growth: list[Growth]
    logged: list[Logged]


def values_per_iteration(
    agent: Agent, obs: Float[Array, "b o"], key: Key, iterations: int, samples: int = SAMPLES
) -> Float[Array, "b k"]:
    """V(s; λ_k) for k = 0..iterations in each state, with the current critic and common random numbers.

    Args:
        agent: the agent.
        obs: states [b, o], as the networks get them.
        key: key of the random numbers.
        iterations: number of iterations.
        samples: number of samples with which V is estimated.

    Returns:
        V [b, iterations + 1].

    Raises:
        UsageError: the agent's inference makes no iterations.
    """
    inference = iterating(agent)
    if not isinstance(inference, Iterative):
        what = f"{type(inference).__name__} inference makes no iterations, so there is no improvement to measure."
        raise UsageError(what, "Inspect a run of iterative-sac.")

    def in_state(inference: Iterative, obs: Obs, key: Key) -> Float[Array, " k"]:
        k_infer, k_value = jax.random.split(key)
        problem = agent.acting_problem(obs, k_infer)
        lams = inference.path(problem, agent.posterior, k_infer, iterations)
        return jax.vmap(lambda lam: soft_value(agent.posterior(lam), problem, k_value, samples)[0])(lams)

    return jax.vmap(ft.partial(in_state, inference))(obs, jax.random.split(key, obs.shape[0]))


_measure = jax.jit(values_per_iteration, static_argnums=(3, 4))


def improvement(
    agent: Agent, obs: Float[Array, "b o"], key: Key, iterations: int, samples: int = SAMPLES
) -> list[Improvement]:
    """The improvement per iteration, as a mean over states. The arguments are those of `values_per_iteration`.

    Raises:
        UsageError: the agent's inference makes no iterations.
    """
    values = np.asarray(_measure(agent, obs, key, iterations, samples), np.float64)
    return [Improvement(k, *interval(gain)) for k, gain in enumerate((values - values[:, :1]).T)]


def iterating(agent: Agent) -> Inference:
    """The optimiser of acting; that of training where an agent acts by the start of its iterations."""
    inference = agent.inference.model
    acting = agent.acting(inference)
    return inference if isinstance(inference, Iterative) and not isinstance(acting, Iterative) else acting


def trained_iterations(inference: Inference) -> int:
    """Number of iterations of inference during training; 0 without iterations."""
    return inference.steps if isinstance(inference, Iterative) else 0


def most_iterations(agent: Agent) -> int:
    """Largest number of iterations during training or acting; 0 without iterations."""
    inference = agent.inference.model
    return max(trained_iterations(inference), trained_iterations(agent.acting(inference)))


def checkpoints(run_dir: Path) -> list[int]:
    """Environment steps of the good checkpoints of a run, in order."""
    sound = [path.name for path, reason in checkpoint.verify(run_dir) if reason is None]
    return sorted({int(name.split("_")[1].split("-")[0]) for name in sound})


def logged(run_dir: Path) -> list[Logged]:
    """The improvement that a run wrote into its metrics during training.

    Raises:
        RejectedInput: the folder is not a run folder, or its metrics cannot be read.
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
            f"The metrics in {folder.path} cannot be read: {error}.", "Restore metrics.jsonl from a backup."
        ) from error
