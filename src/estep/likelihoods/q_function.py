"""An ensemble of action-value networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.lax import stop_gradient as sg
from jaxtyping import Array, Float

from estep.core.batch import flatten
from estep.core.slots import Bootstrap, Likelihood, Problem
from estep.core.types import Action, Info, Key, Obs, Scalar, Spec, Squash, Transition
from estep.likelihoods.losses import Regression, Squared, regression_of
from estep.likelihoods.targets import Target, td0
from estep.nets import Body, Network, critic_body, network, with_bias

Pessimism = Callable[[Float[Array, " k"]], Scalar]
"""The values of the k members to the one value that inference and targets use."""


def minimum(values: Float[Array, " k"]) -> Scalar:
    """A `Pessimism`: the least of the ensemble.

    Source:
        Clipped double Q of Fujimoto et al. 2018.
    """
    return values.min()


@dataclass(frozen=True)
class MeanMinusStd:
    """A `Pessimism`: mean - β·std over the ensemble, with the biased standard deviation.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.likelihoods.q_function import MeanMinusStd
        >>> float(MeanMinusStd(1.0)(jnp.asarray([3.0, 5.0])))  # β = 1 is the minimum of two
        3.0
    """

    beta: float

    def __call__(self, values: Float[Array, " k"]) -> Scalar:
        return values.mean() - self.beta * biased_std(values)


def biased_std(values: Float[Array, " k"]) -> Scalar:
    """The standard deviation (ddof 0), with a bounded gradient at equal values and without overflow at distant ones.

    Of two values it is half their distance. Of more it is √(variance + 1e-6).

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.likelihoods.q_function import biased_std
        >>> float(biased_std(jnp.asarray([3.0, 5.0])))
        1.0
    """
    if values.shape[0] == 2:
        return 0.5 * jnp.abs(values[0] - values[1])
    deviation = values - values.mean()
    unit = jax.lax.stop_gradient(jnp.maximum(jnp.abs(deviation).max(), 1.0))
    return unit * jnp.sqrt(jnp.square(deviation / unit).mean() + 1e-6 / unit / unit)


class QFunction(Likelihood):
    """Q̂(s, a): an ensemble of networks, combined by a pessimistic rule.

    The loss, by default ½ (Q_j - y)², is summed over members and averaged over the batch. By default
    y = r + γ(1 - e) V̄(s'), where e is true termination alone: at a time limit the value of the next state counts.

    The networks are separate because on a CPU an ensemble under `vmap` is slower.

    Source:
        With the soft value of the next state, Haarnoja et al. 2018, arXiv:1812.05905, eq. 5.
    """

    members: tuple[Network, ...]
    squash: Squash
    pessimism: Pessimism = eqx.field(static=True)
    gamma: float = eqx.field(static=True)
    target: Target = eqx.field(static=True, default=td0)
    regression: Regression = eqx.field(static=True, default=Squared())

    def values(self, obs: Obs, action: Action) -> Float[Array, " k"]:
        """The value of every member at the point u of one state."""
        return jnp.stack([self.regression.value(output) for output in self.outputs(obs, action)])

    def outputs(self, obs: Obs, action: Action) -> list[Float[Array, " n"]]:
        """What the network of every member gives at the point u of one state."""
        a = self.squash(action)
        return [member(obs, a) for member in self.members]

    def __call__(self, problem: Problem, action: Action, key: Key) -> Scalar:
        return self.pessimism(self.values(problem.obs, action))

    def loss(self, batch: Transition, bootstrap: Bootstrap, key: Key) -> tuple[Scalar, Info]:
        target = sg(self.target(batch, bootstrap, key, self.gamma)).reshape(-1)
        rows = flatten(batch)

        outputs = jax.vmap(lambda obs, action: jnp.stack(self.outputs(obs, action)))(rows.obs, rows.action)
        values = jax.vmap(jax.vmap(self.regression.value))(outputs)
        losses = jax.vmap(jax.vmap(self.regression.loss, (0, None)))(outputs, target)
        loss = losses.mean(0).sum()
        info = {
            "critic/loss": loss,
            "critic/value": values.mean(),
            "critic/disagreement": values.std(1).mean(),
            "critic/target": target.mean(),
        }
        return loss, info | self.regression.info(target)


def q_function(
    members: int,
    spec: Spec,
    hidden: Sequence[int] | Body,
    pessimism: Pessimism,
    gamma: float,
    target: Target = td0,
    regression: Regression = Squared(),
    *,
    key: Key,
) -> QFunction:
    """A fresh ensemble for an environment.

    Args:
        members: how many networks.
        spec: the environment.
        hidden: sizes of the hidden layers, or a `Body`.
        pessimism: how the values of the members become one.
        gamma: discount factor γ per environment step.
        target: what the members are fitted to.
        regression: how they are fitted to it.
        key: a random key.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep import Spec, make_key
        >>> from estep.likelihoods.q_function import minimum, q_function
        >>> critic = q_function(2, Spec(obs_dim=3, action_dim=2), (8,), minimum, gamma=0.99, key=make_key(0))
        >>> critic.values(jnp.zeros(3), jnp.zeros(2)).shape
        (2,)
    """
    bias = regression.bias

    def member(key: Key) -> Network:
        inputs = spec.obs_dim, spec.action_dim
        return with_bias(network(inputs, bias.shape[0], hidden, key=key, head=regression.head), bias)

    made = tuple(member(k) for k in jax.random.split(key, members))
    return QFunction(made, spec.squash, pessimism, gamma, target, regression)


def q_of(settings: Any, spec: Spec, target: Target = td0, *, heads: int = 0, key: Key) -> QFunction:
    """The fresh ensemble of an algorithm, by its settings.

    Args:
        settings: an algorithm with the settings of the groups `QEnsemble` and `Learner`.
        spec: the environment.
        target: what the members are fitted to.
        heads: how many output layers each member has, one for each task; 0 for one in all.
        key: a random key.
    """
    pessimism, regression = MeanMinusStd(settings.beta), regression_of(settings)
    hidden, number = critic_body(settings)._replace(tasks=heads), settings.num_critics
    return q_function(number, spec, hidden, pessimism, settings.gamma, target, regression, key=key)
