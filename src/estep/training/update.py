"""The programs that make and update an agent, how many updates are due, their metrics, and the report of how long
compiling takes."""

from __future__ import annotations

import functools as ft
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array

from estep.core.agent import Agent, Algorithm
from estep.core.em import step
from estep.core.types import Info, Key, Spec, Transition
from estep.policy.actor import (
    Scaling,
    scale,
)
from estep.settings import presets
from estep.settings.run import RunConfig


@ft.partial(jax.jit, static_argnums=(0, 1))
def init(algorithm: Algorithm, spec: Spec, key: Key) -> Agent:
    """Make a new agent, in one compiled program."""
    return algorithm.init(spec, key)


@ft.partial(jax.jit, donate_argnums=0)
def improve(
    agent: Agent, batches: Transition, key: Key, counter: Array, scaling: Scaling
) -> tuple[Agent, tuple[Any, Info]]:
    """K updates in one call.

    Args:
        agent: the agent; its arrays are reused and must not be read afterwards.
        batches: transitions [K, B, T, ...].
        key: key of the random numbers.
        counter: number of updates before; folded into the key.
        scaling: mean and scale of observations.

    Returns:
        The new agent, the new memo of the batches, and the metrics of each update [K].
    """
    batches = batches._replace(obs=scale(batches.obs, scaling), next_obs=scale(batches.next_obs, scaling))

    def update(agent: Agent, item: tuple[Transition, Array]) -> tuple[Agent, tuple[Any, Info]]:
        batch, number = item
        agent, memo, info = step(agent, batch, jax.random.fold_in(key, number))
        return agent, (memo, info)

    return jax.lax.scan(update, agent, (batches, counter + jnp.arange(batches.reward.shape[0], dtype=jnp.uint32)))


def updates_wanted(config: RunConfig, rollout: int, block: int, env_steps: int) -> int:
    """Updates that belong to the first environment steps of a run.

    Args:
        config: the settings of the run.
        rollout: environment steps between updates, for an algorithm that learns on-policy; 0 for one with a replay.
        block: updates that are made together.
        env_steps: how many environment steps.
    """
    if rollout:
        return env_steps // rollout * block
    return math.floor(max(0, env_steps - config.warmup_steps) * config.updates_per_step)


OF_REPLAY = ("replay_size", "updates_per_call", "updates_per_step", "warmup_steps")
"""Settings that an algorithm without a replay does not have."""


def note_schedule(config: RunConfig, rollout: int, block: int, note: Callable[[str], None]) -> None:
    """Say what was asked for and comes too late in the run, and which settings do not apply.

    Args:
        config: the settings of the run.
        rollout, block: as in `updates_wanted`.
        note: called with a line for the user.
    """
    steps, every = config.steps, config.eval_every
    usual = vars(RunConfig()), {**vars(RunConfig()), **presets.changes(None, {"steps": steps})}
    unused = [name for name in OF_REPLAY if all(vars(config)[name] != values[name] for values in usual)]
    if rollout and unused:
        flags = " and no ".join("--" + name.replace("_", "-") for name in unused)
        note(f"note     an algorithm that learns on-policy has no {flags}")
    if config.stop_at is not None and not 0 < every < steps:
        note(f"note     --stop-at is compared at evaluations, and the first is at the end (--eval-every {every:,})")
    if config.record_every > steps:
        note(f"note     no video is recorded: --record-every is {config.record_every:,}, and --steps is {steps:,}")
    if updates_wanted(config, rollout, block, steps) < block:
        note(f"note     this run learns nothing: {_why_none(config, rollout, block)}")


def _why_none(config: RunConfig, rollout: int, block: int) -> str:
    """Why a run makes no update, if it makes none."""
    steps = config.steps
    if rollout:
        return f"the first update comes after {rollout:,} steps (--rollout), and --steps is {steps:,}"
    if steps <= config.warmup_steps:
        return f"all {steps:,} steps are random, since --warmup-steps is {config.warmup_steps:,}"
    wanted = updates_wanted(config, rollout, block, steps)
    return f"{wanted} updates are due (--updates-per-step), and {block} are made at a time (--updates-per-call)"


PROBED, PROBE_SECONDS = 50, 2.0
"""A run begins with so many updates made twice, or with one block of them if they take longer than this."""
EXACT, REPLAYABLE = "exact", "replayable"


class Improve:
    """`improve`, whose first block of updates is made again on the same input: if the bits are equal, a run is exact.

    It is the first block, because its program is compiled there anyway, and its input is that of the run.
    """

    def __init__(self, compiled: set[str], note: Callable[[str], None]) -> None:
        """Prepare the first call. The arguments are those of `Compiling`."""
        self.compiled, self.note = compiled, note
        self.probed = 0
        """How many updates of this process were made twice."""
        self.label: str | None = None
        """EXACT, or REPLAYABLE if a repeated update gave other bits. None before the first update of a run."""

    def __call__(
        self, agent: Agent, batches: Transition, key: Key, counter: Any, scaling: Scaling
    ) -> tuple[Agent, tuple[Any, Info]]:
        """A block of updates, as `improve` makes it."""
        result: tuple[Agent, tuple[Any, Info]]
        if self.probed:
            result = improve(agent, batches, key, counter, scaling)
            return result
        kept = jax.tree.map(jnp.copy, agent)
        with Compiling("the update", self.compiled, self.note):
            result = improve(agent, batches, key, counter, scaling)
            first = bits(result)
        start, equal = time.monotonic(), True
        while equal and self.probed < PROBED and (not self.probed or time.monotonic() - start < PROBE_SECONDS):
            equal = first == bits(improve(jax.tree.map(jnp.copy, kept), batches, key, counter, scaling))
            self.probed += len(batches.reward)
        self.label = EXACT if equal else REPLAYABLE
        self.note(f"{self.label:8s} {self.probed} updates made twice gave {'equal' if equal else 'other'} bits")
        return result


def bits(tree: Any) -> list[bytes]:
    """The bytes of all arrays."""
    return [np.asarray(leaf).tobytes() for leaf in jax.device_get(jax.tree.leaves(tree))]


@dataclass
class Tally:
    """Sums of the metrics since the last line of metrics.jsonl."""

    sums: dict[str, float] = field(default_factory=dict)
    updates: int = 0

    def add(self, info: Mapping[str, npt.NDArray[Any]]) -> None:
        """Add the metrics of a block of updates, each [K]."""
        for name, values in info.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(values.astype(np.float64).sum())
        self.updates += len(next(iter(info.values())))

    def means(self) -> dict[str, float]:
        """The mean of each metric over the updates so far."""
        return {name: total / self.updates for name, total in self.sums.items()} if self.updates else {}


class Compiling:
    """Reports the first call of a program and how long it took."""

    def __init__(self, what: str, compiled: set[str], note: Callable[[str], None]) -> None:
        """Prepare a call.

        Args:
            what: the program, in words.
            compiled: the programs that were called before. This one is added.
            note: called with lines for the user.
        """
        self.what, self.compiled, self.note = what, compiled, note

    def __enter__(self) -> None:
        self.first = self.what not in self.compiled
        if self.first:
            self.compiled.add(self.what)
            self.note(f"compiling {self.what} ...")
            self.start = time.perf_counter()

    def __exit__(self, *unused: object) -> None:
        if self.first:
            self.note(f"compiled {self.what} in {time.perf_counter() - self.start:.1f} s")
