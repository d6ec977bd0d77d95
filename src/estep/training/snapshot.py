"""Converts a trainer to arrays and JSON values and back. They are everything that a resumed run needs."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from estep.core.agent import Algorithm
from estep.envs.base import HostEnv, Progress
from estep.errors import EnvironmentFailure, RejectedInput, describe
from estep.policy.spaces import Spaces, check_tasks, space_record, spaces_in, spaces_of
from estep.runs import checkpoint, manifest, provenance
from estep.runs.leaves import expected, named_leaves, rebuild, skeleton
from estep.training.recovery.skips import Counts
from estep.training.trainer import Trainer
from estep.training.update import Tally

Arrays = dict[str, "np.ndarray[Any, Any]"]


def tensors(trainer: Trainer) -> dict[str, Arrays]:
    """All arrays of a run except replay, by file and name."""
    leaves = jax.device_get(named_leaves(trainer.agent))
    files = {file: {name: np.asarray(leaf) for name, leaf in named.items()} for file, named in leaves.items()}
    envs: Arrays = {}
    for i, open_episode in enumerate(progress(trainer)):
        envs[f"{i}.actions"], envs[f"{i}.obs"] = open_episode.actions, open_episode.obs
    return {**files, "env": envs, **stats(trainer)}


def stats(trainer: Trainer) -> dict[str, Arrays]:
    """Mean and variance of observations, and the spread of returns, where these are normalised."""
    moments, spread = trainer.moments, trainer.rewards.spread
    found = {} if moments is None else {"stats": dict(moments.arrays())}
    return found if spread is None else found | {"returns": dict(spread.arrays())}


def meta(trainer: Trainer) -> dict[str, Any]:
    """All JSON values of a run."""
    return {
        "counts": dataclasses.asdict(trainer.counts),
        "tally": dataclasses.asdict(trainer.tally),
        "recent": list(trainer.recent),
        "successes": list(trainer.successes),
        "skips": list(trainer.skips),
        "bad": trainer.env.counters(),
        "machine": {**provenance.machine(), "label": trainer.improve.label},
        **space_record(spaces_in(trainer.env)),
        **({"of_tasks": trainer.of_tasks.record()} if trainer.env.tasks else {}),
        "episodes": [{"episode": p.episode, "length": p.length, "total": p.total} for p in progress(trainer)],
    }


def progress(trainer: Trainer) -> list[Progress]:
    """The unfinished episodes. If a step was interrupted, replay lacks it, so they are saved as not restorable."""
    unfinished = trainer.env.progress()
    if trainer.settled:
        return unfinished
    return [p._replace(length=p.length + 1, actions=p.actions[:0]) for p in unfinished]


def restore(trainer: Trainer, algorithm: Algorithm, path: Path) -> tuple[list[int], dict[str, Any]]:
    """Load a checkpoint into a new trainer.

    Args:
        trainer: the new trainer.
        algorithm: the algorithm of the checkpoint.
        path: the checkpoint's folder.

    Returns:
        The environments whose unfinished episode could not be restored exactly, so that it was truncated; and the
        session's part of the checkpoint.

    Raises:
        RejectedInput: the checkpoint is corrupt or belongs to another algorithm or environment.
    """
    shaped = skeleton(algorithm, trainer.env.spec)
    loaded = checkpoint.load(path, expected(shaped), trainer.replay)
    trainer.agent = rebuild(shaped, loaded.tensors)
    try:
        restore_counts(trainer, loaded.meta)
        if trainer.moments is not None:
            trainer.moments.load(loaded.tensors["stats"])
        if trainer.rewards.spread is not None:
            trainer.rewards.spread.load(loaded.tensors["returns"])
        unfinished = unfinished_episodes(trainer.env, loaded.meta["episodes"], loaded.tensors["env"])
        session = session_state(loaded.meta["session"])
        trainer.obs, exact = trainer.env.restore(unfinished)
        trainer.env.load_counters(loaded.meta["bad"])  # last, because replaying episodes counts their steps again
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise lacking(path, error) from error
    inexact = [i for i, same in enumerate(exact) if not same]
    for i in inexact:
        trainer.replay.cut(i)
    if trainer.rewards.spread is not None:
        trainer.rewards.spread.cut(np.asarray(inexact, int))
    trainer.count_obs(trainer.obs[inexact])  # the first of new episodes; all others were counted before the checkpoint
    return inexact, session


def check_environment(path: Path, env: HostEnv) -> None:
    """Check that environments have the spaces that a checkpoint records.

    Raises:
        UsageError: they have other spaces.
        RejectedInput: the checkpoint does not say which.
    """
    check_tasks(recorded_spaces(path), env)


def recorded_spaces(path: Path) -> Spaces:
    """The spaces that a checkpoint records. Raises RejectedInput if it does not say which."""
    try:
        return spaces_of(manifest.read(path).meta)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, EnvironmentFailure) as error:
        raise lacking(path, error) from error


def lacking(path: Path, error: Exception) -> RejectedInput:
    """The error for a checkpoint whose values cannot be read."""
    what = f"The checkpoint {path} does not have what a run needs: {describe(error)}."
    return RejectedInput(what, "Move this checkpoint out of the run folder, then resume; or train again.")


def session_state(saved: Mapping[str, Any]) -> dict[str, Any]:
    """The session's part of a checkpoint: seconds, last numbers and best evaluation."""
    best = saved["best"]
    last = {str(name): value for name, value in saved["last"].items()}
    found = {"wall_s": float(saved["wall_s"]), "last": last, "best": None if best is None else float(best)}
    return found | {"is_best": saved.get("is_best") is True}  # 0.1.0 has none


