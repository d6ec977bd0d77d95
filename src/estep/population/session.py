"""Runs a population to its end, and decides when to log, evaluate, save a checkpoint and stop."""

from __future__ import annotations

import functools as ft
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from estep.errors import EnvironmentFailure, NumericHalt
from estep.policy.evaluate import Evaluation
from estep.policy.job import RunContext
from estep.policy.spaces import Spaces, space_record
from estep.population import snapshot
from estep.population.snapshot import BEST, Rings
from estep.population.trainer import PopulationTrainer
from estep.runs import checkpoint, provenance, storage
from estep.runs.folder import RunFolder, member_path
from estep.training.ending import rescue, saving_first
from estep.training.recovery.due import checkpoint_due, crossed
from estep.training.sinks import Sinks, check_lines
from estep.training.update import REPLAYABLE

SHARE = 0.05
"""Of the time that checkpoints may take."""


def member_folder(folder: RunFolder, member: int) -> RunFolder:
    """The folder of one seed's records: metrics.jsonl, eval.csv and episodes.csv."""
    return RunFolder(member_path(folder.path, member))


def check_members(folder: RunFolder, count: int) -> None:
    """Read the lines that every seed has written, before anything dear is done for them. Raises RejectedInput."""
    for member in range(count):
        check_lines(member_folder(folder, member), False)


