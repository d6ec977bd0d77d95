"""Writes rlax_mpo.json: MPO's weights, losses and gradients by rlax 0.1.9 (`rlax.mpo_loss`), in float64.

rlax needs packages that estep does not. To make the file again:

    python -m venv rlax && rlax/bin/pip install rlax==0.1.9
    rlax/bin/python tests/oracles/make_rlax_fixture.py
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import rlax

jax.config.update("jax_enable_x64", True)
B, N, A = 5, 7, 3
EPSILON, EPSILON_MEAN, EPSILON_SCALE = 0.1, 0.01, 0.002


def inputs():
    rng = np.random.default_rng(0)
    old_mu, old_log_sigma = 0.5 * rng.standard_normal((B, A)), 0.3 * rng.standard_normal((B, A)) - 0.5
    return {
        "value": 3.0 * rng.standard_normal((B, N)),
        "old_mu": old_mu,
        "old_log_sigma": old_log_sigma,
        "mu": old_mu + 0.2 * rng.standard_normal((B, A)),
        "log_sigma": old_log_sigma + 0.1 * rng.standard_normal((B, A)),
        "action": old_mu[:, None] + np.exp(old_log_sigma)[:, None] * rng.standard_normal((B, N, A)),
        "eta": np.array(0.7),
        "alpha_mean": np.array([0.3, 4.0, 1.5]),
        "alpha_scale": np.array([20.0, 0.5, 6.0]),
    }


def log_prob(action, mu, log_sigma):
    z = (action - mu[:, None]) * jnp.exp(-log_sigma)[:, None]
    return (-0.5 * z**2 - log_sigma[:, None] - 0.5 * jnp.log(2 * jnp.pi)).sum(-1)


def kl(mu, log_sigma, other_mu, other_log_sigma):
    """KL(N(μ, σ)‖N(μ', σ')) of each dimension."""
    gap = (mu - other_mu) ** 2 + jnp.exp(2 * log_sigma)
    return other_log_sigma - log_sigma + 0.5 * gap * jnp.exp(-2 * other_log_sigma) - 0.5


def loss(kind, x, mu, log_sigma, eta, alpha_mean, alpha_scale):
    """The sum that rlax minimises in all its arguments at once, and its outputs."""
    old = x["old_mu"], x["old_log_sigma"]
    if kind == "coupled":
        fitted = log_prob(x["action"], mu, log_sigma)
        penalties = [(kl(*old, mu, log_sigma).sum(-1), alpha_mean, EPSILON_MEAN)]
    else:
        fitted = log_prob(x["action"], mu, old[1]) + log_prob(x["action"], old[0], log_sigma)
        kls = kl(*old, mu, old[1]), kl(*old, old[0], log_sigma)
        kls = kls if kind == "per-dimension" else tuple(each.sum(-1) for each in kls)
        penalties = list(zip(kls, (alpha_mean, alpha_scale), (EPSILON_MEAN, EPSILON_SCALE), strict=True))
    each = kind == "per-dimension"
    total, out = rlax.mpo_loss(
        fitted,
        x["value"],
        rlax.LagrangePenalty(eta, jnp.asarray(EPSILON)),
        [(k, rlax.LagrangePenalty(alpha, jnp.asarray(epsilon), each)) for k, alpha, epsilon in penalties],
        sample_axis=1,
    )
    return total.mean(), out


def main():
    x = {name: jnp.asarray(value) for name, value in inputs().items()}
    cases = {}
    for kind in ("per-dimension", "joint", "coupled"):
        alphas = [x[name] if kind == "per-dimension" else x[name][0] for name in ("alpha_mean", "alpha_scale")]
        arguments = x["mu"], x["log_sigma"], x["eta"], *alphas
        both = jax.value_and_grad(lambda *args, kind=kind: loss(kind, x, *args), argnums=(0, 1, 2, 3, 4), has_aux=True)
        (_, out), grads = both(*arguments)
        cases[kind] = {
            "weights": out.normalized_weights,
            "prior_loss": (out.policy_loss + out.kl_loss).mean(),
            **dict(zip(("d_mu", "d_log_sigma", "d_eta", "d_alpha_mean", "d_alpha_scale"), grads, strict=True)),
        }
    epsilons = {"epsilon": EPSILON, "epsilon_mean": EPSILON_MEAN, "epsilon_scale": EPSILON_SCALE}
    everything = jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), {"inputs": x, **epsilons, "cases": cases})
    Path(__file__).with_name("rlax_mpo.json").write_text(json.dumps(everything) + "\n")


if __name__ == "__main__":
    main()
