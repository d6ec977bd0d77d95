"""A learned model of the environment: from (s, a) to the next state, the reward and whether the episode goes on."""

from __future__ import annotations

import functools as ft
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.lax import stop_gradient as sg
from jaxtyping import Array, Bool, Float, Int

from estep.core.batch import flatten
from estep.core.model import Prediction
from estep.core.optim import FOLLOW, Optimiser, adam, pieces
from estep.core.slots import Bootstrap, Likelihood, Problem
from estep.core.types import Action, Info, Key, Obs, Scalar, Spec, Squash, Transition
from estep.likelihoods.moments import Moments, distance, weight_of_batch
from estep.nets import MLP, mlp, parts, small_init, soft_bound, with_bias

LOG_VARIANCE = (-10.0, 0.5)
"""Limits of the logarithm of a predicted variance, in units of the variance of the data."""
GO_ON = 5.0
"""The first logit of going on. One of 0 would halve the value of the states after each imagined step."""
DECAY = 5e-5
"""Weight decay of the networks."""
FARTHEST = 10.0
"""A predicted state is clipped to this many standard deviations around the mean of the data."""
HALF_LOG_2_PI = 0.5 * math.log(2.0 * math.pi)


KnownPart = Callable[[Obs, Float[Array, " a"], Obs], Scalar]
"""(state, action, mean of the next state) to a reward, or to the probability that the episode goes on."""


class Output(NamedTuple):
    """What one network gives: the distribution of (s' - s, r), each number in standard deviations of the data."""

    mean: Float[Array, " n"]
    log_variance: Float[Array, " n"]
    logit: Scalar
    """Of going on."""


class Ensemble(eqx.Module):
    """A `Model`: networks that differ in their first parameters and learn from the same batches.

    The moments are parameters too. Their part of the loss is half the squared distance to where they should be, and the
    optimiser `FOLLOW` moves them there: so they are saved, resumed, and not moved by an update that is not sound.

    Source:
        Lakshminarayanan et al. 2017, arXiv:1612.01474; Chua et al. 2018, arXiv:1805.12114.
    """

    nets: tuple[MLP, ...]
    states: Moments
    actions: Moments
    targets: Moments
    """Of (s' - s, r)."""
    updates: Scalar
    """How many batches the moments are of."""
    squash: Squash
    every: int = eqx.field(static=True, default=1)
    """The networks learn from every so many batches."""
    known_reward: KnownPart | None = eqx.field(static=True, default=None)
    """The reward of the environment, where it is known; None for the learned one."""
    known_go_on: KnownPart | None = eqx.field(static=True, default=None)
    """The probability that the episode goes on, where it is known; None for the learned one."""

    @property
    def members(self) -> int:
        """How many networks there are."""
        return len(self.nets)

    def output(self, net: MLP, obs: Obs, action: Float[Array, " a"]) -> Output:
        """What a network gives for the action squash(u) in one state."""
        raw = net(self.states.scaled(obs), self.actions.scaled(action))
        size = self.targets.mean.size
        mean, log_variance, logit = parts(raw, (size, size, 1))
        low, high = (jnp.full_like(mean, limit) for limit in LOG_VARIANCE)
        return Output(mean, soft_bound(log_variance, low, high), logit[0])

    def predict(self, obs: Obs, action: Float[Array, " a"], member: Int[Array, ""]) -> Prediction:
        found = self.output(chosen(self.nets, member), obs, action)
        change = self.targets.mean + self.targets.std * found.mean
        std = self.targets.std * jnp.exp(0.5 * found.log_variance)
        farthest = FARTHEST * self.states.std
        mean = jnp.clip(obs + change[:-1], self.states.mean - farthest, self.states.mean + farthest)
        reward = change[-1] if self.known_reward is None else self.known_reward(obs, action, mean)
        go_on = jax.nn.sigmoid(found.logit) if self.known_go_on is None else self.known_go_on(obs, action, mean)
        return Prediction(mean, std[:-1], reward, go_on)

    def loss(self, rows: Transition) -> tuple[Scalar, Info]:
        """The negative log-likelihood of steps [b], summed over members, and the distance of the moments to theirs."""
        action = jax.vmap(self.squash)(rows.action)
        target = jnp.concatenate([rows.next_obs - rows.obs, rows.reward[:, None]], axis=1)
        rate = weight_of_batch(self.updates)
        new = eqx.tree_at(
            lambda model: (model.states, model.actions, model.targets, model.updates),
            self,
            sg(
                (
                    self.states.moved(rows.obs, rate),
                    self.actions.moved(action, rate),
                    self.targets.moved(target, rate),
                    self.updates + 1.0,
                )
            ),
        )
        loss, info = every_nth(new, self.updates, lambda: new.fit(rows.obs, action, target, rows.discount))
        far = jnp.abs(jax.vmap(new.states.scaled)(rows.next_obs)).max(1) > FARTHEST
        return loss + distance(moments(self), moments(new)), info | {"model/outside": far.mean()}

    def fit(
        self, obs: Float[Array, "b o"], action: Float[Array, "b a"], target: Float[Array, "b n"], go_on: Array
    ) -> tuple[Scalar, Info]:
        """The loss of the networks on steps [b].

        Args:
            obs: s.
            action: squash(u).
            target: (s' - s, r).
            go_on: 0 where s' is terminal, else 1: a time limit is no end.
        """
        wanted = jax.vmap(self.targets.scaled)(target)
        outputs = [jax.vmap(ft.partial(self.output, net))(obs, action) for net in self.nets]
        nll = jnp.stack([gaussian_nll(each, wanted) for each in outputs])
        ends = jnp.stack([optax.sigmoid_binary_cross_entropy(each.logit, go_on).mean() for each in outputs])
        decay = jnp.stack([jnp.square(w).sum() for net in self.nets for w in (*net.first, *net.rest)]).sum()
        error = jnp.stack([jnp.square(each.mean - wanted).mean() for each in outputs])
        info = {"model/nll": nll.mean() / target.shape[1], "model/error": error.mean(), "model/ends": ends.mean()}
        return nll.sum() + ends.sum() + 0.5 * DECAY * decay, info


