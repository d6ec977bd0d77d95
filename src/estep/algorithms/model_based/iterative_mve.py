"""Iterative amortised inference on imagined steps (Marino et al. 2021, arXiv:2010.10670).

prior        flat                  p(a|s) ∝ 1, so that -KL(q‖p) = H(q)
posterior    tanh-Gaussian         q(u; λ), λ = (μ, log σ), a = tanh u
inference    iterative amortised   λ ← ω λ + (1-ω) f_φ(s, λ, ∇_λ V), N times, from a direct network
likelihood   twin Q and a model    Q̂(s,a) = λ-return of h steps of the model, then mean_k Q_k - β std_k Q_k
temperature  learned               H(q) ≥ -d
m-step       α                     the prior is constant

Imagined steps follow the direct network at which inference starts, and the critic learns the value of this network,
y = r + γ V̄(s') without imagined steps. With --horizon 0 it is iterative-sac.
"""

from __future__ import annotations

from dataclasses import dataclass

from estep.algorithms.checks import check_acting
from estep.algorithms.iterative_sac import IterativeSAC
from estep.algorithms.model_based.model import check_model, with_model
from estep.algorithms.shared import like
from estep.core.agent import Agent
from estep.core.types import Key, Spec
from estep.errors import UsageError
from estep.settings import fields, groups
from estep.settings.kinds import named_options


@named_options
@dataclass(frozen=True)
class IterativeMVE(
    groups.Imagined,
    groups.WorldModel,
    groups.IterativeInference,
    groups.Acting,
    groups.EntropyBound,
    groups.InferOn,
    groups.QInference,
    groups.QEnsemble,
    groups.Learner,
):
    """Iterative amortised inference whose objective has returns of a few imagined steps, by a model that it learns."""

    tau: fields.Tau = 0.005
    beta: fields.Pessimism = 3.54
    persist: fields.Persist = False

    def __post_init__(self) -> None:
        check_acting(self)
        check_model(self)
        if self.horizon and self.persist:
            raise UsageError(
                "With --persist the critic learns the value of a policy that is stored with each step, and imagined "
                "steps, which have none stored, cannot follow it.",
                "Give --no-persist, or --horizon 0.",
            )
        if self.horizon and not self.direct_start:
            raise UsageError(
                "Imagined steps follow the direct network at which inference starts, and there is none.",
                "Give --direct-start, or --horizon 0.",
            )

    def init(self, spec: Spec, key: Key) -> Agent:
        """A fresh agent for an environment. Raises UsageError where inference does not fit its actions."""
        return with_model(like(IterativeSAC, self).init(spec, key), self, key)
