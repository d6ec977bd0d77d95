"""One file per row of the table."""

from typing import TypeAlias

from estep.algorithms.iterative_sac import IterativeSAC
from estep.algorithms.mpo import MPO
from estep.algorithms.mpo_parametric import ParametricMPO
from estep.algorithms.rerpi import RERPI
from estep.algorithms.sac import SAC
from estep.algorithms.sql import SQL

__all__ = ["ALGORITHMS", "MPO", "RERPI", "SAC", "SQL", "Algorithm", "IterativeSAC", "ParametricMPO"]

Algorithm: TypeAlias = SAC | IterativeSAC | MPO | ParametricMPO | RERPI | SQL

ALGORITHMS: dict[str, type[Algorithm]] = {
    "sac": SAC,
    "iterative-sac": IterativeSAC,
    "mpo": MPO,
    "mpo-parametric": ParametricMPO,
    "rerpi": RERPI,
    "sql": SQL,
}
"""The rows by the name they have on the command line."""
