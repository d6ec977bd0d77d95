"""Algorithms by name: the library's, those that installed packages add, and anybody's as `module:Class`."""

from __future__ import annotations

import dataclasses
from typing import Any

from estep.algorithms import ALGORITHMS
from estep.core.agent import Algorithm
from estep.errors import UsageError, unknown
from estep.settings import references


def name_of(algorithm: Algorithm) -> str:
    """The name by which a run folder records an algorithm: its short name, else `module:Class`.

    Raises:
        UsageError: a class that no other process could find, such as one that a function defines.

    Example:
        >>> from estep import SAC
        >>> name_of(SAC(gamma=0.9))
        'sac'
    """
    kind = type(algorithm)
    own = next((name for name, row in ALGORITHMS.items() if row is kind), None)
    if own is not None:
        return own
    reference = references.reference_of(kind)
    return next((name for name, value in references.installed().items() if value == reference), reference)


def class_of(name: str) -> type[Any]:
    """The class of an algorithm's name. Naming a `module:Class` is consent to import it.

    Raises:
        UsageError: there is no such algorithm, or it is no algorithm.
    """
    if name in ALGORITHMS:
        kind: type[Any] = ALGORITHMS[name]
        return kind
    reference = name if references.is_reference(name) else references.installed().get(name)
    if reference is None:
        references.check_no_file(name)
        known = [*ALGORITHMS, *references.installed()]
        raise unknown("algorithm", name, known, f"Choose one of {', '.join(known)}, or module:Class.")
    return check_class(name, references.resolve(reference))


def check_class(name: str, kind: Any) -> type[Any]:
    """A class, if it can be trained as an algorithm.

    Raises:
        UsageError: it is no frozen dataclass, a field has no default, or it has no `init`.
    """
    frozen = getattr(getattr(kind, "__dataclass_params__", None), "frozen", False)
    if not (isinstance(kind, type) and frozen and callable(getattr(kind, "init", None))):
        raise UsageError(
            f"{name} is not an algorithm.",
            "Write a class with @dataclass(frozen=True) and init(self, spec, key) -> Agent.",
        )
    bare = [one.name for one in dataclasses.fields(kind) if one.default is dataclasses.MISSING]
    if bare:
        raise UsageError(
            f"The field {bare[0]} of {name} has no default.", "Give every field of an algorithm a default."
        )
    return kind
