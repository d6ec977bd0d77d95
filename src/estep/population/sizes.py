"""What a population needs of memory and of the disk, checked before anything is made."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import NamedTuple

import jax

from estep.core.agent import Agent
from estep.data.memory import SHARE, format_bytes, memory_limit, round_down
from estep.errors import StorageFailure, UsageError
from estep.population import ring
from estep.population.ring import Layout
from estep.runs import checkpoint
from estep.settings.run import RunConfig
from estep.training.allocation import MOST_STEPS, check_sequences

COPIES = 3
"""Copies of an agent: the current one, the best one, and what an update needs."""


class Needs(NamedTuple):
    """Bytes of one seed."""

    replay: int
    agent: int

    @property
    def all(self) -> int:
        """Replay and agent."""
        return self.replay + COPIES * self.agent


def needs(agent: Agent, form: Layout) -> Needs:
    """Bytes of one seed. `agent` may be a structure."""
    leaves = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(agent))
    return Needs(ring.bytes_of(form), leaves)


def device_memory() -> int | None:
    """Bytes that arrays may have on the device of JAX; None if it is not known."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return memory_limit()
    return (device.memory_stats() or {}).get("bytes_limit")


def check_memory(seeds: int, one: Needs, form: Layout, limit: int | None) -> None:
    """Refuse a population that needs more than 80 % of the memory.

    Args:
        seeds: how many seeds.
        one: bytes of one of them.
        form: the layout of its replay.
        limit: bytes of memory, or None if it is not known, where nothing is refused.

    Raises:
        UsageError: it does not fit. The message names the largest population and the largest replay that do.
    """
    if limit is None or seeds * one.all <= SHARE * limit:
        return
    steps = form.size.steps_per_env * form.num_envs
    most = int(SHARE * limit / one.all)
    left = SHARE * limit / seeds - COPIES * one.agent
    rows = round_down(int(max(left, 0) / (one.replay / steps)))
    what = (
        f"{seeds} seeds with a replay of {steps:,} transitions each need {format_bytes(seeds * one.all)} of memory, "
        f"but they may use at most {format_bytes(SHARE * limit)}."
    )
    ways = [f"--population at most {most}"] * (most > 0) + [f"--replay-size at most {rows}"] * (rows >= form.num_envs)
    raise UsageError(what, f"Give {', or '.join(ways)}." if ways else "Use a machine with more memory.")


def check_listed(seeds: int, form: Layout) -> None:
    """Refuse replays of more transitions than a checkpoint can list. Raises UsageError."""
    steps = form.size.steps_per_env * form.num_envs
    if seeds * steps > MOST_STEPS:
        what = f"{seeds} replays of {steps:,} transitions have more parts than a checkpoint may list."
        most = MOST_STEPS // seeds, max(1, MOST_STEPS // steps)
        raise UsageError(what, f"Give --replay-size at most {most[0]}, or --population at most {most[1]}.")


def check_disk(out: Path, seeds: int, one: Needs, form: Layout, keep: int) -> int:
    """Bytes that the checkpoints of a population need. A chunk of replay that does not change is stored once.

    Args:
        out: the folder of all runs, which need not exist; or that of a run that goes on, whose checkpoints count.
        seeds: how many seeds.
        one: bytes of one of them.
        form: the layout of its replay. With a memo, every chunk changes between two checkpoints.
        keep: how many checkpoints are kept; 0 keeps all, of which two are counted.

    Raises:
        StorageFailure: the disk has less free space.
    """
    copies = (keep or 1) + 1
    needed = seeds * (one.replay * (copies if form.memo else 2) + one.agent * 2 * copies)
    place = next(folder for folder in (out, *out.parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    files = [path.stat() for path in (out / checkpoint.FOLDER).rglob("*") if path.is_file()]
    held = sum({one.st_ino: one.st_size for one in files}.values())  # a linked file is counted once
    if needed - held > free:
        what = f"The checkpoints of {seeds} seeds need {format_bytes(needed)} of disk, but {place} has "
        fix = "Give a smaller --population, --replay-size or --keep-checkpoints, or --out on another disk."
        raise StorageFailure(f"{what}{format_bytes(free)} free.", fix)
    return needed


def checked(config: RunConfig, agent: Agent, form: Layout, out: Path) -> str:
    """Check memory and disk. Returns a line that announces what is needed.

    Args:
        config: the settings of the run.
        agent: the structure of an agent.
        form: the layout of the replay of one seed.
        out: the folder of the run, or of all runs.

    Raises:
        UsageError: the population does not fit in memory, or a replay is shorter than what is read at once.
        StorageFailure: its checkpoints do not fit on the disk.
    """
    count, one = config.population or 1, needs(agent, form)
    check_memory(count, one, form, device_memory())
    check_listed(count, form)
    check_sequences(agent, config, config.num_envs)
    disk = check_disk(out, count, one, form, config.keep_checkpoints)
    steps, memory = form.size.steps_per_env * form.num_envs, format_bytes(count * one.all)
    return f"memory   {memory} for {count} seeds with {steps:,} transitions each; disk {format_bytes(disk)} at most"
