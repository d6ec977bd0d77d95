"""α: the temperature of SAC and the dual variable of MPO are the same multiplier."""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.slots import Temperature
from estep.core.types import Info, Obs, Scalar, Spec
from estep.errors import UsageError

LOG_ALPHA_BOUNDS = (-15.0, 10.0)
"""Limits of log α, to which it is projected after each step."""


class KLConstraint(Temperature):
    """The multiplier α = e^ℓ of KL(q‖p) ≤ ε, on average over states. The loss is α (ε - KL).

    Its gradient with respect to ℓ is α (ε - KL): descent raises α while the KL is too large. With the flat prior
    KL(q‖p) = -H(q), so the constraint H(q) ≥ -d of SAC is ε = d; with the uniform prior it is ε = d(1 + log 2).

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.m_steps.temperature import KLConstraint
        >>> alpha = KLConstraint(jnp.zeros(()), epsilon=1.0)
        >>> float(alpha()), float(alpha.loss(jnp.asarray([2.0, 4.0]))[0])
        (1.0, -2.0)

    Source:
        Haarnoja et al. 2018, arXiv:1812.05905, eq. 18.
    """

    log_alpha: Scalar
    epsilon: float = eqx.field(static=True)

    def __call__(self, obs: Obs | None = None) -> Scalar:
        return jnp.exp(self.log_alpha)

    def loss(self, kl: Float[Array, " b"], obs: Float[Array, "b o"] | None = None) -> tuple[Scalar, Info]:
        info = {"m/alpha": self(), "m/kl": kl.mean(), "m/kl_bound": jnp.asarray(self.epsilon, kl.dtype)}
        return (self() * (self.epsilon - kl)).mean(), info


class TaskConstraints(Temperature):
    """A multiplier α_i = e^ℓ_i for each task i: KL(q‖p) ≤ ε holds on average over the states of every task.

    The task of a state is the one-hot vector at the end of its observation. The loss is the mean of α_i (ε - KL) over
    the states, so that the gradient with respect to ℓ_i is of the states of task i alone.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.m_steps.temperature import TaskConstraints
        >>> alpha = TaskConstraints(jnp.log(jnp.asarray([1.0, 2.0])), epsilon=1.0)
        >>> obs = jnp.asarray([[0.3, 1.0, 0.0], [0.3, 0.0, 1.0]])
        >>> print(alpha(obs[1]), alpha.loss(jnp.asarray([1.0, 4.0]), obs)[0])
        2.0 -3.0

    Source:
        Multi-task SAC of Yu et al. 2019, arXiv:1910.10897.
    """

    log_alpha: Float[Array, " tasks"]
    epsilon: float = eqx.field(static=True)

    def __call__(self, obs: Obs) -> Scalar:
        return jnp.exp((self.log_alpha * obs[-self.log_alpha.shape[0] :]).sum())

    def loss(self, kl: Float[Array, " b"], obs: Float[Array, "b o"]) -> tuple[Scalar, Info]:
        each = jnp.exp(self.log_alpha)
        info = {"m/alpha": each.mean(), "m/kl": kl.mean(), "m/kl_bound": jnp.asarray(self.epsilon, kl.dtype)}
        info |= {f"m/alpha/{i}": each[i] for i in range(each.shape[0])}
        return (jax.vmap(self)(obs) * (self.epsilon - kl)).mean(), info


def least_entropy(
    spec: Spec, per_dimension: float, fraction: float, per_task: bool = False
) -> KLConstraint | TaskConstraints:
    """The constraint H(q) ≥ H̄ under the flat prior, with α = 1 at first.

    Args:
        spec: the environment.
        per_dimension: H̄ in nats for each dimension of a continuous action.
        fraction: H̄ of a discrete action, as a fraction of the greatest entropy, log n of all combinations.
        per_task: whether every task has an α of its own.

    Raises:
        UsageError: every task is to have its own α, and there is one task.

    Example:
        >>> from estep import Spec
        >>> from estep.m_steps.temperature import least_entropy
        >>> least_entropy(Spec(obs_dim=3, action_dim=2), per_dimension=-1.0, fraction=0.3).epsilon
        2.0

    Source:
        For discrete actions Christodoulou 2019, arXiv:1910.07207.
    """
    entropy = fraction * math.log(math.prod(spec.factors)) if spec.factors else per_dimension * spec.action_dim
    if not per_task:
        return KLConstraint(jnp.zeros(()), epsilon=-entropy)
    if not spec.tasks:
        what = "--alpha-per-task gives every task its own temperature, and there is one environment."
        raise UsageError(what, "Give several environments (--env A B), or leave out --alpha-per-task.")
    return TaskConstraints(jnp.zeros(spec.tasks), epsilon=-entropy)


class Constant(Temperature):
    """A fixed α."""

    alpha: Scalar

    def __call__(self, obs: Obs | None = None) -> Scalar:
        return self.alpha

    def loss(self, kl: Float[Array, " b"], obs: Float[Array, "b o"] | None = None) -> tuple[Scalar, Info]:
        return jnp.zeros(()), {"m/alpha": self.alpha, "m/kl": kl.mean()}
