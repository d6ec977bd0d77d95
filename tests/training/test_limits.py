"""A multiplier that reaches a limit of log α has no effect any more, or not enough: the run says so, once."""

import equinox as eqx
import jax.numpy as jnp
from child import Notes, train

from estep.m_steps.temperature import LOG_ALPHA_BOUNDS
from estep.training import trainer
from estep.training.limits import limits_reached
from oracles import rows

LOW, HIGH = LOG_ALPHA_BOUNDS


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
