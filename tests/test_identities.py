"""What must hold exactly: of the temperature, of V, of gradients and of what each loss may touch."""

import functools as ft
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sac_in_60_lines as plain_sac
from hypothesis import given, settings
from hypothesis import strategies as st

from estep.core import em
from estep.core.batch import flatten
from estep.core.em import apply_pending
from estep.core.keys import make_key
from estep.core.learned import fixed
from estep.core.objective import soft_value
from estep.core.optim import global_norm
from estep.core.slots import Problem
from estep.families.gaussian import Normal
from estep.families.noise import normal
from estep.likelihoods.dynamics import WorldModel
from estep.likelihoods.imagined import critic_of
from estep.likelihoods.q_function import MeanMinusStd, q_function
from estep.m_steps.temperature import Constant, KLConstraint
from estep.priors.flat import Flat
from estep.priors.uniform import Uniform
from oracles import quadrature, rows

quick = settings(deadline=None, max_examples=60, derandomize=True)


@quick
@given(st.floats(-8, 8), st.floats(-3, 9), st.lists(st.floats(-20, 20), min_size=1, max_size=5))
def test_the_multiplier_climbs_with_the_violation(log_alpha, epsilon, kls):
    kl = jnp.asarray(kls, jnp.float32)
    constraint = KLConstraint(jnp.asarray(log_alpha, jnp.float32), epsilon)
    grad = jax.grad(lambda c: c.loss(kl)[0])(constraint).log_alpha
    true = np.exp(np.float32(log_alpha)) * (epsilon - np.mean(kls))
    np.testing.assert_allclose(grad, true, rtol=1e-4, atol=1e-4 * np.exp(log_alpha))


def test_entropy_targets_of_the_rows():
    for name in ("sac", "iterative-sac"):
        assert rows.start(name).temperature.model.epsilon == rows.SPEC.action_dim
    assert KLConstraint(jnp.zeros(()), 1.0)() == 1.0


def hill(a):
    return np.cos(3 * a) - a


@quick
@given(st.floats(-2, 2), st.floats(-3, 0.5), st.sampled_from([0.05, 0.2, 1.0, 10.0]))
def test_no_posterior_beats_the_evidence(mu, log_sigma, alpha):
    evidence = quadrature.log_z(hill, alpha, -np.log(2))
    assert quadrature.objective(hill, alpha, mu, log_sigma, -np.log(2)) <= evidence + 1e-6


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 10.0])
def test_the_boltzmann_posterior_attains_the_evidence(alpha):
    a, w = quadrature.LEGENDRE
    evidence = quadrature.log_z(hill, alpha, -np.log(2))
    log_q = -np.log(2) + (hill(a) - evidence) / alpha
    assert abs(w @ np.exp(log_q) - 1) < 1e-9
    assert abs(w @ (np.exp(log_q) * (hill(a) - alpha * (log_q + np.log(2)))) - evidence) < 1e-9


def test_the_evidence_goes_from_the_maximum_to_the_mean():
    a, w = quadrature.LEGENDRE
    assert abs(quadrature.log_z(hill, 1e-4, -np.log(2)) - hill(a).max()) < 2e-3
    assert abs(quadrature.log_z(hill, 1e4, -np.log(2)) - w @ hill(a) / 2) < 1e-3


@pytest.mark.parametrize("prior", [Flat(rows.SPEC), Uniform(rows.SPEC)], ids=["flat", "uniform"])
def test_the_gradient_of_the_value_is_its_finite_difference(prior):
    critic = q_function(2, rows.SPEC, (8,), MeanMinusStd(1.0), 0.9, key=make_key(0))
    smooth = replace(critic, members=tuple(replace(member, activation=jnp.tanh) for member in critic.members))
    with jax.enable_x64(True):
        wide = lambda tree: jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), tree)
        problem = Problem(jnp.asarray([0.3, -0.2, 1.0]), prior, wide(smooth), jnp.asarray(0.3))
        value = jax.jit(lambda lam: soft_value(Normal(lam[:2], lam[2:]), problem, make_key(1), 4)[0])
        lam = jnp.asarray([0.2, -0.7, -0.5, 0.1])
        grad = np.asarray(jax.grad(value)(lam))
        assert grad.dtype == np.float64
        step = 1e-6 * np.eye(4)
        difference = [(value(lam + jnp.asarray(e)) - value(lam - jnp.asarray(e))) / 2e-6 for e in step]
    np.testing.assert_allclose(grad, np.asarray(difference), rtol=1e-6, atol=1e-7)


def layers(net):
    """The parameters of an MLP, copied out as the plain implementation has them."""
    weights = [jnp.concatenate(net.first), *net.rest]
    return [(jnp.copy(w), jnp.copy(b)) for w, b in zip(weights, net.biases, strict=True)]


