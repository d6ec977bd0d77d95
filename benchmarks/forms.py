"""Iterative inference as compared in benchmarks: everything that makes it cheap is off unless asked for."""

from __future__ import annotations

from typing import Any

from estep.algorithms.iterative_sac import IterativeSAC

AFRESH: dict[str, Any] = {"direct_start": False, "persist": False, "inference_fraction": 1.0, "act_iterations": 0}
"""From a fixed place at each visit, in all states of a batch, and acting by as many iterations."""


def iterative_sac(iterations: int, samples: int, **more: Any) -> IterativeSAC:
    """N iterations of as many draws."""
    return IterativeSAC(**{"iterations": iterations, "samples": samples} | AFRESH | more)
