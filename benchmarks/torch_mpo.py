"""MPO in torch, vectorised, after Tonic's (Pardo 2020, arXiv:2011.07537): what `mpo.py` holds estep against.

It is written to be fast on a CPU: as in Tonic, one pass of a network for all draws of all states and one optimiser for
all multipliers; and, other than there, one backward pass for everything, formulas instead of distribution objects, and
replay that is already in tensors.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

from contenders import BATCH, ENV, FILLED, HIDDEN

if TYPE_CHECKING:
    from race import Gate

DISCOUNT, EVERY, LEARNING_RATE, DUAL_RATE = 0.99, 100, 3e-4, 1e-2
EPSILON, EPSILON_BOX, EPSILON_MEAN, EPSILON_STD = 0.1, 1e-3, 2.5e-3, 1e-6
LEAST_DUAL = -18.0
LOG_STD = -10.0, 2.0


class MPO:
    """Networks, their slow copies, and one update of all of them."""

    def __init__(self, critics: int, samples: int, observation: int, action: int) -> None:
        import torch

        self.torch, self.samples, self.action, self.count = torch, samples, action, 0
        self.actor = net(observation, 2 * action)
        self.critics = torch.nn.ModuleList([net(observation + action, 1) for _ in range(critics)])
        self.slow_actor = net(observation, 2 * action)
        self.slow_critics = torch.nn.ModuleList([net(observation + action, 1) for _ in range(critics)])
        self.copy()
        start = [math.log(10.0), math.log(10.0), *[math.log(10.0)] * action, *[math.log(1000.0)] * action]
        self.log_dual = torch.nn.Parameter(torch.tensor(start))
        self.actor_adam = torch.optim.Adam(self.actor.parameters(), LEARNING_RATE)
        self.critic_adam = torch.optim.Adam(self.critics.parameters(), LEARNING_RATE)
        self.dual_adam = torch.optim.Adam([self.log_dual], DUAL_RATE)

    def copy(self) -> None:
        """Hard copies."""
        self.slow_actor.load_state_dict(self.actor.state_dict())
        self.slow_critics.load_state_dict(self.critics.state_dict())

    def policy(self, actor: Any, obs: Any) -> tuple[Any, Any]:
        """Mean and log standard deviation [b, a]."""
        mean, log_std = actor(obs).chunk(2, -1)
        return mean, log_std.clamp(*LOG_STD)

    def draws(self, obs: Any) -> tuple[Any, Any, Any, Any]:
        """n actions [n, b, a] of the slow policy, their slow values [n, b], and that policy."""
        torch = self.torch
        mean, log_std = self.policy(self.slow_actor, obs)
        actions = mean + log_std.exp() * torch.randn(self.samples, *mean.shape)
        many = obs.expand(self.samples, *obs.shape)
        inputs = torch.cat([many, actions.clamp(-1.0, 1.0)], -1).flatten(0, 1)
        values = torch.cat([critic(inputs) for critic in self.slow_critics], -1).amin(-1)
        return actions, values.view(self.samples, -1), mean, log_std

    def weights(self, values: Any, epsilon: float, temperature: Any) -> tuple[Any, Any]:
        """Weights over the draws of each state, and the dual of their temperature."""
        torch = self.torch
        tempered = values / temperature
        log_sum = torch.logsumexp(tempered, 0)
        dual = temperature * (epsilon + log_sum.mean() - math.log(self.samples))
        return (tempered - log_sum).detach().exp(), dual

    def update(self, obs: Any, action: Any, reward: Any, discount: Any, next_obs: Any) -> None:
        """One of everything."""
        torch = self.torch
        with torch.no_grad():
            target = reward + DISCOUNT * discount * self.draws(next_obs)[1].mean(0)
            actions, values, old_mean, old_log_std = self.draws(obs)
        inputs = torch.cat([obs, action.clamp(-1.0, 1.0)], -1)
        critic_loss = sum(0.5 * (critic(inputs)[:, 0] - target).square().mean() for critic in self.critics)
        policy_loss = self.policy_loss(obs, actions, values, old_mean, old_log_std)
        for adam in (self.critic_adam, self.actor_adam, self.dual_adam):
            adam.zero_grad(set_to_none=True)
        (critic_loss + policy_loss).backward()
        for adam in (self.critic_adam, self.actor_adam, self.dual_adam):
            adam.step()
        self.count += 1
        if self.count % EVERY == 0:
            self.copy()

    def policy_loss(self, obs: Any, actions: Any, values: Any, old_mean: Any, old_log_std: Any) -> Any:
        """Of the policy, its multipliers and both temperatures: no gradient goes from one to another."""
        torch = self.torch
        with torch.no_grad():
            self.log_dual.clamp_(min=LEAST_DUAL)
        dual = self.log_dual.exp()
        outside = -torch.linalg.vector_norm(actions - actions.clamp(-1.0, 1.0), dim=-1)
        weight, temperature_loss = self.weights(values, EPSILON, dual[0])
        weight_box, box_loss = self.weights(outside, EPSILON_BOX, dual[1])
        weight = weight + weight_box
        mean, log_std = self.policy(self.actor, obs)
        fit_mean = (weight * log_density(actions, mean, old_log_std)).sum(0).mean()
        fit_std = (weight * log_density(actions, old_mean, log_std)).sum(0).mean()
        kl_mean = (0.5 * ((mean - old_mean) / old_log_std.exp()).square()).mean(0)
        ratio = old_log_std - log_std
        kl_std = (0.5 * ((2.0 * ratio).exp() - 1.0) - ratio).mean(0)
        alpha_mean, alpha_std = dual[2:].chunk(2)
        penalty = (alpha_mean.detach() * kl_mean).sum() + (alpha_std.detach() * kl_std).sum()
        multipliers = (alpha_mean * (EPSILON_MEAN - kl_mean.detach())).sum()
        multipliers = multipliers + (alpha_std * (EPSILON_STD - kl_std.detach())).sum()
        return penalty - fit_mean - fit_std + multipliers + temperature_loss + box_loss


def log_density(actions: Any, mean: Any, log_std: Any) -> Any:
    """Of a diagonal Gaussian, up to a constant."""
    return -(0.5 * ((actions - mean) / log_std.exp()).square() + log_std).sum(-1)


def net(inputs: int, outputs: int) -> Any:
    """Two hidden layers."""
    from torch import nn

    sizes = (inputs, *HIDDEN)
    layers = [layer for i, o in itertools.pairwise(sizes) for layer in (nn.Linear(i, o), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))


def filled() -> tuple[list[Any], int, int]:
    """Random steps as tensors (obs, action, reward, discount, next_obs), and the sizes of two of them."""
    import gymnasium
    import numpy as np
    import torch

    env = gymnasium.make(ENV)
    obs, _ = env.reset(seed=0)
    env.action_space.seed(0)
    steps = []
    for _ in range(FILLED):
        action = env.action_space.sample()
        after, reward, terminated, truncated, _ = env.step(action)
        steps.append((obs, action, reward, 1.0 - terminated, after))
        obs = env.reset()[0] if terminated or truncated else after
    columns = [torch.as_tensor(np.asarray(column, np.float32)) for column in zip(*steps, strict=True)]
    return columns, columns[0].shape[1], columns[1].shape[1]


def updates(critics: int, samples: int, gate: Gate) -> None:
    """Updates with their sampling."""
    import torch

    columns, observation, action = filled()
    mpo = MPO(critics, samples, observation, action)
    while not gate():
        rows = torch.randint(FILLED, (BATCH,))
        mpo.update(*(column[rows] for column in columns))
