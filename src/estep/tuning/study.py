"""One study in one folder: Optuna's journal, and a sweep for each trial. Several processes may work on it at once.

`STUDY/study.json` says what is tuned, `STUDY/journal.log` is Optuna's, and `STUDY/trials/<number>` is a sweep
whose runs are the seeds of the trial. A trial that a process has left unfinished is gone on with by the next one.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from estep.errors import RejectedInput, UsageError
from estep.runs import leftovers, reading, storage, strict
from estep.runs.folder import LOCK
from estep.settings.search.spaces import Among, Between, Space
from estep.sweeps import plan

STUDY, JOURNAL, TRIALS = "study.json", "journal.log", "trials"
PLACE, VALUES = "place", "values"
"""Attributes of a trial of a population: the folder where it ended, and the settings that it had there."""
SEED = "seed"
"""Attribute of a study: the seed of its choices."""
ASHA, PBT = "asha", "pbt"
STARTUP = 5
"""Trials that are drawn at random, and that are never pruned."""


class Tuned(NamedTuple):
    """What a study is about."""

    algorithm: str
    env: tuple[str, ...]
    seeds: tuple[int, ...]
    budget: int
    """Environment steps of each run."""
    settings: Mapping[str, Any]
    """Settings of all runs."""
    space: Space
    preset: str
    scheduler: str = ASHA
    """On Ray, PBT lets trials go on as copies of better ones."""

    def runs(self, values: Mapping[str, Any], seeds: Sequence[int] | None = None) -> tuple[plan.Run, ...]:
        """The runs of a trial, or with these settings on other seeds."""
        settings = {**self.settings, "steps": self.budget, **values}
        return tuple(
            plan.make(self.algorithm, self.env, seed, {}, self.preset, settings) for seed in seeds or self.seeds
        )

    def defaults(self) -> dict[str, Any]:
        """The values that the settings of the space have without a study."""
        known = plan.resolved(self.runs({})[0])
        return {name: known[name] for name in self.space}


def import_optuna() -> Any:
    """Optuna, if it is installed, without its notes. Raises UsageError."""
    try:
        import optuna
    except ImportError as error:
        raise UsageError("Optuna is not installed.", "Install it: pip install 'estep[tune]'.") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


def space_in(folder: Path, algorithm: str) -> Space | None:
    """The space of a study of this algorithm that is in a folder, None where there is none. Raises RejectedInput."""
    if not (folder / STUDY).is_file():
        return None
    known = _record(folder / STUDY)
    try:
        if known["algorithm"] != algorithm:  # `begin` refuses it
            return None
        return {name: _range(*parts) for name, parts in known["space"].items()}
    except (AttributeError, KeyError, TypeError) as error:
        what = f"{folder / STUDY} names no search space."
        raise RejectedInput(what, "Restore it, or begin another study.") from error


def _range(kind: str, *parts: Any) -> Between | Among:
    """The values of a setting, as study.json has them."""
    if kind == Between.__name__:
        return Between(*parts)
    return Among(tuple(tuple(value) if isinstance(value, list) else value for value in parts[0]))


def _record(path: Path) -> Any:
    """What study.json says. Raises RejectedInput."""
    try:
        return strict.parse(reading.read_path(path, 1 << 20))
    except (OSError, ValueError) as error:
        raise RejectedInput(f"{path} cannot be read: {error}.", "Restore it, or begin another study.") from error


def begin(folder: Path, tuned: Tuned) -> None:
    """Write what a study is about. One that is there already must be about the same. Raises UsageError."""
    record = {**tuned._asdict(), "space": {name: [type(s).__name__, *s] for name, s in tuned.space.items()}}
    if tuned.scheduler == ASHA:  # studies of 0.2 do not name it
        del record["scheduler"]
    data = strict.dump(record, indent=1) + b"\n"
    path = folder / STUDY
    if not path.is_file():
        storage.make_dir(folder)
        storage.write_atomic(path, data)
    before, now = _record(path), strict.parse(data)
    if not isinstance(before, dict):
        before = {}
    changed = sorted(name for name in {*now, *before} if before.get(name) != now.get(name))
    if changed:
        what = f"The study in {folder} is about another {changed[0]}."
        raise UsageError(what, "Give what it began with, or another folder with --out.")


def opened(folder: Path, store: str | None, seed: int) -> Any:
    """Optuna's study in a folder, or in a storage by its URL."""
    optuna = import_optuna()
    if store is None:
        storage.make_dir(folder)
        backend: Any = optuna.storages.journal.JournalFileBackend(str(folder / JOURNAL))
        kept: Any = optuna.storages.JournalStorage(backend)
    else:
        kept = store
    study = optuna.create_study(
        storage=kept,
        study_name=folder.name,
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP),
    )
    study.set_user_attr(SEED, seed)
    return study


def _seeded(study: Any, trial: Any) -> Any:
    """A new trial with random numbers of its own. Else each process that opens a study would repeat the first ones."""
    seed = (study.user_attrs[SEED] * 100_003 + trial.number) % 2**32
    sampler = import_optuna().samplers.TPESampler(seed=seed, n_startup_trials=STARTUP, constant_liar=True)
    study.sampler = sampler
    return trial


def values_of(trial: Any, space: Space) -> dict[str, Any]:
    """The values of a trial. What Optuna has chosen for it before it keeps."""
    found: dict[str, Any] = {}
    for name, where in space.items():
        if isinstance(where, Between):
            found[name] = trial.suggest_float(name, where.low, where.high, log=where.log)
        else:
            texts = [strict.dump(value).decode() for value in where.values]
            found[name] = strict.parse(trial.suggest_categorical(name, texts).encode())
    return found


def as_parameters(values: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """Values as Optuna has them, as far as the space holds them."""
    found: dict[str, Any] = {}
    for name, where in space.items():
        text = strict.dump(values[name]).decode()
        if isinstance(where, Among) and text in [strict.dump(value).decode() for value in where.values]:
            found[name] = text
        elif isinstance(where, Between) and where.low <= float(values[name]) <= where.high:
            found[name] = float(values[name])
    return found


def next_trial(study: Any, folder: Path, trials: int, taken: Collection[int] = ()) -> Any | None:
    """A trial that another process has left, else a new one; None if there are as many as are wanted.

    Args:
        study: Optuna's study.
        folder: the folder of the study.
        trials: how many are wanted.
        taken: those that this process has asked for, which need not have begun yet.
    """
    optuna = import_optuna()
    known = study.get_trials(deepcopy=False)
    for frozen in known:
        left = not leftovers.is_held(place_of(folder, frozen.number) / LOCK)
        if frozen.state == optuna.trial.TrialState.RUNNING and left and frozen.number not in taken:
            return optuna.trial.Trial(study, frozen._trial_id)
    counted = [one for one in known if one.state != optuna.trial.TrialState.WAITING]
    return _seeded(study, study.ask()) if len(counted) < trials else None


def place_of(folder: Path, number: int) -> Path:
    """The folder of a trial."""
    return folder / TRIALS / f"{number:04d}"


def tell(study: Any, number: int, value: float | None, pruned: bool) -> None:
    """Tell Optuna how a trial has ended: by a value, pruned, or without one. Another process may have told it."""
    states = import_optuna().trial.TrialState
    state = states.PRUNED if pruned else states.FAIL if value is None else states.COMPLETE
    with contextlib.suppress(ValueError):
        study.tell(number, value if state == states.COMPLETE else None, state=state, skip_if_finished=True)
