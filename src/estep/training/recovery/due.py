"""When a checkpoint is due."""

from __future__ import annotations

import time

from estep.settings.run import RunConfig


def checkpoint_due(config: RunConfig, before: int, now: int, saved_at: float) -> bool:
    """Whether a checkpoint is due, by steps or by time.

    Args:
        config: the settings of the run.
        before, now: environment steps at the last look and now.
        saved_at: when the last checkpoint was saved, in seconds of the monotonic clock.
    """
    late = 0 < config.checkpoint_minutes * 60 <= time.monotonic() - saved_at
    return config.checkpoint_every > 0 and (late or crossed(before, now, config.checkpoint_every))


def crossed(before: int, now: int, every: int) -> bool:
    """Whether a multiple of `every` lies in (before, now]. If every is 0, it is always False."""
    return every > 0 and now // every > before // every
