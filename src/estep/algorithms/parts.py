"""Parts that rows share; those that `compose` puts together, by name, and which of them fit together."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from estep.constraints import trust_region
from estep.constraints.dual import inside_box
from estep.constraints.projection import Keep
from estep.constraints.temperature import KLConstraint, least_entropy
from estep.core.learned import Learned, fixed, learn
from estep.core.optim import Optimiser
from estep.core.protocols import Inference, Likelihood, Posterior, Prior, Projection
from estep.core.types import Clip, Key, Spec
from estep.distributions.noise import antithetic
from estep.errors import UsageError
from estep.inference.cem import CEM
from estep.inference.closed_form import closed_form
from estep.inference.direct import Direct
from estep.inference.gradient import GradientAscent, semi_amortised
from estep.inference.importance import Importance
from estep.inference.iterative import Iterations, iterative
from estep.inference.starts import AtPrior
from estep.likelihoods.q_function import MeanMinusStd, q_function
from estep.likelihoods.state_value import state_value
from estep.likelihoods.targets import TARGETS
from estep.nets import mlp
from estep.posteriors.autoregressive import Autoregressive
from estep.posteriors.boltzmann import Boltzmann
from estep.posteriors.categorical import Softmax
from estep.posteriors.full_gaussian import FullGaussian
from estep.posteriors.gaussian import Gaussian
from estep.posteriors.mixture import Mixture
from estep.priors.flat import Flat
from estep.priors.gaussian import FixedGaussian
from estep.priors.network import policy_network
from estep.priors.uniform import Uniform

PRIORS: Mapping[str, Callable[[Any, Spec, Key], Prior]] = {
    "flat": lambda row, spec, key: Flat(spec),
    "uniform": lambda row, spec, key: Uniform(spec),
    "gaussian": lambda row, spec, key: FixedGaussian(jnp.zeros(spec.action), jnp.ones(spec.action)),
    "learned": lambda row, spec, key: policy_network(spec, row.hidden, row.sigma, key=key),
}
"""(row, environment, key) to a prior."""

POSTERIORS: Mapping[str, Callable[[Any, Spec], Posterior]] = {
    "gaussian": lambda row, spec: Gaussian(spec.action, antithetic),
    "full-gaussian": lambda row, spec: FullGaussian(spec.action, antithetic),
    "mixture": lambda row, spec: Mixture(spec.action, row.components),
    "autoregressive": lambda row, spec: Autoregressive(spec.action, antithetic),
    "boltzmann": lambda row, spec: Boltzmann(spec.action, row.samples),
    "categorical": lambda row, spec: Softmax(spec.action),
}
"""(row, environment) to a family."""

FITTED = ("gaussian", "full-gaussian")
"""Families of numbers whose best fit to weighted draws has a closed form."""
STARTED = ("iterative", "gradient", "cem", "importance")
"""Optimisers that may start where another one ends."""


def _direct(row: Any, spec: Spec, posterior: Posterior, key: Key) -> Inference:
    return Direct(mlp((spec.observation,), sum(posterior.parts), row.hidden, key=key))


def _iterative(row: Any, spec: Spec, posterior: Posterior, key: Key, start: Inference | None = None) -> Inference:
    iterations = Iterations(row.iterations, row.samples)
    return iterative(spec.observation, posterior, row.hidden, iterations, start=start, key=key)


STARTS: Mapping[str, Callable[[Any, Spec, Posterior, Key], Inference]] = {
    "prior": lambda row, spec, posterior, key: AtPrior(),
    "direct": _direct,
    "iterative": _iterative,
}
"""(row, environment, family, key) to what ends where an optimiser starts."""


def start(row: Any, spec: Spec, posterior: Posterior, key: Key) -> Inference:
    """Where the optimiser of a row starts, by a key of its own."""
    return STARTS[row.start](row, spec, posterior, jax.random.fold_in(key, 1))


INFERENCES: Mapping[str, Callable[[Any, Spec, Posterior, Key], Inference]] = {
    "direct": _direct,
    "iterative": lambda row, spec, posterior, key: _iterative(
        row, spec, posterior, key, start(row, spec, posterior, key)
    ),
    "semi-amortised": lambda row, *given: semi_amortised(
        _direct(row, *given), GradientAscent(row.iterations, row.samples)
    ),
    "gradient": lambda row, *given: GradientAscent(row.iterations, row.samples, start=start(row, *given)),
    "cem": lambda row, *given: CEM(row.iterations, row.population, start=start(row, *given)),
    "importance": lambda row, *given: Importance(row.population, row.iterations, start=start(row, *given)),
    "closed-form": lambda row, spec, posterior, key: closed_form(spec, row.samples),
    "advantages": lambda row, spec, posterior, key: AtPrior(),
}
"""(row, environment, family, key) to an optimiser."""


def q_critic(row: Any, spec: Spec, key: Key) -> Likelihood:
    """Action values of a row that names what they are regressed on."""
    target = TARGETS[row.target](row.unroll)
    return q_function(row.critics, spec, row.hidden, MeanMinusStd(row.beta), row.discount, target, key=key)


def critic(row: Any, spec: Spec, key: Key) -> Likelihood:
    """The likelihood of `compose`."""
    if row.likelihood == "state-value":
        return state_value(spec, row.hidden, row.discount, row.lam, key=key)
    return q_critic(row, spec, key)


def weighed_region(
    row: Any, spec: Spec, prior: Prior, split: trust_region.Split, measure: trust_region.Measure
) -> Projection:
    """How a policy is fitted to weighed draws of its slow copy: near that, and inside the box that actions are clipped
    to."""
    example = prior(jnp.zeros(spec.observation))
    box = inside_box(row.epsilon_box, 10.0) if row.epsilon_box and isinstance(spec.squash, Clip) else None
    bounds = (row.epsilon_mean, 10.0), (row.epsilon_scale, 1000.0)
    return trust_region.trust_region(example, bounds, box, *trust_region.form_for(example, split, measure))


def temperature(row: Any, spec: Spec) -> KLConstraint:
    """The multiplier of KL(q‖p) ≤ ε, with an ε that suits the prior where none is given."""
    flat = least_entropy(spec, -1.0, 0.3)
    volume = math.log(spec.action) if spec.discrete else spec.action * math.log(2.0)
    natural = {"flat": flat.epsilon, "uniform": flat.epsilon + volume}
    return replace(flat, epsilon=row.epsilon or natural.get(row.prior, 0.1))


def region(row: Any, prior: Prior, spec: Spec) -> Projection:
    """How the M-step moves the prior, if it learns."""
    if row.prior != "learned":
        return Keep()
    example = prior(jnp.zeros(spec.observation))
    form = trust_region.form_for(example, trust_region.decoupled, trust_region.joint)
    bounds = (row.epsilon_mean, 1.0), (row.epsilon_scale, 1.0)
    return trust_region.trust_region(example, bounds, None, *form)


def learned_if(learns: bool, model: Any, tx: Optimiser, **slow: Any) -> Learned[Any]:
    """Learned, with a slow copy where that is said, or fixed."""
    return learn(model, tx, **slow) if learns else fixed(model)


def has_parameters(inference: Inference) -> bool:
    """Whether an optimiser, or what it starts from, is a network."""
    return bool(jax.tree.leaves(inference))


class Fit(NamedTuple):
    """What two parts must agree on."""

    holds: Callable[[Any], bool]
    why: str
    """A sentence on what is wrong, with the row's fields in braces."""
    fix: str


