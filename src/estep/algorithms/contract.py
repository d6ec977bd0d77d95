"""What the parts of an agent promise, checked by their shapes in one state before a run begins.

The library's own parts are tested. A part of somebody's own that gives another shape may broadcast, and then the run
learns something else without a word; or it fails at the first update, after the warm-up.
"""

from __future__ import annotations

import functools as ft
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from estep.core.acting import act_with_memo
from estep.core.agent import Agent, Algorithm
from estep.core.em import step
from estep.core.keys import make_key
from estep.core.learned import AS_STATIC
from estep.core.slots import Distribution, Problem
from estep.core.types import Transition
from estep.errors import EstepError, UsageError
from estep.settings import references


class Promise(NamedTuple):
    """What a part gives in one state, and its shape."""

    what: str
    part: Any
    gives: Callable[[], Any]
    shape: tuple[int, ...]


def check_own(algorithm: Algorithm, agent: Agent, sequences: int) -> None:
    """Check an agent if anything in it is somebody's own.

    Args:
        algorithm: the algorithm.
        agent: what it makes, or its shapes alone.
        sequences: how many sequences a batch has.

    Raises:
        UsageError: a part raised an exception or gives another shape, or an update changes the form of the agent. The
            message names the part.
    """
    if is_own(algorithm):
        check_parts(agent)
        check_update(agent, sequences)


def is_own(algorithm: Algorithm) -> bool:
    """Whether an algorithm is somebody's own, or one of its settings names something that is.

    Example:
        >>> from estep import SAC
        >>> from estep.algorithms.contract import is_own
        >>> is_own(SAC()), is_own(SAC(features="own_part:fourier"))
        (False, True)
    """
    if type(algorithm).__module__.partition(".")[0] != "estep":
        return True
    return any(isinstance(value, str) and references.is_reference(value) for value in vars(algorithm).values())


def check_leaves(agent: Agent) -> None:
    """Check that an agent holds arrays alone, before it is traced, where numbers turn into arrays.

    Raises:
        UsageError: a field that is not static holds something else.
    """
    for path, leaf in jax.tree_util.tree_flatten_with_path(agent)[0]:
        if not hasattr(leaf, "dtype"):
            what = f"{jax.tree_util.keystr(path).lstrip('.')} of the agent is {type(leaf).__name__}, and no array."
            raise UsageError(what, AS_STATIC)


def check_parts(agent: Agent) -> None:
    """Check what each part gives in one state. Nothing is computed.

    Raises:
        UsageError: a part raised an exception, or gives another shape.
    """

    def check(agent: Agent, obs: Any, u: Any, key: Any) -> None:
        for what, part, gives, wanted in promises(agent, obs, u, key):
            name = f"The {what} {home_of(part)}"
            given = references.call(gives, name, (), "one observation")
            if given is not None and jnp.shape(given) != wanted:
                fix = f"An observation has the shape ({spec.obs_dim},) here, and an action ({spec.action_dim},)."
                raise UsageError(f"{name} has the shape {jnp.shape(given)}, not {wanted}.", fix)

    spec = agent.spec
    jax.eval_shape(check, agent, shape_of(spec.obs_dim), shape_of(spec.action_dim), make_key(0))


def promises(agent: Agent, obs: Any, u: Any, key: Any) -> Iterator[Promise]:
    """What the parts give in one state, each after those that it builds on."""
    prior, q, critic, optimiser = agent.prior.model, agent.posterior, agent.likelihood.model, agent.inference.model
    action, lam = (agent.spec.action_dim,), (sum(q.block_sizes),)

    def problem() -> Problem:
        return agent.problem_from(optimiser, critic, obs, key)

    def value() -> Any:
        found = problem()
        return found.likelihood(found, u, key)

    def behaviour() -> Distribution:
        return agent.behave(agent, obs, key)

    yield Promise("α of the temperature", agent.temperature.model, lambda: agent.temperature.model(obs), ())
    yield from of_density("prior", prior, lambda: prior(obs), (u, key), action)
    yield Promise("Q̂ of the likelihood", critic, value, ())
    yield Promise("λ of the inference optimiser", optimiser, lambda: optimiser(problem(), q, key).lam, lam)
    yield from of_density("posterior", q, lambda: q(jnp.zeros(lam)), (u, key), action)
    yield from of_density("behaviour", agent.behave, behaviour, (u, key), action)


def of_density(
    what: str, part: Any, make: Callable[[], Distribution], at: tuple[Any, Any], action: tuple[int, ...]
) -> Iterator[Promise]:
    """What a density over actions gives: a number for its log density, and actions.

    A density that has none of one of these, such as an improper one that cannot be sampled, says so by an error.
    """
    u, key = at

    def asked(of: Callable[[Distribution], Any]) -> Any:
        density = make()
        try:
            return of(density)
        except EstepError:
            return None

    yield Promise(f"sample of the {what}", part, lambda: asked(lambda density: density.sample(key)), action)
    yield Promise(f"mode of the {what}", part, lambda: asked(lambda density: density.mode()), action)
    yield Promise(f"log density of the {what}", part, lambda: asked(lambda density: density.log_prob(u)), ())


def check_update(agent: Agent, sequences: int) -> None:
    """Check that an update keeps the form of the agent and logs numbers. Nothing is computed.

    Args:
        agent: the agent, or its shapes.
        sequences: how many sequences the batch has.

    Raises:
        UsageError: it does not, or a part raised an exception.
    """
    spec, size = agent.spec, (sequences, agent.length)
    obs, number = shape_of(*size, spec.obs_dim), shape_of(*size)
    memo: Any = jax.eval_shape(act_with_memo, agent, shape_of(sequences, spec.obs_dim), make_key(0))[2]
    memo = {name: shape_of(*size, *leaf.shape[1:], dtype=leaf.dtype) for name, leaf in memo.items()} or ()
    batch = Transition(obs, shape_of(*size, spec.action_dim), number, number, obs, number, memo)
    trace = ft.partial(jax.eval_shape, step)
    new, _, info = references.call(trace, "An update with these parts", (agent, batch, make_key(0)), "a batch")
    before, after = forms(agent), forms(new)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            what = f"An update changes {name} of the agent from {before.get(name)} to {after.get(name)}."
            raise UsageError(what, "Keep the shape and the dtype of every array, and all of them.")
    for name, value in info.items():
        if jnp.shape(value):
            what = f"The metric {name} of an update has the shape {jnp.shape(value)}."
            raise UsageError(what, "Log single numbers, such as its mean.")


def shape_of(*shape: int, dtype: Any = jnp.float32) -> Any:
    """The shape of an array, for programs that are traced alone."""
    struct: Any = jax.ShapeDtypeStruct
    return struct(shape, dtype)


def forms(agent: Agent) -> dict[str, str]:
    """Dtype and shape of each array of an agent, by its path."""
    leaves = jax.tree_util.tree_flatten_with_path(agent)[0]
    return {jax.tree_util.keystr(path).lstrip("."): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves}


def home_of(thing: Any) -> str:
    """The name of a function, or of the class of a part. Where it is not the library's, it is `module:name`."""
    kind = thing if hasattr(thing, "__qualname__") else type(thing)
    name, home = str(kind.__qualname__), str(kind.__module__)
    return name if home.partition(".")[0] == "estep" else f"{home}:{name}"
