"""Limits that a run is at: multipliers at one of log α, in words, and actions at their bounds, as a share."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np

from estep.core.types import Clip, Squash, Tanh
from estep.data.replay import Replay
from estep.m_steps.temperature import LOG_ALPHA_BOUNDS
from estep.runs.leaves import named_leaves

NEAR = 1e-3
"""Nearer to a limit than this, log α counts as being there."""
EDGE = 0.99
"""An action in [-1, 1] beyond this is at its bounds."""
LOOKED_AT = 256
"""Of the newest steps in replay, whose actions are looked at."""
SIDES = ("lower", "upper")
MEANING = {
    "lower": "The KL that it is the price of stays below its bound however low the price, so the bound has no effect. "
    "Are rewards nearly constant, or much smaller than 1?",
    "upper": "The KL that it is the price of stays above its bound however high the price. "
    "Are rewards much larger than 1000, or is the bound too tight?",
}


def limits_reached(agent: Any) -> dict[str, str]:
    """A note on each learned multiplier that is at a limit of log α, by its metric and the side.

    Args:
        agent: an agent. Its multipliers are its leaves of the name `log_alpha`.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.m_steps.temperature import KLConstraint
        >>> agent = {"temperature": {"model": KLConstraint(jnp.asarray(-15.0), epsilon=1.0)}}
        >>> limits_reached(agent)["m/alpha, lower"].partition(". ")[0]
        'm/alpha has reached its lower limit, 3.1e-07'
    """
    learned = {name: leaf for name, leaf in named_leaves(agent)["params"].items() if name.endswith("log_alpha")}
    found: dict[str, str] = {}
    for name, leaf in jax.device_get(learned).items():
        metric, values = _metric(name), np.ravel(leaf)
        for side, limit in zip(SIDES, LOG_ALPHA_BOUNDS, strict=True):
            count = int((np.abs(values - limit) < NEAR).sum())
            parts = "tasks" if metric == "m/alpha" else "dimensions"
            where = f" in {count} of {len(values)} {parts}" if count and len(values) > 1 else ""
            if count:
                text = f"{metric} has reached its {side} limit, {math.exp(limit):.2g}{where}. {MEANING[side]}"
                found[f"{metric}, {side}"] = text
    return found


def at_bounds(replay: Replay, squash: Squash) -> float | None:
    """The share of the components of the newest actions that are at their bounds; None where they have none.

    Args:
        replay: holds the points u of the actions.
        squash: makes the actions of them.
    """
    if not isinstance(squash, Tanh | Clip) or not len(replay):
        return None
    points = replay.read(replay.newest(-(-LOOKED_AT // replay.num_envs), 1)).action
    actions = np.abs(np.tanh(points) if isinstance(squash, Tanh) else points)
    return float((actions > EDGE).mean()) if actions.size else None


def _metric(leaf: str) -> str:
    """The metric of a multiplier: that of the temperature is m/alpha, that of a part of the policy m/alpha_part."""
    parts = [part for part in leaf.split(".")[:-1] if part not in ("model", "multipliers")]
    if parts == ["temperature"]:
        return "m/alpha"
    return f"m/alpha_{'box' if 'box' in parts else parts[-1]}"
