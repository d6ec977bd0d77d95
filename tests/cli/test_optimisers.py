"""`estep eval --inference`: any trained critic under any optimiser that fits it."""

import functools as ft

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estep.algorithms import SAC, Compose, IterativeSAC
from estep.core.keys import make_key
from estep.core.objective import soft_value
from estep.core.types import Spec
from estep.errors import UsageError
from estep.inference.cem import by_soft_value, by_value
from estep.inference.direct import Direct
from estep.inference.iterative import Iterative
from estep.inference.named import ON_A_CRITIC, InferenceSettings, chosen
from estep.inference.starts import Restarts
from estep.policy import recorded
from estep.policy.actor import Actor
from estep.policy.evaluate import Evaluation

SMALL = {
    "sac": SAC(hidden_sizes=(8, 8)),
    "iterative-sac": IterativeSAC(hidden_sizes=(8, 8), direct_start=False),
    "with a direct start": IterativeSAC(hidden_sizes=(8, 8)),
    "from an iterative start": Compose(hidden_sizes=(8, 8), inference="gradient", start="iterative"),
}
REFUSED = {("sac", "iterative"), ("iterative-sac", "direct"), ("from an iterative start", "direct")}


@ft.cache
def agent(row):
    return jax.jit(lambda key: SMALL[row].init(Spec(3, 2), key))(make_key(0))


@pytest.mark.parametrize("row", SMALL)
@pytest.mark.parametrize("name", ON_A_CRITIC)
def test_every_optimiser_acts_over_every_critic_that_it_fits(row, name):
    change = chosen(name, InferenceSettings() if name == "direct" else InferenceSettings(2, 20))
    if (row, name) in REFUSED:
        with pytest.raises(UsageError, match="trained"):
            change(agent(row))
        return
    obs = np.asarray([[0.3, -0.2, 1.0], [1.0, 2.0, 3.0]], np.float32)
    action = np.asarray(Actor(change(agent(row))).mode(obs, make_key(1), np.uint32(0), None))
    assert action.shape == (2, 2)
    assert (np.abs(action) <= 1).all()


def test_the_effort_is_that_which_was_asked_for():
    found = chosen("iterative", InferenceSettings(20, 6))(agent("iterative-sac")).inference.model
    assert isinstance(found, Iterative)
    assert (found.steps, found.samples) == (20, 6)
    trained = chosen("iterative", InferenceSettings())(agent("iterative-sac")).inference.model
    assert (trained.steps, trained.samples) == (2, 10)
    assert isinstance(chosen("direct", InferenceSettings())(agent("with a direct start")).inference.model, Direct)
    with pytest.raises(UsageError, match="no samples"):
        chosen("direct", InferenceSettings(3))(agent("sac"))


@pytest.mark.long
def test_a_better_optimiser_finds_a_higher_value():
    one = agent("sac")
    obs = jnp.asarray([0.3, -0.2, 1.0])

    @jax.jit
    def value(changed):
        q, problem, _ = changed.infer(changed.inference.model, changed.likelihood.model, obs, make_key(2))
        return soft_value(q, problem, make_key(3), 256)[0]

    start = value(chosen("direct", InferenceSettings())(one))
    for name in ("gradient", "semi-amortised", "cem"):
        assert value(chosen(name, InferenceSettings(100, 32))(one)) > start + 0.01
    few = InferenceSettings(2, 32)
    assert value(chosen("gradient", few._replace(restarts=16))(one)) > value(chosen("gradient", few)(one))


def test_restarts_need_a_start():
    found = chosen("iterative", InferenceSettings(restarts=3))(agent("iterative-sac")).inference.model
    assert isinstance(found, Restarts)
    assert found.n == 3
    with pytest.raises(UsageError, match="no starts"):
        chosen("direct", InferenceSettings(restarts=3))(agent("sac"))


def test_the_elite_of_cem_may_be_those_of_highest_value():
    by = lambda rank_by: chosen("cem", InferenceSettings(rank_by=rank_by))(agent("sac")).inference.model.ranking
    assert (by("value"), by("soft-value"), by(None)) == (by_value, by_soft_value, by_soft_value)
    with pytest.raises(UsageError, match="ranks no samples"):
        chosen("gradient", InferenceSettings(rank_by="value"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--inference", "cen"), "Did you mean cem"),
        (("--iterations", "3"), "Add --inference"),
        (("--restarts", "3", "--rank-by", "value"), "--restarts and --rank-by need --inference"),
        (("--inference", "gradient", "--restarts", "1"), "at least 2"),
        (("--inference", "cem", "--rank-by", "valeu"), "Did you mean value"),
        (("--inference", "cem", "--samples", "0"), "at least 1"),
    ],
)
def test_what_cannot_be_is_refused(run, tmp_path, flags, message):
    (tmp_path / "run.json").write_text("{}")
    found = run("eval", str(tmp_path), *flags)
    assert found.code == 2
    assert message in found.err


def test_the_choice_reaches_the_evaluation(run, tmp_path, monkeypatch):
    (tmp_path / "run.json").write_text("{}")
    seen = {}

    def pretend(folder, **options):
        seen.update(options)
        return recorded.EvalResult(Evaluation(1.0, 0.0, [1.0], [1]), folder, 10, 10)

    monkeypatch.setattr(recorded, "evaluate_run", pretend)
    run("eval", str(tmp_path), "--inference", "iterative", "--iterations", "20")
    assert seen["change"](agent("iterative-sac")).inference.model.steps == 20
    run("eval", str(tmp_path))
    assert seen["change"] is None
    assert seen["settings"].deterministic
    run("eval", str(tmp_path), "--stochastic")
    assert not seen["settings"].deterministic
