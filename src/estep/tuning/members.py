"""A member of a population: a trial that is trained in rounds, and that may go on as a copy of another one.

`STUDY/trials/0003` is the sweep of member 3. Each time it becomes a copy of a better one it goes on in a sweep of its
own, `0003-1`, `0003-2` and so on, whose runs began as copies. `STUDY/held` has the copies of run folders at the ends of
rounds, from which others begin: the members themselves go on meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from estep.runs import leftovers, reading, storage
from estep.runs.folder import RUN
from estep.settings.search.spaces import Among, Between, Space, changeable
from estep.sweeps import plan, status
from estep.sweeps.lines import folder_of
from estep.tuning import forking
from estep.tuning.rungs import Part
from estep.tuning.study import Tuned, place_of

ROUNDS = 8
"""Parts of a run, at whose ends members are compared."""
FACTORS = 0.8, 1.25
AFRESH = 0.25
"""Probability that a setting is drawn anew from its space, as in the paper."""
HELD, FROM = "held", "from.txt"
LONGEST = 1 << 20
"""Bytes of FROM."""


def rounds(budget: int) -> list[int]:
    """Environment steps at which members are compared; the last is the budget.

    Example:
        >>> rounds(8000)[:3]
        [1000, 2000, 3000]
    """
    return sorted({max(1, budget * (i + 1) // ROUNDS) for i in range(ROUNDS)})


def explored(values: Mapping[str, Any], space: Space, chance: np.random.Generator) -> dict[str, Any]:
    """Other values near these: each times 0.8 or 1.25 or one place further, within its space, or drawn anew.

    Settings that are not in the space, or whose value is not, stay.

    Source:
        Jaderberg et al. 2017 (population based training, arXiv:1711.09846).
    """
    found = dict(values)
    for name, where in space.items():
        if isinstance(where, Among):
            found[name] = _neighbour(values[name], where, chance)
        elif where.low <= values[name] <= where.high:
            near = values[name] * FACTORS[chance.integers(len(FACTORS))]
            found[name] = _drawn(where, chance) if chance.random() < AFRESH else min(max(near, where.low), where.high)
    return found


def _neighbour(value: Any, where: Among, chance: np.random.Generator) -> Any:
    if value not in where.values or chance.random() < AFRESH:
        return where.values[chance.integers(len(where.values))]
    place = where.values.index(value) + (-1, 1)[chance.integers(2)]
    return where.values[min(max(place, 0), len(where.values) - 1)]


def _drawn(where: Between, chance: np.random.Generator) -> float:
    share = chance.random()
    return float(
        where.low * (where.high / where.low) ** share if where.log else where.low + (where.high - where.low) * share
    )


def begin(folder: Path, number: int, runs: Sequence[plan.Run]) -> Part:
    """A new member, or one that has begun: the newest of its sweeps."""
    place, count = place_of(folder, number), 0
    while (folder / place.parent.name / f"{place.name}-{count + 1}" / plan.PLAN).is_file():
        count += 1
    if count:
        place = place.with_name(f"{place.name}-{count}")
        return Part(place, plan.read(place))
    storage.make_dir(place)
    if not (place / plan.PLAN).is_file():
        plan.write(place, runs)
    return Part(place, plan.read(place))


def done(part: Part) -> int:
    """Environment steps that all runs of a member have made."""
    return min(status.of(part.place, run.id).env_steps or 0 for run in part.runs)


def hold(folder: Path, part: Part) -> list[str]:
    """Copy the run folders of a member as they are, for others to begin from; returns where they are, in the folder."""
    found = []
    for run in part.runs:
        source = folder_of(part.place, run.id)
        target = folder / HELD / f"{part.place.name}-{done(part)}" / run.id
        if not (target / RUN).is_file():
            storage.make_dir(target.parent)
            forking.copy(source, target)
        found.append(str(target.relative_to(folder)))
    return found


def become(folder: Path, number: int, tuned: Tuned, held: Sequence[str], values: Mapping[str, Any], part: Part) -> Part:
    """Let a member go on as a copy of another one, with these settings.

    A member that has become just this already is returned as it is.

    Args:
        folder: that of the study.
        number: the member.
        tuned: what the study is about.
        held: the copies of the other's run folders, one for each seed.
        values: the settings of the space.
        part: what the member was.
    """
    runs = tuned.runs(values)
    written = part.place / FROM
    source = reading.read_path(written, LONGEST).decode().splitlines() if written.is_file() else []
    if source == list(held) and tuple(part.runs) == runs:
        return part
    changes = {name: values[name] for name in changeable(tuned.algorithm, tuned.space)}
    _, _, count = part.place.name.partition("-")
    place = part.place.with_name(f"{number:04d}-{int(count or 0) + 1}")
    with storage.temporary_dir(place.parent) as half:
        plan.write(half, runs)
        storage.write_new(half / FROM, "".join(f"{line}\n" for line in held).encode())
        storage.make_dir(half / plan.RUNS)
        for run, copied in zip(runs, held, strict=True):
            forking.fork(folder / copied, folder_of(half, run.id), changes, tuned.budget)
        storage.publish_dir(half, place)
    return Part(place, runs)


def clear(folder: Path) -> None:
    """Remove the copies between members, once nobody needs them."""
    if (folder / HELD).is_dir():
        leftovers.retire(folder / HELD)