def plain_state(agent):
    critics, targets = (tuple(layers(m) for m in q.members) for q in (agent.likelihood.model, agent.likelihood.target))
    return layers(agent.inference.model.net), critics, targets, agent.temperature.model.log_alpha


def replayed(key, size):
    """The noise that `update` draws: at s, and at s'."""

    def noise(key):
        k_draw = jax.random.split(jax.random.split(key)[1])[0]
        return normal(k_draw, 1, rows.SPEC.action_dim)[0]

    return [jax.vmap(noise)(jax.random.split(k, size)) for k in jax.random.split(key)]


def test_the_update_of_sac_is_that_of_a_plain_implementation():
    agent, update = rows.start("sac"), rows.updater("sac")
    state = plain_state(agent)
    zeros = jax.tree.map(jnp.zeros_like, (state[0], state[1], state[3]))
    moments = tuple((z, z) for z in zeros)
    plain = rows.compiled(plain_sac.update)
    for t in range(1, 4):
        batch, key = rows.batch(seed=t), make_key(100 + t)
        agent, info = update(agent, batch, key)
        assert info["skipped"] == 0
        s, u, r, alive, after, _ = (leaf[:, 0] for leaf in batch[:6])
        noise, next_noise = replayed(key, rows.BATCH)
        state, moments = plain(state, moments, jnp.asarray(float(t)), (s, u, r, alive, after), noise, next_noise)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-5), plain_state(agent), state)
    moved = jax.tree.map(lambda x, y: float(jnp.abs(x - y).max()), plain_state(agent), plain_state(rows.start("sac")))
    assert min(jax.tree.leaves((moved[0], moved[3]))) > 1e-4


GROUPS = {
    "prior": lambda agent: agent.prior.model,
    "slow prior": lambda agent: agent.prior.target,
    "net": lambda agent: [getattr(agent.inference.model, name, None) for name in ("net", "top", "bottom")],
    "start": lambda agent: getattr(agent.inference.model, "start", None),
    "limits": lambda agent: [getattr(agent.inference.model, name, None) for name in ("low", "high")],
    "critic": lambda agent: critic_of(agent.likelihood.model),
    "model": lambda agent: getattr(agent.likelihood.model, "dynamics", None),
    "slow critic": lambda agent: agent.likelihood.target,
    "alpha": lambda agent: agent.temperature.model,
    "multipliers": lambda agent: agent.projection.model,
}
"""The groups of parameters of a row; the limits of direct inference are numbers, not parameters."""

TOUCHED = {
    ("sac", "e-step"): {"net"},
    ("iterative-sac", "e-step"): {"net", "limits"},
    ("sac", "m-step"): {"alpha"},
    ("iterative-sac", "m-step"): {"alpha"},
    ("sac", "critic"): {"critic", "slow critic"},
    ("iterative-sac", "critic"): {"critic", "slow critic"},
}
OF_MODELS = {
    **{(row, "e-step"): {"net"} for row in ("mve", "kl-mve", "smcp")},
    ("iterative-mve", "e-step"): {"net", "limits", "start"},
    ("pp-smc", "e-step"): set(),
    **{(row, "m-step"): {"alpha"} for row in ("mve", "iterative-mve", "smcp")},
    ("kl-mve", "m-step"): {"prior", "slow prior", "multipliers"},
    ("pp-smc", "m-step"): {"alpha", "prior", "slow prior", "multipliers"},
    **{(row, "critic"): {"critic", "slow critic", "model"} for row in rows.WITH_MODEL},
}
"""What each step changes (the slow critic by averaging, not by a gradient), without a model and with one."""


CRITIC = {"critic", "slow critic", "alpha"}
UPDATED = {
    "sac": CRITIC | {"net"},
    "iterative-sac": CRITIC | {"net", "limits"},
    "mpo": CRITIC | {"prior", "slow prior", "multipliers"},
    "mpo-parametric": CRITIC | {"prior", "slow prior", "net"},
    "rerpi": CRITIC | {"prior", "slow prior", "multipliers"},
    "sql": {"critic", "slow critic", "net"},
    "vmpo": {"critic", "alpha", "prior", "slow prior", "multipliers"},
    "soft-pg": {"critic", "net"},
    "distral": {"critic", "slow critic", "net", "prior", "slow prior"},
    "default-policy": {"critic", "slow critic", "net", "prior", "slow prior"},
    "hierarchical": {"critic", "slow critic", "net"},
    "mve": CRITIC | {"net", "model"},
    "iterative-mve": CRITIC | {"net", "limits", "start", "model"},
    "kl-mve": {"critic", "slow critic", "net", "prior", "slow prior", "multipliers", "model"},
    "smcp": CRITIC | {"net", "model"},
    "pp-smc": CRITIC | {"prior", "slow prior", "multipliers", "model"},
}
"""What a whole update changes."""


