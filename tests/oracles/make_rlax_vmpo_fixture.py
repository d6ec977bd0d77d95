"""Writes rlax_vmpo.json: V-MPO's weights, losses and gradients by rlax 0.1.9 (`rlax.vmpo_loss`), in float64.

Made as `make_rlax_fixture.py` says.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import rlax
from make_rlax_fixture import kl, log_prob

jax.config.update("jax_enable_x64", True)
B, A = 13, 3
EPSILON, EPSILON_KL = 0.1, 0.01


def inputs():
    rng = np.random.default_rng(1)
    old_mu, old_log_sigma = 0.5 * rng.standard_normal((B, A)), 0.3 * rng.standard_normal((B, A)) - 0.5
    return {
        "advantage": 2.0 * rng.standard_normal(B),
        "old_mu": old_mu,
        "old_log_sigma": old_log_sigma,
        "mu": old_mu + 0.2 * rng.standard_normal((B, A)),
        "log_sigma": old_log_sigma + 0.1 * rng.standard_normal((B, A)),
        "action": old_mu + np.exp(old_log_sigma) * rng.standard_normal((B, A)),
        "eta": np.array(0.7),
        "alpha": np.array(3.0),
    }


def loss(x, mu, log_sigma, eta, alpha):
    total, out = rlax.vmpo_loss(
        log_prob(x["action"][:, None], mu, log_sigma)[:, 0],
        x["advantage"],
        rlax.LagrangePenalty(eta, jnp.asarray(EPSILON)),
        [
            (
                kl(x["old_mu"], x["old_log_sigma"], mu, log_sigma).sum(-1),
                rlax.LagrangePenalty(alpha, jnp.asarray(EPSILON_KL)),
            )
        ],
    )
    return total.mean(), out


def main():
    x = {name: jnp.asarray(value) for name, value in inputs().items()}
    both = jax.value_and_grad(lambda *args: loss(x, *args), argnums=(0, 1, 2, 3), has_aux=True)
    (_, out), grads = both(x["mu"], x["log_sigma"], x["eta"], x["alpha"])
    found = {"weights": out.normalized_weights, "temperature_loss": out.temperature_loss}
    found |= dict(zip(("d_mu", "d_log_sigma", "d_eta", "d_alpha"), grads, strict=True))
    everything = {"inputs": x, "epsilon": EPSILON, "epsilon_kl": EPSILON_KL, "outputs": found}
    text = json.dumps(jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), everything))
    Path(__file__).with_name("rlax_vmpo.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
