"""Writes members of a population as ordinary run folders, which evaluate, are inspected and resume alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from estep.data.replay import CHUNK, Replay
from estep.errors import RejectedInput
from estep.policy.job import Reporter
from estep.policy.policy import Policy
from estep.population import population
from estep.population.population import Population, check_member, member_recipe
from estep.population.ring import Layout
from estep.population.session import member_folder
from estep.population.snapshot import moved_arrays, saved_form
from estep.population.state import form_of
from estep.runs import checkpoint, config_file, manifest, provenance, reading, storage
from estep.runs.config_file import Recipe
from estep.runs.folder import METRICS, RunFolder
from estep.settings.run import RunConfig
from estep.training.allocation import allocate

RECORDS = (METRICS, "eval.csv", "episodes.csv")


def split(run_dir: Path, out: Path | None, *, allow_import: bool = False, report: Reporter) -> list[Path]:
    """Write every seed of a population as a run folder of its own.

    Args:
        run_dir: the folder of the population.
        out: the folder of all runs; None takes the folder `split` in that of the population.
        allow_import: whether the modules that the run folder names may be imported.
        report: gets a line for each seed.

    Returns:
        The new folders, in the order of the seeds.

    Raises:
        RejectedInput: it is not a population, or its checkpoint is corrupt.
        StorageFailure: the disk fails.
    """
    folder, written = RunFolder.open(run_dir), []
    recipe = config_file.decode(folder.read_config(), allow_import=allow_import)
    if recipe.run.population is None:
        raise RejectedInput(f"{folder.path} is a run of one seed.", "Give the folder of a population.")
    parts = _policies(folder, allow_import)
    for member in range(recipe.run.population):
        own = member_recipe(recipe, member)
        place = out or folder.path / "split"
        with RunFolder.create(place, own.name, own.env, own.run.seed, datetime.now()) as target:
            _write(folder, target, parts, member, with_replay=True)
            written.append(target.path)
        report.note(f"wrote    seed {own.run.seed} to {target.path}")
    return written


def write_member(run_dir: Path, member: int, target: Path, *, replay: bool, allow_import: bool = False) -> Path:
    """Write one member as a run folder at a path that does not exist. Returns the path.

    Args:
        run_dir: the folder of the population.
        member: number of the seed, from 0.
        target: the new folder.
        replay: whether with its replay, which only an inspection or a resume needs.
        allow_import: whether the modules that the run folder names may be imported.

    Raises:
        UsageError: there is no such member.
        RejectedInput: the checkpoint is corrupt.
    """
    folder = RunFolder.open(run_dir)
    recipe = config_file.decode(folder.read_config(), allow_import=allow_import)
    check_member(recipe, member)
    storage.make_dir(target)
    _write(folder, RunFolder(target), _policies(folder, allow_import), member, with_replay=replay)
    return target


def _policies(folder: RunFolder, allow_import: bool) -> tuple[Population, Population, Path]:
    """The best and the newest policies, and the newest checkpoint."""
    best, newest = (
        population.load_population(folder.path, which, allow_import=allow_import) for which in ("best", "latest")
    )
    return best, newest, checkpoint.locate(folder.path, "latest")


def _write(
    folder: RunFolder, target: RunFolder, parts: tuple[Population, Population, Path], member: int, *, with_replay: bool
) -> None:
    """Write the records, the best checkpoint and the newest one of a member into its folder."""
    best, newest, source = parts
    policy, recipe = newest[member], member_recipe(newest.recipe, member)
    target.write_config(config_file.encode(recipe), config_file.differences(recipe))
    run = folder.read_run()
    described = provenance.describe(run.get("command", ()), {"run": recipe.run.seed})
    kept = {name: run.get(name) for name in ("started", "versions", "git", "hardware")}
    ending = {"status": "stopped", "exit_code": None, "ended": provenance.now(), "member": member}
    target.write_run(
        {**described, **kept, **ending, "population": str(folder.path), "error": newest.failed.get(member)}
    )
    for name in RECORDS:
        path = member_folder(folder, member).path / name
        if path.is_file():
            storage.write_atomic(target.path / name, b"".join(reading.lines(path)))
    saved = manifest.read(source).meta
    if best.env_steps[member] < policy.env_steps:
        _save(target, best[member], saved, member, (None, {}))
    _save(target, policy, saved, member, _replay(newest, source, member) if with_replay else (None, {}))
    checkpoint.set_best(target.path, best.env_steps[member])


def _save(
    target: RunFolder, policy: Policy, saved: Mapping[str, Any], member: int, held: tuple[Replay | None, dict[str, Any]]
) -> None:
    """Write one checkpoint of a member. `held` is its replay and the arrays of its unfinished episodes."""
    replay, episodes = held
    files = policy.arrays()
    if policy.moments is not None:
        files["stats"] = dict(policy.moments.arrays())
    meta, env = _meta(policy, saved, member, episodes)
    if replay is not None:
        files["env"] = env
    checkpoint.save(target.path, policy.env_steps, files, meta, replay, 0)


def _meta(
    policy: Policy, saved: Mapping[str, Any], member: int, episodes: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The JSON values of a member's checkpoint as an ordinary run has them, and its unfinished episodes."""
    engine, session, envs = saved["engine"], saved["session"], policy.recipe.run.num_envs
    counts = {"env_steps": policy.env_steps, "updates": policy.updates, "episodes": 0, "skipped": 0}
    counts |= {"skips_in_a_row": 0, "evaluated": session["evaluated"], "saved": policy.env_steps}
    # Environments on the device, and those of a frozen seed, cannot be continued elsewhere.
    known = bool(engine["progress"][member]) if "progress" in engine else False
    width = policy.action_space.pack(np.zeros((1, policy.action_space.size), np.float32)).shape[1]
    blank = {"episode": 0, "length": 1, "total": 0.0}
    progress = engine["progress"][member] if known else [blank] * envs
    bad = {"total": [0], "seen": [0], "row": [0] * envs, "recent": []}
    arrays = {}
    for i in range(envs):
        arrays[f"{i}.actions"] = episodes.get(f"{member}.{i}.actions", np.zeros((0, width), np.float32))
        arrays[f"{i}.obs"] = episodes.get(f"{member}.{i}.obs", np.zeros(policy.agent.spec.obs_dim, np.float32))
    best = session["best"][member]
    meta = {
        "counts": counts,
        "tally": {"sums": {}, "updates": 0},
        **{name: engine[name][member] if known else [] for name in ("recent", "successes")},
        "skips": [],
        "bad": engine["bad"][member] if known else bad,
        "episodes": progress,
        "session": {"wall_s": session["wall_s"], "last": {}, "best": best},
        **{name: saved[name] for name in ("machine", "observation", "action", "observation_space") if name in saved},
    }
    return meta, arrays


