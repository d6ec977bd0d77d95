"""Things of a user's own by the name `module:name`: algorithms, parts, networks, and environments with arguments.

A name that a person typed or an object that a program passed is consent to import its module. A name that a run folder
holds is not: whoever reads the folder must allow it.
"""

from __future__ import annotations

import functools as ft
import importlib
import json
import math
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from estep.errors import EstepError, UsageError, describe_raised

_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_FILE = re.compile(r"(?:\./)?([\w/]+)\.py(?::(\w+))?")
"""A file of Python below this folder, and what is meant in it."""


def is_reference(text: str) -> bool:
    """Whether a text has the form `module:name`."""
    return _REFERENCE.fullmatch(text) is not None


def check_no_file(text: str) -> None:
    """Refuse a file in place of a module. Raises UsageError with what is to be written.

    Example:
        >>> check_no_file("envs/hover.py:Hover")
        Traceback (most recent call last):
        estep.errors.UsageError: envs/hover.py:Hover names a file, and it is a module that is imported.
        Write envs.hover:Hover.
    """
    if (file := _FILE.fullmatch(text)) is not None:
        what = f"{text} names a file, and it is a module that is imported."
        raise UsageError(what, f"Write {file[1].replace('/', '.')}:{file[2] or 'NAME'}.")


def reference_of(thing: Any) -> str:
    """The `module:name` of a class or function, under which any process can find it.

    Raises:
        UsageError: it has none: a lambda, a local function, a bound method, or an instance.
    """
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    found = sys.modules.get(module) if isinstance(module, str) and isinstance(name, str) else None
    for part in str(name).split("."):
        found = getattr(found, part, None)
    if thing is None or found is not thing:
        raise UsageError(
            f"{thing!r} has no name by which a run folder could record it.",
            "Define a class or a function at the top level of a module, and pass that.",
        )
    return f"{_home(str(module))}:{name}"


def has_home(thing: Any) -> bool:
    """Whether any process can find a class or function, in a module or in the file of the script that runs."""
    try:
        reference = reference_of(thing)
    except UsageError:
        return False
    return not reference.startswith("__main__:")


@ft.cache
def installed() -> Mapping[str, str]:
    """The algorithms that installed packages add, by their short names: entry points of the group `estep.algorithms`.

    Example, in the pyproject.toml of such a package:

        [project.entry-points."estep.algorithms"]
        mine = "my_package.my_module:Mine"
    """
    return {point.name: point.value for point in metadata.entry_points(group="estep.algorithms")}


def resolve(reference: str) -> Any:
    """The class or function of a `module:name`. Modules in the current folder are found too.

    Raises:
        UsageError: there is no such module, or it has no such name.
    """
    check_no_file(reference)
    home, _, name = reference.partition(":")
    try:
        found = _module(home)
        for part in name.split("."):
            found = getattr(found, part)
    except ImportError as error:
        raise UsageError(
            f"The module {home} of {reference} cannot be imported: {error}.",
            "Run the command in the folder of that file, or install the package that has it.",
        ) from error
    except AttributeError as error:
        if home == "__main__":
            what = f"{name} was defined in a session without a file, which is over."
            raise UsageError(
                what, "Define it again in this session, or put it into a module and train again."
            ) from error
        raise UsageError(f"The module {home} has no {name}.", "Check the spelling.") from error
    return found


def call(maker: Callable[..., Any], name: str, arguments: Sequence[Any], takes: str) -> Any:
    """What a function of somebody's own makes.

    Args:
        maker: the function.
        name: its `module:name`, for the message.
        arguments: what it is given.
        takes: these arguments in words, for the message.

    Raises:
        UsageError: it raised an exception, such as one for a wrong number of arguments.
    """
    try:
        return maker(*arguments)
    except EstepError:
        raise
    except Exception as error:
        what = f"{name} raised {describe_raised(error)}."
        raise UsageError(what, f"It is called with {takes}: correct it, and try again.") from error


MJX, ENVPOOL = "mjx/", "envpool/"
"""Beginnings of ids of environments that are computed on the device, or in threads of EnvPool. On the command line they
end with a colon."""


class EnvText(NamedTuple):
    """An environment as a text names it: `[NAME=][module:]Id[?name=value&...]`."""

    name: str
    """NAME, or the whole text where it gives none."""
    text: str
    """The text without NAME."""
    id: str
    """The id with its module, as `gymnasium.make` takes it."""
    arguments: Mapping[str, bool | int | float | str | None]
    """What `gymnasium.make` is given besides."""

    @property
    def module(self) -> str:
        """The module that registers the id; empty where none is named."""
        return self.id.rpartition(":")[0]


_ARGUMENT = re.compile(r"([A-Za-z_]\w*)=")


def env_text(text: str) -> EnvText:
    """Read an environment's text.

    Raises:
        UsageError: NAME is empty, or the arguments are malformed.

    Example:
        >>> found = env_text('back=gymnasium:HalfCheetah-v5?forward_reward_weight=-1&frame_skip=5')
        >>> found.name, found.id, found.arguments
        ('back', 'gymnasium:HalfCheetah-v5', {'forward_reward_weight': -1, 'frame_skip': 5})
    """
    head, mark, tail = text.partition("?")
    name, equals, env_id = head.rpartition("=")
    if (equals and not name.strip()) or (mark and not tail):
        what = (
            f"The environment {text!r:.200} has no {'arguments behind ?' if name or not equals else 'name before ='}."
        )
        raise UsageError(what, "Write [NAME=]Id[?name=value&...].")
    known = env_id
    for other in (MJX, ENVPOOL):  # no module, but the device, or threads
        if env_id.startswith(f"{other[:-1]}:"):
            known = env_id.replace(f"{other[:-1]}:", other, 1)
    return EnvText(name or text, env_id + mark + tail, known, _arguments(tail, text))


def _arguments(tail: str, text: str) -> dict[str, Any]:
    """The arguments of `name=value&name=value`, whose values are JSON scalars."""
    found: dict[str, Any] = {}
    at = 0
    while at < len(tail):
        match = _ARGUMENT.match(tail, at)
        if match is None:
            raise _malformed(text, f"{tail[at:]!r:.100} is not name=value")
        name = match[1]
        try:
            value, at = json.JSONDecoder().raw_decode(tail, match.end())
        except (ValueError, RecursionError):
            raise _malformed(text, f"the value of {name} is no JSON scalar (a text needs quotes)") from None
        if isinstance(value, dict | list) or (isinstance(value, float) and not math.isfinite(value)):
            raise _malformed(text, f"the value of {name} is no JSON scalar")
        if name in found:
            raise _malformed(text, f"{name} is given twice")
        if at < len(tail) and (tail[at] != "&" or at + 1 == len(tail)):
            raise _malformed(text, f"{tail[at:]!r:.100} follows the value of {name}")
        found[name], at = value, at + 1
    return found


def _malformed(text: str, why: str) -> UsageError:
    what = f"The arguments of the environment {text!r:.200} are malformed: {why}."
    return UsageError(what, 'Write ?name=value&name=value with numbers, true, false, null or "text" as values.')


def _home(module: str) -> str:
    """A module's name; of the script that is running, the name under which it can be imported."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file).stem if module == "__main__" and file else module


def _module(home: str) -> Any:
    main = sys.modules.get("__main__")
    if home in ("__main__", _home("__main__")) and main is not None:
        return main
    return import_module(home)


def import_module(name: str) -> Any:
    """Import a module by its name. Modules in the current folder are found too, also by the installed command."""
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    return importlib.import_module(name)
