"""One file per row of the table."""

from typing import Any

from estep.algorithms.compose.row import Compose
from estep.algorithms.iterative_sac import IterativeSAC
from estep.algorithms.model_based.iterative_mve import IterativeMVE
from estep.algorithms.model_based.kl_mve import KLMVE
from estep.algorithms.model_based.mve import MVE
from estep.algorithms.model_based.pp_smc import PPSMC
from estep.algorithms.model_based.smcp import SMCP
from estep.algorithms.mpo import MPO
from estep.algorithms.mpo_parametric import ParametricMPO
from estep.algorithms.rerpi import RERPI
from estep.algorithms.sac import SAC
from estep.algorithms.several_tasks.default_policy import DefaultPolicy
from estep.algorithms.several_tasks.distral import Distral
from estep.algorithms.several_tasks.hierarchical import Hierarchical
from estep.algorithms.soft_pg import SoftPG
from estep.algorithms.sql import SQL
from estep.algorithms.vmpo import VMPO

__all__ = [
    "ALGORITHMS",
    "KLMVE",
    "MPO",
    "MVE",
    "PPSMC",
    "RERPI",
    "SAC",
    "SMCP",
    "SQL",
    "VMPO",
    "Compose",
    "DefaultPolicy",
    "Distral",
    "Hierarchical",
    "IterativeMVE",
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
    "mve": MVE,
    "iterative-mve": IterativeMVE,
    "kl-mve": KLMVE,
    "smcp": SMCP,
    "pp-smc": PPSMC,
    "distral": Distral,
    "default-policy": DefaultPolicy,
    "hierarchical": Hierarchical,
    "compose": Compose,
}
"""The library's algorithms by their short names. Anybody's algorithm is found by `estep.algorithms.named`."""
