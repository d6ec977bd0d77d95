"""The health of a run: a light for each thing that goes wrong in practice, with a word and a sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from estep.report.curves import Curve

GOOD, WATCH, BAD, UNKNOWN = "good", "watch", "bad", "not measured"
LIMITS = -15.0, 10.0
"""Of log α and of the multipliers of trust regions, as `m_steps.temperature` has them. That module needs JAX."""
LATE = 4
"""What is judged is the mean of the last 1/LATE of the points."""


class Light(NamedTuple):
    """One line of the health of a run."""

    name: str
    word: str
    """`good`, `watch`, `bad` or `not measured`."""
    sentence: str


class Seen(NamedTuple):
    """What the health of a run is read from."""

    late: Mapping[str, float]
    """The mean of the last quarter of each metric."""
    last: Mapping[str, float]
    """The last value of each metric."""
    settings: Mapping[str, Any]
    """Of the algorithm."""
    flat: bool
    """Whether the prior is flat, so that -KL(q‖p) is the entropy of q."""
    measured: Mapping[str, float]
    """What `estep inspect` found: `over-estimation` and `realised`."""


def lights(
    curves: Mapping[str, Curve], settings: Mapping[str, Any], measured: Mapping[str, float], flat: bool
) -> list[Light]:
    """The health of a run. A light is left out where the algorithm has no such thing.

    Args:
        curves: the metrics by name.
        settings: those of the algorithm.
        measured: what `estep inspect` found, by name.
        flat: whether the prior is flat.
    """
    known = {name: [y for y in ys if y is not None] for name, (_, ys) in curves.items()}
    known = {name: ys for name, ys in known.items() if ys}
    late = {name: math.fsum(tail := ys[-max(len(ys) // LATE, 1) :]) / len(tail) for name, ys in known.items()}
    seen = Seen(late, {name: ys[-1] for name, ys in known.items()}, settings, flat, measured)
    return [light for check in CHECKS if (light := check(seen)) is not None]


def _kl(seen: Seen) -> Light | None:
    kl, bound = seen.late.get("m/kl"), seen.late.get("m/kl_bound")
    if kl is None or bound is None:
        return None
    text = f"KL(q‖p) is {kl:.3g} nats, and the temperature is fitted to hold it at {bound:.3g}."
    far = abs(kl - bound) > 0.5 * max(abs(bound), 1.0)
    return Light("KL and its bound", WATCH if far else GOOD, text + " It is far from its bound." * far)


def _temperature(seen: Seen) -> Light | None:
    alpha = seen.last.get("m/alpha")
    if alpha is None:
        return None
    text = f"The temperature α is {alpha:.3g}."
    return Light("temperature", BAD, f"{text} It is at its limit.") if _at_limit(alpha) else _good("temperature", text)


def _duals(seen: Seen) -> Light | None:
    parts = {name: value for name, value in seen.last.items() if name.startswith("m/alpha_") and "/" not in name[2:]}
    if not parts:
        return None
    stuck = [name for name, value in parts.items() if _at_limit(value)]
    if stuck:
        return Light("multipliers", WATCH, f"These are at their limit: {', '.join(stuck)}.")
    return _good("multipliers", "No multiplier of a trust region is at its limit.")


def _at_limit(value: float) -> bool:
    low, high = (math.exp(limit) for limit in LIMITS)
    return not 1.01 * low < value < 0.99 * high


def _entropy(seen: Seen) -> Light | None:
    kl = seen.late.get("m/kl")
    if kl is None or not seen.flat:
        return None
    return _good("entropy", f"Under the flat prior the entropy of the policy is {-kl:.3g} nats.")


def _sample_size(seen: Seen) -> Light | None:
    ess = seen.late.get("e/ess")
    if ess is None:
        return None
    text = f"The weighted samples of a state are worth {ess:.3g} equal ones."
    few = ess < 2
    return Light("effective sample size", WATCH if few else GOOD, text + " The posterior hangs on one sample." * few)


def _kept(seen: Seen) -> Light | None:
    kept = seen.late.get("e/kept")
    return None if kept is None else _good("steps kept", f"The policy is fitted to {kept:.0%} of the steps of a batch.")


def _disagreement(seen: Seen) -> Light | None:
    spread, value = seen.late.get("critic/disagreement"), seen.late.get("critic/value")
    if spread is None or value is None or seen.settings.get("num_critics", 2) == 1:
        return None
    share = spread / max(abs(value), 1e-12)
    text = f"The critics differ by {spread:.3g} (standard deviation) about a mean value of {value:.3g}."
    return Light("critics' disagreement", WATCH if share > 0.2 else GOOD, text)


def _targets(seen: Seen) -> Light | None:
    """Both numbers are means over batches of replay, so once the critic has learned they are nearly equal."""
    target, value = seen.late.get("critic/target"), seen.late.get("critic/value")
    if target is None or value is None:
        return None
    text = f"The critic's targets are {target:.3g} on average, and its values {value:.3g}."
    spread = seen.late.get("critic/disagreement", 0.0)
    far = abs(target - value) > 0.5 * (abs(value) + spread)
    return Light("critic's targets", WATCH if far else GOOD, text + " It learns still, or some are far off." * far)


def _over_estimation(seen: Seen) -> Light:
    found = seen.measured.get("over-estimation")
    if found is None:
        return Light("over-estimation", UNKNOWN, "estep inspect RUN --only calibration measures it.")
    value = abs(seen.late.get("critic/value", math.inf))
    text = f"The critic predicts a return that is {found:+.3g} above that of the policy."
    return Light("over-estimation", WATCH if found > 0.2 * value else GOOD, text)


def _realised(seen: Seen) -> Light:
    found = seen.measured.get("realised")
    if found is None:
        return Light("realised advantage", UNKNOWN, "estep inspect RUN --only realised measures it.")
    text = f"The inferred action returns {found:+.3g} more than the policy's own."
    return Light("realised advantage", GOOD if found > 0 else WATCH, text)


def _skipped(seen: Seen) -> Light | None:
    skipped, updates = seen.last.get("skipped"), seen.last.get("updates", 0)
    if skipped is None:
        return None
    word = GOOD if skipped == 0 else WATCH if skipped < 0.01 * updates else BAD
    return Light("skipped updates", word, f"{skipped:,.0f} of {updates:,.0f} updates were not finite and were skipped.")


def _bad_transitions(seen: Seen) -> Light | None:
    bad = seen.last.get("data/bad")
    if bad is None:
        return None
    text = f"The environment gave {bad:,.0f} transitions that are not finite or out of bounds."
    return Light("bad transitions", WATCH if bad else GOOD, text)


def _at_bounds(seen: Seen) -> Light | None:
    share = seen.late.get("data/at_bounds")
    if share is None:
        return None
    text = f"{share:.0%} of the components of the actions are at their bounds."
    often = " It switches between the bounds: is the action space too narrow, or the temperature too low?"
    return Light("actions at their bounds", WATCH if share > 0.5 else GOOD, text + often * (share > 0.5))


def _outside(seen: Seen) -> Light | None:
    share = seen.late.get("model/outside")
    if share is None:
        return None
    return Light(
        "model", WATCH if share > 0.01 else GOOD, f"{share:.2%} of the real steps lie outside the model's data."
    )


def _good(name: str, sentence: str) -> Light:
    return Light(name, GOOD, sentence)


CHECKS: tuple[Callable[[Seen], Light | None], ...] = (
    _kl,
    _temperature,
    _duals,
    _entropy,
    _sample_size,
    _kept,
    _disagreement,
    _targets,
    _over_estimation,
    _realised,
    _skipped,
    _bad_transitions,
    _at_bounds,
    _outside,
)
