"""An ordinary run has the bits that it had before gradients far too large were shortened."""

import functools as ft
import importlib

import jax
import jax.numpy as jnp
import optax
import pytest
from child import digest, train

from estep.core.optim import AdamState, keep_between
from estep.training import update


@ft.cache
def adam_of_before(learning_rate, b1=0.9, b2=0.999, eps=1e-8):
    """Adam as it was."""

    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AdamState(jnp.zeros((), jnp.int32), zeros, jax.tree.map(jnp.zeros_like, params))

    def update(grads, state, params=None, *, sound):
        count = state.steps + sound.astype(jnp.int32)
        steps = jnp.maximum(count, 1).astype(jnp.float32)
        mu = jax.tree.map(lambda m, g: jnp.where(sound, b1 * m + (1 - b1) * g, m), state.mu, grads)
        nu = jax.tree.map(lambda v, g: jnp.where(sound, b2 * v + (1 - b2) * jnp.square(g), v), state.nu, grads)
        rate = jnp.where(sound, learning_rate / (1 - b1**steps), 0.0)
        root = jax.lax.rsqrt(1 - b2**steps)
        step = lambda m, v: -rate.astype(m.dtype) * m / (jnp.sqrt(v) * root.astype(v.dtype) + eps)
        return jax.tree.map(step, mu, nu), AdamState(count, mu, nu)

    return optax.GradientTransformationExtraArgs(init, update)


@ft.cache
def bounded_adam_of_before(learning_rate, low, high):
    return optax.chain(adam_of_before(learning_rate), keep_between(low, high))


LONG = [pytest.param(name, marks=pytest.mark.long) for name in ("vmpo", "iterative-sac")]


@pytest.mark.parametrize("algorithm", ["sac", *LONG])
def test_an_ordinary_run_ends_in_the_bits_of_before(algorithm, tmp_path, monkeypatch):
    changes = {"steps": 200, "eval_every": 0, "eval_episodes": 0}
    now = digest(train(tmp_path / "now", algorithm, **changes).run_dir)
    home = importlib.import_module(f"estep.algorithms.{algorithm.replace('-', '_')}")
    update.init.clear_cache()  # agents hold their optimisers
    with monkeypatch.context() as patch:
        patch.setattr(home, "adam", adam_of_before)
        patch.setattr(home, "bounded_adam", bounded_adam_of_before)
        before = digest(train(tmp_path / "before", algorithm, **changes).run_dir)
    update.init.clear_cache()
    assert adam_of_before.cache_info().misses
    assert now == before
