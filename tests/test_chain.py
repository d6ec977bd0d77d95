"""A chain of inference: each visit of a step goes on from where the last one ended."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estep.algorithms.iterative_sac import IterativeSAC
from estep.core import em
from estep.core.batch import flatten
from estep.core.keys import make_key
from estep.core.learned import fixed
from estep.core.objective import soft_value
from estep.core.slots import Inference, Inferred
from estep.e_steps.chain import Chain, empty_memo, stored_bootstrap
from estep.e_steps.climb import climb
from estep.envs.gymnasium import make
from estep.errors import UsageError
from estep.inference.starts import AtPrior
from estep.policy.actor import memo_widths
from estep.settings.run import RunConfig
from estep.training.trainer import Trainer
from oracles import rows

ROW = IterativeSAC(hidden_sizes=(16, 16), iterations=2, persist=True, inference_fraction=0.5)


class OneMore(Inference):
    """λ_0 + 1: its λ counts the visits. A λ of 3 is followed by `after`."""

    start: Inference = AtPrior()
    after: float = eqx.field(static=True, default=jnp.nan)

    def __call__(self, problem, posterior, key):
        first = self.start(problem, posterior, key)
        lam = jnp.where(first.lam == 3.0, self.after, first.lam + 1.0)
        return Inferred(lam, jnp.zeros(()), jnp.zeros(0))


@pytest.fixture(scope="module")
def agent():
    return rows.compiled(lambda key: ROW.init(rows.SPEC, key))(make_key(0))


def counting(agent, after=jnp.nan):
    """The agent, with visits for λ (the family starts at μ = 0, log σ = log ½)."""
    visits = lambda inference: inference
    return replace(agent, inference=fixed(OneMore(after=after)), targeting=visits, acting=visits)


def with_memo(agent, memo=None):
    batch = rows.batch()
    fresh = empty_memo(agent, None, None)
    return batch._replace(memo=memo or {k: jnp.zeros((rows.BATCH, 1, *v.shape)) for k, v in fresh.items()})


@pytest.mark.parametrize("after", [jnp.nan, -jnp.inf, 1e5, -20.1])
def test_visits_go_on_where_the_last_one_ended(agent, after):
    e_step = rows.compiled(Chain(0.0, part=0.5))
    counted, batch = counting(agent, after), with_memo(agent)
    half, mean = rows.BATCH // 2, 0  # the first mean of λ
    for visit in range(1, 4):
        _, draws, memo, _ = e_step(counted, batch, make_key(visit))
        assert draws.weight.shape[0] == half
        assert (memo["next_lam"][..., mean] == visit).all()
        assert (memo["lam"][:half, ..., mean] == visit).all()
        assert (memo["lam"][half:] == 0).all()  # not visited: not refined, and not marked as if it had been
        np.testing.assert_array_equal(memo["kept"][..., 0, :], [[1, 1]] * half + [[0, 1]] * half)
        batch = with_memo(agent, memo)
    _, _, memo, info = e_step(counted, batch, make_key(9))  # the fourth λ is of no use
    assert (memo["next_lam"][..., mean] == 3).all()
    assert (memo["kept"][..., 1] == 0).all()
    assert info["e/lost"] == 1.0
    _, _, memo, info = e_step(counted, with_memo(agent, memo), make_key(10))
    assert (memo["next_lam"][..., mean] == 1).all()
    assert info["e/lost"] == 0.0


@pytest.mark.long
def test_states_start_afresh_at_the_given_rate_and_next_states_never(agent):
    counted, batch = counting(agent), with_memo(agent)
    chain = rows.compiled(Chain(0.25))
    afresh = []
    for visit in range(100):
        far = {"lam": batch.memo["lam"] + 10.0, "next_lam": batch.memo["next_lam"] + 10.0}
        far["kept"] = jnp.ones_like(batch.memo["kept"])
        _, _, memo, info = chain(counted, with_memo(agent, far), make_key(visit))
        assert (memo["next_lam"] == 11).all()
        afresh.append((memo["lam"][..., 0] == 1.0).mean())
        np.testing.assert_allclose(afresh[-1], info["e/afresh"])
    error = (0.25 * 0.75 / (100 * rows.BATCH)) ** 0.5
    assert abs(np.mean(afresh) - 0.25) < 4 * error


@pytest.mark.long
def test_a_first_visit_is_the_ordinary_e_step(agent):
    batch, key = with_memo(agent), make_key(3)
    k_climb = jax.random.split(key, 3)[0]
    chained, draws, _, info = rows.compiled(Chain(0.0))(agent, batch, key)
    plain, same, _, told = rows.compiled(lambda a, b, k: climb(a, a.likelihood.model, flatten(b), k))(
        agent, batch, k_climb
    )
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7)
    close(chained.inference.pending.gradient, plain.inference.pending.gradient)
    assert np.abs(plain.inference.pending.gradient).max() > 1e-3
    jax.tree.map(close, draws, same)
    close(info["e/value"], told["e/value"])


def test_a_batch_without_memory_is_refused(agent):
    with pytest.raises(UsageError, match="do not remember 'lam'"):
        em.update(agent, rows.batch(), make_key(0))


@pytest.mark.long
def test_the_target_values_the_posterior_that_was_kept(agent):
    row = jax.tree.map(lambda leaf: leaf[0, 0], with_memo(agent))
    lam = jnp.asarray([0.3, -0.2, -1.0, -2.0])
    key = make_key(1)
    found = stored_bootstrap(agent).value(row._replace(memo={**row.memo, "next_lam": lam}), key)
    problem = agent.problem(agent.likelihood.slow, row.next_obs)
    np.testing.assert_allclose(found, soft_value(agent.posterior(lam), problem, key, agent.target_samples)[0])


@pytest.mark.long
def test_training_writes_the_chain_into_replay():
    config = RunConfig(steps=200, warmup_steps=40, replay_size=200, batch_size=8, updates_per_call=4)
    env = make("Pendulum-v1")
    trainer = Trainer(ROW, env, config, lambda text: None)
    assert memo_widths(trainer.agent) == {"lam": 2, "next_lam": 2, "kept": 2}
    trainer.begin()
    while trainer.counts.env_steps < 80:
        trainer.advance()
    memo = trainer.replay.read(np.arange(len(trainer.replay))).memo
    visited = memo["kept"][:, 1] == 1
    assert 8 < visited.sum() <= len(trainer.replay)
    assert np.abs(memo["next_lam"][visited]).min() > 0
    assert (memo["next_lam"][~visited] == 0).all()
    assert 0 < memo["kept"][:, 0].sum() < visited.sum()  # half the rows train the network
    env.close()
