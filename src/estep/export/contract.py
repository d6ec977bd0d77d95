"""What is exported, what an exporter makes of it, and the contract: what the result reads and gives."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from estep.core.agent import Agent
from estep.core.types import Floats, Key
from estep.data.normalise import Moments
from estep.envs.base import ActionSpace
from estep.envs.observations import ObservationSpace
from estep.errors import UsageError
from estep.export.policy import FORMAT, Policy
from estep.runs import provenance


class Subject(NamedTuple):
    """A trained policy, as it is exported."""

    agent: Agent
    moments: Moments | None
    action_space: ActionSpace
    observation_space: ObservationSpace | None
    """None if it is not known, as for a run of 0.1.0."""
    tasks: Mapping[str, ObservationSpace]
    """The observations of each task by its name; empty with one environment."""
    key: Key
    """Of the random numbers of inference: that of `policy.act` for one observation, with its defaults."""
    about: Mapping[str, Any]
    """Algorithm, environment, steps and checkpoint, as values of JSON."""
    draws: Callable[[Any, Any], Key] | None = None
    """None for deterministic actions. Else actions are drawn, by a key of a seed and a counter as `policy.act` has it
    with deterministic=False."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one observation that is an array without a task; else that of its flat numbers."""
        known = self.observation_space
        if known is None or self.tasks or known.parts[0].path or known.parts[0].choices:
            return (self.agent.spec.obs_dim,)
        return known.shape


Noise: TypeAlias = list[list[npt.NDArray[Any]]]
"""Of each observation the random numbers of its action, in the order in which they are asked for."""
Act: TypeAlias = Callable[[Floats, "Noise | None"], npt.NDArray[Any]]
"""From observations [n, o], flat and as the environment gives them, to actions of the environment. Actions that are
drawn are drawn by given noise, or freely without it."""


@dataclass(frozen=True)
class Made:
    """An exported policy, before it is checked."""

    files: Mapping[str, bytes]
    """By their names in the folder."""
    opened: Callable[[Path], Act]
    """From the folder to the policy that was read from its files."""
    program: Policy | None
    """The same policy in NumPy, where there is one."""
    infers: bool
    """Whether the policy infers while it acts."""


def extra(package: str, name: str) -> Any:
    """A package of an extra.

    Args:
        package: the package.
        name: the extra.

    Raises:
        UsageError: it is not installed; the message has the command that installs it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        what = f"This format needs the package {package}, which is not installed."
        raise UsageError(what, f"Install it: pip install 'estep[{name}]'.") from error


DRAWN = {
    "npz": "of a NumPy generator, which load(path, seed) makes",
    "onnx": "the second input: as many numbers for each observation as noise says, in its order",
    "jax": "by the second and the third argument, seed and counter: those of policy.act with deterministic=False",
}
"""Where the random numbers of drawn actions are from, by format."""


def contract(subject: Subject, form: str, random: bool) -> dict[str, Any]:
    """The contract of a policy, as values of JSON.

    Args:
        subject: the policy.
        form: npz, onnx or jax.
        random: whether acting uses random numbers.
    """
    spec = subject.agent.spec
    observation = {
        "size": spec.obs_dim,
        "order": "The parts below, each flattened in C order; then, with several tasks, the one-hot vector of the task "
        "in the order of their names.",
        "parts": [] if subject.tasks else _parts(subject.observation_space, spec.obs_dim),
        "tasks": {name: _parts(space, spec.obs_dim) for name, space in subject.tasks.items()},
        "normalised": "by the policy itself, so give it numbers as the environment does"
        if subject.moments is not None
        else "no",
    }
    fixed = "those of policy.act(observation) with seed 0 and counter 0, the same for every observation"
    numbers = DRAWN[form] if subject.draws is not None else fixed if random else "none"
    return {
        "format": FORMAT,
        "form": form,
        "observation": observation,
        "action": subject.action_space.record(),
        "discrete": bool(spec.factors),
        "rescaled": "from [-1, 1] to the bounds, by the policy itself; it is never outside them",
        "deterministic": subject.draws is None,
        "random_numbers": numbers,
        "made_of": {**subject.about, "versions": provenance.versions()},
    }


def _parts(space: ObservationSpace | None, size: int) -> list[dict[str, Any]]:
    """The parts of an observation in order, with the places of their numbers."""
    if space is None:
        return [{"path": [], "shape": [size], "dtype": "float32", "choices": 0, "first": 0, "places": [0, size]}]
    found, begin = [], 0
    for part in space.parts:
        first = int(part.low[0]) if part.choices else 0
        record = {"path": list(part.path), "shape": list(part.shape), "dtype": part.dtype.name}
        record |= {"choices": part.choices, "first": first, "places": [begin, begin + part.size]}
        found.append(record)
        begin += part.size
    return found


def widths(subject: Subject) -> npt.NDArray[np.float64]:
    """The width of the bounds of each number of the action; 1 where it is a choice."""
    record = subject.action_space.record()
    if "low" not in record:
        return np.ones(1)
    low, high = (np.asarray(record[name], np.float64) for name in ("low", "high"))
    width: npt.NDArray[np.float64] = high - low
    return width
