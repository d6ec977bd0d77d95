"""Errors for users. Each error says what is wrong and how to fix it, and has an exit code for the command line."""

from __future__ import annotations

import difflib
import re
import sys
import traceback
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any, ClassVar

STOPPED = 75
"""The exit code of a run that stopped cleanly and can be resumed. It is no error."""


SENTENCE = (
    r"(?:a|above|an|and|another|are|as|at|before|below|cannot|clips|does|ends|follows|for|from|gives|has|have|if|in"
    r"|instead|is|it|makes|merges|names|needs|of|on|only|or|other|out|prints|records|scales|shows|so|steps|such|takes"
    r"|than|that|the|to|too|trains|use|uses|was|which|with|without)(?![\w-])"
)
"""Words with which a sentence goes on: after a flag they are not its value, and after `estep` no command."""
COMMAND_OR_FLAG = re.compile(
    rf"(?P<command>\bestep (?!{SENTENCE})[a-z-]+(?: [^\s,;]+)*)"
    r"|(?<![\w/-])--\w[\w-]*(?: \S+)? \(in Python (?P<given>.+?)\)(?=[\s.,;]|$)"
    r"|(?<![\w/-])--(?P<no>no-)?(?P<name>[a-z][a-z0-9-]*)(?![\w-])"  # and none of XLA, such as --xla_gpu
    rf"(?: (?!{SENTENCE})(?P<value>[\w/:?&=-]+(?:\.[\w/:?&=-]+)*))?"
)


def as_arguments(text: str) -> str:
    """A message for the command line as one for Python: flags become arguments, and commands stay as they are.

    Example:
        >>> as_arguments("Give --network mlp and --num-critics 2 or more. See estep train sac --help.")
        'Give network="mlp" and num_critics=2 or more. See estep train sac --help.'
        >>> as_arguments("Give --gamma below 1, --no-kl-in-value, or --normalise (in Python normalise=True) instead.")
        'Give gamma below 1, kl_in_value=False, or normalise=True instead.'
        >>> as_arguments("The flags --xla_gpu and --steps 5 are of two kinds.")
        'The flags --xla_gpu and steps=5 are of two kinds.'
    """
    return COMMAND_OR_FLAG.sub(_argument, text)


def _argument(found: re.Match[str]) -> str:
    """What stands in Python for a flag and the word after it. A command is what it was."""
    if kept := found["command"] or found["given"]:
        return str(kept)
    name, value = found["name"].replace("-", "_"), found["value"]
    if found["no"]:
        return f"{name}=False" + (f" {value}" if value else "")
    if value is None:
        return name
    return f"{name}={value}" if re.fullmatch(r"\d[\d.e-]*", value) else f'{name}="{value}"'


class EstepError(Exception):
    """The base of all errors of estep: one sentence on what is wrong and one on how to fix it.

    The command line shows `what` and `fix`, with flags. The text of the exception, which Python shows, has arguments
    in their place.

    Example:
        >>> print(UsageError("--gamma is 2.", "Give --gamma below 1."))
        gamma is 2.
        Give gamma below 1.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, fix: str = "") -> None:
        """Make an error.

        Args:
            what: one sentence that says what is wrong.
            fix: one sentence that says how to fix it, with the flag or the command to type.
        """
        super().__init__(f"{what}\n{fix}" if fix else what)
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        return as_arguments(super().__str__())


class UsageError(EstepError):
    """An unknown algorithm, environment id, module, flag or field, or a bad value."""

    exit_code = 2


class RejectedInput(EstepError):
    """A file or folder that is corrupt, hostile, incompatible or locked by another process."""

    exit_code = 3


class NumericHalt(EstepError):
    """Too many updates had a non-finite loss, gradient or result."""

    exit_code = 4


class EnvironmentFailure(EstepError):
    """The environment exists but cannot be used, raised an exception, hung, or gave too many bad transitions."""

    exit_code = 5


class StorageFailure(EstepError):
    """The disk is full, is read-only or reports errors."""

    exit_code = 6


def describe(error: BaseException) -> str:
    """The type and the text of an exception, for a message.

    Example:
        >>> describe(ValueError("no port"))
        'ValueError: no port'
        >>> describe(AssertionError())
        'AssertionError'

    One that stands for an exception in another process has that one's text in `described`.
    """
    described = getattr(error, "described", None)
    if isinstance(described, str):
        return described
    try:
        text = str(error)
    except Exception:  # an exception of somebody's own, which cannot be printed
        text = ""
    return f"{type(error).__name__}: {text}".removesuffix(": ").rstrip(".")


BENEATH = frozenset(
    {*sys.stdlib_module_names, "estep", "jax", "jaxlib", "jaxtyping", "equinox", "numpy", "gymnasium", "mujoco"}
) - {"__main__"}
"""Packages in which an exception of somebody's own code may come up."""


def describe_raised(error: BaseException) -> str:
    """What an exception of somebody's own code says, and the line of that code from which it came.

    Example:
        >>> describe_raised(ValueError("no port"))  # it was never raised, so it has no line
        'ValueError: no port'
    """
    return f"{describe(error)}{place_of(error)}"


def place_of(error: BaseException) -> str:
    """The line of somebody's own code from which an exception came, such as " (arm.py, line 15)"; empty without one.

    It is the innermost line outside packages, or else the innermost one of a package that is not in BENEATH.
    """
    frames = traceback.walk_tb(error.__traceback__)
    places = [
        (PurePath(frame.f_code.co_filename), line)
        for frame, line in frames
        if str(frame.f_globals.get("__name__")).partition(".")[0] not in BENEATH
        and not frame.f_code.co_filename.startswith("<")
    ]
    if not places:
        return ""
    own = [place for place in places if not {"site-packages", "dist-packages"} & {*place[0].parts}]
    path, line = (own or places)[-1]
    return f" ({path.name}, line {line})"


def check(name: str, sound: bool, value: Any, wanted: str) -> None:
    """Refuse a bad value of a setting. NaN is refused too, because every comparison with NaN is false.

    Args:
        name: the setting's name, as in Python.
        sound: whether the value is allowed.
        value: the value.
        wanted: which values are allowed, as text that fits after "is not".

    Raises:
        UsageError: the value is not allowed. The message names the flag.
    """
    if not sound:
        flag = "--" + name.replace("_", "-")
        raise UsageError(f"{flag} is {value}, which is not {wanted}.", f"Give {flag} a value that is {wanted}.")


def nearest(word: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """The known word that is most similar, or "". Case is ignored.

    Args:
        word: what was given.
        known: what there is. Of two that differ only in case the last counts.
        cutoff: the least similarity, from 0 to 1.

    Example:
        >>> nearest("hiden", ["hidden_sizes", "gamma"])
        'hidden_sizes'
    """
    lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), lower, n=1, cutoff=cutoff)
    return lower[close[0]] if close else ""


def unknown(what: str, word: str, known: Iterable[str], listing: str) -> UsageError:
    """The error for an unknown name.

    Args:
        what: what the name should be, such as "algorithm".
        word: the name.
        known: the known names, of which the nearest is suggested.
        listing: how to fix it if no known name is similar.
    """
    near = nearest(word, known)
    return UsageError(f"There is no {what} {word!r}.", f"Did you mean {near}?" if near else listing)
