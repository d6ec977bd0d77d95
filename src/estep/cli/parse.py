"""Converts command-line arguments to values with tyro. Every error is a UsageError, with the nearest known name."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import itertools
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from estep.errors import UsageError, unknown
from estep.settings import kinds, renamed, schema
from estep.settings.kinds import LARGEST
from estep.settings.schema import Field

COMMON = (
    Field("json", bool, False, False, "Print one JSON object as the last line of stdout, also after an error."),
    Field("verbose", bool, False, False, "Show the traceback of an error."),
)
_DRAWN = re.compile(r"\x1b\[[0-9;]*m|[╭╮╰╯│─]")
_LISTED = re.compile(r"[^][(),\s]+")
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
    argv = _plain([_current_flag(word, flags) for word in argv], flags)
    wants_help = "-h" in argv or "--help" in argv
    given = frozenset() if wants_help else _given(argv, flags, program)
    names = frozenset(positional)
    wanted = [field for field in fields if field.required and field.name in names]
    argv = _in_place(argv, flags, len(wanted))
    form = _form(fields, names)
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            words = ["--help"] if wants_help else list(argv)
            parsed: Any = tyro.cli(form, prog=program, description=inspect.cleandoc(about), args=words)
    except SystemExit as error:
        if wants_help:
            raise Help("\n".join(line.rstrip() for line in out.getvalue().splitlines())) from None
        reason, hint = _reason(err.getvalue()), f"See {program} --help."
        refusal = _wrong_value(argv, flags) or _missing(program, argv, fields, names, given, reason)
        raise refusal or _surplus(argv, flags, reason, hint) or UsageError(reason, hint) from error
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


def _plain(argv: Sequence[str], flags: Mapping[str, Field]) -> list[str]:
    """The words in the form that tyro reads: 1e6 as 1000000 where a whole number is wanted, and the lists 256,256 and
    [256, 256] as two words."""
    words: list[str] = []
    field: Field | None = None
    for word in argv:
        value = word
        if word.startswith("--"):
            flag, equals, value = word.partition("=")
            field = flags.get(flag.replace("_", "-"))
            if not (equals and field):
                words.append(word)
                continue
        if field is None:
            words.append(word)
            continue
        several = get_origin(field.kind) is tuple and get_args(field.kind)[0] is not str
        found = [_digits(part, field.kind) for part in (_LISTED.findall(value) if several else [value])]
        if value is word:
            words += found
        else:
            words += [field.flag, *found] if several else [f"{field.flag}={found[0]}"]
        if not several:
            field = None  # what comes next is no value of this flag
    return words


def _in_place(argv: list[str], flags: Mapping[str, Field], wanted: int) -> list[str]:
    """The words with the last value of a list in front, where an argument without a flag is missing otherwise: in
    `--only gap RUN --states 8` the run belongs to no list."""
    free, last = len(_values_at(argv, 0)), None
    for at, word in enumerate(argv):
        field = flags.get(word.partition("=")[0])
        behind = len(_values_at(argv, at + 1))
        if field is None:
            free += behind if word == "--" else 0
        elif get_origin(field.kind) is tuple and "=" not in word:
            last = at + behind if behind > 1 else last
        else:
            free += max(0, behind - (field.kind is not bool and "=" not in word))
    if last is None or free >= wanted:
        return argv
    return [argv[last], *argv[:last], *argv[last + 1 :]]


def _values_at(argv: Sequence[str], at: int) -> list[str]:
    """The words from a place up to the next flag."""
    return list(itertools.takewhile(lambda word: not word.startswith("--"), argv[at:]))


def _digits(word: str, kind: Any) -> str:
    """A whole number such as 1e6 as digits; any other word as it is."""
    if int not in (kind, *get_args(kind)) or word.lstrip("+-").isdigit():
        return word
    with contextlib.suppress(ValueError):
        number = float(word)
        return str(int(number)) if number.is_integer() else word
    return word


def _wrong_value(argv: Sequence[str], flags: Mapping[str, Field]) -> UsageError | None:
    """The refusal of the first flag that has no value, or one of another type."""
    for at, word in enumerate(argv):
        flag, equals, value = word.partition("=")
        field = flags.get(flag)
        if field is not None and field.kind is bool and equals:
            return _no_value(field, value)
        if field is None or field.kind is bool:
            continue
        behind = _values_at(argv, at + 1)
        several = get_origin(field.kind) is tuple
        words = [value] if equals else behind if several else behind[:1]
        if not words and not several:
            return UsageError(f"{flag} has no value.", f"Give {flag} a value that is {kinds.limits(field.hint)}.")
        kind = get_args(field.kind)[0] if several else field.kind
        wrong = [word for word in words if not _reads(word, kind)]
        if wrong:
            return kinds.refused(field.name, wrong[0] if len(words) == 1 else " ".join(words), kinds.limits(field.hint))
    return None


def _no_value(field: Field, word: str) -> UsageError:
    """The refusal of a value behind a flag that is yes or no."""
    no = "" if field in COMMON else f", or write {field.flag.replace('--', '--no-', 1)} for no"
    return UsageError(f"{field.flag} takes no value, and was given {word!r}.", f"Leave {word!r} out{no}.")


def _reads(word: str, kind: Any) -> bool:
    """Whether a word is a value of a type."""
    if get_origin(kind) is Literal:
        return word in get_args(kind)
    if get_args(kind):
        return any(_reads(word, one) for one in get_args(kind))
    if kind is type(None):
        return word == "None"
    try:
        kind(word)
    except (TypeError, ValueError):
        return False
    return True


def _missing(
    program: str,
    argv: Sequence[str],
    fields: Iterable[Field],
    positional: Collection[str],
    given: Collection[str],
    reason: str,
) -> UsageError | None:
    """The refusal of a command without an argument that it needs."""
    if not reason.startswith("Missing from"):
        return None
    for field in fields:
        name = field.name.upper() if field.name in positional else field.flag
        if field.required and field.name not in given and name in reason:
            bare = [] if positional else [word for word in argv[:1] if not word.startswith("-")]
            fix = f"Write {name} {bare[0]}." if bare else f"Give {name}: {field.help}"
            return UsageError(f"{program} was not given {name}.", fix)
    return None


def _surplus(argv: Sequence[str], flags: Mapping[str, Field], reason: str, hint: str) -> UsageError | None:
    """The refusal of the first word that belongs to no argument."""
    listed = reason.removeprefix("Unrecognized options: ")
    word = next((word for word in argv if listed.startswith(word)), "") if listed != reason else ""
    if not word:
        return None
    if re.match(r"-[A-Za-z]", word):
        return unknown("flag", word, flags, hint)
    before = flags.get(argv[argv.index(word) - 1]) if word in argv[1:] else None
    if before is not None and before.kind is bool:
        return _no_value(before, word)
    return UsageError(f"{word!r} belongs to no flag and to no argument.", hint)


def _given(argv: Sequence[str], flags: dict[str, Field], program: str) -> frozenset[str]:
    """The names of the flags on the command line. Raises UsageError if a flag is unknown or is given twice."""
    given: set[str] = set()
    for word in argv:
        if not word.startswith("--") or word == "--":
            continue
        flag = word.partition("=")[0].replace("_", "-")
        field = flags.get(flag) or flags.get("--" + flag.removeprefix("--no-"))
        if field is None or (flag not in flags and field.kind is not bool):
            name = flag.removeprefix("--").replace("-", "_")
            otherwise = unknown("flag", flag, flags, f"See {program} --help.")
            raise schema.unknown_setting(program, flag, name, {field.name for field in flags.values()}, otherwise)
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
