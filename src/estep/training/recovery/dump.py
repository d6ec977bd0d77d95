"""The folder dump/ of a run that halted: the agent and the batch of the last skipped update, to repeat it elsewhere."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from estep.core.agent import Agent
from estep.core.types import Key, Transition
from estep.errors import EstepError, RejectedInput, UsageError, describe
from estep.policy.actor import UPDATE, Scaling, key_of
from estep.policy.spaces import space_record, spaces_in, spaces_of
from estep.runs import config_file, reading, storage, strict
from estep.runs.folder import RunFolder
from estep.runs.leaves import named_leaves, rebuild, skeleton
from estep.runs.strict import Arrays
from estep.training.recovery.suspects import bad_rows, rehearsed
from estep.training.trainer import Trainer

RECORD = "update.json"
MOST = 1 << 32
"""Bytes of one file of a dump."""
FIX = "Give the folder dump/ of a run that halted, as estep has written it."


class Repeated(NamedTuple):
    """An update of a dump, made again."""

    update: int
    """Its number."""
    metrics: dict[str, float]
    equal: bool
    """Whether every metric is the recorded one, bit for bit."""
    blamed: list[int]
    """The sequences of the batch on which no update is finite."""


def write(folder: RunFolder, trainer: Trainer) -> Path:
    """Write the batch of the last skipped update, the agent, and what the agent makes of the batch. Returns the folder.

    Raises:
        StorageFailure: the disk fails.
    """
    place = folder.path / "dump"
    storage.make_inner_dir(place)
    arrays = {name: np.array(value, order="C") for name, value in trainer.halt_dump.items()}
    scaling = trainer.scaling
    if scaling is not None:
        arrays |= {"scaling.mean": np.array(scaling[0]), "scaling.scale": np.array(scaling[1])}
    files = {"batch": arrays, **_agent(trainer.agent)}
    for file, leaves in files.items():
        storage.write_atomic(place / f"{file}.safetensors", strict.encode(leaves))
    record: dict[str, Any] = {"config": folder.read_config(), "rollbacks": trainer.counts.rollbacks}
    record |= {"spaces": space_record(spaces_in(trainer.env)), "metrics": None}
    if "batch.obs" in arrays:  # an action that is not finite has no batch
        number = int(arrays["update"])
        record["metrics"] = _bits(rehearsed(trainer.agent, _batch(arrays), (trainer.update_key, number, scaling)))
    storage.write_atomic(place / RECORD, strict.dump(record, 1))
    return place


def _agent(agent: Agent) -> dict[str, Arrays]:
    """The leaves of an agent by file, as they are stored: safetensors ignores strides."""
    leaves = jax.device_get(named_leaves(agent))
    return {file: {name: np.array(leaf, order="C") for name, leaf in named.items()} for file, named in leaves.items()}


def _bits(metrics: Mapping[str, Any]) -> dict[str, str]:
    """The metrics of one update as hexadecimal digits, which also tell infinities apart."""
    return {name: np.asarray(value, np.float32)[0].tobytes().hex() for name, value in metrics.items()}


def _batch(arrays: Mapping[str, Any]) -> Transition:
    """The batch as a block of one update."""
    memo = {name[11:]: value[None] for name, value in arrays.items() if name.startswith("batch.memo.")}
    fields = {name: arrays[f"batch.{name}"][None] for name in Transition._fields if name != "memo"}
    return Transition(**fields, memo=memo or ())


def repeat(path: Path, *, allow_import: bool = False) -> Repeated:
    """Make the update of a dump again.

    Args:
        path: the folder `dump` of a run.
        allow_import: whether the modules that its configuration names may be imported.

    Raises:
        RejectedInput: it is no dump, or it is malformed.
        UsageError: its configuration names a module, and allow_import is False.
    """
    try:
        record, files = _read(path)
        recipe = config_file.decode(record["config"], allow_import=allow_import)
        shaped = skeleton(recipe.algorithm, spaces_of(record["spaces"]).spec)
        arrays = files["batch"]
        if record["metrics"] is None:
            raise ValueError("the run halted because of an action, not of an update")
        agent, batch = rebuild(shaped, files), _batch(arrays)
        key = key_of(recipe.run.seed, UPDATE)
        back = int(record["rollbacks"])
        scaling: Any = (arrays["scaling.mean"], arrays["scaling.scale"]) if "scaling.mean" in arrays else None
        how = jax.random.fold_in(key, back) if back else key, int(arrays["update"]), scaling
        info = rehearsed(agent, batch, how)
    except UsageError:
        raise
    except Exception as error:  # arrays of other shapes can fail anywhere in the update
        what = error.what if isinstance(error, EstepError) else f"{describe(error)}."
        raise RejectedInput(f"The dump {path} cannot be read: {what}", FIX) from error
    blamed = _blamed(agent, batch, how) if info["skipped"][0] else []
    metrics = {name: float(value[0]) for name, value in info.items()}
    return Repeated(how[1], metrics, _bits(info) == record["metrics"], blamed)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Arrays]]:
    """The record and the arrays of a dump, by file. No link is followed."""
    directory = reading.open_dir(path)
    try:
        record = strict.parse(reading.read_small(RECORD, directory))
        files = {}
        for file in ("batch", "params", "optim"):
            name = f"{file}.safetensors"
            files[file] = strict.tensors(name, reading.read_small(name, directory, MOST))
    finally:
        os.close(directory)
    if not isinstance(record, dict):
        raise ValueError(f"{RECORD} is not a table")
    return record, files


def _blamed(agent: Agent, batch: Transition, how: tuple[Key, int, Scaling]) -> list[int]:
    """The sequences of a batch on which no update is finite, by their number."""
    count = batch.reward.shape[1]

    def unsound(sets: Any) -> Any:
        parts = [jax.tree.map(lambda leaf, rows=rows: leaf[:, np.resize(rows, count)], batch) for rows in sets]
        return np.array([bool(rehearsed(agent, part, how)["skipped"][0]) for part in parts])

    return [int(number) for number in bad_rows(unsound, np.arange(count))]
