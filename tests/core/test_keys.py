"""Our keys give JAX's own streams."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estep.core.keys import make_key

SEEDS = [0, 1, 42, 2**31 - 1, 2**31, 2**32 - 1]
DRAWS = {
    "normal": lambda key: jax.random.normal(key, (7, 3)),
    "uniform": lambda key: jax.random.uniform(key, (5,)),
    "logistic": lambda key: jax.random.logistic(key, (4,)),
    "integers": lambda key: jax.random.randint(key, (9,), 0, 1000),
    "permutation": lambda key: jax.random.permutation(key, 16),
    "bits8": lambda key: jax.random.bits(key, (9,), jnp.uint8),
    "bits16": lambda key: jax.random.bits(key, (9,), jnp.uint16),
    "bits32": lambda key: jax.random.bits(key, (9,), jnp.uint32),
    "nothing": lambda key: jax.random.normal(key, (0, 3)),
    "scalar": lambda key: jax.random.normal(key),
    "split": lambda key: jax.random.key_data(jax.random.split(key, 5)),
    "split2": lambda key: jax.random.key_data(jax.random.split(key, (2, 3))),
    "fold_in": lambda key: jax.random.key_data(jax.random.fold_in(key, 123)),
    "after": lambda key: jax.random.normal(jax.random.split(jax.random.fold_in(key, 7), 3)[1], (4,)),
}


def reference(seed):
    return jax.random.key(seed, impl="threefry2x32")


@pytest.fixture(scope="module")
def streams():
    everything = jax.jit(jax.vmap(lambda key: {name: draw(key) for name, draw in DRAWS.items()}))
    ours = jax.vmap(lambda seed: make_key(seed))(jnp.asarray(SEEDS, jnp.uint32))
    return everything(ours), everything(jnp.stack([reference(seed) for seed in SEEDS]))


@pytest.mark.parametrize("name", DRAWS)
def test_streams_are_those_of_jax(streams, name):
    np.testing.assert_array_equal(streams[0][name], streams[1][name])


def test_streams_are_the_same_outside_jit(streams):
    np.testing.assert_array_equal(DRAWS["normal"](make_key(SEEDS[2])), streams[1]["normal"][2])


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_a_seed_is_the_seed_of_jax(seed):
    np.testing.assert_array_equal(jax.random.key_data(make_key(seed)), jax.random.key_data(reference(seed)))


def test_folding_in_arrays_under_vmap():
    fold = lambda key: jax.vmap(lambda i: jax.random.key_data(jax.random.fold_in(key, i)))(jnp.arange(6))
    np.testing.assert_array_equal(fold(make_key(3)), fold(reference(3)))
