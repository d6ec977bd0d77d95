"""How often an environment that failed may be made anew."""

from __future__ import annotations

import time
from collections import deque

SPAN = 600.0
"""Seconds in which retries are counted."""


class Retries:
    """At most `limit` retries in ten minutes, over all environments of a run. Only one thread may ask."""

    def __init__(self, limit: int) -> None:
        """Allow no more than `limit` retries in ten minutes; 0 allows none."""
        self.limit = limit
        self.total = 0
        """Retries so far."""
        self._recent: deque[float] = deque()

    def allowed(self) -> bool:
        """Whether one more retry is allowed. If it is, it is counted."""
        now = time.monotonic()
        while self._recent and self._recent[0] <= now - SPAN:
            self._recent.popleft()
        if len(self._recent) >= self.limit:
            return False
        self._recent.append(now)
        self.total += 1
        return True
