"""Environments that are pure functions, so that a compiled program can step thousands of them on the device."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from estep.core.types import Identity, Key, Spec
from estep.errors import EnvironmentFailure, describe, place_of


class PureEnv(NamedTuple):
    """An environment as functions without side effects. The library resets it and ends its episodes.

    A state is any tree of arrays of fixed shapes. An environment with random steps holds a key in its state.

    Example, a point that should stay at 0:

        >>> import jax, jax.numpy as jnp
        >>> from estep import Spec
        >>> from estep.envs.pure.environment import PureEnv
        >>> point = PureEnv(
        ...     name="point",
        ...     spec=Spec(obs_dim=1, action_dim=1),
        ...     reset=lambda key: jax.random.normal(key),
        ...     observe=lambda state: state[None],
        ...     step=lambda state, action: (state + action[0], -jnp.square(state), jnp.abs(state) > 9.0),
        ...     limit=20,
        ... )
        >>> check_pure(point)
    """

    name: str
    """Its name in messages and in the run folder."""
    spec: Spec
    """Sizes of observation and action. An action is in [-1, 1] in each dimension, or a one-hot vector of choices."""
    reset: Callable[[Key], Any]
    """From a random key to the first state of an episode."""
    observe: Callable[[Any], Array]
    """From a state to the observation [o]."""
    step: Callable[[Any, Array], tuple[Any, Array, Array]]
    """From a state and an action [a] to the next state, the reward, and whether the task has ended there."""
    limit: int
    """Steps after which an episode is truncated."""


def check_pure(env: PureEnv) -> None:
    """Check an environment before training: shapes and types that do not change, finite starts, equal results twice.

    Raises:
        EnvironmentFailure: something is wrong; the message names the function, and the array of the state if it is one.
    """
    if isinstance(env.spec.squash, Identity) or env.limit < 1:
        what = f"{env.name} has unbounded actions or a limit below 1."
        raise EnvironmentFailure(what, "Give its Spec a bounded action, and a limit of at least 1 step.")
    key = jax.random.key(0)
    state = _shape(env, "reset", key)
    action = jnp.zeros(env.spec.action_dim)
    _check_array(env, "observe", _shape(env, "observe", state), (env.spec.obs_dim,), "fiu")
    found = _shape(env, "step", state, action)
    if not isinstance(found, tuple) or len(found) != 3:
        what = f"{env.name}: step does not return (state, reward, terminated)."
        raise EnvironmentFailure(what, "Return the next state, the reward and whether the task has ended.")
    after, reward, terminated = found
    _check_array(env, "step", reward, (), "fiu")
    _check_array(env, "step", terminated, (), "b")
    _check_same(env, state, after)
    for function, args in (("reset", (key,)), ("observe", (state,)), ("step", (state, action))):
        if _program(env, function, *args) != _program(env, function, *args):
            what = f"{env.name}: {function} is not a pure function: it is another program when it is traced again."
            raise EnvironmentFailure(what, "Let it depend on its arguments alone; keep a random key in the state.")
    if not bool(jnp.isfinite(jax.jit(lambda key: env.observe(env.reset(key)))(key)).all()):
        what = f"{env.name}: observe gives a number that is not finite for the first state."
        raise EnvironmentFailure(what, "Let reset and observe give finite numbers.")


def _shape(env: PureEnv, function: str, *args: Any) -> Any:
    """Shapes and types of what a function returns. Nothing is computed. Raises EnvironmentFailure."""
    try:
        return jax.eval_shape(lambda *given: getattr(env, function)(*given), *args)
    except Exception as error:
        what = f"{env.name}: {function} cannot be compiled: {describe(error).partition(chr(10))[0]}{place_of(error)}."
        fix = "Write it with jax.numpy, without if, float() or NumPy on its arguments."
        raise EnvironmentFailure(what, fix) from error


def _program(env: PureEnv, function: str, *args: Any) -> tuple[str, list[bytes]]:
    """The program of a function as text, and its constants. Nothing is compiled."""
    traced = jax.make_jaxpr(lambda *given: getattr(env, function)(*given))(*args)
    constants = [np.asarray(raw_of(jnp.asarray(value))).tobytes() for value in traced.consts]
    return re.sub("0x[0-9a-f]+", "", str(traced.jaxpr)), constants


def _check_array(env: PureEnv, function: str, value: Any, shape: tuple[int, ...], kinds: str) -> None:
    """Check shape and type of an array that a function returns. Raises EnvironmentFailure."""
    dtype = getattr(value, "dtype", None)
    if getattr(value, "shape", None) == shape and dtype is not None and np.dtype(dtype).kind in kinds:
        return
    what = f"{env.name}: {function} returns {_form(value)}, where {'a bool' if kinds == 'b' else 'numbers'} of shape "
    raise EnvironmentFailure(f"{what}{shape} belongs.", "Return an array of that shape and type.")


def _check_same(env: PureEnv, state: Any, after: Any) -> None:
    """Check that a step keeps the structure of the state. Raises EnvironmentFailure with the leaf's name."""
    before, now = (jax.tree_util.tree_flatten_with_path(tree) for tree in (state, after))
    fix = "Let step return a state of the structure, shapes and types that reset returns."
    if str(before[1]) != str(now[1]):
        what = f"{env.name}: step returns a state of another structure than reset: {now[1]}, not {before[1]}."
        raise EnvironmentFailure(what, fix)
    for (path, one), (_, other) in zip(before[0], now[0], strict=True):
        if (one.shape, one.dtype) != (other.shape, other.dtype):
            leaf = jax.tree_util.keystr(path) or "the state"
            raise EnvironmentFailure(f"{env.name}: step returns {leaf} as {_form(other)}, reset as {_form(one)}.", fix)


def _form(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"{value.dtype} of shape {shape}"


def raw_of(leaf: Any) -> Any:
    """An array as numbers: a random key becomes its words."""
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
