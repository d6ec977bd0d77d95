"""Inference in one dimension by quadrature, in float64: a is in [-1, 1] and q a tanh-Gaussian."""

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp, roots_legendre

HERMITE = np.polynomial.hermite_e.hermegauss(96)
LEGENDRE = roots_legendre(2000)  # numpy takes seconds for it


def log_z(q, alpha, log_prior=0.0):
    """α log ∫ p(a) exp(Q/α) da over the box."""
    a, w = LEGENDRE
    return alpha * logsumexp(np.log(w) + log_prior + q(a) / alpha)


def objective(q, alpha, mu, log_sigma, log_prior=0.0):
    """J = E_q[Q - α log q(a)/p(a)]."""
    x, w = HERMITE
    u = mu + np.exp(log_sigma) * x
    log_det = -2 * (np.abs(u) - np.log(2) + np.log1p(np.exp(-2 * np.abs(u))))
    log_q = -0.5 * x**2 - log_sigma - 0.5 * np.log(2 * np.pi) - log_det
    return w @ (q(np.tanh(u)) - alpha * (log_q - log_prior)) / np.sqrt(2 * np.pi)


def divergence(q, alpha, mu, log_sigma, log_prior=0.0):
    """KL(q‖posterior), integrated over a and not over u."""
    a, w = LEGENDRE
    u = np.arctanh(a)
    log_q = -0.5 * ((u - mu) * np.exp(-log_sigma)) ** 2 - log_sigma - 0.5 * np.log(2 * np.pi) - np.log1p(-a * a)
    log_posterior = log_prior + q(a) / alpha - log_z(q, alpha, log_prior) / alpha
    return w @ (np.exp(log_q) * (log_q - log_posterior))


def best(q, alpha, starts=8):
    """The best tanh-Gaussian, from several starts: J and its (μ, log σ)."""
    rng = np.random.default_rng(0)
    begin = [np.array([mu, -1.0]) for mu in rng.uniform(-1.5, 1.5, starts)]
    runs = [
        minimize(lambda x: -objective(q, alpha, *x), x, method="L-BFGS-B", bounds=[(-4, 4), (-8, 2)]) for x in begin
    ]
    found = min(runs, key=lambda run: run.fun)
    return -found.fun, found.x
