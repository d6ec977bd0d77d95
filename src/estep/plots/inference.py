"""`estep inspect`: how much inference improves with each iteration."""

from __future__ import annotations

import csv
import functools as ft
import io
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Float

from estep.core.agent import Agent
from estep.core.objective import soft_value
from estep.core.protocols import Inference
from estep.core.types import Key, Obs
from estep.errors import UsageError
from estep.experiment import checkpoint, policy, storage
from estep.experiment.device import INSPECT, key_of, remembered, scale
from estep.experiment.folder import RunFolder
from estep.experiment.policy import Policy
from estep.experiment.trainer import allocate
from estep.inference.iterative import Iterative

SAMPLES = 128
"""Draws of the posterior with which V is measured, the same noise at every iterate."""
BEYOND = 2
"""Iterations are measured up to this multiple of the trained number."""


class Improvement(NamedTuple):
    """V(λ_k) - V(λ_0) over states: the mean and a 95 % interval."""

    iteration: int
    mean: float
    low: float
    high: float


def values_per_iteration(
    agent: Agent, obs: Float[Array, "b o"], key: Key, iterations: int, samples: int = SAMPLES
) -> Float[Array, "b k"]:
    """V(s; λ_k) for k = 0..iterations in each state, on the current critic, measured with common random numbers.

    Raises:
        UsageError: the agent's inference makes no iterations.
    """
    inference = agent.acting(agent.inference.model)
    if not isinstance(inference, Iterative):
        raise UsageError("This algorithm infers in one shot.", "Inspect a run of iterative-sac.")

    def one(inference: Iterative, obs: Obs, key: Key) -> Float[Array, " k"]:
        k_infer, k_value = jax.random.split(key)
        problem = agent.problem(agent.likelihood.model, obs)
        lams = inference.path(problem, agent.posterior, k_infer, iterations)
        return jax.vmap(lambda lam: soft_value(agent.posterior(lam), problem, k_value, samples)[0])(lams)

    return jax.vmap(ft.partial(one, inference))(obs, jax.random.split(key, obs.shape[0]))


def improvement(found: Policy, states: npt.NDArray[np.float32], iterations: int) -> list[Improvement]:
    """The improvement per iteration of a policy, over states [b, o] as the environment gives them."""
    key = key_of(found.recipe.run.seed, INSPECT)
    measure = jax.jit(values_per_iteration, static_argnums=3)
    values = np.asarray(measure(found.agent, scale(jnp.asarray(states), found.scaling), key, iterations), np.float64)
    gain = values - values[:, :1]
    half = 1.96 * gain.std(0, ddof=1) / np.sqrt(len(gain))
    return [
        Improvement(k, float(m), float(m - h), float(m + h))
        for k, (m, h) in enumerate(zip(gain.mean(0), half, strict=True))
    ]


def trained_iterations(inference: Inference) -> int:
    """How many iterations inference was trained with; 0 for one shot."""
    return inference.steps if isinstance(inference, Iterative) else 0


def inspect_run(run_dir: Path, out: Path | None = None, which: str = "latest", states: int = 256) -> dict[str, Any]:
    """Measure a run's inference on its latest states; with `out`, write a table and figures there.

    Returns:
        trained_iterations; improvement, a list of {iteration, mean, low, high}; files, by name.

    Raises:
        RejectedInput: not a run folder, or no such sound checkpoint.
        UsageError: the algorithm infers in one shot.
    """
    found = policy.load(run_dir, which)
    trained = trained_iterations(found.agent.inference.model)
    steps = BEYOND * max(trained, 1)
    curve = improvement(found, recorded_states(found, which, states), steps)
    files = write(curve, trained, out) if out is not None else {}
    return {"trained_iterations": trained, "improvement": [row._asdict() for row in curve], "files": files}


def recorded_states(found: Policy, which: str, count: int) -> np.ndarray[Any, Any]:
    """The latest states in the replay of a checkpoint."""
    run, spec = found.recipe.run, found.agent.spec
    replay = allocate(run.replay, run.num_envs, spec.observation, spec.action, remembered(found.agent))
    path = checkpoint.at(RunFolder.open(found.run_dir).path, int(which) if which.isdecimal() else which)
    checkpoint.load(path, None, replay)
    return replay.latest(count)


def write(curve: list[Improvement], trained: int, out: Path) -> dict[str, str]:
    """The curve as CSV, PNG and SVG; returns the files by name."""
    from estep.plots.curves import draw_improvement

    storage.make_dir(out)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(Improvement._fields)
    table.writerows(curve)
    path = out / "improvement.csv"
    storage.write_atomic(path, text.getvalue().encode())
    return {"improvement.csv": str(path), **draw_improvement(curve, trained, out)}