def _replay(newest: Population, source: Path, member: int) -> tuple[Replay, dict[str, Any]]:
    """The replay of a member, from its chunks alone, and the arrays of the environments.

    Raises:
        RejectedInput: the checkpoint is corrupt.
    """
    recipe: Recipe = member_recipe(newest.recipe, member)
    config: RunConfig = recipe.run
    agent = newest[member].agent
    observation = newest.spaces.observation
    dtype = np.dtype(np.float32) if observation is None else observation.storage
    form = saved_form(source, form_of(agent, config, dtype))
    try:
        with manifest.opened(source) as opened:
            opened.check(deep=False)
            counted, count = opened.manifest.replay or {}, len(newest)
            numbers = range(member, int(counted["chunks"]), count)
            chunks = [opened.arrays(manifest.chunk_name(number)) for number in numbers]
            counters = {name: list(map(int, counted["counters"][name][member])) for name in ("head", "open", "tail")}
            episodes = opened.arrays("env.safetensors") if "env.safetensors" in opened.manifest.files else {}
    except (ValueError, KeyError, TypeError, IndexError, OSError) as error:
        what = f"The checkpoint {source} was rejected: {error}."
        raise RejectedInput(what, "Use another checkpoint (estep verify RUN lists the good ones).") from error
    replay = allocate(agent, config, config.num_envs, dtype)
    fill(replay, form, counters, chunks)
    return replay, dict(episodes)


def fill(replay: Replay, form: Layout, counters: Mapping[str, list[int]], chunks: Sequence[Mapping[str, Any]]) -> None:
    """Fill a replay of the host, which has at least as many rows, with the chunks of one seed.

    Args:
        replay: the replay.
        form: the layout of the chunks.
        counters: head, open and tail of each environment.
        chunks: the arrays of each chunk.
    """
    names = "obs", "columns"
    if not chunks:
        return
    whole = [np.concatenate([chunk[name] for chunk in chunks]) for name in names]
    rows = [np.pad(array, ((0, form.rows - len(array)), (0, 0))) for array in whole]
    arrays, new = moved_arrays(form, replay._size.rows_per_env * form.num_envs, counters, tuple(rows))
    used = max(head + is_open for head, is_open in zip(new["head"], new["open"], strict=True)) * form.num_envs
    for i in range(-(-used // CHUNK)):
        place = slice(i * CHUNK, (i + 1) * CHUNK)
        replay.load_chunk(i, {name: array[place] for name, array in zip(names, arrays, strict=True)})
    replay.load_counters(new)
