"""Compares an exported policy with the agent that it was made of, and takes its time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from estep.core import acting
from estep.core.types import Floats, Key
from estep.data.normalise import normalise
from estep.errors import NumericHalt
from estep.export.contract import Act, Subject, widths
from estep.export.drawn.noise import noise_of
from estep.export.inference import points, q_values
from estep.export.policy import SQUASH, Policy
from estep.families.categorical import Categorical, FactoredCategorical

LARGEST, LARGEST_OF_INFERENCE = 1e-5, 1e-4
"""The largest difference of actions that passes, in units of the width of the bounds."""
TIE = 1e-5
"""Two candidates whose Q̂ differ by less than this part of it are equally good: rounding decides between them."""
MOST_NEAR = 0.002
"""The share of drawn actions that may be so near between two choices that rounding decides."""
CALLS = 200


class Check(NamedTuple):
    """The result of a comparison."""

    largest: float
    """The largest difference, in units of the width of the bounds; of choices, of their probability."""
    limit: float
    observations: int
    ties: int
    """Observations with two candidates that are equally good, which count as equal."""
    microseconds: float
    """The median time of one action."""


def reference(subject: Subject) -> Callable[[Floats], tuple[Any, Any]]:
    """From observations [n, o] to the actions of the agent, before they are rescaled, and the distributions.

    Args:
        subject: the policy.
    """
    if subject.draws is not None:
        key = subject.draws(0, 0)
        return jax.jit(lambda obs: (draw(subject, obs, key), None))
    agent, moments = subject.agent, subject.moments

    def one(obs: Any) -> tuple[Any, Any]:
        if moments is not None:
            obs = normalise(obs, jnp.asarray(moments.mean), jnp.asarray(moments.scale))
        q = agent.behave(agent, obs, subject.key)
        return agent.spec.squash(q.mode()), q

    return jax.jit(jax.vmap(one))


def draw(subject: Subject, obs: Any, key: Key) -> Any:
    """Drawn actions of the agent, before they are rescaled.

    Args:
        subject: the policy.
        obs: observations [n, o].
        key: the key of all of them.
    """
    if subject.moments is not None:
        obs = normalise(obs, jnp.asarray(subject.moments.mean), jnp.asarray(subject.moments.scale))
    return acting.act(subject.agent, obs, key)[1]


def check(subject: Subject, act: Act, obs: Floats, program: Policy | None, infers: bool) -> Check:
    """Compare the actions of an exported policy with those of its agent.

    Args:
        subject: the policy.
        act: the exported policy: from observations [n, o] to actions of the environment.
        obs: the observations.
        program: the same policy in NumPy, where there is one: of two candidates it says whether they are equally good.
        infers: whether the policy infers while it acts.

    Raises:
        NumericHalt: the difference is too large.
    """
    wanted, q = reference(subject)(obs)
    wanted = np.array(wanted)
    noise = None
    if subject.draws is not None and program is not None:
        noise = noise_of(program.p, subject.draws(0, 0), len(obs))
    found, native = act(obs, noise), subject.action_space.native(wanted)
    apart = np.abs(found.astype(np.float64) - native.astype(np.float64)).reshape(len(obs), -1) / widths(subject)
    apart = apart.max(-1)
    if subject.agent.spec.factors and type(q) in (Categorical, FactoredCategorical):
        apart = np.where(apart > 0, _lost(subject, q, wanted, found), 0.0)
    limit = LARGEST_OF_INFERENCE if infers else LARGEST
    ties = _ties(subject, program, obs, wanted, ~(apart <= limit))
    apart[ties] = 0.0
    largest = float(apart.max()) if np.isfinite(apart).all() else float("inf")
    if not largest <= limit:
        what = f"The exported policy differs from the trained one by {largest:.2g} of the width of the actions."
        raise NumericHalt(what, f"The limit is {limit:g}. Nothing was written. Give --format jax, or report it.")
    times = []
    for i in range(CALLS):
        begin = time.perf_counter()
        act(obs[i % len(obs)][None], None)
        times.append(time.perf_counter() - begin)
    return Check(largest, limit, len(obs), len(ties), 1e6 * float(np.median(times)))


def _ties(
    subject: Subject, program: Policy | None, obs: Floats, wanted: Floats, apart: npt.NDArray[np.bool_]
) -> list[int]:
    """The observations, of those with another action, between two of whose candidates rounding decides."""
    places = np.flatnonzero(apart).tolist()
    if subject.draws is not None:  # where a choice is part of the draw it may be that near, and that is rare
        return places if len(places) <= MOST_NEAR * len(obs) else []
    return [i for i in places if program is not None and _tied(program, obs[i], wanted[i])]


def _lost(subject: Subject, q: Any, wanted: Any, found: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """How much less probable each action is than the most probable one, where actions are choices."""
    record, factors = subject.action_space.record(), subject.agent.spec.factors
    index = found.reshape(len(found), -1).astype(np.int64) - np.asarray(record["start"])
    one_hots = np.concatenate([np.eye(n, dtype=np.float32)[index[:, i]] for i, n in enumerate(factors)], 1)
    each = [np.asarray(jax.vmap(lambda q, a: q.log_prob(a))(q, jnp.asarray(a))) for a in (wanted, one_hots)]
    return np.asarray(np.exp(each[0].astype(np.float64)) - np.exp(each[1].astype(np.float64)))


def _tied(program: Policy, obs: Floats, wanted: Floats) -> bool:
    """Whether two candidates are equally good: the one that the agent takes, and the best by the program."""
    p = program.p
    if p["kind"] not in ("sampler", "weighted"):
        return False
    x = obs if p["scale"] is None else np.clip((obs - p["mean"]) * p["scale"], -10.0, 10.0)
    u = points(p, x)
    values = q_values(p, x, u)[0]
    nearest = np.abs(SQUASH[p["squash"]](u) - wanted).max(-1).argmin()
    return bool(values.max() - values[nearest] <= TIE * max(1.0, float(np.abs(values).max())))


def drawn(subject: Subject, count: int) -> Floats:
    """Observations [n, o] for a check where there is no replay: normal ones as in training, inside their bounds.

    Args:
        subject: the policy.
        count: how many.
    """
    generator, size = np.random.default_rng(0), subject.agent.spec.obs_dim
    spaces: list[Any] = list(subject.tasks.values()) or [subject.observation_space]
    rows = generator.normal(size=(count, size))
    if subject.moments is not None:
        rows = rows / subject.moments.scale + subject.moments.mean
    for i, space in enumerate(spaces):
        begin = 0
        for part in () if space is None else space.parts:
            place = rows[i :: len(spaces), begin : begin + part.size]
            if part.choices:
                place[:] = np.eye(part.choices)[generator.integers(part.choices, size=len(place))]
            else:
                place[:] = place.clip(part.low, part.high)
            begin += part.size
        if subject.tasks:
            rows[i :: len(spaces), size - len(spaces) :] = np.eye(len(spaces))[i]
    return np.asarray(rows, np.float32)
