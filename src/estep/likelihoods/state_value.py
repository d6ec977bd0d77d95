"""A state-value network and the advantages of the actions that were taken."""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.lax import stop_gradient as sg
from jaxtyping import Array, Float

from estep.core.slots import Bootstrap, Likelihood, Problem
from estep.core.types import Action, Info, Key, Scalar, Spec, Transition
from estep.likelihoods.returns import Segment, Steps, gae
from estep.likelihoods.targets import segments, vmap_steps
from estep.nets import Body, Network, network


class StateValue(Likelihood):
    """V(s), fitted to λ-returns of the policy that took the steps.

    The loss is ½ (V - y)² averaged over the batch, y the λ-return less κ. As an action value it is V(s) for every
    action: only the steps of a batch have advantages.

    Source:
        Schulman et al. 2016, arXiv:1506.02438.
    """

    net: Network
    gamma: float = eqx.field(static=True)
    gae_lambda: float = eqx.field(static=True)

    def __call__(self, problem: Problem, action: Action, key: Key) -> Scalar:
        return self.net(problem.obs)[0]

    def advantages(self, batch: Transition, bootstrap: Bootstrap, key: Key) -> Float[Array, "b t"]:
        """A_t of every step [B, T], with κ as a cost of later steps where values are regularised.

        Args:
            batch: steps [B, T].
            bootstrap: gives κ.
            key: a random key.
        """
        kappa = vmap_steps(bootstrap.penalty, batch, key)
        value, value_next = self.values(batch.obs), self.values(batch.next_obs)

        def one(segment: Segment, value: Steps, value_next: Steps, kappa: Steps) -> Steps:
            return gae(segment, value, value_next, kappa, self.gamma, self.gae_lambda)

        found: Array = jax.vmap(one)(segments(batch), value, value_next, kappa)
        return found

    def values(self, obs: Float[Array, "b t o"]) -> Float[Array, "b t"]:
        """V of every state of a batch."""
        return jax.vmap(self.net)(obs.reshape(-1, obs.shape[-1]))[:, 0].reshape(obs.shape[:2])

    def loss(self, batch: Transition, bootstrap: Bootstrap, key: Key) -> tuple[Scalar, Info]:
        value = self.values(batch.obs)
        returns = value + self.advantages(batch, bootstrap, key)
        target = sg(returns - vmap_steps(bootstrap.penalty, batch, key))
        loss = 0.5 * jnp.square(value - target).mean()
        explained = 1.0 - jnp.var(target - value) / jnp.maximum(jnp.var(target), 1e-8)
        return loss, {"critic/loss": loss, "critic/value": value.mean(), "critic/explained": explained}


def state_value(spec: Spec, hidden: Sequence[int] | Body, gamma: float, gae_lambda: float, *, key: Key) -> StateValue:
    """A fresh network for an environment.

    Args:
        spec: the environment.
        hidden: sizes of the hidden layers, or a `Body`.
        gamma: discount factor γ per environment step.
        gae_lambda: λ of the λ-returns, in [0, 1].
        key: a random key.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep import Spec, make_key
        >>> from estep.likelihoods.state_value import state_value
        >>> critic = state_value(Spec(obs_dim=3, action_dim=2), (8,), 0.99, 0.95, key=make_key(0))
        >>> critic.values(jnp.zeros((4, 5, 3))).shape
        (4, 5)
    """
    return StateValue(network((spec.obs_dim,), 1, hidden, key=key), gamma, gae_lambda)
