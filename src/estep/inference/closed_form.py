"""Inference in closed form: weights for every choice, or for samples of the prior."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp

from estep.core.objective import comparable_values
from estep.core.slots import Inference, Inferred, Posterior, Problem
from estep.core.types import Action, Key, Spec
from estep.families.categorical import check_draws, log_probs_of
from estep.families.particles import Weigh, ess, exponential


class ClosedForm(Inference):
    """n samples of the prior and their weights, as the λ of a `Boltzmann` posterior of n particles.

    With exponential weights they estimate p(a|s) exp(Q̂(s,a)/α)/Z, where V is greatest over all q. The gradient of the
    dual of KL(q‖p) ≤ ε with respect to α is then ε - KL, so with `KLConstraint` this is the E-step of MPO.

    Raises:
        UsageError: the prior cannot be sampled, or gives all choices instead of samples.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from estep import make_key
        >>> from estep.core.slots import Problem
        >>> from estep.families.particles import Boltzmann
        >>> from estep.inference.closed_form import ClosedForm
        >>> from estep.priors.gaussian import FixedGaussian
        >>> prior = FixedGaussian(jnp.zeros(1), jnp.ones(1))
        >>> problem = Problem(jnp.zeros(3), prior, lambda problem, u, key: u[0], jnp.asarray(0.1))
        >>> infer = jax.jit(lambda key: ClosedForm(samples=8)(problem, Boltzmann(action=1, samples=8), key))
        >>> u, log_weight = jnp.split(infer(make_key(0)).lam, 2)
        >>> bool(u.argmax() == log_weight.argmax())  # Q̂ = u, so the greatest u has the greatest weight
        True

    Source:
        Abdolmaleki et al. 2018a, arXiv:1806.06920.
    """

    samples: int = eqx.field(static=True)
    weigh: Weigh = eqx.field(static=True, default=exponential)

    def start_action(self, problem: Problem, posterior: Posterior, key: Key) -> Action:
        """The mode of the prior, whose samples are weighed."""
        return problem.prior(problem.obs).mode()

    def evaluations(self, choices: int | None = None) -> tuple[int, int]:
        return self.samples, 0

    def __call__(self, problem: Problem, posterior: Posterior, key: Key) -> Inferred:
        k_draw, k_value = jax.random.split(key)
        prior = problem.prior(problem.obs)
        check_draws(prior, "Use Exact, which weighs every choice.")
        action = prior.draw(k_draw, self.samples, prior).action
        values = comparable_values(problem, action, k_value)
        log_weight = self.weigh(values, problem.alpha)
        lam = jnp.concatenate([action.ravel(), log_weight])
        return Inferred(lam, jnp.zeros(()), jnp.zeros(0), {"ess": ess(log_weight)})


class Exact(Inference):
    """λ = log p(a|s) + Q̂(s,a)/α over all choices, up to a constant, as the λ of a `Softmax` posterior.

    It is where V is greatest. KL(q‖p) is exact, and so is the gradient ε - KL of the dual.
    """

    def start_action(self, problem: Problem, posterior: Posterior, key: Key) -> Action:
        """The mode of the prior, whose choices are weighed."""
        return problem.prior(problem.obs).mode()

    def evaluations(self, choices: int | None = None) -> tuple[int, int]:
        return choices or 0, 0

    def __call__(self, problem: Problem, posterior: Posterior, key: Key) -> Inferred:
        action = jnp.eye(sum(posterior.block_sizes))
        values = comparable_values(problem, action, key)
        log_p = log_probs_of(problem.prior(problem.obs), action)
        return Inferred(log_p + exponential(values, problem.alpha), jnp.zeros(()), jnp.zeros(0))


def closed_form(spec: Spec, samples: int, weigh: Weigh = exponential) -> Inference:
    """`Exact` where an action is one of n choices, with exponential weights whatever `weigh` is, else `ClosedForm`.

    Args:
        spec: the environment.
        samples: n, how many samples of the prior.
        weigh: the weights of the samples.

    Example:
        >>> from estep import Spec
        >>> from estep.inference.closed_form import closed_form
        >>> closed_form(Spec(obs_dim=3, action_dim=2), samples=20).samples
        20
    """
    return Exact() if spec.discrete else ClosedForm(samples, weigh)
