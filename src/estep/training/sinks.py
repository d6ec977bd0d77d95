"""Writes the records of a run: metrics.jsonl, eval.csv, episodes.csv, TensorBoard, a mirror and the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from estep.envs.base import Episode
from estep.envs.tasks.sources import ALL
from estep.policy.evaluate import Evaluation
from estep.report.live import LiveReport
from estep.runs.folder import RunFolder
from estep.training.board import Board
from estep.training.mirrors.mirror import Mirror

EVAL_COLUMNS = ("env_steps", "updates", "mean", "std", "episodes", "min", "max", "wall_s", "success", "task")
EPISODE_COLUMNS = ("env_steps", "env", "episode", "return", "length", "success", "task")
"""The last column is there with several tasks."""


def columns_of(several: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The columns of eval.csv and of episodes.csv, for one task or for several."""
    return (EVAL_COLUMNS, EPISODE_COLUMNS) if several else (EVAL_COLUMNS[:-1], EPISODE_COLUMNS[:-1])


def check_lines(folder: RunFolder, several: bool) -> None:
    """Read the lines that a run has written, before anything dear is done for it. Raises RejectedInput."""
    folder.check_lines(*columns_of(several))


class Sinks:
    """The open files of a run. A failure of the disk ends the run, except at TensorBoard's and the report's."""

    def __init__(
        self,
        folder: RunFolder,
        resumed_at: int | None,
        note: Callable[[str], None] | None,
        several: bool = False,
        log: str = "none",
    ) -> None:
        """Open the files.

        Args:
            folder: the run folder.
            resumed_at: environment steps at which the run resumes; later lines are removed, so that none is doubled.
            note: called with a line for the user if TensorBoard's file or the report cannot be written. None writes
                neither: each takes a thread.
            several: whether there are several tasks.
            log: the service that gets the same numbers, or none.
        """
        columns = columns_of(several)
        self.metrics = folder.metrics()
        self.evaluations = folder.evaluations(columns[0])
        self.episodes = folder.episodes(columns[1])
        if resumed_at is not None:
            self.truncate_after(resumed_at)
        purge = None if resumed_at is None else resumed_at + 1
        self.board = None if note is None else Board(folder.path / "tb", purge, note)
        self.mirror = None if note is None or log == "none" else Mirror(log, folder, note)
        self.report = None if note is None else LiveReport(folder, note)

    def truncate_after(self, env_steps: int) -> None:
        """Remove the lines after a number of environment steps, so that none is doubled."""
        for lines in (self.metrics, self.evaluations, self.episodes):
            lines.truncate_after(env_steps)

    def metric(self, record: Mapping[str, float]) -> None:
        """Write one line of metrics.jsonl, and the same numbers to TensorBoard."""
        self.metrics.append(record)
        self._draw({name: value for name, value in record.items() if name != "env_steps"}, int(record["env_steps"]))

    def evaluation(self, env_steps: int, updates: int, scores: Evaluation, wall_s: float) -> None:
        """Write one row of eval.csv for each task and one for all of them, and the same numbers to TensorBoard.

        Args:
            env_steps, updates: when the evaluation was.
            scores: its returns.
            wall_s: wall-clock seconds of the run.
        """
        for task, one in {**scores.tasks, ALL: scores}.items():
            ends = {"min": min(one.returns), "max": max(one.returns), "wall_s": round(wall_s, 3)}
            row = {"env_steps": env_steps, "updates": updates, "mean": one.mean, "std": one.std}
            count = {"episodes": len(one.returns)}
            self.evaluations.append({**row, **count, **ends, "success": one.success, "task": task})
        shown = {"eval/return": scores.mean, "eval/return_std": scores.std, "eval/success": scores.success}
        shown |= {f"eval/return/{task}": one.mean for task, one in scores.tasks.items()}
        self._draw({name: value for name, value in shown.items() if value is not None}, env_steps)
        if self.report is not None:
            self.report.update()

    def finished(self, env_steps: int, episodes: Sequence[Episode]) -> None:
        """Write rows of episodes.csv."""
        for episode in episodes:
            row = {"env_steps": env_steps, "env": episode.env, "episode": episode.number}
            result = {
                "return": episode.total,
                "length": episode.length,
                "success": episode.success,
                "task": episode.task,
            }
            self.episodes.append({**row, **result})

    def sync(self) -> None:
        """Write all lines to the disk. A checkpoint needs this first."""
        for lines in (self.metrics, self.evaluations, self.episodes):
            lines.sync()

    def close(self) -> None:
        """Close the files."""
        for lines in (self.metrics, self.evaluations, self.episodes):
            lines.close()
        for view in (self.board, self.mirror, self.report):
            if view is not None:
                view.close()

    def _draw(self, values: Mapping[str, float], step: int) -> None:
        for view in (self.board, self.mirror):
            if view is not None:
                view.add(values, step)