def step(row, name, agent):
    batch, key = rows.batch_of(row, 0), make_key(7)
    if name == "critic":
        return apply_pending(em.critic_step(agent, batch, key)[0])[0]
    with_draws, draws, _, _ = agent.e_step(agent, batch, key)
    return apply_pending(with_draws if name == "e-step" else em.m_step(agent, draws, flatten(batch))[0])[0]


@ft.cache
def stepper(row, name):
    """One step, compiled."""
    return rows.compiled(ft.partial(step, row, name))


def changed(before, after):
    def differs(group):
        leaves = [jax.tree.leaves(group(agent)) for agent in (before, after)]
        return any(not np.array_equal(x, y) for x, y in zip(*leaves, strict=True))

    return {name for name, group in GROUPS.items() if differs(group)}


@pytest.mark.parametrize(
    ("row", "name"), [*TOUCHED, *(pytest.param(*one, marks=pytest.mark.long) for one in OF_MODELS)]
)
def test_each_step_touches_its_own_parameters_alone(row, name):
    agent = rows.start(row)
    after = stepper(row, name)(agent)
    assert changed(agent, after) == (TOUCHED | OF_MODELS)[row, name]
    assert jax.tree.structure(after) == jax.tree.structure(agent)


@pytest.mark.long
def test_the_gates_and_the_limits_of_iterative_inference_learn():
    start = rows.start("iterative-sac")
    agent = rows.updater("iterative-sac")(start, rows.batch(), make_key(3))[0]  # at the very start δ and μ are zero
    after = stepper("iterative-sac", "e-step")(agent)
    first, second = agent.inference.model, after.inference.model
    moved = np.abs(second.net.biases[-1] - first.net.biases[-1])
    assert (moved > 1e-6).all()  # two means, two log scales, and their four gates
    assert (second.low != first.low).all()
    assert (second.high != first.high).all()


def poison(kind, agent, batch):
    """A good agent and batch with one bad number."""
    if kind == "reward":
        return agent, batch._replace(reward=batch.reward.at[3].set(jnp.nan))
    if kind == "observation":
        return agent, batch._replace(obs=batch.obs.at[2, 0, 1].set(jnp.nan))
    bad = lambda net: replace(net, rest=tuple(jnp.full_like(w, jnp.inf) for w in net.rest))
    critic = critic_of(agent.likelihood.model)
    if hasattr(critic, "net"):
        critic = replace(critic, net=bad(critic.net))
    else:
        critic = replace(critic, members=(bad(critic.members[0]), *critic.members[1:]))
    whole = agent.likelihood.model
    model = replace(whole, critic=critic) if isinstance(whole, WorldModel) else critic
    return replace(agent, likelihood=replace(agent.likelihood, model=model)), batch


@pytest.mark.parametrize("kind", ["reward", "observation", "critic"])
@pytest.mark.parametrize("row", rows.EVERY)
def test_an_unsound_update_changes_nothing_and_the_next_sound_one_applies(row, kind):
    update = rows.updater(row)
    agent = update(rows.start(row), rows.batch_of(row), make_key(1))[0]
    bad_agent, bad_batch = poison(kind, agent, rows.batch_of(row, 2))
    after, info = update(bad_agent, bad_batch, make_key(2))
    assert info["skipped"] == 1
    jax.tree.map(np.testing.assert_array_equal, after, bad_agent)
    good, info = update(agent, rows.batch_of(row, 2), make_key(2))
    assert info["skipped"] == 0
    assert changed(agent, good) == UPDATED[row]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(good))


def test_an_identical_critic_more_makes_pessimism_irrelevant():
    values = jnp.asarray([1.7, 1.7])
    for beta in (0.0, 1.0, 3.54):
        assert MeanMinusStd(beta)(values) == 1.7


def test_scaling_reward_and_temperature_together_scales_the_gradient_of_v():
    agent = rows.start("sac")
    obs = jnp.asarray([0.1, 0.2, 0.3])

    def gradient(scale):
        def scaled(member):
            *rest, last = member.rest
            *biases, bias = member.biases
            return replace(member, rest=(*rest, scale * last), biases=(*biases, scale * bias))

        critic = agent.likelihood.model
        critic = replace(critic, members=tuple(scaled(member) for member in critic.members))
        at = replace(agent, temperature=fixed(Constant(0.2 * scale)))

        def value(inference):
            q, problem, _ = at.infer(inference, critic, obs, make_key(0))
            return soft_value(q, problem, make_key(1), 4)[0]

        return jax.grad(value)(agent.inference.model)

    run = rows.compiled(gradient)
    one, ten = run(jnp.asarray(1.0)), run(jnp.asarray(10.0))
    assert global_norm(one) > 0.01
    jax.tree.map(lambda x, y: np.testing.assert_allclose(10 * x, y, rtol=1e-3, atol=1e-5), one, ten)
