"""A multiplier that reaches a limit of log α has no effect any more, or not enough: the run says so, once. The share of
actions at their bounds is told with each line of metrics."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from child import Notes, train

from estep.core.types import Clip, Identity, Tanh
from estep.data.layout import Row
from estep.data.replay import Replay
from estep.m_steps.temperature import LOG_ALPHA_BOUNDS
from estep.training import trainer
from estep.training.limits import at_bounds, limits_reached
from oracles import rows

LOW, HIGH = LOG_ALPHA_BOUNDS


@pytest.mark.long
def test_multipliers_within_their_limits_are_not_mentioned():
    for name in rows.ROWS:
        assert limits_reached(rows.start(name)) == {}


def test_each_multiplier_has_the_name_of_its_metric_and_its_side():
    mpo = eqx.tree_at(
        lambda agent: (
            agent.temperature.model.log_alpha,
            agent.projection.model.multipliers["mean"].log_alpha,
            agent.projection.model.box.temperature.log_alpha,
        ),
        rows.start("mpo"),
        (jnp.asarray(LOW), jnp.asarray([0.0, HIGH]), jnp.asarray([LOW + 0.01])),
    )
    found = limits_reached(mpo)
    assert list(found) == ["m/alpha_mean, upper", "m/alpha, lower"]
    assert found["m/alpha, lower"].startswith("m/alpha has reached its lower limit, 3.1e-07. The KL")
    assert found["m/alpha_mean, upper"].startswith("m/alpha_mean has reached its upper limit, 2.2e+04 in 1 of 2 dimens")


def test_a_run_says_it_once(tmp_path, monkeypatch):
    init, temperature = trainer.init, lambda agent: agent.temperature.model.log_alpha
    monkeypatch.setattr(trainer, "init", lambda *given: eqx.tree_at(temperature, init(*given), jnp.asarray(LOW)))
    notes = Notes()
    train(tmp_path, report=notes, eval_every=0, eval_episodes=1)
    assert [note[:44] for note in notes.notes if "m/alpha" in note] == ["note     m/alpha has reached its lower limit"]


def stored(points):
    """A replay of two environments with these points u, one step each at a time."""
    replay = Replay(1000, 2, Row(1, numbers=2))
    told = np.zeros(2, bool)
    for i in range(0, len(points), 2):
        obs = np.zeros((2, 1), np.float32)
        replay.add(obs, np.float32(points[i : i + 2]), np.zeros(2, np.float32), told, told, obs, ~told)
    return replay


@pytest.mark.parametrize(("squash", "wanted"), [(Tanh(), 0.25), (Clip(), 0.75)])
def test_the_share_of_actions_at_their_bounds_is_that_of_the_newest_ones(squash, wanted):
    old = [[9.0, 9.0]] * 300  # no longer among the newest
    replay = stored([*old, *([[-3.0, 1.0], [0.5, 1.5]] * 128)])  # tanh 2.65 is 0.99
    assert at_bounds(replay, squash) == wanted
    assert at_bounds(replay, Identity()) is None
    assert at_bounds(stored([]), squash) is None
