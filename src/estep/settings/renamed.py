"""What had another name in an earlier release. Runs, commands and programs of before go on with the old names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

SETTINGS: Mapping[str, str] = {
    "block": "updates_per_call",
    "checkpoints": "keep_checkpoints",
    "critics": "num_critics",
    "discount": "gamma",
    "every": "target_period",
    "form": "loss",
    "hidden": "hidden_sizes",
    "lam": "gae_lambda",
    "pairs": "antithetic",
    "part": "inference_fraction",
    "population": "num_candidates",
    "replay": "replay_size",
    "restart": "restart_probability",
    "top": "top_fraction",
    "warmup": "warmup_steps",
}
"""Settings of algorithms and of runs, since 0.2.0."""

LEAVES: Mapping[str, str] = {}
"""Beginnings of the names of a checkpoint's arrays, such as `inference.model.net.`. None was renamed so far."""


def current(name: str, known: Collection[str]) -> str:
    """Today's name of a setting, where the old one is no setting of its own among those that are known.

    Example:
        >>> current("discount", {"gamma", "tau"})
        'gamma'
        >>> current("discount", {"discount"})
        'discount'
    """
    return name if name in known or SETTINGS.get(name) not in known else SETTINGS[name]


def settings(values: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Values by today's names. A setting that is given by both names keeps its old one, so that it is refused."""
    return {name if current(name, known) in values else current(name, known): value for name, value in values.items()}


def leaf(name: str) -> str:
    """Today's name of an array of a checkpoint."""
    old = next((old for old in LEAVES if name.startswith(old)), None)
    return name if old is None else LEAVES[old] + name.removeprefix(old)
