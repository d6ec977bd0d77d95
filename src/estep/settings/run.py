"""The options of a run that are not an algorithm's own. One dataclass serves the command line, Python and run.json."""

from __future__ import annotations

import math
from dataclasses import dataclass

from estep.errors import check


@dataclass(frozen=True)
class RunConfig:
    """How long to train, on what data, and what to write down. The algorithm's own numbers live in its row."""

    steps: int = 1_000_000
    """Environment steps to take, over all environments together."""
    seed: int = 0
    """Seed of everything: parameters, noise, replay, environments, evaluation."""
    num_envs: int = 1
    """Environments stepped side by side; the update ratio is per transition, so it does not depend on this."""
    batch_size: int = 256
    """Transitions in one update."""
    updates_per_step: float = 1.0
    """Updates for each environment step taken after the warm-up."""
    block: int = 8
    """Updates fused into one call: the policy that acts is at most this many updates old. 1 alternates strictly."""
    warmup: int = 5_000
    """Uniformly random steps before the first update."""
    replay: int = 1_000_000
    """Transitions kept for replay."""
    normalise: bool = False
    """Normalise observations by their running moments; the moments are stored with the policy."""
    eval_every: int = 10_000
    """Environment steps between evaluations (0: only at the end)."""
    stop_at: float | None = None
    """Stop as soon as an evaluation's mean return reaches this; without it, take every step."""
    eval_episodes: int = 10
    """Episodes in one evaluation, on environments and seeds of their own, with the deterministic action."""
    checkpoint_every: int = 10_000
    """Environment steps between checkpoints (0: only at the end)."""
    checkpoints: int = 3
    """How many of the newest checkpoints are kept, beside the best (0: all of them)."""
    log_every: int = 1_000
    """Environment steps between lines of metrics.jsonl."""
    max_episode_steps: int = 1_000
    """Cap on an evaluation episode of an environment that has no time limit of its own."""
    env_timeout: float = 60.0
    """Seconds one call of the environment may take before the run ends as hung (0: no limit)."""

    def __post_init__(self) -> None:
        positive = (
            "steps",
            "num_envs",
            "batch_size",
            "block",
            "replay",
            "eval_episodes",
            "log_every",
            "max_episode_steps",
        )
        for name in positive:
            check(name, getattr(self, name) >= 1, getattr(self, name), "at least 1")
        check("seed", 0 <= self.seed < 2**32, self.seed, "at least 0 and below 2^32")
        for name in ("warmup", "eval_every", "checkpoint_every", "checkpoints", "env_timeout"):
            check(name, getattr(self, name) >= 0, getattr(self, name), "at least 0")
        check("stop_at", self.stop_at is None or math.isfinite(self.stop_at), self.stop_at, "a finite number")
        check("updates_per_step", 0 < self.updates_per_step <= 1000, self.updates_per_step, "above 0 and at most 1000")
