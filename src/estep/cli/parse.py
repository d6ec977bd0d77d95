"""Converts command-line arguments to values with tyro. Every error is a UsageError, with the nearest known name."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from estep.errors import UsageError, unknown
from estep.settings import renamed
from estep.settings.kinds import LARGEST
from estep.settings.schema import Field

COMMON = (
    Field("json", bool, False, False, "Print one JSON object as the last line of stdout, also after an error."),
    Field("verbose", bool, False, False, "Show the traceback of an error."),
)
_DRAWN = re.compile(r"\x1b\[[0-9;]*m|[╭╮╰╯│─]")
_RULE = re.compile(r"\s*-{5,}\s*")


class Help(Exception):
    """The user asked for help, which is the exception's text."""


class Parsed(NamedTuple):
    """The values of all flags."""

    values: dict[str, Any]
    given: frozenset[str]
    """Names of the flags that the user gave."""


def parse(program: str, about: str, fields: Sequence[Field], positional: Iterable[str], argv: Sequence[str]) -> Parsed:
    """Read the arguments of a command.

    Args:
        program: the command, for help and messages.
        about: what it does, for its help.
        fields: its flags.
        positional: the names of those that are given without a flag.
        argv: the arguments.

    Raises:
        UsageError: an argument is wrong.
        Help: the user asked for help.
    """
    import tyro

    flags = {field.flag: field for field in (*fields, *COMMON)}
    argv = [_current_flag(word, flags) for word in argv]
    wants_help = "-h" in argv or "--help" in argv
    given = frozenset() if wants_help else _given(argv, flags, program)
    form = _form(fields, frozenset(positional))
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            parsed: Any = tyro.cli(form, prog=program, description=about, args=["--help"] if wants_help else list(argv))
    except SystemExit as error:
        if wants_help:
            raise Help(out.getvalue()) from None
        raise UsageError(_reason(err.getvalue()), f"See {program} --help.") from error
    values = {field.name: getattr(parsed, field.name) for field in (*fields, *COMMON)}
    for name, value in values.items():
        _check_size(name, value)
    return Parsed(values, given)


def _current_flag(word: str, flags: Mapping[str, Field]) -> str:
    """Replace a flag of an earlier release by its current name. Other words stay as they are."""
    flag, equals, value = word.partition("=")
    if not flag.startswith("--") or flag in flags:
        return word
    negation = "no-" if flag.startswith("--no-") else ""
    old = flag.removeprefix("--").removeprefix(negation).replace("-", "_")
    new = "--" + negation + renamed.SETTINGS.get(old, old).replace("_", "-")
    return new + equals + value if "--" + new.removeprefix("--" + negation) in flags else word


def _given(argv: Sequence[str], flags: dict[str, Field], program: str) -> frozenset[str]:
    """The names of the flags on the command line. Raises UsageError if a flag is unknown or is given twice."""
    given: set[str] = set()
    for word in argv:
        if not word.startswith("--") or word == "--":
            continue
        flag = word.partition("=")[0].replace("_", "-")
        field = flags.get(flag) or flags.get("--" + flag.removeprefix("--no-"))
        if field is None or (flag not in flags and field.kind is not bool):
            raise unknown("flag", flag, flags, f"See {program} --help.")
        if field.name in given:
            raise UsageError(f"{field.flag} is given twice.", f"Give {field.flag} only once.")
        given.add(field.name)
    return frozenset(given)


def _form(fields: Sequence[Field], positional: frozenset[str]) -> type:
    from tyro.conf import FlagCreatePairsOff, Positional, arg

    made: list[Any] = []
    in_place: Any = Positional
    one_way: Any = FlagCreatePairsOff
    for field in (*fields, *COMMON):
        named = field.name.upper() if field.name in positional else None
        kind: Any = Annotated[field.kind, arg(help=field.help, metavar=named)]
        if named:
            kind = in_place[kind]
        if field.kind is bool and field in COMMON:
            kind = one_way[kind]
        rest = () if field.required else (dataclasses.field(default=field.default),)
        made.append((field.name, kind, *rest))
    return dataclasses.make_dataclass("Options", made, frozen=True, kw_only=True)


def _reason(text: str) -> str:
    """The message of tyro as one sentence: the text between the title and the first rule of its box."""
    lines = [_DRAWN.sub("", line).strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    body: list[str] = []
    for line in lines[1:]:
        if not _RULE.fullmatch(line):
            body.append(line)
        elif body:
            break
    return " ".join(" ".join(body).split()) or "The arguments cannot be read."


def _check_size(name: str, value: Any) -> None:
    flag = "--" + name.replace("_", "-")
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, float) and not math.isfinite(number):
            raise UsageError(f"{flag} is {number}, which is not a finite number.", f"Give {flag} a finite number.")
        if isinstance(number, int) and abs(number) > LARGEST:
            raise UsageError(f"{flag} is too large.", f"Give {flag} a value of at most {LARGEST}.")