class PopulationSession:
    """Runs the trainer of a population until the end of its run."""

    def __init__(
        self, folder: RunFolder, trainer: PopulationTrainer, spaces: Spaces, context: RunContext, resumed_at: int | None
    ) -> None:
        self.folder, self.trainer, self.spaces, self.context = folder, trainer, spaces, context
        self.sinks: list[Sinks] = []
        for member in range(len(trainer.seeds)):
            own = member_folder(folder, member)
            storage.make_dir(own.path)
            self.sinks.append(Sinks(own, resumed_at, None))
        self.began = time.monotonic()
        self.wall_before = 0.0
        self.steps_before = trainer.env_steps
        self.scores: list[Evaluation | None] = [None] * len(trainer.seeds)
        self.best = [-math.inf] * len(trainer.seeds)
        self.best_steps, self.best_updates = [0] * len(trainer.seeds), [0] * len(trainer.seeds)
        self.best_arrays: dict[str, dict[str, np.ndarray[Any, Any]]] = {}
        self.failed: dict[str, dict[str, Any]] = {}
        self.store = Rings(trainer.plan.form, trainer.engine.learners.ring)
        self.saved, self.evaluated = -1, -1
        self.saved_at, self.save_s = self.began, 0.0
        self.last: dict[str, Any] = {}

    def restore(self, loaded: checkpoint.Loaded, store: Rings) -> None:
        """Load the session's part of a checkpoint."""
        saved = loaded.meta["session"]
        self.wall_before, self.last = float(saved["wall_s"]), dict(saved["last"])
        self.best = [-math.inf if value is None else float(value) for value in saved["best"]]
        self.best_steps, self.best_updates = (list(map(int, saved[name])) for name in ("best_steps", "best_updates"))
        self.evaluated = int(saved["evaluated"])
        self.failed = {str(i): dict(record) for i, record in loaded.meta["failed"].items()}
        names = [name for name in loaded.tensors if name.startswith(BEST)]
        self.best_arrays = {name.removeprefix(BEST): dict(loaded.tensors[name]) for name in names}
        self.store, self.saved = store, loaded.step
        self.steps_before = self.trainer.env_steps

    @property
    def wall_s(self) -> float:
        """Wall-clock seconds of this run, over all its processes."""
        return self.wall_before + time.monotonic() - self.began

    def run(self, steps: int) -> str:
        """Train every seed for `steps` environment steps. Whatever ends the run early, it is saved first.

        Returns:
            "done", or "stopped" if the caller stopped the run.
        """
        return saving_first(ft.partial(self.train, steps), self.rescue)

    def rescue(self) -> None:
        """Save a checkpoint because the run ends early. A failure is only reported."""
        rescue(self.save_once, self.context.report)

    def train(self, steps: int) -> str:
        """Train, log, evaluate and save until the end or a stop."""
        trainer, config = self.trainer, self.trainer.config
        every = config.log_every, config.eval_every, config.checkpoint_every
        while trainer.env_steps < steps:
            before = trainer.env_steps
            self.freeze(trainer.advance(trainer.turns_to(every, steps)))
            now, ended = trainer.env_steps, trainer.env_steps >= steps
            for sinks, episodes in zip(self.sinks, trainer.engine.finished(), strict=True):
                sinks.finished(now, episodes)
            if crossed(before, now, config.log_every) or ended:
                self.drop_bad()
                self.log()
            if crossed(before, now, config.eval_every) and not ended:
                self.evaluate()
            if self.must_save() and not ended:
                self.save_once()
            if self.context.stop():
                self.save_once()
                return "stopped"
            self.show(steps)
        if self.evaluated != trainer.env_steps:
            self.evaluate()
        self.save_once()
        return "done"

    def must_save(self) -> bool:
        """Whether a checkpoint is due, and checkpoints have taken less than their share of the time."""
        due = checkpoint_due(self.trainer.config, max(self.saved, 0), self.trainer.env_steps, self.saved_at)
        return due and time.monotonic() - self.saved_at >= self.save_s * (1.0 / SHARE - 1.0)

    def freeze(self, new: Mapping[int, str]) -> None:
        """Report the seeds that were frozen, in run.json too.

        Raises:
            NumericHalt: no seed goes on, because of their updates.
            EnvironmentFailure: no seed goes on, because of their environments.
        """
        trainer = self.trainer
        for member, why in new.items():
            seed = trainer.seeds[member]
            self.failed[str(member)] = {"seed": seed, "env_steps": trainer.env_steps, "why": why}
            left = len(trainer.seeds) - len(self.failed)
            what = f"failed   seed {seed} (member {member}) at {trainer.env_steps:,} steps: {why}. It is frozen"
            self.context.report.note(f"{what}, and {left} of {len(trainer.seeds)} seeds go on.")
        if new:
            self.folder.write_run({**self.folder.read_run(), "failed": self.failed})
        if len(self.failed) == len(trainer.seeds):
            self.rescue()
            reasons = {record["why"] for record in self.failed.values()}
            kind = NumericHalt if any("updates in a row" in why for why in reasons) else EnvironmentFailure
            fix = "Give a smaller --learning-rate or scale the rewards down; check the environment: estep check-env."
            raise kind(f"All {len(trainer.seeds)} seeds failed: {'; '.join(sorted(reasons))}.", fix)

    def drop_bad(self) -> None:
        """Take steps out of replay on which no update is finite, and report them."""
        new = self.trainer.drop_bad()
        for member, count in new.items():
            told, total = self.trainer.seeds[member], self.trainer.dropped[member]
            what = f"note     seed {told}: steps without a finite update were dropped: {count} ({total} so far)"
            self.context.report.note(what)
        if new:
            self.store.forget()

    def going(self) -> list[int]:
        """The seeds that are not frozen, by number."""
        return [i for i in range(len(self.trainer.seeds)) if str(i) not in self.failed]

    def log(self) -> None:
        """Write one line of metrics for each seed."""
        trainer = self.trainer
        status, means = trainer.engine.status(), trainer.means()
        held = jax.device_get(trainer.engine.learners.ring.end - trainer.engine.learners.ring.first).sum(-1)
        counts = {"env_steps": trainer.env_steps, "updates": trainer.updates}
        for i in self.going():
            record = {**counts, **status[i], **means[i], "data/replay": int(held[i]), "wall_s": self.wall_s}
            record |= {"data/dropped": trainer.dropped[i]} if trainer.dropped[i] else {}
            self.sinks[i].metric(record)
        for name in ("return", *(name for name in means[0] if name.startswith(("e/value", "m/alpha", "m/kl")))):
            values = [row[name] for i in self.going() if name in (row := status[i] | means[i])]
            if values:
                self.last[name] = float(np.mean(values))
        trainer.forget()

    def evaluate(self) -> None:
        """Evaluate all seeds, and remember the best agent of each."""
        trainer, episodes = self.trainer, self.trainer.config.eval_episodes
        if not episodes:
            return
        self.scores = list(trainer.engine.evaluate(episodes, trainer.env_steps))
        self.evaluated = trainer.env_steps
        self.freeze(trainer.note_failures())
        scores = {i: one for i in self.going() if (one := self.scores[i]) is not None}
        better = [i for i, one in scores.items() if math.isfinite(one.mean) and one.mean > self.best[i]]
        for i, one in scores.items():
            self.sinks[i].evaluation(trainer.env_steps, trainer.updates, one, self.wall_s)
        for i in better:
            self.best[i], self.best_steps[i], self.best_updates[i] = scores[i].mean, trainer.env_steps, trainer.updates
        self.remember(better)
        means = [one.mean for one in scores.values()]
        mean, std = float(np.mean(means)), float(np.std(means))
        self.last |= {"eval_mean": mean, "eval_std": std, "eval_episodes": episodes}
        self.context.report.note(
            f"evaluated at {trainer.env_steps:,} steps: return {mean:.1f} ± {std:.1f} over {len(means)} seeds, "
            f"{episodes} episodes each"
        )

    def remember(self, better: Sequence[int]) -> None:
        """Copy the agents of these seeds to the best ones."""
        if self.best_arrays and not better:
            return
        current = snapshot.policy_arrays(self.trainer.engine.learners)
        if not self.best_arrays:
            self.best_arrays = {file: {n: np.array(a) for n, a in named.items()} for file, named in current.items()}
            self.best_steps = [self.trainer.env_steps] * len(self.best)
            self.best_updates = [self.trainer.updates] * len(self.best)
            return
        for file, named in current.items():
            for name, array in named.items():
                best = np.array(self.best_arrays[file][name])
                best[list(better)] = array[list(better)]
                self.best_arrays[file][name] = best

    def save_once(self) -> int:
        """Save a checkpoint, unless there is one of this step. Returns the step."""
        if self.saved != self.trainer.env_steps:
            self.save()
        return self.saved

    def save(self) -> None:
        """Save a checkpoint."""
        start = time.monotonic()
        for sinks in self.sinks:
            sinks.sync()
        trainer = self.trainer
        self.store.rings = trainer.engine.learners.ring
        best = {BEST + file: named for file, named in self.best_arrays.items()}
        path = checkpoint.save(
            self.folder.path,
            trainer.env_steps,
            {**snapshot.tensors(trainer), **best},
            self.meta(),
            self.store,
            trainer.config.keep_checkpoints,
        )
        if path.name.startswith("quarantine"):
            self.context.report.note(f"A parameter is not finite, so this checkpoint is in quarantine: {path.name}.")
        self.saved, self.saved_at = trainer.env_steps, time.monotonic()
        self.save_s = self.saved_at - start

    def meta(self) -> dict[str, Any]:
        """The JSON values of a checkpoint."""
        trainer = self.trainer
        size = trainer.plan.form.size
        finite = [value if math.isfinite(value) else None for value in self.best]
        return {
            "counts": {"env_steps": trainer.env_steps, "updates": trainer.updates},
            "dropping": {"dropped": trainer.dropped, "seen": trainer.seen},
            "seeds": trainer.seeds,
            "capacity": size.steps_per_env * trainer.plan.form.num_envs,
            "failed": self.failed,
            "engine": trainer.engine.meta(),
            "machine": {**provenance.machine(), "label": REPLAYABLE},  # nothing proves that it is exact
            "session": {
                **{"wall_s": self.wall_s, "last": self.last, "best": finite, "best_steps": self.best_steps},
                **{"best_updates": self.best_updates, "evaluated": self.evaluated},
            },
            **space_record(self.spaces),
        }

    def show(self, steps: int) -> None:
        """Report progress."""
        trainer, seconds = self.trainer, time.monotonic() - self.began
        record: dict[str, float] = {"env_steps": trainer.env_steps, "steps": steps, "updates": trainer.updates}
        rate = (trainer.env_steps - self.steps_before) / seconds if seconds > 0 else 0.0
        if rate > 0:
            record |= {"env_steps_per_s": rate, "eta_s": (steps - trainer.env_steps) / rate}
        self.context.report.progress(record | {name: v for name, v in self.last.items() if isinstance(v, float)})

    def close(self) -> None:
        """Close the files of all seeds."""
        for sinks in self.sinks:
            sinks.close()
