"""Writes the records of a run: metrics.jsonl, eval.csv, episodes.csv and TensorBoard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from estep.envs.base import Episode
from estep.policy.evaluate import Evaluation
from estep.runs.folder import RunFolder
from estep.training.board import Board

EVAL_COLUMNS = ("env_steps", "updates", "mean", "std", "episodes", "min", "max", "wall_s", "success")
EPISODE_COLUMNS = ("env_steps", "env", "episode", "return", "length", "success")


def check_lines(folder: RunFolder) -> None:
    """Read the lines that a run has written, before anything dear is done for it. Raises RejectedInput."""
    folder.check_lines(EVAL_COLUMNS, EPISODE_COLUMNS)


class Sinks:
    """The open files of a run. A failure of the disk ends the run, except at TensorBoard's."""

    def __init__(self, folder: RunFolder, resumed_at: int | None, note: Callable[[str], None]) -> None:
        """Open the files.

        Args:
            folder: the run folder.
            resumed_at: environment steps at which the run resumes; later lines are removed, so that none is doubled.
            note: called with a line for the user if TensorBoard's file cannot be written.
        """
        self.metrics = folder.metrics()
        self.evaluations = folder.evaluations(EVAL_COLUMNS)
        self.episodes = folder.episodes(EPISODE_COLUMNS)
        if resumed_at is not None:
            for lines in (self.metrics, self.evaluations, self.episodes):
                lines.truncate_after(resumed_at)
        purge = None if resumed_at is None else resumed_at + 1
        self.board = Board(folder.path / "tb", purge, note)

    def metric(self, record: Mapping[str, float]) -> None:
        """Write one line of metrics.jsonl, and the same numbers to TensorBoard."""
        self.metrics.append(record)
        self.board.add({name: value for name, value in record.items() if name != "env_steps"}, int(record["env_steps"]))

    def evaluation(self, env_steps: int, updates: int, scores: Evaluation, wall_s: float) -> None:
        """Write one row of eval.csv, and the same numbers to TensorBoard.

        Args:
            env_steps, updates: when the evaluation was.
            scores: its returns.
            wall_s: wall-clock seconds of the run.
        """
        ends = {"min": min(scores.returns), "max": max(scores.returns), "wall_s": round(wall_s, 3)}
        row = {"env_steps": env_steps, "updates": updates, "mean": scores.mean, "std": scores.std}
        self.evaluations.append({**row, "episodes": len(scores.returns), **ends, "success": scores.success})
        shown = {"eval/return": scores.mean, "eval/return_std": scores.std, "eval/success": scores.success}
        self.board.add({name: value for name, value in shown.items() if value is not None}, env_steps)

    def finished(self, env_steps: int, episodes: Sequence[Episode]) -> None:
        """Write rows of episodes.csv."""
        for episode in episodes:
            row = {"env_steps": env_steps, "env": episode.env, "episode": episode.number}
            result = {"return": episode.total, "length": episode.length, "success": episode.success}
            self.episodes.append({**row, **result})

    def sync(self) -> None:
        """Write all lines to the disk. A checkpoint needs this first."""
        for lines in (self.metrics, self.evaluations, self.episodes):
            lines.sync()

    def close(self) -> None:
        """Close the files."""
        for lines in (self.metrics, self.evaluations, self.episodes):
            lines.close()
        self.board.close()
