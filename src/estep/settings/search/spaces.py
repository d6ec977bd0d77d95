"""The search space of each algorithm: for some of its settings the values among which a study chooses.

A space is that of the settings that an algorithm has, with what its own entry changes. Importing it imports no JAX.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from estep.errors import UsageError, unknown
from estep.settings import groups, kinds, schema
from estep.settings.schema import Field


class Between(NamedTuple):
    """Numbers from low to high."""

    low: float
    high: float
    log: bool = False
    """Whether their logarithms are equally likely."""

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{', by its logarithm' if self.log else ''}"


class Among(NamedTuple):
    """Some values."""

    values: tuple[Any, ...]

    def __str__(self) -> str:
        return " | ".join(" ".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in self.values)


Space = Mapping[str, Between | Among]
_SIZES = Among(((64, 64), (128, 128), (256, 256)))
ALL: Space = MappingProxyType(
    {
        "learning_rate": Between(1e-4, 3e-3, log=True),
        "critic_learning_rate": Between(3e-4, 3e-2, log=True),
        "dual_learning_rate": Between(1e-3, 3e-2, log=True),
        "gamma": Among((0.95, 0.98, 0.99, 0.995)),
        "tau": Between(2e-3, 5e-2, log=True),
        "beta": Between(0.0, 2.0),
        "hidden_sizes": _SIZES,
        "batch_size": Among((64, 128, 256)),
        "updates_per_step": Among((0.5, 1.0, 2.0)),
        "entropy": Between(-2.0, 0.0),
        "entropy_fraction": Between(0.3, 0.95),
        "epsilon": Between(0.01, 1.0, log=True),
        "epsilon_mean": Between(1e-3, 0.1, log=True),
        "gae_lambda": Between(0.8, 1.0),
        "top_fraction": Among((0.25, 0.5, 1.0)),
        "rollout": Among((256, 512, 1024)),
        "inference_fraction": Among((0.25, 0.5, 1.0)),
    }
)
"""What holds for every algorithm that has the setting."""
OWN: Mapping[str, Space] = MappingProxyType(
    {
        "sql": {"alpha": Between(0.01, 10.0, log=True), "particles": Among((16, 32))},
        "soft-pg": {"alpha": Between(0.01, 1.0, log=True), "updates_per_step": Among(())},
        "vmpo": {"updates_per_step": Among(())},
        "pp-smc": {"search_fraction": Among((0.1, 0.25, 0.5)), "inference_fraction": Among(())},
    }
)
"""What one algorithm adds or replaces. Without values, a setting is left out: it does not apply."""


def space_of(algorithm: str) -> Space:
    """The search space of an algorithm; of one of somebody's own that of the settings whose names it shares."""
    known, own = fields_of(algorithm), OWN.get(algorithm, {})
    both = {**{name: space for name, space in ALL.items() if name not in own}, **own}
    return {name: space for name, space in both.items() if name in known and space != Among(())}


def of_use(space: Space, settings: Mapping[str, Any], choices: int) -> Space:
    """The part of a space that changes something beside the other settings.

    Args:
        space: the search space of an algorithm.
        settings: the settings of its runs by name, with their values.
        choices: how many choices an action is made of; 0 where actions are numbers.

    Example:
        >>> sorted(set(space_of("sac")) - set(of_use(space_of("sac"), {"num_critics": 2}, choices=0)))
        ['entropy_fraction']
        >>> "beta" in of_use(space_of("mpo"), {"num_critics": 1}, choices=0)
        False
    """
    idle = groups.idle(settings, choices)
    return {name: where for name, where in space.items() if name not in idle}


def fields_of(algorithm: str) -> dict[str, Field]:
    """The settings of an algorithm and of its runs, by name."""
    row = schema.find(algorithm)
    return {field.name: field for field in (*(row.fields if row else ()), *schema.run_fields())}


def chosen(algorithm: str, texts: Mapping[str, str]) -> Space:
    """A space of a user's own: name=low..high, name=low..high,log or name=v1,v2.

    Raises:
        UsageError: an unknown setting, or a value that is out of bounds or no number.

    Example:
        >>> print(chosen("sac", {"tau": "0.001..0.1,log"})["tau"])
        0.001 to 0.1, by its logarithm
    """
    known = fields_of(algorithm)
    found: dict[str, Between | Among] = {}
    for name, text in texts.items():
        if name not in known or name == "seed":
            otherwise = unknown(f"setting of {algorithm}", name, known, f"See estep train {algorithm} --help.")
            raise schema.unknown_setting(algorithm, name, name, known, otherwise)
        range_, log = text.removesuffix(",log"), text.endswith(",log")
        low, dots, high = range_.partition("..")
        words = (low, high) if dots else tuple(text.split(","))
        values = tuple(_number(known[name], word) for word in words)
        found[name] = Between(values[0], values[1], log) if dots else Among(values)
        if dots and not values[0] < values[1]:
            raise UsageError(f"The space of {name} is {text!r}, which is empty.", f"Write {name}=low..high.")
        if log and not values[0] > 0:
            raise UsageError(f"The space of {name} is {text!r}: 0 has no logarithm.", f"Leave out ,log for {name}.")
    return found


def _number(field: Field, word: str) -> Any:
    """A number of a space, within the bounds of its setting. Raises UsageError."""
    try:
        value = float(word)
    except ValueError:
        value = float("nan")
    return kinds.plain(field.name, field.hint, value)


def changeable(algorithm: str, space: Space) -> Space:
    """The part of a space whose settings may change while a run goes on.

    A setting of an algorithm of type float shapes no array of a checkpoint. Counts, sizes and names do, and those of a
    run, such as updates_per_step, count from its first step.

    Example:
        >>> sorted(changeable("sac", space_of("sac")))
        ['beta', 'entropy', 'entropy_fraction', 'gamma', 'inference_fraction', 'learning_rate', 'tau']
    """
    row = schema.find(algorithm)
    numbers = {field.name for field in (row.fields if row else ()) if isinstance(field.default, float)}
    return {name: where for name, where in space.items() if name in numbers}
