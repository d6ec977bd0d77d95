"""Errors for users. Each error says what is wrong and how to fix it, and has an exit code for the command line."""

from __future__ import annotations

from typing import Any, ClassVar


class EstepError(Exception):
    """The base of all errors of estep: one sentence on what is wrong and one on how to fix it."""

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
