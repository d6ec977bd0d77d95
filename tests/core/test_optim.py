"""Optimisers, gradient norms, and the component that learns (N17, N24)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estep.core import optim
from estep.core.learned import fixed, learn
from estep.core.optim import adam, bounded_adam, global_norm, scale_to

quick = settings(deadline=None, max_examples=60, derandomize=True)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("count", [1, 2, 100])
def test_the_norm_of_large_numbers_does_not_overflow(compiled, count):
    norm = jax.jit(global_norm) if compiled else global_norm
    for size in (1e-3, 1.0, 1e15, 1e20, 1e30):
        np.testing.assert_allclose(norm(jnp.full(count, -size, jnp.float32)), size * count**0.5, rtol=1e-5)
    assert not any(np.isfinite(norm(jnp.full(count, bad))) for bad in (jnp.nan, jnp.inf))


def test_adam_is_the_adam_of_optax():
    rng = np.random.default_rng(0)
    params = {"a": jnp.asarray(rng.normal(size=(3, 4)), jnp.float32), "b": jnp.asarray(rng.normal(size=5), jnp.float32)}
    sizes = 10.0 ** rng.uniform(-6, 3, 50)
    grads = [jax.tree.map(lambda p: jnp.asarray(s * rng.normal(size=p.shape), jnp.float32), params) for s in sizes]

    def run(tx):
        def step(carry, grad):
            updates, state = optax.with_extra_args_support(tx).update(grad, carry[1], carry[0], sound=jnp.asarray(True))
            params = optax.apply_updates(carry[0], updates)
            return (params, state), params

        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *grads)
        return jax.jit(lambda: jax.lax.scan(step, (params, tx.init(params)), stacked)[1])()

    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        theirs = run(optax.adam(1e-2))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-6), run(adam(1e-2)), theirs)


def test_equal_settings_give_the_same_optimiser():
    assert adam(3e-4) is adam(3e-4)
    assert adam(3e-4) is not adam(1e-3)
    assert bounded_adam(3e-4, -15.0, 10.0) is bounded_adam(3e-4, -15.0, 10.0)


@quick
@given(st.lists(st.tuples(st.sampled_from([-1.0, 1.0]), st.floats(-6, 30)), min_size=1, max_size=12))
def test_the_norm_is_that_of_float64_at_every_size(parts):
    values = np.asarray([sign * 10.0**size for sign, size in parts], np.float32)
    tree = {"a": jnp.asarray(values[:1]), "b": jnp.asarray(values[1:]), "empty": jnp.zeros((0, 3))}
    true = np.sqrt(np.square(values.astype(np.float64)).sum())
    norm = global_norm(tree)
    np.testing.assert_allclose(norm, true, rtol=1e-5)
    scaled = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(scale_to(tree, norm, 1.0))]).astype(np.float64)
    np.testing.assert_allclose(np.sqrt(np.square(scaled).sum()), min(true, 1.0), rtol=1e-5, atol=1e-37)


@pytest.mark.parametrize("run", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_the_norm_of_nothing_of_zeros_and_of_the_infinite(run):
    norm = run(global_norm)
    assert norm({"a": jnp.zeros(3), "b": jnp.zeros((2, 0))}) == 0
    assert norm({}) == 0
    for bad in (jnp.inf, -jnp.inf, jnp.nan):
        assert not np.isfinite(norm({"a": jnp.asarray([1.0, bad]), "b": jnp.ones(2)}))


def pull(weights):
    """A loss with the gradient `weights`."""
    return lambda model: ((weights * model).sum(), {})


def stepped(learned, loss):
    """The component after a step on the loss, and whether the step was sound."""
    learned = learned.descend(loss)[0]
    sound = learned.pending.sound
    return learned.step(sound), sound


def speeds(usual, gradient, at=300, after=2000):
    """How far each parameter moves in a step, as a part of the step size, long after one odd gradient."""
    usual = jnp.asarray(usual, jnp.float32)

    def step(learned, number):
        learned, sound = stepped(learned, pull(jnp.where(number == at, jnp.asarray(gradient, jnp.float32), usual)))
        return learned, sound

    def long_after(start, numbers):
        return jax.lax.scan(lambda learned, number: (step(learned, number)[0], ()), start, numbers)[0]

    before = jax.jit(long_after)(learn(jnp.zeros(len(usual)), adam(1e-2)), jnp.arange(at + after))
    last, sound = step(before, at + after)
    assert sound
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(last))
    return np.abs(np.asarray(last.model, np.float64) - before.model) / 1e-2


USUAL = {"equal": np.ones(200), "small": np.full(200, 1e-4), "unlike": np.logspace(-4, 2, 200), "one": np.ones(1)}


LONG = [
    pytest.param(usual, size, marks=pytest.mark.long)
    for usual in USUAL
    for size in (1e3, 1e6, 1e20, 1e30)
    if (usual, size) not in {("unlike", 1e3), ("one", 1e30)}
]


@pytest.mark.parametrize(("usual", "size"), [("unlike", 1e3), ("one", 1e30), *LONG])
def test_one_huge_gradient_does_not_disable_what_it_hits(usual, size):
    """The whole gradient is too large: each parameter is back at half its speed within 2,000 steps."""
    odd = size * USUAL[usual] * (-1.0) ** np.arange(len(USUAL[usual]))
    assert (speeds(USUAL[usual], odd) > 0.5).all()


@pytest.mark.parametrize("size", [1e3, *(pytest.param(size, marks=pytest.mark.long) for size in (1e6, 1e30))])
def test_one_huge_element_does_not_disable_its_parameter(size):
    gradient = np.ones(2_000)
    gradient[7] = size
    assert (speeds(np.ones(2_000), gradient, at=30) > 0.5).all()


@pytest.mark.long
def test_adam_alone_is_disabled_by_it(monkeypatch):
    """What the two tests before would see without the remedy."""
    adam.cache_clear()
    monkeypatch.setattr(optim, "shortened", lambda old, new, *unused: new)
    assert (speeds(np.full(2, 1e-2), [1e6, -1e6], after=20_000) < 0.01).all()
    adam.cache_clear()


def test_gradients_that_grow_for_good_are_followed():
    """From one step on they are ten thousand times as large: the mean square follows, and so do the steps."""
    sizes = np.where(np.arange(1500) < 300, 1e-4, 1.0)

    def step(learned, size):
        return (after := stepped(learned, pull(jnp.full(3, size)))[0]), after.opt_state.nu

    nu = jax.jit(lambda: jax.lax.scan(step, learn(jnp.zeros(3), adam(1e-2)), jnp.asarray(sizes, jnp.float32)))()[1]
    assert (nu[-1] > 0.5).all()


def test_ordinary_steps_are_those_of_plain_adam(monkeypatch):
    weights = tuple(jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(3, 8), (8, 1)]))

    def loss(x):
        return lambda w: (jnp.square(jnp.maximum(x @ w[0], 0) @ w[1] - 1.0).mean(), {})

    def run():
        adam.cache_clear()
        step = lambda learned, key: (stepped(learned, loss(jax.random.normal(key, (16, 3))))[0], ())
        start = learn(weights, adam(1e-2))
        return jax.jit(lambda: jax.lax.scan(step, start, jax.random.split(jax.random.key(9), 100))[0])()

    now = run()
    monkeypatch.setattr(optim, "shortened", lambda old, new, *unused: new)
    for mended, plain in zip(jax.tree.leaves(now), jax.tree.leaves(run()), strict=True):
        np.testing.assert_allclose(mended, plain, rtol=1e-4, atol=1e-6)  # some versions of JAX round the two otherwise
    adam.cache_clear()


def after(gradient, nu):
    """The means of Adam after a gradient, and as `shortened` leaves them."""
    old = jnp.zeros_like(gradient), jnp.broadcast_to(nu, gradient.shape).astype(jnp.float32)
    new = 0.1 * gradient, 0.999 * old[1] + 0.001 * jnp.square(gradient)
    return new, optim.shortened(old, new, gradient, (0.9, 0.999), (jnp.asarray(1.0), jnp.asarray(True)))


def test_an_ordinary_gradient_stays_as_it_is_to_the_bit():
    rng = np.random.default_rng(0)
    gradients = (rng.normal(size=(300, 500)) * np.logspace(-3, 1, 500)).astype(np.float32)
    for gradient in gradients[:20]:
        new, mended = after(jnp.asarray(gradient), jnp.asarray(np.square(gradients).mean(0)))
        jax.tree.map(np.testing.assert_array_equal, mended, new)
    new, mended = after(jnp.asarray([1e6, 1.0]), jnp.zeros(2))  # nothing is known of zeros
    jax.tree.map(np.testing.assert_array_equal, mended, new)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_a_component_says_when_its_step_was_unsound(bad):
    start = learn(jnp.zeros(2), adam(1e-2))
    assert stepped(start, pull(jnp.ones(2)))[1]
    for loss in (pull(jnp.asarray([1.0, bad])), lambda model: (model.sum() + bad, {})):
        after, sound = stepped(start, loss)
        assert not sound
        jax.tree.map(np.testing.assert_array_equal, after, start)


def test_the_slow_copy_follows_at_its_pace_and_owns_its_arrays():
    learned = learn(jnp.ones(2), adam(0.1), tau=0.25)
    assert learned.target is not learned.model
    moved = stepped(learned, pull(jnp.ones(2)))[0]
    np.testing.assert_allclose(moved.model, 0.9, rtol=1e-6)
    np.testing.assert_allclose(moved.slow, 0.975, rtol=1e-6)
    hard = learn(jnp.ones(2), adam(0.1), tau=1.0, every=2)
    once = stepped(hard, pull(jnp.ones(2)))[0]
    np.testing.assert_array_equal(once.slow, 1.0)
    twice = stepped(once, pull(jnp.ones(2)))[0]
    np.testing.assert_array_equal(twice.slow, twice.model)
    assert learn(jnp.ones(2), adam(0.1)).slow.sum() == 2


def test_fixed_never_moves():
    start = fixed(jnp.ones(3))
    after, _ = stepped(start, pull(jnp.ones(3)))
    np.testing.assert_array_equal(after.model, start.model)


def test_bounded_adam_projects_after_the_step():
    learned = learn(jnp.asarray([0.95, 0.0]), bounded_adam(0.1, -1.0, 1.0))
    for _ in range(3):
        learned, _ = stepped(learned, pull(jnp.asarray([-1.0, 1.0])))
    np.testing.assert_allclose(learned.model, [1.0, -0.3], atol=1e-5)
