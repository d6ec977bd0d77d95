"""What a study has found: the best trials, which settings mattered, a preset to paste, and the best on fresh seeds."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from estep.instruments.interval import Interval, difference, middle
from estep.runs import strict
from estep.sweeps import drive, lines, plan, status
from estep.sweeps.drive import Options
from estep.sweeps.engine import Engine
from estep.tuning import forking
from estep.tuning import study as studies
from estep.tuning.forking import Stage
from estep.tuning.study import Tuned

SHOWN = 10
RESAMPLES = 50
"""Of the trials, for the intervals of importances."""
ENOUGH = 10
"""Fewer trials say nothing about importances."""
FRESH = "fresh"


class Fresh(NamedTuple):
    """The best settings and the defaults on seeds that the study never saw."""

    best: Interval
    defaults: Interval
    gap: Interval
    study: float
    """The value that the study gave the best settings."""

    @property
    def sentence(self) -> str:
        """What it says."""
        if self.gap.low > 0:
            return "On fresh seeds the best settings are better than the defaults."
        return "On fresh seeds the best settings are not shown to be better than the defaults."


def complete(study: Any) -> list[Any]:
    """The trials with a value, the best first."""
    states = studies.import_optuna().trial.TrialState
    return sorted(study.get_trials(deepcopy=False, states=(states.COMPLETE,)), key=lambda one: -one.value)


def best_stages(study: Any, tuned: Tuned, folder: Path) -> list[Stage]:
    """The settings of the best trial. In a population they changed on the way, and so did those of what it copied."""
    one = complete(study)[0]
    if studies.PLACE not in one.user_attrs:
        found = studies.import_optuna().trial.FixedTrial(one.params)
        return [Stage(tuned.budget, studies.values_of(found, tuned.space))]
    place, values = folder / studies.TRIALS / one.user_attrs[studies.PLACE], one.user_attrs[studies.VALUES]
    run_dir = lines.folder_of(place, plan.read(place)[0].id)
    return [Stage(steps, {**values, **changed}) for steps, changed in forking.stages(run_dir)]


def table(study: Any) -> list[str]:
    """The best trials, a line each, and how many there were."""
    states = studies.import_optuna().trial.TrialState
    found, every = complete(study), study.get_trials(deepcopy=False)
    pruned, failed = (sum(one.state == state for one in every) for state in (states.PRUNED, states.FAIL))
    rows = [
        f"  {one.number:5d}  {one.value:10.5g}  {_params(one.user_attrs.get(studies.VALUES, one.params))}"
        for one in found[:SHOWN]
    ]
    return [f"trials   {len(every)}: {len(found)} done, {pruned} pruned, {failed} failed", *rows]


def _params(params: Mapping[str, Any]) -> str:
    return " ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in params.items()
    )


def importances(study: Any, seed: int = 0) -> dict[str, Interval]:
    """The share of each setting in the differences of the trials, with the middle 95 % over resampled trials.

    Source:
        Watanabe et al. 2023 (PED-ANOVA, arXiv:2304.10255).
    """
    optuna, found = studies.import_optuna(), complete(study)
    if len(found) < ENOUGH:
        return {}
    evaluator, chance = optuna.importance.PedAnovaImportanceEvaluator(), np.random.default_rng(seed)

    def shares(trials: Sequence[Any]) -> dict[str, float]:
        resampled = optuna.create_study(direction="maximize")
        resampled.add_trials(trials)
        return dict(optuna.importance.get_param_importances(resampled, evaluator=evaluator))

    whole, drawn = shares(found), []
    for _ in range(RESAMPLES):
        picked = [found[i] for i in chance.integers(0, len(found), len(found))]
        if len({one.value for one in picked}) > 1:
            drawn.append(shares(picked))
    return {
        name: Interval(share, *np.percentile([one.get(name, 0.0) for one in drawn], (2.5, 97.5)).tolist())
        for name, share in whole.items()
    }


def preset(tuned: Tuned, values: Mapping[str, Any]) -> list[str]:
    """The best settings as a command line, and as a table for a TOML file of `estep sweep`."""
    words = [word for name, value in values.items() for word in lines.flag(name, value)]
    line = shlex.join(["estep", "train", tuned.algorithm, "--env", *tuned.env, *words])
    return [line, "[set]", *(f"{name} = {strict.dump(value).decode()}" for name, value in values.items())]


def schedule(stages: Sequence[Stage]) -> list[str]:
    """The settings of each part of a run, a line each; none if they never changed."""
    rows = [f"  to {stage.steps:9,} steps  {_params(stage.values)}" for stage in stages]
    return rows if len(stages) > 1 else []


def on_fresh_seeds(
    study: Any, tuned: Tuned, folder: Path, count: int, engine: Callable[[], Engine], stop: Callable[[], bool]
) -> Fresh | None:
    """Train the best settings and the defaults on seeds behind those of the study; None if it is not finished.

    The best of many trials was also lucky: only other seeds tell how good it is.
    """
    seeds = range(max(tuned.seeds) + 1, max(tuned.seeds) + 1 + count)
    ends = []
    for name, parts in (("best", best_stages(study, tuned, folder)), ("defaults", [Stage(tuned.budget, {})])):
        found = _follow(folder / FRESH / name, tuned, parts, seeds, engine, stop)
        if found is None:
            return None
        ends.append(found)
    return Fresh(middle(ends[0]), middle(ends[1]), difference(ends[0], ends[1]), complete(study)[0].value)


def _follow(
    place: Path,
    tuned: Tuned,
    stages: Sequence[Stage],
    seeds: Sequence[int],
    engine: Callable[[], Engine],
    stop: Callable[[], bool],
) -> list[float] | None:
    """Train seeds with the settings of one stage after the other, each stage as a sweep; returns their last returns."""
    before: list[Path] = []
    states: list[status.State] = []
    for i, stage in enumerate(stages):
        where = place if i == len(stages) - 1 else place.with_name(f"{place.name}-{i}")
        runs = tuned._replace(budget=stage.steps).runs(stage.values, seeds)
        with drive.locked(where):
            if not (where / plan.PLAN).is_file() or plan.read(where) != runs:
                where = _replaced(where, runs)
            folders = [lines.folder_of(where, run.id) for run in runs]
            changed = {} if not i else {n: v for n, v in stage.values.items() if v != stages[i - 1].values[n]}
            for source, target in zip(before, folders if i else (), strict=True):
                forking.fork(source, target, changed, stage.steps)
            states = drive.to_the_end(where, runs, engine(), Options(stop=stop, note=lambda text: None))
        if not all(state.state == status.DONE and state.eval_mean is not None for state in states):
            return None
        before = folders
    return [float(state.eval_mean) for state in states if state.eval_mean is not None]


def _replaced(place: Path, runs: Sequence[plan.Run]) -> Path:
    """The folder with this plan. Runs of another best trial, of a study that went on, are moved aside."""
    from estep.runs import leftovers, storage

    for name in (plan.RUNS, lines.LOGS):
        if (place / name).exists():
            leftovers.retire(place / name)
    plan.write(place, runs)
    storage.sync_dir(place)
    return place


def text(found: Interval) -> str:
    """An interval as text."""
    return f"{found.mean:.4g} [{found.low:.4g}, {found.high:.4g}]"
