"""Errors a user can act on. Each says what is wrong and how to fix it, and knows the exit code of the command line."""

from __future__ import annotations

from typing import Any, ClassVar


class EstepError(Exception):
    """What is wrong, in one sentence, and how to fix it, in another."""

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, fix: str = "") -> None:
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
    """The environment was found but is unfit, raised, hung, or gave too many bad transitions."""

    exit_code = 5


class StorageFailure(EstepError):
    """The disk is full, read-only or failing."""

    exit_code = 6


def check(name: str, sound: bool, value: Any, wanted: str) -> None:
    """Refuse a bad value by the flag's name; NaN fails every comparison and so is refused too."""
    if not sound:
        flag = "--" + name.replace("_", "-")
        raise UsageError(f"{flag} is {value}, which is not {wanted}.", f"Give {flag} a value that is {wanted}.")
