"""Several tasks as algorithms see them: a one-hot vector at the end of the observation, and an α for each task."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estep import SAC, DefaultPolicy, Hierarchical, IterativeSAC, Spec, Transition, make_key, update
from estep.algorithms.checks import check_tasks
from estep.core.batch import task_means
from estep.core.learned import learn
from estep.core.optim import adam
from estep.errors import UsageError
from estep.m_steps.temperature import KLConstraint, TaskConstraints
from estep.policy.starts import from_run
from estep.runs.leaves import skeleton
from oracles import rows

SPEC = Spec(obs_dim=5, action_dim=2, tasks=2)
TASK = np.eye(2, dtype=np.float32)[[0, 1, 0, 1, 1, 0]]
OBS = jnp.asarray(np.concatenate([np.random.default_rng(0).normal(size=(6, 3)), TASK], 1), jnp.float32)


def batch():
    one = jnp.ones((6, 1))
    action = jnp.asarray(np.random.default_rng(1).normal(size=(6, 1, 2)), jnp.float32)
    return Transition(OBS[:, None], action, one, one, OBS[:, None], 0 * one)


def swapped(tree):
    """A tree with the rows of the two tasks exchanged wherever a network of the row sees the observation."""
    return jax.tree.map(lambda leaf: leaf[jnp.asarray([0, 2, 1])] if leaf.shape == (3, 16) else leaf, tree)


@pytest.mark.long
def test_a_swap_of_the_tasks_permutes_the_results_and_nothing_else():
    """An update of the agent and the data with both tasks exchanged is the update, exchanged."""
    agent, steps = rows.start("distral"), rows.batch()
    exchange = lambda obs: obs[..., jnp.asarray([0, 2, 1])]
    task = jnp.eye(2)[jnp.arange(rows.BATCH) % 2][:, None]
    steps = steps._replace(obs=steps.obs.at[..., 1:].set(task), next_obs=steps.next_obs.at[..., 1:].set(task))
    other = steps._replace(obs=exchange(steps.obs), next_obs=exchange(steps.next_obs))
    (one, info), (two, there) = (
        rows.updater("distral")(agent, steps, make_key(1)),
        rows.updater("distral")(swapped(agent), other, make_key(1)),
    )
    parts = lambda agent: [(part.model, part.target) for part in (agent.prior, agent.inference, agent.likelihood)]
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5), swapped(parts(two)), parts(one))
    assert any((x != y).any() for x, y in zip(*map(jax.tree.leaves, (parts(one), parts(two))), strict=True))
    for name in ("m/kl", "e/value"):
        np.testing.assert_allclose(info[f"{name}/0"], there[f"{name}/1"], rtol=1e-4)
        np.testing.assert_allclose(info[f"{name}/1"], there[f"{name}/0"], rtol=1e-4)
    np.testing.assert_allclose(info["critic/loss"], there["critic/loss"], rtol=1e-5)


@pytest.mark.parametrize(
    ("donor", "taker", "normalise", "said"),
    [
        (DefaultPolicy(hidden_sizes=(8,)), DefaultPolicy(hidden_sizes=(4,), freeze_prior="run"), False, "other sizes"),
        (
            DefaultPolicy(hidden_sizes=(8,), prior_sees=("0",)),
            DefaultPolicy(hidden_sizes=(8,), freeze_prior="run"),
            False,
            "places",
        ),
        (DefaultPolicy(hidden_sizes=(8,)), DefaultPolicy(hidden_sizes=(8,), freeze_prior="run"), True, "normalise"),
        (
            Hierarchical(hidden_sizes=(8,)),
            Hierarchical(hidden_sizes=(8,), latent=2, freeze_low="run"),
            False,
            "lower level of run has other sizes",
        ),
        (DefaultPolicy(hidden_sizes=(8,)), Hierarchical(hidden_sizes=(8,), freeze_low="run"), False, "no lower level"),
    ],
)
def test_what_a_run_takes_from_another_has_the_sizes_and_places_of_its_own(monkeypatch, donor, taker, normalise, said):
    loaded = SimpleNamespace(agent=skeleton(donor, SPEC), moments=None)
    monkeypatch.setattr(from_run, "load", lambda path, allow_import: loaded)
    monkeypatch.setattr(from_run, "check_modules", lambda path, algorithm: None)
    with pytest.raises(UsageError, match=said) as error:
        from_run.with_frozen_part(skeleton(taker, SPEC), taker, normalise)
    assert error.value.fix
    assert from_run.with_frozen_part(loaded.agent, donor, normalise) is loaded.agent


def test_each_alpha_meets_its_own_bound():
    """The KL of task i is c_i/α_i, as if a high price lowered it: the bound ε is met by α_i = c_i/ε, a number each."""
    scale, epsilon = jnp.asarray([0.5, 4.0]), 1.0
    multiplier = learn(TaskConstraints(jnp.zeros(2), epsilon), adam(0.05))

    def step(state, _):
        kl = scale[TASK.argmax(1)] / jax.vmap(state.model)(OBS)
        return state.descend(lambda model: model.loss(kl, OBS))[0].step(jnp.asarray(True)), None

    trained, _ = jax.lax.scan(step, multiplier, None, 400)
    np.testing.assert_allclose(jnp.exp(trained.model.log_alpha), scale / epsilon, rtol=1e-2)


def test_the_gradient_of_a_task_is_that_of_its_states_alone():
    kl = jnp.asarray([0.1, 0.2, 3.0, 0.4, 5.0, 0.6])
    each = TaskConstraints(jnp.asarray([0.3, -0.2]), 1.0)
    gradient = jax.grad(lambda model: model.loss(kl, OBS)[0])(each).log_alpha
    for i in range(2):
        own = TASK[:, i] == 1
        alone = jax.grad(lambda model: model.loss(kl[own])[0])(KLConstraint(each.log_alpha[i], 1.0)).log_alpha
        np.testing.assert_allclose(gradient[i], alone / 2, rtol=1e-6)


@pytest.mark.parametrize("row", [SAC(hidden_sizes=(8,), alpha_per_task=True)], ids=["sac"])
def test_an_update_has_numbers_of_each_task(row):
    agent, info = jax.jit(update)(row.init(SPEC, make_key(0)), batch(), make_key(1))
    assert agent.temperature.model.log_alpha.shape == (2,)
    assert info["skipped"] == 0
    for name in ("e/value", "m/kl", "m/alpha"):
        np.testing.assert_allclose((info[f"{name}/0"] + info[f"{name}/1"]) / 2, info[name], rtol=1e-5)
    assert abs(info["m/kl/0"] - info["m/kl/1"]) > 1e-6


def test_the_mean_of_a_task_that_is_not_in_the_batch_is_zero():
    means = task_means("m/kl", jnp.ones(2), jnp.asarray([[0.1, 1.0, 0.0]] * 2), Spec(3, 1, tasks=2))
    assert (float(means["m/kl/0"]), float(means["m/kl/1"])) == (1.0, 0.0)
    assert task_means("m/kl", jnp.ones(2), jnp.zeros((2, 3)), Spec(3, 1)) == {}


@pytest.mark.parametrize("row", [SAC(alpha_per_task=True), IterativeSAC(alpha_per_task=True)], ids=["sac", "iterative"])
def test_an_alpha_for_each_task_needs_several(row):
    with pytest.raises(UsageError, match="there is one environment") as error:
        row.init(Spec(3, 2), make_key(0))
    assert "--env A B" in error.value.fix
    assert jax.eval_shape(lambda key: row.init(SPEC, key), make_key(0)).temperature.model.log_alpha.shape == (2,)


def test_a_row_that_is_about_tasks_refuses_one():
    with pytest.raises(UsageError, match="there is one environment"):
        check_tasks("distral", Spec(3, 2))
    check_tasks("distral", SPEC)
