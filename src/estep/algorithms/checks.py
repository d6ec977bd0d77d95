"""Bounds that the numbers of several rows share."""

from __future__ import annotations

from typing import Any

from estep.errors import check


def check_common(row: Any) -> None:
    """Refuse numbers with which no row can learn.

    Raises:
        UsageError: naming the flag, its value and what it must be.
    """
    check("hidden", len(row.hidden) > 0 and min(row.hidden) > 0, row.hidden, "one or more positive sizes")
    check("learning_rate", 0 < row.learning_rate < 1, row.learning_rate, "between 0 and 1")
    check("discount", 0 <= row.discount < 1, row.discount, "at least 0 and below 1")
    check("tau", 0 < row.tau <= 1, row.tau, "above 0 and at most 1")
    check("critics", row.critics >= 1, row.critics, "at least 1")
    check("beta", 0 <= row.beta < 100, row.beta, "between 0 and 100")
    check("entropy", -100 < row.entropy < 100, row.entropy, "between -100 and 100")
