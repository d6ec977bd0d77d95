"""estep: variational reinforcement learning for continuous and discrete control, as one EM of interchangeable parts.

The command line imports this package, so names are resolved when they are first asked for: `import estep` is instant.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from estep.algorithms import KLMVE as KLMVE
    from estep.algorithms import MPO as MPO
    from estep.algorithms import MVE as MVE
    from estep.algorithms import PPSMC as PPSMC
    from estep.algorithms import RERPI as RERPI
    from estep.algorithms import SAC as SAC
    from estep.algorithms import SMCP as SMCP
    from estep.algorithms import SQL as SQL
    from estep.algorithms import VMPO as VMPO
    from estep.algorithms import Compose as Compose
    from estep.algorithms import DefaultPolicy as DefaultPolicy
    from estep.algorithms import Distral as Distral
    from estep.algorithms import Hierarchical as Hierarchical
    from estep.algorithms import IterativeMVE as IterativeMVE
    from estep.algorithms import IterativeSAC as IterativeSAC
    from estep.algorithms import ParametricMPO as ParametricMPO
    from estep.algorithms import SoftPG as SoftPG
    from estep.api import resume as resume
    from estep.api import train as train
    from estep.core.acting import act as act
    from estep.core.agent import Agent as Agent
    from estep.core.em import update as update
    from estep.core.keys import make_key as make_key
    from estep.core.types import Spec as Spec
    from estep.core.types import Transition as Transition
    from estep.envs.pure.environment import PureEnv as PureEnv
    from estep.errors import EnvironmentFailure as EnvironmentFailure
    from estep.errors import EstepError as EstepError
    from estep.errors import NumericHalt as NumericHalt
    from estep.errors import RejectedInput as RejectedInput
    from estep.errors import StorageFailure as StorageFailure
    from estep.errors import UsageError as UsageError
    from estep.policy.policy import Policy as Policy
    from estep.policy.policy import load as load
    from estep.population.population import Population as Population
    from estep.population.population import load_population as load_population
    from estep.settings.run import RunConfig as RunConfig
    from estep.training.callbacks import RunState as RunState

__version__ = "0.2.0"

_HOMES = {
    "SAC": "estep.algorithms",
    "IterativeSAC": "estep.algorithms",
    "MPO": "estep.algorithms",
    "ParametricMPO": "estep.algorithms",
    "RERPI": "estep.algorithms",
    "SQL": "estep.algorithms",
    "VMPO": "estep.algorithms",
    "SoftPG": "estep.algorithms",
    "MVE": "estep.algorithms",
    "IterativeMVE": "estep.algorithms",
    "KLMVE": "estep.algorithms",
    "SMCP": "estep.algorithms",
    "PPSMC": "estep.algorithms",
    "Distral": "estep.algorithms",
    "Hierarchical": "estep.algorithms",
    "DefaultPolicy": "estep.algorithms",
    "Compose": "estep.algorithms",
    "Agent": "estep.core.agent",
    "update": "estep.core.em",
    "make_key": "estep.core.keys",
    "act": "estep.core.acting",
    "Spec": "estep.core.types",
    "Transition": "estep.core.types",
    "EstepError": "estep.errors",
    "UsageError": "estep.errors",
    "RejectedInput": "estep.errors",
    "NumericHalt": "estep.errors",
    "EnvironmentFailure": "estep.errors",
    "StorageFailure": "estep.errors",
    "RunConfig": "estep.settings.run",
    "RunState": "estep.training.callbacks",
    "Policy": "estep.policy.policy",
    "load": "estep.policy.policy",
    "Population": "estep.population.population",
    "load_population": "estep.population.population",
    "PureEnv": "estep.envs.pure.environment",
    "resume": "estep.api",
    "train": "estep.api",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'estep' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
