"""Checks of the arguments of the Python functions, such as the steps of `estep.resume`. Settings have `kinds`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Interval

from estep.errors import UsageError, unknown
from estep.settings import kinds

SEED = Annotated[int, Interval(ge=0, lt=2**32)]
COUNT = Annotated[int, Ge(1)]
WORDS = ("best", "latest")
"""The checkpoints that have a name."""


def seed(value: Any) -> int:
    """A seed of random numbers."""
    return int(kinds.plain("seed", SEED, value))


def count(name: str, value: Any) -> int:
    """A whole number of at least 1, such as a number of episodes or of steps."""
    return int(kinds.plain(name, COUNT, value))


def whole(name: str, value: Any) -> int:
    """A whole number."""
    return int(kinds.plain(name, int, value))


def truth(name: str, value: Any) -> bool:
    """True or False."""
    return bool(kinds.plain(name, bool, value))


def path(name: str, value: Any) -> Path:
    """A path. Raises UsageError for other things, such as None."""
    if isinstance(value, str | os.PathLike) and isinstance(os.fspath(value), str):
        return Path(value)
    raise UsageError(f"{name} is {value!r:.100}, which is not a path.", f"Give {name} the path of a folder as text.")


def function(name: str, value: Any) -> Any:
    """A function, or None. Raises UsageError for other things."""
    if value is None or callable(value):
        return value
    raise UsageError(f"{name} is {value!r:.100}, which is not a function.", f"Give {name} a function, or None.")


def text(name: str, value: Any) -> str:
    """A text. Raises UsageError for other things."""
    return str(kinds.plain(name, str, value))


def observation(value: Any) -> Any:
    """An observation, but not the whole tuple that `reset` or `step` of an environment returned."""
    if isinstance(value, tuple) and len(value) in (2, 5) and isinstance(value[-1], dict):
        what = "The observation is the whole tuple that the environment returned, with its info."
        raise UsageError(what, "Pass the first item alone: obs, info = env.reset().")
    return value


def checkpoint(value: Any) -> str:
    """A checkpoint: best, latest, a number of steps, or the name of its folder, such as step_1000.

    Raises:
        UsageError: it is none of them. The message names the nearest word.
    """
    if not isinstance(value, str):
        try:
            return str(kinds.plain("checkpoint", Annotated[int, Ge(0)], value))
        except UsageError as error:
            raise UsageError(f"There is no checkpoint {value!r:.100}.", CHECKPOINTS) from error
    text = value.strip()
    number = text.replace("_", "").replace(",", "")
    if number.isascii() and number.isdecimal():
        return str(int(number))
    if text in WORDS or is_folder_name(text):
        return text
    raise unknown("checkpoint", value, WORDS, CHECKPOINTS)


CHECKPOINTS = "Give best, latest, a number of environment steps such as 1000, or its folder's name such as step_1000."


def is_folder_name(text: str) -> bool:
    """Whether a text can be the name of a checkpoint's folder: step_STEPS, or step_STEPS-NUMBER."""
    head, _, tail = text.removeprefix("step_").partition("-")
    return text.startswith("step_") and all(part.isascii() and part.isdecimal() for part in (head, tail or "0"))
