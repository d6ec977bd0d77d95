"""The M-step of a prior that several tasks share: the likelihood of what their posteriors do."""

from __future__ import annotations

import jax
from jaxtyping import Array, Float

from estep.core.learned import Learned
from estep.core.slots import Draws, Prior, Projection
from estep.core.types import Info, Obs, Scalar


class Distil(Projection):
    """max_θ E_s E_q log p_θ(a|s), on the samples of the E-step. The posterior gets no gradient.

    Where p sees less than q does, its optimum is the mixture of all q that look the same to it; of a Gaussian p, the
    Gaussian of the mixture's mean and variance.

    Source:
        Teh et al. 2017, arXiv:1707.04175; Galashov et al. 2019, arXiv:1905.01240.
    """

    def __call__(self, prior: Learned[Prior], draws: Draws, obs: Float[Array, "b o"]) -> tuple[Learned[Prior], Info]:
        def one(model: Prior, obs: Obs, draws: Draws) -> Scalar:
            return draws.weight @ jax.vmap(model(obs).log_prob)(draws.action)

        def loss(model: Prior) -> tuple[Scalar, Info]:
            fitted = jax.vmap(one, (None, 0, 0))(model, obs, draws).mean()
            return -fitted, {"m/fit": fitted}

        return prior.descend(loss)
