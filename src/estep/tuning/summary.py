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
from estep.tuning import study as studies
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


def best_values(study: Any, tuned: Tuned) -> dict[str, Any]:
    """The settings of the best trial."""
    return studies.values_of(studies.import_optuna().trial.FixedTrial(complete(study)[0].params), tuned.space)


def table(study: Any) -> list[str]:
    """The best trials, a line each, and how many there were."""
    states = studies.import_optuna().trial.TrialState
    found, every = complete(study), study.get_trials(deepcopy=False)
    pruned, failed = (sum(one.state == state for one in every) for state in (states.PRUNED, states.FAIL))
    rows = [f"  {one.number:5d}  {one.value:10.5g}  {_params(one.params)}" for one in found[:SHOWN]]
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


def on_fresh_seeds(
    study: Any, tuned: Tuned, folder: Path, count: int, engine: Callable[[], Engine], stop: Callable[[], bool]
) -> Fresh | None:
    """Train the best settings and the defaults on seeds behind those of the study; None if it is not finished.

    The best of many trials was also lucky: only other seeds tell how good it is.
    """
    seeds = range(max(tuned.seeds) + 1, max(tuned.seeds) + 1 + count)
    ends = []
    for name, values in (("best", best_values(study, tuned)), ("defaults", {})):
        place = folder / FRESH / name
        runs = tuned.runs(values, seeds)
        with drive.locked(place):
            if not (place / plan.PLAN).is_file() or plan.read(place) != runs:
                place = _replaced(place, runs)
            states = drive.to_the_end(place, runs, engine(), Options(stop=stop, note=lambda text: None))
        if not all(state.state == status.DONE and state.eval_mean is not None for state in states):
            return None
        ends.append([float(state.eval_mean) for state in states if state.eval_mean is not None])
    return Fresh(middle(ends[0]), middle(ends[1]), difference(ends[0], ends[1]), complete(study)[0].value)


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