def gaussian_nll(output: Output, target: Float[Array, "b n"]) -> Scalar:
    """-log density of targets in nats, summed over their numbers and averaged over the batch."""
    squares = jnp.square(target - output.mean) * jnp.exp(-output.log_variance)
    return (0.5 * (squares + output.log_variance) + HALF_LOG_2_PI).sum(-1).mean()


def chosen(nets: Sequence[MLP], member: Int[Array, ""]) -> MLP:
    """The network of one member, whose number is not known when the program is compiled."""
    if len(nets) == 1:
        return nets[0]
    net: MLP = jax.tree.map(lambda *leaves: jnp.stack(leaves)[member], *nets)
    return net


def moments(model: Ensemble) -> Any:
    """The parameters that `FOLLOW` moves."""
    return model.states, model.actions, model.targets, model.updates


def every_nth(model: Ensemble, count: Scalar, fit: Callable[[], tuple[Scalar, Info]]) -> tuple[Scalar, Info]:
    """The loss in the turn of the networks, and 0 in other updates, in which nothing is computed.

    Scalars to log are multiplied by the number of updates from turn to turn, so that their mean over updates is right.

    Args:
        model: the ensemble, with the number of updates from turn to turn.
        count: updates before this one.
        fit: the loss in their turn, and scalars to log.
    """
    if model.every == 1:
        return fit()
    empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(fit))
    loss, info = jax.lax.cond(count % model.every == 0, fit, lambda: empty)
    return loss, {name: model.every * value for name, value in info.items()}