FITS = (
    Fit(
        lambda row: row.posterior != "boltzmann" or row.inference in ("closed-form", "advantages"),
        "Weighted particles have no parameters that --inference {inference} could improve.",
        "Give --inference closed-form, or a parametric --posterior.",
    ),
    Fit(
        lambda row: row.inference != "closed-form" or row.posterior in ("boltzmann", "categorical"),
        "Closed-form inference gives weighted particles, not a {posterior}.",
        "Give --posterior boltzmann, or categorical where actions are discrete.",
    ),
    Fit(
        lambda row: row.inference != "cem" or row.posterior in FITTED,
        "The cross-entropy method fits the family to an elite of draws, which a {posterior} has no form for.",
        "Give --posterior gaussian or full-gaussian, or --inference gradient.",
    ),
    Fit(
        lambda row: row.inference != "importance" or row.posterior in (*FITTED, "categorical"),
        "Importance sampling fits the family to weighted draws, which a {posterior} has no form for.",
        "Give --posterior gaussian or full-gaussian, or --inference gradient.",
    ),
    Fit(
        lambda row: row.start == "prior" or row.inference in STARTED,
        "{inference} inference does not start where another optimiser ends.",
        "Give --start prior, or --inference iterative, gradient, cem or importance.",
    ),
    Fit(
        lambda row: row.start != "iterative" or row.inference != "iterative",
        "Iterative inference that starts where iterative inference ends is one with more iterations.",
        "Give more --iterations, or --start direct.",
    ),
    Fit(
        lambda row: row.posterior != "boltzmann" or row.prior != "flat" or row.inference != "closed-form",
        "Closed-form inference draws from the prior, and a flat prior cannot be sampled.",
        "Give --prior uniform, gaussian or learned.",
    ),
    Fit(
        lambda row: row.posterior != "categorical" or row.prior != "gaussian",
        "A Gaussian prior has no discrete actions.",
        "Give --prior flat, uniform or learned.",
    ),
    Fit(
        lambda row: (row.inference == "advantages") == (row.likelihood == "state-value"),
        "--likelihood {likelihood} and --inference {inference} do not go together: advantages of the actions taken "
        "come from a state value, and nothing else can be inferred from one.",
        "Give both --likelihood state-value and --inference advantages, or neither.",
    ),
    Fit(
        lambda row: row.inference != "advantages" or (row.prior == "learned" and row.act_with == "prior"),
        "Advantages weigh the actions that the prior took, so it must be learned and must act.",
        "Give --prior learned --act-with prior.",
    ),
    Fit(
        lambda row: row.prior == "learned" or (row.act_with == "posterior" and row.kl_in_value),
        "A {prior} prior learns nothing, so it can neither act nor be the policy whose value is wanted.",
        "Give --prior learned, or --act-with posterior --kl-in-value.",
    ),
    Fit(
        lambda row: row.target != "retrace" or row.act_with == "prior" or row.posterior != "boltzmann",
        "Retrace needs the density of the actions taken, and weighted particles have none.",
        "Give --target n-step or td0, or --act-with prior.",
    ),
    Fit(
        lambda row: row.posterior != "mixture" or row.samples >= row.components,
        "{samples} draws of a mixture of {components} leave components without one.",
        "Give --samples at least as many as --components.",
    ),
)
"""All of them; the first that does not hold is told."""


def check_parts(row: Any) -> None:
    """Refuse what cannot work, whatever the environment.

    Raises:
        UsageError: which two parts do not fit, why, and what would.
    """
    found = misfit(row)
    if found is not None:
        raise UsageError(found.why.format(**vars(row)), found.fix)


def misfit(row: Any) -> Fit | None:
    """The first agreement that does not hold, if any."""
    return next((fit for fit in FITS if not fit.holds(row)), None)


def check_environment(row: Any, spec: Spec) -> None:
    """Refuse what cannot work in this environment.

    Raises:
        UsageError: a family of another kind of action than the environment's.
    """
    if spec.discrete != (row.posterior == "categorical"):
        kind = "one of several choices" if spec.discrete else "numbers"
        fix = "Give --posterior categorical." if spec.discrete else "Give a --posterior other than categorical."
        raise UsageError(f"A {row.posterior} posterior does not fit this environment, whose actions are {kind}.", fix)
