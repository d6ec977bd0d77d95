"""What a setting may be: the metadata of its type, and the one check of a value against it."""

from __future__ import annotations

import dataclasses
import functools as ft
import math
import operator
import os
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from annotated_types import GroupedMetadata

from estep.errors import UsageError, unknown
from estep.settings import references

LARGEST = 2**53
"""Integers up to here keep their value in any JSON reader."""
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Help:
    """What a setting means, for people."""

    text: str


@dataclasses.dataclass(frozen=True)
class Choices:
    """One of these names, or a part of one's own as `module:name`."""

    names: tuple[str, ...]
    own: str
    """What the part is, for messages."""


@dataclasses.dataclass(frozen=True)
class LowHigh:
    """A bound of a list: two numbers, of which the first is the lower, or none."""


class Kind(NamedTuple):
    """A type taken apart."""

    base: Any
    """The type without metadata: int, float, bool, str, a Literal, tuple[int, ...], or one of them or None."""
    help: str
    bounds: tuple[Any, ...]
    """Metadata of annotated_types: Ge, Gt, Le, Lt, MinLen."""
    choices: Choices | None


@ft.cache
def kind_of(hint: Any) -> Kind:
    """A type with its metadata taken apart; of several helps or choices the last counts."""
    if get_origin(hint) is not Annotated:
        return Kind(hint, "", (), None)
    base, *metadata = get_args(hint)
    helps = [one.text for one in metadata if isinstance(one, Help)]
    choices = [one for one in metadata if isinstance(one, Choices)]
    return Kind(base, helps[-1] if helps else "", tuple(_bounds(metadata)), choices[-1] if choices else None)


def _bounds(metadata: list[Any]) -> Iterator[Any]:
    for one in metadata:
        if isinstance(one, GroupedMetadata):
            yield from _bounds(list(one))
        elif not isinstance(one, Help | Choices):
            yield one


POLICIES = ("MlpPolicy", "CnnPolicy", "MultiInputPolicy")
"""What stable-baselines3 is given first, before the environment."""


def named_options(kind: type[T]) -> type[T]:
    """Decorate a dataclass of settings: an unknown name is refused, and the nearest one is named.

    Python alone raises TypeError for an unknown name.

    Example:
        >>> from estep import RunConfig
        >>> RunConfig(stepz=100)
        Traceback (most recent call last):
        estep.errors.UsageError: RunConfig has no option 'stepz'.
        Did you mean steps?
    """
    construct: Any = vars(kind)["__init__"]

    @ft.wraps(construct)
    def construct_checked(self: Any, *values: Any, **options: Any) -> None:
        if values and isinstance(values[0], str) and values[0] in POLICIES:
            what = f"{kind.__name__} takes settings alone, and neither {values[0]!r} nor an environment."
            raise UsageError(what, 'Write policy = estep.train("sac", env, steps=50_000).')
        known = [field.name for field in dataclasses.fields(self)]
        wrong = sorted(set(options) - set(known))
        if wrong:
            listing = f"Choose from {', '.join(known)}."
            raise UsageError(f"{kind.__name__} has no option {wrong[0]!r}.", unknown("", wrong[0], known, listing).fix)
        construct(self, *values, **options)

    setattr(kind, "__init__", construct_checked)  # noqa: B010  (mypy allows no assignment to __init__)
    return kind


@ft.cache
def hints_of(kind: Any) -> Mapping[str, Any]:
    """The types of a class's fields with their metadata. They are worked out once: that takes milliseconds."""
    return get_type_hints(kind, include_extras=True)


def validate(settings: Any) -> None:
    """Check every setting of a frozen dataclass against its type, and write it in its plain form.

    The plain form is what config.json holds: 100000.0 steps become 100000, a list of sizes becomes a tuple, a NumPy
    scalar becomes Python's, a function given for a part becomes its `module:name`. Call it from `__post_init__`.

    Raises:
        UsageError: a value of the wrong kind or out of bounds, by its flag.
    """
    kind: Any = type(settings)
    hints = hints_of(kind)
    for field in dataclasses.fields(settings):
        value = plain(field.name, hints[field.name], getattr(settings, field.name))
        object.__setattr__(settings, field.name, value)


def check_order(settings: Any, low: str, high: str) -> None:
    """Refuse settings of which one must not be below another. Raises UsageError."""
    least, value = getattr(settings, low), getattr(settings, high)
    if value < least:
        raise refused(high, value, f"at least {least}, the value of --{low.replace('_', '-')}")


def plain(name: str, hint: Any, value: Any) -> Any:
    """A value in its plain form. Raises UsageError, by the flag of that name."""
    kind = kind_of(hint)
    if kind.choices is not None:
        return _choice(name, kind.choices, value)
    value = _as(name, kind.base, value)
    wanted = [(holds, words) for holds, words in map(_test, kind.bounds) if words]
    if value is not None and not all(holds(value) for holds, _ in wanted):
        raise refused(name, value, " and ".join(words for _, words in wanted))
    return value


