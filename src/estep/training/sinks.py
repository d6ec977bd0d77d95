"""Where records go: metrics.jsonl, eval.csv, episodes.csv, TensorBoard. Consumers: nothing flows back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tensorboardX import SummaryWriter

from estep.envs.base import Episode
from estep.policy.evaluate import Evaluation
from estep.runs.folder import RunFolder

EVAL_COLUMNS = ("env_steps", "updates", "mean", "std", "episodes", "min", "max", "wall_s")
EPISODE_COLUMNS = ("env_steps", "env", "episode", "return", "length")


class Sinks:
    """The open files of a run."""

    def __init__(self, folder: RunFolder, resumed_at: int | None = None) -> None:
        """With resumed_at, drop every line of later environment steps: none is lost or doubled."""
        self.metrics = folder.metrics()
        self.evaluations = folder.evaluations(EVAL_COLUMNS)
        self.episodes = folder.episodes(EPISODE_COLUMNS)
        if resumed_at is not None:
            for lines in (self.metrics, self.evaluations, self.episodes):
                lines.truncate_after(resumed_at)
        purge = None if resumed_at is None else resumed_at + 1
        self.board = SummaryWriter(str(folder.path / "tb"), purge_step=purge)

    def metric(self, record: Mapping[str, float]) -> None:
        """One line of metrics.jsonl, mirrored to TensorBoard."""
        self.metrics.append(record)
        step = int(record["env_steps"])
        for name, value in record.items():
            if name != "env_steps":
                self.board.add_scalar(name, value, step)

    def evaluation(self, env_steps: int, updates: int, found: Evaluation, wall_s: float) -> None:
        """One row of eval.csv, mirrored to TensorBoard."""
        ends = {"min": min(found.returns), "max": max(found.returns), "wall_s": round(wall_s, 3)}
        row = {"env_steps": env_steps, "updates": updates, "mean": found.mean, "std": found.std}
        self.evaluations.append({**row, "episodes": len(found.returns), **ends})
        self.board.add_scalar("eval/return", found.mean, env_steps)
        self.board.add_scalar("eval/return_std", found.std, env_steps)

    def finished(self, env_steps: int, episodes: Sequence[Episode]) -> None:
        """Rows of episodes.csv."""
        for one in episodes:
            row = {"env_steps": env_steps, "env": one.env, "episode": one.number}
            self.episodes.append({**row, "return": one.total, "length": one.length})

    def sync(self) -> None:
        """Make every line durable, before a checkpoint that counts on them."""
        for lines in (self.metrics, self.evaluations, self.episodes):
            lines.sync()
        self.board.flush()

    def close(self) -> None:
        """Close the files."""
        for lines in (self.metrics, self.evaluations, self.episodes):
            lines.close()
        self.board.close()
