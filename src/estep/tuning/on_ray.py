"""A study under Ray Tune: Optuna chooses the settings, and ASHA stops the trials that are behind at a rung.

Source:
    Li et al. 2020 (ASHA, arXiv:1810.05934).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import Searcher

from estep.errors import EnvironmentFailure
from estep.runs.folder import take_lock
from estep.runs.storage import close, make_dir
from estep.sweeps import plan
from estep.tuning import study as studies
from estep.tuning.rungs import FACTOR, Part, rungs, train_to
from estep.tuning.study import Tuned

VALUE, STEPS, FAILED = "value", "env_steps", "failed"
WORST = -1e30
"""The value of a trial that failed, for ASHA. The study is told none."""
RETRIES = 20
"""How often a trial is begun again whose node or worker was lost. Its runs go on from their checkpoints."""


class Trial(tune.Trainable):  # type: ignore[misc]
    """One trial. Between two steps no process of it runs, so that it can be stopped there without a loss."""

    def setup(self, config: dict[str, Any]) -> None:
        """Take the folder of the trial."""
        self._part, self._rungs, self._at = config["part"], rungs(config["budget"]), 0
        make_dir(self._part.place)
        self._lock = take_lock(self._part.place)
        if not (self._part.place / plan.PLAN).is_file():
            plan.write(self._part.place, self._part.runs)

    def step(self) -> dict[str, Any]:
        """Train to the next rung. A trial that was begun again is soon where it was: its runs are not trained twice."""
        steps = self._rungs[self._at]
        try:
            value = train_to(self._part, steps)
        except EnvironmentFailure as error:  # an exception would count as a lost node, and be tried again
            return {VALUE: WORST, STEPS: steps, "done": True, FAILED: str(error)}
        self._at += 1
        return {VALUE: value, STEPS: steps, "done": self._at == len(self._rungs)}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """The rung. All else is in the run folders."""
        return {"at": self._at}

    def load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on at a rung."""
        self._at = int(checkpoint["at"])

    def cleanup(self) -> None:
        """Give the folder back."""
        close(self._lock)


class Kept:
    """A part of this process, which Ray neither copies nor stores: no experiment is gone on with from its pickle."""

    def __deepcopy__(self, memo: Any) -> Any:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {}


class Search(Kept, Searcher):  # type: ignore[misc]
    """Asks the study for trials, and tells it how they end."""

    def __init__(
        self, study: Any, tuned: Tuned, folder: Path, trials: int, stop: Callable[[], bool], note: Callable[[str], None]
    ) -> None:
        Searcher.__init__(self, metric=VALUE, mode="max")
        self._study, self._tuned, self._folder, self._trials = study, tuned, folder, trials
        self._stop, self._note = stop, note
        self._asked: dict[str, Any] = {}

    def suggest(self, trial_id: str) -> Any:
        """The next trial; one that another process has left comes first."""
        taken = {one.number for one in self._asked.values()}
        one = studies.next_trial(self._study, self._folder, self._trials, taken)
        if one is None:
            return Searcher.FINISHED
        self._asked[trial_id] = one
        runs = self._tuned.runs(studies.values_of(one, self._tuned.space))
        return {"part": Part(studies.place_of(self._folder, one.number), runs), "budget": self._tuned.budget}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Report the value at a rung."""
        if FAILED not in result:
            self._asked[trial_id].report(result[VALUE], result[STEPS])

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Tell how a trial has ended: at the budget, stopped at a rung, or failed."""
        one, last = self._asked[trial_id], result or {}
        value = None if error or FAILED in last or VALUE not in last else float(last[VALUE])
        pruned = value is not None and last[STEPS] < self._tuned.budget
        if self._stop() and (pruned or value is None):
            return  # the command was stopped, and another one goes on with the trial
        studies.tell(self._study, one.number, value, pruned)
        where = f" at {last[STEPS]} steps" if pruned else ""
        said = f"failed: {last.get(FAILED, 'see its logs')}" if value is None else f"{value:.5g}{where}"
        self._note(f"trial {one.number:3d}  {said}  {one.params}")

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the study is in the folder."""

    def restore(self, checkpoint_path: str) -> None:
        """Load nothing."""


def run(
    study: Any, tuned: Tuned, folder: Path, most: tuple[int, int | None], stop: Callable[[], bool], note: Any
) -> None:
    """Run a study on a cluster to which this process is connected.

    Args:
        study: Optuna's study.
        tuned: what it is about.
        folder: its folder, which every node sees.
        most: trials of the study, and trials at once (None: as many as there are cores).
        stop: whether to stop. Trials end at their next rung, and another `estep tune` goes on with them.
        note: called with lines for the user.
    """
    quiet()
    steps = rungs(tuned.budget)
    scheduler = ASHAScheduler(time_attr=STEPS, max_t=tuned.budget, grace_period=steps[0], reduction_factor=FACTOR)
    search = Search(study, tuned, folder, most[0], stop, note)
    tune.Tuner(
        tune.with_resources(Trial, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            metric=VALUE, mode="max", search_alg=search, scheduler=scheduler, num_samples=most[0],
            max_concurrent_trials=most[1],
        ),
        run_config=tune.RunConfig(
            name="tune", storage_path=str(folder / "ray"), verbose=0, stop=Stop(stop),
            failure_config=tune.FailureConfig(max_failures=RETRIES),
        ),
    ).fit()  # fmt: skip


def quiet() -> None:
    """Let Ray Tune print nothing, and leave Ctrl-C to this command, whose study it stops."""
    os.environ |= {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_AIR_NEW_OUTPUT": "0"}
    os.environ |= {"TUNE_DISABLE_SIGINT_HANDLER": "1"}
    warnings.filterwarnings("ignore", message="Consider boosting PBT")  # actors that go on would keep their settings


class Stop(Kept, tune.Stopper):  # type: ignore[misc]
    """Ends the study when it is asked to stop."""

    def __init__(self, stop: Callable[[], bool]) -> None:
        self._stop = stop

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial is stopped alone."""
        return False

    def stop_all(self) -> bool:
        """Whether to stop."""
        return self._stop()
