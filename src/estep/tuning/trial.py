"""One trial: the seeds are trained as a sweep, and the trial is pruned where the middle of their returns is low."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from estep.errors import RejectedInput
from estep.instruments.interval import TRIMMED, trimmed_mean
from estep.runs import tables
from estep.runs.folder import EVALUATIONS
from estep.sweeps import drive, lines, plan, status
from estep.sweeps.drive import Options
from estep.sweeps.engine import Engine
from estep.tuning import study as studies
from estep.tuning.study import Tuned


def run(
    study: Any, trial: Any, tuned: Tuned, folder: Path, engine: Engine, stop: Callable[[], bool], note: Any
) -> bool:
    """Train a trial, and tell Optuna its value. Returns False if it is to stop: then the trial goes on later.

    Raises:
        RejectedInput: another process has the trial.
    """
    place = studies.place_of(folder, trial.number)
    runs = tuned.runs(studies.values_of(trial, tuned.space))
    watch = Watch(trial, place, [one.id for one in runs])
    with drive.locked(place):
        if not (place / plan.PLAN).is_file():
            plan.write(place, runs)
        options = Options(stop=lambda: stop() or watch.is_low(), note=lambda text: None)
        states = drive.to_the_end(place, runs, engine, options)
        done = all(state.state == status.DONE for state in states)
        if not done and stop():
            return False
        value = iqm([state.eval_mean for state in states if state.eval_mean is not None]) if done else None
        studies.tell(study, trial.number, value, watch.low)
    said = "pruned" if watch.low else "failed" if value is None else f"{value:.5g}"
    note(f"trial {trial.number:3d}  {said}  {trial.params}")
    return True


def iqm(values: Sequence[float]) -> float | None:
    """The interquartile mean of the returns of the seeds: below four it is their mean.

    Example:
        >>> iqm([1.0, 2.0, 3.0, 100.0])
        2.5
    """
    return trimmed_mean(values, TRIMMED) if values else None


class Watch:
    """Looks at the evaluations of a trial while it runs."""

    def __init__(self, trial: Any, place: Path, names: Sequence[str]) -> None:
        self.low = False
        """Whether the trial is pruned."""
        self._trial, self._place, self._names = trial, place, names
        self._seen = max(trial.storage.get_trial(trial._trial_id).intermediate_values, default=0)

    def is_low(self) -> bool:
        """Report the newest step that all seeds have, and ask whether to prune."""
        curves = [_curve(lines.folder_of(self._place, name) / EVALUATIONS) for name in self._names]
        common = set.intersection(*(set(curve) for curve in curves))
        for step in sorted(step for step in common if step > self._seen):
            self._seen = step
            self._trial.report(float(np.mean([curve[step] for curve in curves])), step)
            self.low = self.low or self._trial.should_prune()
        return self.low


def _curve(path: Path) -> dict[int, float]:
    """Returns by environment steps; empty while there are none."""
    try:
        rows = list(tables.cells(path))
        return {int(row["env_steps"]): float(row["mean"]) for row in rows if row.get("task", "all") == "all"}
    except (OSError, ValueError, KeyError, RejectedInput):
        return {}
