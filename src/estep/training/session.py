"""Runs a trainer to its end, and decides when to log, evaluate, save a checkpoint and stop."""

from __future__ import annotations

import functools as ft
import math
import time
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from estep.envs.base import HostEnv
from estep.errors import NumericHalt
from estep.policy.evaluate import Evaluation, evaluate
from estep.policy.job import Reporter
from estep.policy.policy import Policy
from estep.runs import checkpoint
from estep.runs.folder import RunFolder
from estep.training import snapshot
from estep.training.callbacks import RunState
from estep.training.ending import exactness, rescue, saving_first
from estep.training.limits import at_bounds, limits_reached
from estep.training.recovery import dump
from estep.training.recovery.due import checkpoint_due, crossed
from estep.training.recovery.rollback import roll_back
from estep.training.sinks import Sinks
from estep.training.trainer import Trainer
from estep.video.live import LiveVideo

SHOW_EVERY = 0.1
"""Seconds between reports of progress."""
SHOWN = ("eval_mean", "e/value", "e/ess", "e/kept", "m/alpha", "m/kl")
"""Progress reports contain the metrics whose names begin with one of these."""


class Callbacks(NamedTuple):
    """Functions of the caller that a session uses."""

    report: Reporter
    stop: Callable[[], bool]
    """Whether to stop now."""
    evaluation_env: HostEnv | None
    """The environments for evaluation, or None to train without."""
    policy: Callable[[], Policy] | None = None
    """Makes the current policy, for the functions below."""
    on_step: Callable[[RunState], object] | None = None
    on_evaluation: Callable[[RunState], object] | None = None


