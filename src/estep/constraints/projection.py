"""How the M-step fits the prior to the posterior."""

from __future__ import annotations

from jaxtyping import Array, Float

from estep.core.learned import Learned
from estep.core.protocols import Draws, Prior, Projection
from estep.core.types import Info


class Keep(Projection):
    """Leave the prior as it is."""

    def __call__(self, prior: Learned[Prior], draws: Draws, obs: Float[Array, "b o"]) -> tuple[Learned[Prior], Info]:
        return prior, {}
