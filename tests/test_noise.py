"""The noise of reparameterised draws is standard normal, to the tails and between neighbours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from estep.core.keys import make_key
from estep.families.noise import antithetic, independent, normal


def test_noise_is_standard_normal_and_its_elements_do_not_depend_on_each_other():
    drawn = np.asarray(jax.jit(normal, static_argnums=(1, 2))(make_key(0), 100_000, 3), np.float64)
    assert stats.kstest(drawn.ravel(), "norm").pvalue > 1e-3
    bound = 5 / np.sqrt(len(drawn))
    assert np.abs(np.corrcoef(drawn.T) - np.eye(3)).max() < bound
    assert np.abs(np.corrcoef(np.abs(drawn).T) - np.eye(3)).max() < bound  # Box-Muller pairs share a radius
    assert np.abs(drawn.mean(0)).max() < bound
    assert np.abs((drawn**4).mean(0) - 3).max() < 5 * np.sqrt(96 / len(drawn))
    assert 4 < np.abs(drawn).max() < 5.8


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (3, 5), (0, 2), (2, 0)])
def test_noise_has_the_shape_asked_for_and_no_two_elements_alike(shape):
    drawn = normal(make_key(1), *shape)
    assert drawn.shape == shape
    assert drawn.dtype == jnp.float32
    assert len(np.unique(drawn)) == drawn.size


def test_pairs_are_opposite_and_half_as_many_numbers_are_drawn():
    np.testing.assert_array_equal(antithetic(make_key(2), 4, 3)[2:], -independent(make_key(2), 2, 3))
    assert antithetic(make_key(2), 3, 3).shape == (3, 3)