def restore_counts(trainer: Trainer, saved: Mapping[str, Any]) -> None:
    """Load counts, sums of metrics, recent returns and skipped updates."""
    counts = Counts(**{name: int(value) for name, value in saved["counts"].items()})
    vars(trainer.counts).update(vars(counts))  # the session holds the same object
    trainer.rekey()
    tally = saved["tally"]
    trainer.tally = Tally({str(k): number(v) for k, v in tally["sums"].items()}, int(tally["updates"]))
    trainer.recent.extend(number(value) for value in saved["recent"])
    trainer.successes.extend(number(value) for value in saved.get("successes", ()))  # 0.1.0 has none
    if trainer.env.tasks:
        trainer.of_tasks.load(saved["of_tasks"])
    trainer.skips = deque(int(value) for value in saved["skips"])
    trainer.improve.label = saved.get("machine", {}).get("label")  # until this process has made an update


def number(saved: Any) -> float:
    """A saved float. A number that was not finite is null in the file and becomes NaN."""
    return math.nan if saved is None else float(saved)


def unfinished_episodes(env: HostEnv, saved: Any, arrays: Mapping[str, Any]) -> list[Progress]:
    """The unfinished episodes of a checkpoint.

    Args:
        env: the environments.
        saved: episode, length and sum of rewards of each environment.
        arrays: actions and last observations, by name.

    Raises:
        ValueError: an episode is malformed.
    """
    unfinished = [
        Progress(int(p["episode"]), int(p["length"]), arrays[f"{i}.actions"], arrays[f"{i}.obs"], number(p["total"]))
        for i, p in enumerate(saved)
    ]
    if len(unfinished) != env.num_envs:
        raise ValueError(f"it has {len(unfinished)} environments, not {env.num_envs}")
    for p in unfinished:
        fits = p.actions.ndim == 2 and p.actions.dtype == np.float32
        env.action_space.unpack(p.actions)  # raises ValueError for actions of another space
        if not fits or not np.isfinite(p.actions).all() or not 0 <= p.episode < 2**31 or p.length < 0:
            raise ValueError("its unfinished episodes are malformed")
    return unfinished
