"""Which package has an environment whose id Gymnasium does not know here."""

from __future__ import annotations

import re
from typing import NamedTuple

import gymnasium

from estep.errors import UsageError, unknown


class Package(NamedTuple):
    """A package that registers environments when its module is imported."""

    pattern: str
    """A regular expression for the beginning of its ids."""
    install: str
    """What pip installs."""
    module: str
    """The module to write before the id."""


PACKAGES = (
    Package(r"dm_control/", "shimmy[dm-control]", "shimmy"),
    Package(r"ALE/|.*NoFrameskip|.*Deterministic-v", "ale-py", "ale_py"),
    Package(r"Meta-World/|.*-v[23]-goal", "metaworld", "metaworld"),
    Package(r"MiniGrid-|BabyAI-", "minigrid", "minigrid"),
    Package(r"Panda(Reach|Push|Slide|PickAndPlace|Stack|Flip)", "panda-gym", "panda_gym"),
    Package(r"(highway|merge|roundabout|parking|intersection|racetrack|exit|u-turn)-", "highway-env", "highway_env"),
    Package(
        r"Fetch|Hand(Reach|Manipulate)|AntMaze|PointMaze|AdroitHand|FrankaKitchen|Shadow|MaMuJoCo",
        "gymnasium-robotics",
        "gymnasium_robotics",
    ),
)


def unknown_id(name: str) -> UsageError:
    """The error for an id that is not in Gymnasium's registry: the package that has it, or the nearest known id.

    Example:
        >>> unknown_id("FetchReach-v4").fix
        'Run pip install gymnasium-robotics, then give gymnasium_robotics:FetchReach-v4.'
    """
    for package in PACKAGES:
        if re.match(package.pattern, name):
            what = f"There is no environment {name!r} here. Environments of that name are in {package.install}."
            return UsageError(what, f"Run pip install {package.install}, then give {package.module}:{name}.")
    return unknown("environment", name, gymnasium.registry, "`estep envs` lists all environments.")