class Session:
    """Runs a trainer until the end of its run."""

    def __init__(self, folder: RunFolder, trainer: Trainer, sinks: Sinks, callbacks: Callbacks) -> None:
        self.folder, self.trainer, self.sinks, self.callbacks = folder, trainer, sinks, callbacks
        self.began = self.saved_at = time.monotonic()
        self.wall_before = 0.0
        self.steps_before = trainer.counts.env_steps
        self.last: dict[str, Any] = {}
        self.best = -math.inf
        self.shown = 0.0
        self.since = self.began
        self.updates_before = trainer.counts.updates
        self.limits: set[str] = set()
        """The limits of multipliers that were reported."""
        self.asked_to_stop = False
        self.video = LiveVideo(folder.path, callbacks.report.note) if trainer.config.record_every else None
        self.recorded: dict[str, Any] = {}
        """What this process has written of its exactness."""

    def restore(self, meta: dict[str, Any]) -> None:
        """Load the session's part of a checkpoint."""
        self.wall_before = float(meta["wall_s"])
        self.last = dict(meta["last"])
        self.best = -math.inf if meta["best"] is None else float(meta["best"])
        self.steps_before, self.updates_before = self.trainer.counts.env_steps, self.trainer.counts.updates

    @property
    def wall_s(self) -> float:
        """Wall-clock seconds of this run, over all its processes."""
        return self.wall_before + time.monotonic() - self.began

    def run(self, steps: int) -> str:
        """Train for `steps` environment steps. Whatever ends the run early, a sound agent is saved first.

        Returns:
            "done", or "stopped" if the caller stopped the run.
        """
        try:
            return saving_first(ft.partial(self.train, steps), self.rescue)
        finally:
            if self.video is not None:
                self.video.close()

    def rescue(self) -> None:
        """Save a checkpoint because the run ends early, if the agent is sound. A failure is only reported."""
        if self.trainer.sound:
            rescue(self.save_once, self.callbacks.report)

    def train(self, steps: int) -> str:
        """Train, log, evaluate and save until the end, the goal or a stop."""
        counts, config = self.trainer.counts, self.trainer.config
        if counts.env_steps < steps and crossed(counts.evaluated, counts.env_steps, config.eval_every):
            self.evaluate()  # the process ended in the evaluation, before which it had saved
        while counts.env_steps < steps:
            before = counts.env_steps
            self.advance()
            self.tell(self.callbacks.on_step)
            if crossed(before, counts.env_steps, config.log_every) or counts.env_steps >= steps:
                self.log()
            if crossed(before, counts.env_steps, config.eval_every) and counts.env_steps < steps:
                self.save_before_evaluation()
                self.evaluate()
                if self.goal_reached():
                    break
            if self.video is not None and crossed(before, counts.env_steps, config.record_every):
                self.save_once()
                self.video.update()
            if counts.env_steps < steps and checkpoint_due(config, before, counts.env_steps, self.saved_at):
                self.save_once()
            if self.asked_to_stop or self.callbacks.stop():
                self.save_once()
                return "stopped"
            self.show(steps)
        if counts.evaluated != counts.env_steps:
            self.save_before_evaluation()
            self.evaluate()
        self.save_once()
        return "done"

    def save_before_evaluation(self) -> None:
        """Save first if a checkpoint becomes due by time in the evaluation, whose time is estimated from training."""
        trainer, config = self.trainer, self.trainer.config
        expected = trainer.seconds["env_s"] / max(1, trainer.counts.episodes) * config.eval_episodes
        if self.callbacks.evaluation_env and checkpoint_due(config, 0, 0, self.saved_at - expected):
            self.save_once()
            trainer.counts.saved = -1  # it lacks the evaluation

    def goal_reached(self) -> bool:
        """Whether the last evaluation reached the return of --stop-at."""
        goal = self.trainer.config.stop_at
        return goal is not None and self.last["eval_mean"] >= goal

    def advance(self) -> None:
        """One step of the trainer. After a numeric halt the last batch and the agent are written to the folder dump,
        and the run goes on from its last sound checkpoint, once."""
        try:
            self.trainer.advance()
        except NumericHalt as halt:
            self.callbacks.report.note(f"dump     {dump.write(self.folder, self.trainer)}")
            if not self.roll_back(halt):
                raise
        if self.trainer.finished:
            self.sinks.finished(self.trainer.counts.env_steps, self.trainer.finished)
            self.trainer.finished = []

    def roll_back(self, halt: NumericHalt) -> bool:
        """Go on from the last sound checkpoint with other random numbers, if the run has not done so before."""
        found = roll_back(self.trainer, self.folder.path)
        if found is None:
            return False
        self.callbacks.report.note(f"note     {halt.what} The run goes on from {found.name} with other random numbers.")
        self.sinks.truncate_after(self.trainer.counts.env_steps)
        self.save()  # no process that goes on from here goes back a second time
        return True

    def log(self) -> None:
        """Write one line of metrics."""
        trainer, counts = self.trainer, self.trainer.counts
        record: dict[str, float] = {"env_steps": counts.env_steps, "updates": counts.updates}
        record["episodes"] = counts.episodes
        record |= means_of({"return": trainer.recent, "success": trainer.successes})
        record |= means_of({f"return/{task}": recent for task, recent in trainer.of_tasks.returns.items()})
        record |= means_of({f"success/{task}": recent for task, recent in trainer.of_tasks.successes.items()})
        record |= trainer.tally.means()
        record |= {"data/replay": len(trainer.replay), "data/bad": trainer.env.bad, "skipped": counts.skipped}
        share = at_bounds(trainer.replay, trainer.agent.spec.squash)
        record |= {} if share is None else {"data/at_bounds": share}
        if trainer.rewards.spread is not None:
            record["data/reward_divisor"] = trainer.rewards.spread.divisor
        rare = {"data/dropped": counts.dropped, "rollbacks": counts.rollbacks, "data/retries": trainer.env.retries}
        record |= {name: number for name, number in rare.items() if number}
        record |= {f"time/{name}": seconds for name, seconds in trainer.seconds.items()}
        self.sinks.metric(record | {"wall_s": self.wall_s})
        self.last |= trainer.tally.means()
        trainer.tally = type(trainer.tally)()
        for name, text in limits_reached(trainer.agent).items():
            if name not in self.limits:
                self.callbacks.report.note(f"note     {text}")
            self.limits.add(name)

    def evaluate(self) -> None:
        """Evaluate the policy, and save a checkpoint if it is the best so far."""
        trainer, counts, config = self.trainer, self.trainer.counts, self.trainer.config
        env = self.callbacks.evaluation_env
        if env is None:
            return
        with trainer.compiling("the deterministic policy"):
            # No two evaluations have an episode in common, also where a run was resumed between them.
            first = counts.env_steps
            scores = evaluate(
                trainer.actor, env, config.eval_episodes, config.seed, trainer.scaling, first_episode=first
            )
        counts.evaluated = counts.env_steps
        self.sinks.evaluation(counts.env_steps, counts.updates, scores, self.wall_s)
        self.last |= {"eval_mean": scores.mean, "eval_std": scores.std, "eval_episodes": len(scores.returns)}
        if math.isfinite(scores.mean) and scores.mean > self.best:
            self.best = scores.mean
            self.save(best=True)
        self.note_evaluation(scores)
        self.tell(self.callbacks.on_evaluation, scores)

    def tell(self, function: Callable[[RunState], object] | None, scores: Evaluation | None = None) -> None:
        """Call a function of the caller, which may return True to stop the run."""
        if function is None or self.callbacks.policy is None:
            return
        counts, steps = self.trainer.counts, self.trainer.config.steps
        metrics = MappingProxyType(self.latest())
        state = RunState(
            counts.env_steps, counts.updates, steps, metrics, scores, self.folder.path, self.callbacks.policy
        )
        answer = function(state)
        self.asked_to_stop |= isinstance(answer, bool | np.bool_) and bool(answer)

    def latest(self) -> dict[str, float]:
        """The newest value of each metric that is known."""
        recent = means_of({"return": self.trainer.recent, "success": self.trainer.successes})
        return {**self.last, **self.trainer.tally.means(), **recent}

    def note_evaluation(self, scores: Evaluation) -> None:
        """Report an evaluation."""
        steps = self.trainer.counts.env_steps
        self.callbacks.report.note(
            f"evaluated at {steps:,} steps: return {scores.mean:.1f} ± {scores.std:.1f} "
            f"over {len(scores.returns)} episodes{scores.success_text}"
            + (f" ({scores.cut} of them cut)" if scores.cut else "")
            + "".join(f"; {task} {one.mean:.1f}{one.success_text}" for task, one in scores.tasks.items())
        )

    def save_once(self) -> int:
        """Save a checkpoint, unless there is one of this step. Returns the step."""
        if self.trainer.counts.saved != self.trainer.counts.env_steps:
            self.save()
        return self.trainer.counts.saved

    def save(self, best: bool = False) -> None:
        """Save a checkpoint, which may be the best so far. If a parameter is not finite, it goes to quarantine."""
        counts = self.trainer.counts
        counts.saved = counts.env_steps
        self.sinks.sync()
        mine = {"wall_s": self.wall_s, "last": self.last, "best": self.best if math.isfinite(self.best) else None}
        mine["is_best"] = best
        path = checkpoint.save(
            self.folder.path,
            counts.env_steps,
            snapshot.tensors(self.trainer),
            {**snapshot.meta(self.trainer), "session": mine},
            self.trainer.replay,
            self.trainer.config.keep_checkpoints,
            best,
        )
        found = exactness(self.trainer.improve, self.trainer.env)
        if found != self.recorded:
            self.folder.update_run(exactness=found)
        self.recorded = found
        self.saved_at = time.monotonic()
        if path.name.startswith("quarantine"):
            self.callbacks.report.note(
                f"A parameter is not finite, so this checkpoint is in quarantine: {path.name}. Resume ignores it."
            )

    def show(self, steps: int) -> None:
        """Report progress, at most ten times per second."""
        now = time.monotonic()
        if now - self.shown < SHOW_EVERY:
            return
        self.shown = now
        counts, trainer = self.trainer.counts, self.trainer
        if counts.updates <= self.updates_before + trainer.block:  # warm-up and compilation have another speed
            self.steps_before, self.since = counts.env_steps, now
            return
        rate = (counts.env_steps - self.steps_before) / (now - self.since) if now > self.since else math.nan
        record: dict[str, float] = {"env_steps": counts.env_steps, "steps": steps, "updates": counts.updates}
        if rate > 0:
            record |= {"env_steps_per_s": rate, "eta_s": (steps - counts.env_steps) / rate}
        record |= means_of({"return": trainer.recent, "success": trainer.successes})
        means = {**self.last, **trainer.tally.means()}
        record |= {name: value for name, value in means.items() if name.startswith(SHOWN)}
        iterations = [name for name in means if name.startswith("e/improvement_")]
        if iterations:
            record["e/improvement"] = means[max(iterations, key=lambda name: int(name.rpartition("_")[2]))]
        if math.isfinite(self.best):
            record["best"] = self.best
        self.callbacks.report.progress(record)


def means_of(recent: Mapping[str, Collection[float]]) -> dict[str, float]:
    """The mean of each list of numbers that is not empty."""
    return {name: float(np.mean(list(numbers))) for name, numbers in recent.items() if numbers}
