"""Population based training under Ray Tune: the worst quarter goes on as copies of the best, with settings near theirs.

Source:
    Jaderberg et al. 2017 (population based training, arXiv:1711.09846).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune
from ray.tune.schedulers import PopulationBasedTraining

from estep.errors import EnvironmentFailure
from estep.runs import leftovers, reading, storage
from estep.runs.folder import LOCK, take_lock
from estep.settings.search.spaces import changeable
from estep.tuning import members
from estep.tuning import study as studies
from estep.tuning.on_ray import FAILED, RETRIES, STEPS, VALUE, WORST, Kept, Stop, quiet
from estep.tuning.rungs import train_to
from estep.tuning.study import Tuned

NUMBER = "member"
PATIENCE = 120.0
"""Seconds that a member waits for its process of before, which Ray has ended."""


@dataclass(frozen=True)
class About:
    """What all members have in common. Tune looks into tuples and dicts of settings, but not into this."""

    folder: Path
    tuned: Tuned


class Member(tune.Trainable):  # type: ignore[misc]
    """One member. Between two steps no process of it runs."""

    def setup(self, config: dict[str, Any]) -> None:
        """Take the folder of the member. Ray gives a copy the settings of the other, so its number is in a file."""
        self._folder, self._tuned = config["about"].folder, config["about"].tuned
        known = self._folder / "ray" / f"member-{self.trial_id}"
        if not known.is_file():
            storage.write_atomic(known, str(config[NUMBER]).encode())
        self._number = int(reading.read_path(known, 100))
        place, end = studies.place_of(self._folder, self._number), time.monotonic() + PATIENCE
        storage.make_dir(place)
        while leftovers.is_held(place / LOCK) and time.monotonic() < end:
            time.sleep(0.2)
        self._lock = take_lock(place)
        self._values = config["values"]
        self._part = members.begin(self._folder, self._number, self._tuned.runs(self._values))

    def step(self) -> dict[str, Any]:
        """Train to the end of the next round."""
        before = members.done(self._part)
        steps = next((end for end in members.rounds(self._tuned.budget) if end > before), self._tuned.budget)
        values = {name: self._part.runs[0].settings[name] for name in self._tuned.space}
        about = {STEPS: steps, NUMBER: self._number, "place": self._part.place.name, "values": values}
        try:
            value = train_to(self._part, steps)
        except EnvironmentFailure as error:  # an exception would count as a lost node, and be tried again
            return {VALUE: WORST, "done": True, FAILED: str(error), **about}
        return {VALUE: value, "done": steps == self._tuned.budget, **about}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Where copies of the run folders are. Ray moves no state."""
        return {NUMBER: self._number, members.HELD: members.hold(self._folder, self._part)}

    def load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on; as a copy, if it is the checkpoint of another member."""
        if checkpoint[NUMBER] != self._number:
            self._part = members.become(
                self._folder, self._number, self._tuned, checkpoint[members.HELD], self._values, self._part
            )

    def cleanup(self) -> None:
        """Give the folder back."""
        storage.close(self._lock)


class Told(Kept, tune.Callback):  # type: ignore[misc]
    """Tells the study how its trials go and end."""

    def __init__(self, study: Any, asked: dict[int, Any], note: Callable[[str], None]) -> None:
        self._study, self._asked, self._note = study, asked, note
        self._seen: set[tuple[int, int]] = set()

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        """Report the value at the end of a round."""
        number = int(result[NUMBER])
        if FAILED in result:
            studies.tell(self._study, number, None, False)
            self._note(f"trial {number:3d}  failed: {result[FAILED]}")
            return
        seen = number, result[STEPS]
        if seen not in self._seen:  # a copy comes to the same step again, and a study keeps the first
            self._asked[number].report(result[VALUE], result[STEPS])
        self._seen.add(seen)
        self._note(f"trial {number:3d}  {result[VALUE]:.5g} at {result[STEPS]} steps  ({result['place']})")
        if result["done"]:
            self._asked[number].set_user_attr(studies.PLACE, result["place"])
            self._asked[number].set_user_attr(studies.VALUES, result["values"])
            studies.tell(self._study, number, float(result[VALUE]), False)


def run(
    study: Any, tuned: Tuned, folder: Path, most: tuple[int, int | None], stop: Callable[[], bool], note: Any
) -> None:
    """Train a population on a cluster to which this process is connected. The arguments are those of `on_ray.run`."""
    import ray

    asked: dict[int, Any] = {}
    while (one := studies.next_trial(study, folder, most[0], asked)) is not None:
        asked[one.number] = one
    if not asked:
        return
    quiet()
    values = {number: studies.values_of(one, tuned.space) for number, one in asked.items()}
    space, chance = changeable(tuned.algorithm, tuned.space), np.random.default_rng(0)

    def explore(config: dict[str, Any]) -> dict[str, Any]:
        return {**config, "values": members.explored(config["values"], space, chance)}

    storage.make_dir(folder / "ray")
    cores = int(ray.cluster_resources().get("CPU", 1))
    each = max(1, cores // most[1]) if most[1] else 1
    interval = members.rounds(tuned.budget)[0]
    tune.Tuner(
        tune.with_resources(Member, {"cpu": each}),
        param_space={
            NUMBER: tune.grid_search(sorted(asked)), "about": About(folder, tuned),
            "values": tune.sample_from(lambda spec: values[spec.config[NUMBER]]),
        },
        tune_config=tune.TuneConfig(
            metric=VALUE, mode="max",
            scheduler=PopulationBasedTraining(
                time_attr=STEPS, perturbation_interval=interval, custom_explore_fn=explore, log_config=False
            ),
        ),
        run_config=tune.RunConfig(
            name="tune", storage_path=str(folder / "ray"), verbose=0, stop=Stop(stop),
            failure_config=tune.FailureConfig(max_failures=RETRIES), callbacks=[Told(study, asked, note)],
        ),
    ).fit()  # fmt: skip
    if not stop():
        members.clear(folder)