@ft.cache
def in_turn(every: int, tx: Optimiser) -> Optimiser:
    """An optimiser that moves in the first of every so many sound updates.

    Args:
        every: updates from one move to the next.
        tx: the optimiser.
    """

    def init(params: Any) -> Any:
        return jnp.zeros((), jnp.int32), tx.init(params)

    def update(grads: Any, state: Any, params: Any = None, *, sound: Bool[Array, ""]) -> tuple[Any, Any]:
        count, inner = state
        updates, inner = tx.update(grads, inner, params, sound=sound & (count % every == 0))
        return updates, (count + sound.astype(jnp.int32), inner)

    return optax.GradientTransformationExtraArgs(init, update)


class WorldModel(Likelihood):
    """A critic, and beside it a model of the environment that learns from the same batches.

    As an estimate of Q̂ it is the critic, so that targets have no imagined steps. `imagined.Expand` is the view of it
    that has them.
    """

    critic: Likelihood
    dynamics: Any
    """A `Model`; one that learns has a `loss` of steps [b]."""

    def __call__(self, problem: Problem, action: Action, key: Key) -> Scalar:
        return self.critic(problem, action, key)

    def relative_to(self, obs: Obs, start: Callable[[], Action]) -> Likelihood:
        return self.critic.relative_to(obs, start)

    def loss(self, batch: Transition, bootstrap: Bootstrap, key: Key) -> tuple[Scalar, Info]:
        loss, info = self.critic.loss(batch, bootstrap, key)
        if not hasattr(self.dynamics, "loss"):
            return loss, info
        of_model, model_info = self.dynamics.loss(flatten(batch))
        return loss + of_model, info | model_info


def ensemble(spec: Spec, hidden: Sequence[int], members: int, every: int = 1, *, key: Key) -> Ensemble:
    """A fresh ensemble for an environment, which predicts that nothing changes and that the episode goes on.

    Args:
        spec: the environment.
        hidden: sizes of the hidden layers of each network.
        members: how many networks.
        every: updates from one step of the networks to the next.
        key: a random key.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep import Spec, make_key
        >>> from estep.likelihoods.dynamics import ensemble
        >>> model = ensemble(Spec(obs_dim=3, action_dim=2), (8,), members=2, key=make_key(0))
        >>> found = model.predict(jnp.zeros(3), jnp.zeros(2), member=jnp.asarray(1))
        >>> found.mean.shape, round(float(found.go_on), 2)
        ((3,), 0.99)
    """
    size = spec.obs_dim + 1
    bias = jnp.zeros(2 * size + 1).at[-1].set(GO_ON)

    def member(key: Key) -> MLP:
        inputs = spec.obs_dim, spec.action_dim
        net: Any = mlp(inputs, 2 * size + 1, hidden, key=key, activation=jax.nn.silu, head=small_init)
        made: MLP = with_bias(net, bias)  # type: ignore[assignment]
        return made

    nets = tuple(member(k) for k in jax.random.split(key, members))
    states, actions, targets = (Moments(jnp.zeros(n), jnp.ones(n)) for n in (spec.obs_dim, spec.action_dim, size))
    return Ensemble(nets, states, actions, targets, jnp.zeros(()), spec.squash, every)


def optimiser(model: WorldModel, critic: Optimiser, learning_rate: float) -> Optimiser:
    """The optimiser of a critic and of the ensemble beside it.

    Args:
        model: both; its dynamics is an `Ensemble`.
        critic: the optimiser of the critic.
        learning_rate: the size of a step of the networks of the ensemble.
    """
    return pieces((_size(model.critic), critic), *pieces_of(model.dynamics, learning_rate))


def pieces_of(model: Ensemble, learning_rate: float) -> tuple[tuple[int, Optimiser], ...]:
    """The parameters of an ensemble as `optim.pieces` takes them: its networks, and the moments that follow the data.

    Args:
        model: the ensemble.
        learning_rate: the size of a step of its networks.
    """
    learns = adam(learning_rate) if model.every == 1 else in_turn(model.every, adam(learning_rate))
    return (_size(model.nets), learns), (_size(moments(model)), FOLLOW)


def _size(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
