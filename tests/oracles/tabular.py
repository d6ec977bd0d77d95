"""Small tabular problems: exact values, and every path of T steps with its probability, in float64."""

import itertools
from typing import NamedTuple

import numpy as np


class MDP(NamedTuple):
    p: np.ndarray
    """P(s'|s, a), [s, a, s']."""
    reward: np.ndarray
    """[s, a]."""
    end: np.ndarray
    """Whether arriving in s' is the end, [s']."""
    truncated: float
    """Probability that a time limit cuts the episode after a step that does not end it."""
    gamma: float


def problem(seed, states=3, actions=2):
    """A random one, whose last state is terminal."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(states), (states, actions))
    end = np.arange(states) == states - 1
    return MDP(p, rng.normal(size=(states, actions)), end.astype(float), 0.3, 0.9)


def policy(seed, states=3, actions=2):
    """Random probabilities [s, a], none of them small."""
    return np.random.default_rng(seed).dirichlet(3 * np.ones(actions), states)


def onward(m, value):
    """γ E_s'[(1 - e) V(s')], [s, a]."""
    return m.gamma * m.p @ ((1 - m.end) * value)


def evaluate(m, pi, kappa):
    """Q^π and V^π = E_π Q^π - κ, solved as linear equations."""
    step = m.gamma * np.einsum("sa,sat->st", pi, m.p * (1 - m.end))
    value = np.linalg.solve(np.eye(len(pi)) - step, (pi * m.reward).sum(1) - kappa)
    return m.reward + onward(m, value), value


class Paths(NamedTuple):
    """All paths of T steps from every state, on and on through the ends of episodes: [n, T], and what each weighs."""

    weight: np.ndarray
    state: np.ndarray
    action: np.ndarray
    after: np.ndarray
    last: np.ndarray


def paths(m, mu, length):
    """Every path of a behaviour μ. After the end of an episode the next begins in state 0."""
    states, actions = mu.shape
    steps = itertools.product(range(states * actions * 2), repeat=length)
    starts, choices = zip(*itertools.product(range(states), steps), strict=True)
    choices = np.array(choices)
    after, rest = choices % states, choices // states
    action, cut = rest % actions, rest // actions
    state, last, weight = np.empty_like(after), np.empty(after.shape), np.ones(len(after))
    now = np.array(starts)
    for t in range(length):
        a, to = action[:, t], after[:, t]
        chance = np.where(cut[:, t] == 1, m.truncated, 1 - m.truncated)
        weight *= mu[now, a] * m.p[now, a, to] * np.where(m.end[to] == 1, 1.0 - cut[:, t], chance)
        state[:, t], last[:, t] = now, np.maximum(m.end[to], cut[:, t])
        now = np.where(last[:, t] == 1, 0, to)
    return Paths(*(leaf[weight > 0] for leaf in (weight, state, action, after, last)))
