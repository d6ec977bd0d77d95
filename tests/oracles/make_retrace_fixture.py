"""Writes default_policy_target.json: one sequence, and the critic's targets of Galashov et al. 2019.

The targets are made twice, and must agree to 1e-6: by the sum of Munos et al. 2016, eq. 3, in plain NumPy, with
V(s) = mean_i Q(s, a_i) - α KL(π‖p) as in Galashov et al. 2019; and by the public Retrace of the same group, in rlax
0.1.9, given the same values. The values of the public agent (acme, svg0_prior), which needs TensorFlow 2, are written
after its source. rlax needs packages that estep does not. To make the file again:

    python -m venv rlax && rlax/bin/pip install rlax==0.1.9
    rlax/bin/python tests/oracles/make_retrace_fixture.py
"""

import json
from pathlib import Path

import numpy as np

T, A, SAMPLES, GAMMA, ALPHA = 6, 2, 4, 0.97, 0.3
LAST = 2
"""The step at which an episode ends by its time limit; the next step begins another one."""
TERMINAL = T - 1


def inputs():
    rng = np.random.default_rng(3)
    normal = rng.standard_normal
    return {
        "policy_mu": 0.5 * normal((2 * T, A)),
        "policy_log_sigma": 0.3 * normal((2 * T, A)) - 0.5,
        "prior_mu": 0.5 * normal((2 * T, A)),
        "prior_log_sigma": 0.3 * normal((2 * T, A)),
        "q_bias": normal(2 * T),
        "q_slope": normal((2 * T, A)),
        "noise": normal((SAMPLES, A)),
        "action": 0.8 * normal((T, A)),
        "behaviour_log_prob": -2.0 + 0.5 * normal(T),
        "reward": normal(T),
    }


def log_prob(u, mu, log_sigma):
    return (-0.5 * ((u - mu) * np.exp(-log_sigma)) ** 2 - log_sigma - 0.5 * np.log(2 * np.pi)).sum(-1)


def kl(x):
    """KL(π‖p) in every state."""
    mu, s, pm, ps = (x[name] for name in ("policy_mu", "policy_log_sigma", "prior_mu", "prior_log_sigma"))
    return (ps - s + 0.5 * (np.exp(2 * s) + (mu - pm) ** 2) * np.exp(-2 * ps) - 0.5).sum(-1)


def q(x, state, u):
    """Q(s, a) = bias_s + slope_s · a - |a|² with a = tanh u."""
    a = np.tanh(u)
    return x["q_bias"][state] + (a * x["q_slope"][state]).sum(-1) - (a * a).sum(-1)


def parts(x):
    """Q(s_t, a_t), V(s'_t), c_t and the discounts. Step t goes from state 2t to state 2t + 1."""
    here, after = 2 * np.arange(T), 2 * np.arange(T) + 1
    points = x["policy_mu"][:, None] + np.exp(x["policy_log_sigma"])[:, None] * x["noise"][None]
    value = np.array([q(x, s, points[s]).mean() for s in range(2 * T)]) - ALPHA * kl(x)
    own = log_prob(x["action"], x["policy_mu"][here], x["policy_log_sigma"][here])
    alive = np.ones(T)
    alive[TERMINAL] = 0.0
    return q(x, here, x["action"]), value[after], own - x["behaviour_log_prob"], GAMMA * alive


def by_sum(x):
    """Q_t + Σ_{k ≥ t} γ^{k-t} (Π_{t < i ≤ k} c_i) (r_k + γ (1 - e_k) V_k - Q_k), within an episode."""
    q_here, v_after, log_rho, discount = parts(x)
    c, targets = np.minimum(1.0, np.exp(log_rho)), []
    for t in range(T):
        end = LAST if t <= LAST else T - 1
        total = q_here[t]
        for k in range(t, end + 1):
            total += (
                GAMMA ** (k - t) * np.prod(c[t + 1 : k + 1]) * (x["reward"][k] + discount[k] * v_after[k] - q_here[k])
            )
        targets.append(total)
    return np.array(targets)


def by_rlax(x):
    """The same by `rlax.general_off_policy_returns_from_q_and_v`, for each of the two episodes."""
    import rlax

    q_here, v_after, log_rho, discount = parts(x)
    c, found = np.minimum(1.0, np.exp(log_rho)), []
    for part in (slice(0, LAST + 1), slice(LAST + 1, T)):
        one = [np.asarray(y[part], np.float32) for y in (q_here, v_after, x["reward"], discount, c)]
        found.append(rlax.general_off_policy_returns_from_q_and_v(one[0][1:], *one[1:4], one[4][1:]))
    return np.concatenate(found)


if __name__ == "__main__":
    made = inputs()
    target = by_sum(made)
    np.testing.assert_allclose(by_rlax(made), target, atol=1e-6, rtol=1e-6)
    made |= {"target": target}
    path = Path(__file__).with_name("default_policy_target.json")
    numbers = {name: value.tolist() for name, value in made.items()}
    path.write_text(json.dumps(numbers | {"gamma": GAMMA, "alpha": ALPHA, "last": LAST, "terminal": TERMINAL}) + "\n")
