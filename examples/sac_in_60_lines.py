"""Soft actor-critic in plain JAX: one update, without any code of the library.

Read it beside src/estep/algorithms/sac.py. The test suite holds the library's update to these formulas, by number.
All losses are taken at the old parameters; then everything steps at once (Haarnoja et al. 2018, arXiv:1812.05905).
"""

from itertools import pairwise

import jax
import jax.numpy as jnp

GAMMA, TAU, RATE, LOW, HIGH = 0.99, 0.005, 3e-4, -10.0, 2.0


def net(params, *inputs):
    x = jnp.concatenate(inputs)
    for i, (w, b) in enumerate(params):
        x = x @ w + b
        x = jnp.maximum(x, 0.0) if i < len(params) - 1 else x
    return x


def act(policy, s, noise):
    """An action and the log density of its tanh."""
    mu, raw = jnp.split(net(policy, s), 2)
    log_sigma = LOW + jax.nn.softplus(HIGH - jax.nn.softplus(HIGH - raw) - LOW)
    u = mu + jnp.exp(log_sigma) * noise
    gauss = (-0.5 * noise**2 - log_sigma - 0.5 * jnp.log(2 * jnp.pi)).sum()
    return jnp.tanh(u), gauss - (2 * (jnp.log(2.0) - u - jax.nn.softplus(-2 * u))).sum()


def adam(params, grads, moments, t):
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, moments[0], grads)
    v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, moments[1], grads)
    step = lambda p, m, v: p - RATE * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return jax.tree.map(step, params, m, v), (m, v)


def update(state, moments, t, batch, noise, next_noise):
    """`state` = (policy, (critic, critic), (target, target), log α); `batch` = (s, u, r, 1 - e, s')."""
    policy, critics, targets, log_alpha = state
    s, u, r, alive, s_next = batch
    lowest = lambda nets, s, a: jnp.minimum(net(nets[0], s, a)[0], net(nets[1], s, a)[0])
    alpha = jnp.exp(log_alpha)

    def policy_loss(policy):
        a, log_pi = jax.vmap(act, (None, 0, 0))(policy, s, noise)
        return (alpha * log_pi - jax.vmap(lowest, (None, 0, 0))(critics, s, a)).mean(), log_pi

    grads, log_pi = jax.grad(policy_loss, has_aux=True)(policy)
    new_policy, m_policy = adam(policy, grads, moments[0], t)
    alpha_loss = lambda log_alpha: -(jnp.exp(log_alpha) * (log_pi - u.shape[1])).mean()
    new_log_alpha, m_alpha = adam(log_alpha, jax.grad(alpha_loss)(log_alpha), moments[2], t)

    a_next, log_next = jax.vmap(act, (None, 0, 0))(policy, s_next, next_noise)
    value = jax.vmap(lowest, (None, 0, 0))(targets, s_next, a_next) - alpha * log_next
    y = r + GAMMA * alive * value
    q = lambda critic: jax.vmap(lambda s, u: net(critic, s, jnp.tanh(u))[0])(s, u)
    critic_loss = lambda critics: sum(0.5 * ((q(critic) - y) ** 2).mean() for critic in critics)
    critics, m_critic = adam(critics, jax.grad(critic_loss)(critics), moments[1], t)
    targets = jax.tree.map(lambda new, old: (1 - TAU) * old + TAU * new, critics, targets)
    return (new_policy, critics, targets, new_log_alpha), (m_policy, m_critic, m_alpha)


def fresh(key, sizes):
    """Weights and zero biases of a network."""
    keys = jax.random.split(key, len(sizes) - 1)
    pairs = list(pairwise(sizes))
    return [(jax.random.normal(k, (i, o)) / i**0.5, jnp.zeros(o)) for k, (i, o) in zip(keys, pairs, strict=True)]


def main():
    """Update networks of 3 observations and 1 action on one batch, again and again: the critic's loss falls."""
    k_pi, k_1, k_2, k_data = jax.random.split(jax.random.key(0), 4)
    policy, critics = fresh(k_pi, (3, 32, 2)), (fresh(k_1, (4, 32, 1)), fresh(k_2, (4, 32, 1)))
    state = policy, critics, critics, jnp.zeros(())
    moments = tuple((jax.tree.map(jnp.zeros_like, x),) * 2 for x in (policy, critics, state[3]))
    s, u, r, s_next, *noise = (
        jax.random.normal(k, (64, n)) for k, n in zip(jax.random.split(k_data, 6), (3, 1, 1, 3, 1, 1), strict=True)
    )
    batch, step = (s, u, r[:, 0], jnp.ones(64), s_next), jax.jit(update)
    for t in range(1, 201):
        state, moments = step(state, moments, t, batch, *noise)
    print(f"temperature after 200 updates: {float(jnp.exp(state[3])):.3f}")


if __name__ == "__main__":
    main()
