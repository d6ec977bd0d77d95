"""The parts that `compose` puts together, by name. A `module:function` of yours may stand for each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from estep.algorithms.model_based.model import planner, with_model
from estep.algorithms.shared import q_critic
from estep.core.acting import act_from_posterior, act_from_prior
from estep.core.agent import Agent, as_trained
from estep.core.learned import Learned, fixed, learn
from estep.core.optim import Optimiser
from estep.core.slots import Inference, Likelihood, Posterior, Prior, Projection, Temperature
from estep.core.types import Key, Spec
from estep.e_steps.plans import WithPlans, report
from estep.errors import UsageError
from estep.families.autoregressive import Autoregressive
from estep.families.choose import family
from estep.families.full_gaussian import FullGaussian
from estep.families.gaussian import Gaussian
from estep.families.mixture import Mixture
from estep.families.noise import antithetic
from estep.families.particles import Boltzmann
from estep.inference.named import Fresh, InferenceSettings, make
from estep.inference.starts import start_of
from estep.likelihoods.maximised import Maximised
from estep.likelihoods.state_value import state_value
from estep.m_steps import trust_region
from estep.m_steps.projection import Keep
from estep.m_steps.temperature import least_entropy
from estep.nets import critic_body, policy_body
from estep.priors.flat import Flat
from estep.priors.gaussian import FixedGaussian
from estep.priors.network import policy_network
from estep.priors.uniform import Uniform
from estep.settings import references

PRIORS: Mapping[str, Callable[[Any, Spec, Key], Prior]] = {
    "flat": lambda row, spec, key: Flat(spec),
    "uniform": lambda row, spec, key: Uniform(spec),
    "gaussian": lambda row, spec, key: FixedGaussian(jnp.zeros(spec.action_dim), jnp.ones(spec.action_dim)),
    "learned": lambda row, spec, key: policy_network(spec, policy_body(row), row.sigma, key=key),
}
"""(settings, environment, key) to a prior."""

POSTERIORS: Mapping[str, Callable[[Any, Spec], Posterior]] = {
    "gaussian": lambda row, spec: Gaussian(spec.action_dim, antithetic),
    "full-gaussian": lambda row, spec: FullGaussian(spec.action_dim, antithetic),
    "mixture": lambda row, spec: Mixture(spec.action_dim, row.components),
    "autoregressive": lambda row, spec: Autoregressive(spec.action_dim, antithetic),
    "boltzmann": lambda row, spec: Boltzmann(spec.action_dim, row.samples),
    "categorical": lambda row, spec: family(spec),
}
"""(settings, environment) to a family."""

LIKELIHOODS: Mapping[str, Callable[[Any, Spec, Key], Likelihood]] = {
    "q": q_critic,
    "model": q_critic,
    "state-value": lambda row, spec, key: state_value(spec, critic_body(row), row.gamma, row.gae_lambda, key=key),
}
"""(settings, environment, key) to a critic; `with_model` puts a model beside it where one is wanted."""


def prior(row: Any, spec: Spec, key: Key) -> Prior:
    """The prior of `compose`. Raises UsageError, as the two below, where a maker of one's own makes something else."""
    made: Prior = _made(Prior, row.prior, PRIORS, row, spec, key)
    return made


def posterior(row: Any, spec: Spec) -> Posterior:
    """The family of `compose`."""
    made: Posterior = _made(Posterior, row.posterior, POSTERIORS, row, spec)
    return made


def likelihood(row: Any, spec: Spec, key: Key) -> Likelihood:
    """The critic of `compose`."""
    made: Likelihood = _made(Likelihood, row.likelihood, LIKELIHOODS, row, spec, key)
    return made


def inference(row: Any, spec: Spec, family: Posterior, key: Key) -> Inference:
    """The inference optimiser of `compose`."""
    samples = row.num_candidates if row.inference in ("cem", "importance") else row.samples
    networks = Fresh(spec, family, policy_body(row), key, row.start, row.iterations, row.samples)
    return make(row.inference, networks, InferenceSettings(row.iterations, samples, step_size=1e-2))


def acting(row: Any, optimiser: Inference) -> Callable[[Inference], Inference]:
    """The change to the optimiser that acting makes. Raises UsageError where one of one's own has no start."""
    if row.act_by == "inference":
        return as_trained
    start_of(optimiser)
    return start_of


def critics(row: Any, plain: bool) -> tuple[Maximised, Maximised]:
    """Which critic inference maximises in training and to act.

    Args:
        row: the settings.
        plain: whether the critic learns the plain return of the prior.
    """
    training, to_act = ("slow" if plain else "fast", "fast") if row.infer_on == "auto" else (row.infer_on, row.infer_on)
    return Maximised(training, row.pessimism), Maximised(to_act, row.pessimism, row.act_beta)


def with_model_and_plans(row: Any, agent: Agent, key: Key) -> Agent:
    """The agent with the model of the environment and the plans that are wanted. The policy whose value its critic
    learns proposes the actions of plans.

    Args:
        row: the settings.
        agent: the agent without them.
        key: a random key, of the model.
    """
    if row.likelihood == "model":
        agent = with_model(agent, row, key)
    if row.act_with != "plan":
        return agent
    proposal = act_from_posterior if row.kl_in_value else act_from_prior
    planned = planner(row, row.plan_horizon, row.power, proposal)
    return replace(agent, behave=planned, infers=row.kl_in_value, e_step=WithPlans(agent.e_step), remember=report)


def _made(slot: Any, name: str, table: Mapping[str, Callable[..., Any]], *arguments: Any) -> Any:
    if name in table:
        return table[name](*arguments)
    takes = ("the settings of compose", "the Spec", "a key")
    found = references.call(references.resolve(name), name, arguments, ", ".join(takes[: len(arguments)]))
    if not isinstance(found, slot):
        raise UsageError(
            f"{name} made {type(found).__name__}, not a {slot.__name__}.", f"Return an estep {slot.__name__} from it."
        )
    return found


def temperature(row: Any, spec: Spec) -> Temperature:
    """The multiplier of KL(q‖p) ≤ ε, with an ε that suits the prior where none is given."""
    flat = least_entropy(spec, -1.0, 0.3)
    volume = math.log(math.prod(spec.factors)) if spec.factors else spec.action_dim * math.log(2.0)
    natural = {"flat": flat.epsilon, "uniform": flat.epsilon + volume}
    return replace(flat, epsilon=row.epsilon or natural.get(row.prior, 0.1))


def region(row: Any, prior: Prior, spec: Spec) -> Projection:
    """How the M-step moves the prior, if it learns."""
    if not has_parameters(prior, row.prior):
        return Keep()
    example = prior(jnp.zeros(spec.obs_dim))
    form = trust_region.form_for(example, trust_region.decoupled, trust_region.joint)
    bounds = (row.epsilon_mean, 1.0), (row.epsilon_scale, 1.0)
    return trust_region.trust_region(example, bounds, None, *form)


def learned_if(learns: bool, model: Any, tx: Optimiser, **slow: Any) -> Learned[Any]:
    """Learned, with a slow copy where one is wanted, or fixed."""
    return learn(model, tx, **slow) if learns else fixed(model)


def has_parameters(part: Any, name: str = "") -> bool:
    """Whether a part, or what it starts from, is a network; arrays of the library's own fixed priors are none."""
    return name not in ("flat", "uniform", "gaussian") and bool(jax.tree.leaves(part))
