"""Writes the records of a run: metrics.jsonl, eval.csv, episodes.csv and TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tensorboardX import SummaryWriter

from estep.envs.base import Episode
from estep.envs.tasks.sources import ALL
from estep.policy.evaluate import Evaluation
from estep.runs.folder import RunFolder

EVAL_COLUMNS = ("env_steps", "updates", "mean", "std", "episodes", "min", "max", "wall_s", "success", "task")
EPISODE_COLUMNS = ("env_steps", "env", "episode", "return", "length", "success", "task")
"""The last column is there with several tasks."""


class Sinks:
    """The open files of a run."""

    def __init__(
        self, folder: RunFolder, resumed_at: int | None = None, several: bool = False, board: bool = True
    ) -> None:
        """Open the files.

        Args:
            folder: the run folder.
            resumed_at: environment steps at which the run resumes; later lines are removed, so that none is doubled.
            several: whether there are several tasks.
            board: whether to write for TensorBoard too, which takes a thread.
        """
        columns = (EVAL_COLUMNS, EPISODE_COLUMNS) if several else (EVAL_COLUMNS[:-1], EPISODE_COLUMNS[:-1])
        self.metrics = folder.metrics()
        self.evaluations = folder.evaluations(columns[0])
        self.episodes = folder.episodes(columns[1])
        if resumed_at is not None:
            for lines in (self.metrics, self.evaluations, self.episodes):
                lines.truncate_after(resumed_at)
        purge = None if resumed_at is None else resumed_at + 1
        self.board = SummaryWriter(str(folder.path / "tb"), purge_step=purge) if board else None

    def metric(self, record: Mapping[str, float]) -> None:
        """Write one line of metrics.jsonl, and the same numbers to TensorBoard."""
        self.metrics.append(record)
        step = int(record["env_steps"])
        self._draw(step, {name: value for name, value in record.items() if name != "env_steps"})

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
        known = {} if scores.success is None else {"eval/success": scores.success}
        each = {f"eval/return/{task}": one.mean for task, one in scores.tasks.items()}
        self._draw(env_steps, {"eval/return": scores.mean, "eval/return_std": scores.std, **known, **each})

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
        if self.board is not None:
            self.board.flush()

    def close(self) -> None:
        """Close the files."""
        for lines in (self.metrics, self.evaluations, self.episodes):
            lines.close()
        if self.board is not None:
            self.board.close()

    def _draw(self, step: int, values: Mapping[str, float]) -> None:
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)
