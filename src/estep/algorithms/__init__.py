"""One file per row of the table."""

from typing import Any

from estep.algorithms.compose.row import Compose
from estep.algorithms.iterative_sac import IterativeSAC
from estep.algorithms.mpo import MPO
from estep.algorithms.mpo_parametric import ParametricMPO
from estep.algorithms.planning.pp_smc import PPSMC
from estep.algorithms.planning.smcp import SMCP
from estep.algorithms.rerpi import RERPI
from estep.algorithms.sac import SAC
from estep.algorithms.soft_pg import SoftPG
from estep.algorithms.sql import SQL
from estep.algorithms.vmpo import VMPO

__all__ = [
    "ALGORITHMS",
    "MPO",
    "PPSMC",
    "RERPI",
    "SAC",
    "SMCP",
    "SQL",
    "VMPO",
    "Compose",
    "IterativeSAC",
    "ParametricMPO",
    "SoftPG",
]

ALGORITHMS: dict[str, Any] = {
    "sac": SAC,
    "iterative-sac": IterativeSAC,
    "mpo": MPO,
    "mpo-parametric": ParametricMPO,
    "rerpi": RERPI,
    "sql": SQL,
    "vmpo": VMPO,
    "soft-pg": SoftPG,
    "smcp": SMCP,
    "pp-smc": PPSMC,
    "compose": Compose,
}
"""The library's algorithms by their short names. Anybody's algorithm is found by `estep.algorithms.named`."""
