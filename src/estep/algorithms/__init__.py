"""One file per row of the table."""

from typing import TypeAlias

from estep.algorithms.iterative_sac import IterativeSAC
from estep.algorithms.sac import SAC

__all__ = ["ALGORITHMS", "SAC", "Algorithm", "IterativeSAC"]

Algorithm: TypeAlias = SAC | IterativeSAC

ALGORITHMS: dict[str, type[SAC] | type[IterativeSAC]] = {"sac": SAC, "iterative-sac": IterativeSAC}
"""The rows by the name they have on the command line."""