def refused(name: str, value: Any, wanted: str) -> UsageError:
    """The refusal of a value, by its flag."""
    flag = "--" + name.replace("_", "-")
    return UsageError(f"{flag} is {value!r}, which is not {wanted}.", f"Give {flag} a value that is {wanted}.")


def limits(hint: Any) -> str:
    """What a setting may be, in words.

    Example:
        >>> from annotated_types import Interval
        >>> limits(Annotated[float, Interval(ge=0, lt=1)])
        'a finite number at least 0 and below 1'
    """
    kind = kind_of(hint)
    if kind.choices is not None:
        return _choice_words(kind.choices)
    bounds = " and ".join(words for _, words in map(_test, kind.bounds) if words)
    if get_origin(kind.base) is tuple:
        return f"{bounds or 'a list'}, each {limits(get_args(kind.base)[0])}"
    return f"{_base_words(kind.base)} {bounds}".strip()


def _base_words(base: Any) -> str:
    origin = get_origin(base)
    if origin in (Union, types.UnionType):
        return " or ".join("none" if one is type(None) else _base_words(one) for one in get_args(base))
    if origin is Literal:
        return f"one of {', '.join(get_args(base))}"
    return CONVERSIONS[base][1]


def _as(name: str, base: Any, value: Any) -> Any:
    """The value as one of a type without metadata."""
    origin = get_origin(base)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return _as(name, next(one for one in get_args(base) if one is not type(None)), value)
    if origin is Literal:
        if not (isinstance(value, str) and value in get_args(base)):
            raise refused(name, value, f"one of {', '.join(get_args(base))}")
        return str(value)
    if origin is tuple:
        return _sizes(name, get_args(base)[0], value)
    if base in CONVERSIONS:
        convert, words = CONVERSIONS[base]
        try:
            return convert(value)
        except (TypeError, ValueError, OverflowError):
            raise refused(name, value, words) from None
    return value


def _sizes(name: str, each: Any, value: Any) -> tuple[Any, ...]:
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        words = CONVERSIONS[kind_of(each).base][1] if kind_of(each).base in CONVERSIONS else "value"
        raise refused(name, value, f"a list of {words.removeprefix('a ')}s")
    return tuple(plain(name, each, item) for item in value)


def _whole(value: Any) -> int:
    """A number without a fraction as an int."""
    if isinstance(value, str) or _is_truth(value):
        raise TypeError
    try:
        whole = operator.index(value)
    except TypeError:
        number = float(value)
        if not number.is_integer():
            raise ValueError from None
        whole = int(number)
    if abs(whole) > LARGEST:
        raise OverflowError
    return whole


def _number(value: Any) -> float:
    if isinstance(value, str) or _is_truth(value):
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _truth(value: Any) -> bool:
    if _is_truth(value):
        return bool(value)
    raise TypeError


def _is_truth(value: Any) -> bool:
    """Whether a value is a bool, Python's or of an array library."""
    return isinstance(value, bool) or getattr(getattr(value, "dtype", None), "kind", "") == "b"


def _text(value: Any) -> str:
    if isinstance(value, os.PathLike):  # a run folder
        value = os.fspath(value)
    if isinstance(value, str):
        return str(value)
    raise TypeError


CONVERSIONS: Mapping[Any, tuple[Callable[[Any], Any], str]] = {
    int: (_whole, "a whole number"),
    float: (_number, "a finite number"),
    bool: (_truth, "true or false"),
    str: (_text, "text"),
}


def _choice(name: str, choices: Choices, value: Any) -> str:
    """A name, or the `module:name` of a part of one's own."""
    if not isinstance(value, str):
        value = references.reference_of(value)
    if value in choices.names or references.is_reference(value):
        return str(value)
    references.check_no_file(value)
    raise refused(name, value, _choice_words(choices))


def _choice_words(choices: Choices) -> str:
    known = [one for one in choices.names if one]
    named = f"one of {', '.join(known)}, or " if known else ""
    return f"{named}{'an' if choices.own[0] in 'aeiou' else 'a'} {choices.own} of yours as module:name"


def _test(bound: Any) -> tuple[Callable[[Any], bool], str]:
    """A bound as a test, which NaN fails, and in words."""
    match type(bound).__name__:
        case "Ge":
            return (lambda value: value >= bound.ge), f"at least {_figure(bound.ge)}"
        case "Gt":
            return (lambda value: value > bound.gt), f"above {_figure(bound.gt)}"
        case "Le":
            return (lambda value: value <= bound.le), f"at most {_figure(bound.le)}"
        case "Lt":
            return (lambda value: value < bound.lt), f"below {_figure(bound.lt)}"
        case "MinLen":
            return (lambda value: len(value) >= bound.min_length), "one or more sizes"
        case "LowHigh":
            holds = lambda value: not value or (len(value) == 2 and value[0] < value[1])
            return holds, "a lower and an upper limit, or none"
    return (lambda value: True), ""


def _figure(number: Any) -> str:
    """A bound as it is written: whole numbers in full."""
    return str(number) if isinstance(number, int) else f"{number:g}"
