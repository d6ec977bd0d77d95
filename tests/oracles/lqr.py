"""Soft LQR in closed form: s' = A s + B a + w, reward -(sᵀQs + aᵀRa)/2, prior N(K_p s, Σ_p) or Improper (Γ = 0)."""

from typing import NamedTuple

import numpy as np


class LQR(NamedTuple):
    a: np.ndarray
    b: np.ndarray
    q: np.ndarray
    r: np.ndarray
    w: np.ndarray
    """Covariance of the noise."""
    gamma: float
    alpha: float
    prior: tuple[np.ndarray, np.ndarray] | None = None
    """K_p and Σ_p; none for the Improper prior."""

    def reward(self, s, u):
        return -0.5 * (np.einsum("...i,ij,...j", s, self.q, s) + np.einsum("...i,ij,...j", u, self.r, u))

    @property
    def prior_gain(self):
        return np.zeros((self.b.shape[1], self.a.shape[0])) if self.prior is None else self.prior[0]

    @property
    def pull(self):
        """Γ = α Σ_p⁻¹."""
        return np.zeros_like(self.r) if self.prior is None else self.alpha * np.linalg.inv(self.prior[1])


def optimum(x: LQR):
    """K*, Σ*, P and c with V*(s) = -sᵀPs/2 + c."""
    d, pull, k_p = x.b.shape[1], x.pull, x.prior_gain
    p = np.zeros_like(x.q)
    for _ in range(2000):
        h, g = x.r + x.gamma * x.b.T @ p @ x.b, x.gamma * x.b.T @ p @ x.a
        m = pull @ k_p - g
        f = x.q + x.gamma * x.a.T @ p @ x.a
        p = f + k_p.T @ pull @ k_p - m.T @ np.linalg.solve(pull + h, m)
    gain, sigma = np.linalg.solve(pull + h, m), x.alpha * np.linalg.inv(pull + h)
    base = (
        0.5 * x.alpha * d * np.log(2 * np.pi) if x.prior is None else -0.5 * x.alpha * np.linalg.slogdet(x.prior[1])[1]
    )
    c = -0.5 * x.gamma * np.trace(p @ x.w) + 0.5 * x.alpha * np.linalg.slogdet(sigma)[1] + base
    return gain, sigma, p, c / (1 - x.gamma)


def value(x: LQR, gain, sigma):
    """P and c of the policy N(K s, Σ)."""
    d, k = x.b.shape[1], gain
    gap = k - x.prior_gain
    closed = x.a + x.b @ k
    p = np.zeros_like(x.q)
    for _ in range(2000):
        p = x.q + k.T @ x.r @ k + gap.T @ x.pull @ gap + x.gamma * closed.T @ p @ closed
    if x.prior is None:
        kl = -0.5 * (d + d * np.log(2 * np.pi) + np.linalg.slogdet(sigma)[1])
    else:
        kl = 0.5 * (np.trace(np.linalg.solve(x.prior[1], sigma)) - d)
        kl += 0.5 * (np.linalg.slogdet(x.prior[1])[1] - np.linalg.slogdet(sigma)[1])
    cost = 0.5 * np.trace((x.r + x.gamma * x.b.T @ p @ x.b) @ sigma) + 0.5 * x.gamma * np.trace(p @ x.w)
    return p, (-cost - x.alpha * kl) / (1 - x.gamma)


def problem(prior: bool = False) -> LQR:
    """Two states, one of them slow, and two actions."""
    a = np.array([[0.9, 0.2], [0.0, 0.8]])
    b = np.array([[0.5, 0.1], [0.0, 0.6]])
    p = (np.array([[0.2, 0.0], [-0.1, 0.3]]), np.diag([0.5, 0.8])) if prior else None
    return LQR(a, b, np.diag([1.0, 0.5]), np.diag([0.6, 1.0]), 0.01 * np.eye(2), 0.8, 0.5, p)
