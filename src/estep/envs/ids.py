"""Finds what the text of an environment names: an id of Gymnasium's registry, or a class of a module."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any, NamedTuple, get_origin, get_type_hints

import gymnasium

from estep.envs.pure.ids import inexact  # its import registers pure/Pendulum-v1 and others
from estep.errors import EnvironmentFailure, UsageError, describe_raised, unknown
from estep.settings.references import ENVPOOL, check_no_file, env_text, import_module


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


def register(text: str) -> None:
    """Import the module of a `[NAME=]module:Name[?name=value&...]`, and look up its name: an id or a class.

    Raises:
        UsageError: the text is malformed, or the module or the name is unknown. The message has the most similar one.
        EnvironmentFailure: importing the module raised an exception.
    """
    env_id = env_text(text).id
    if env_id.startswith(ENVPOOL):  # known to EnvPool alone, which is asked when it makes the environment
        return
    check_no_file(env_id)
    module, colon, name = env_id.rpartition(":")
    if colon:
        _import(module, name)
    if own(env_id) is not None:
        return
    try:
        gymnasium.spec(name)
    except gymnasium.error.Error as error:
        raise unknown_id(env_id) from error


def own(env_id: str) -> Callable[..., gymnasium.Env[Any, Any]] | None:
    """The class or function that a `module:name` names, whose module is imported. An id of that name comes first.

    A run folder may hold any text, with arguments. So not every function is called: it must say that it returns an
    environment.
    """
    found = None if env_id.rpartition(":")[2] in gymnasium.registry else _named(env_id)
    return found if _is_env(found) or _returns_env(found) else None


def _named(env_id: str) -> Any:
    """What has this name in its module, if anything."""
    module, colon, name = env_id.rpartition(":")
    return getattr(sys.modules.get(module), name, None) if colon else None


def _is_env(found: Any) -> bool:
    kind = get_origin(found) or found
    return isinstance(kind, type) and issubclass(kind, gymnasium.Env)


def _returns_env(found: Any) -> bool:
    try:
        return isinstance(found, FunctionType) and _is_env(get_type_hints(found).get("return"))
    except Exception:  # an annotation may name anything
        return False


def _import(module: str, name: str) -> None:
    """Import the module of an environment."""
    try:
        import_module(module)
    except (ImportError, TypeError, ValueError) as error:  # the last two: an empty or relative module name
        for near in difflib.get_close_matches(module, ("mjx", "pure"), 1):
            if f"{near}/{name}" in gymnasium.registry:
                raise unknown("environment", f"{module}:{name}", [f"{near}/{name}"], "") from error
        what = f"The module of {module}:{name} cannot be imported: {error}."
        raise UsageError(what, "Install the module, or add its folder to PYTHONPATH.") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module may raise SystemExit, or a class of its own
        what = f"Importing the module of {module}:{name} raised {describe_raised(error)}."
        raise EnvironmentFailure(what, "Check that the module can be imported without estep.") from error


def unknown_id(env_id: str) -> UsageError:
    """The error for a name that is neither in Gymnasium's registry nor in its module: who has it, or the nearest.

    Example:
        >>> unknown_id("FetchReach-v4").fix
        'Run pip install gymnasium-robotics, then give gymnasium_robotics:FetchReach-v4.'
    """
    module, _, name = env_id.rpartition(":")
    other = inexact(name)
    if other is not None:
        return other
    for package in PACKAGES:
        if re.match(package.pattern, name):
            what = f"There is no environment {name!r} here. Environments of that name are in {package.install}."
            return UsageError(what, f"Run pip install {package.install}, then give {package.module}:{name}.")
    if isinstance(_named(env_id), FunctionType):
        what = f"{env_id} is a function that does not say that it returns an environment."
        return UsageError(what, f"Write def {name}(...) -> gymnasium.Env, or give a class.")
    names = vars(sys.modules[module]) if module in sys.modules else {}
    classes = [key for key, value in names.items() if _is_env(value)]
    known = [*(f"{module}:{key}" for key in classes), *gymnasium.registry]
    return unknown("environment", env_id if classes else name, known, "`estep envs` lists all environments.")
