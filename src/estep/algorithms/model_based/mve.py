"""Soft actor-critic on imagined steps (model-based value expansion, Feinberg et al. 2018, arXiv:1803.00101).

prior        flat                  p(a|s) ∝ 1, so that -KL(q‖p) = H(q)
posterior    tanh-Gaussian         q(u; λ), λ = (μ, log σ), a = tanh u
inference    direct amortised      λ = f_φ(s), by the gradient through action, model and policy
likelihood   twin Q and a model    Q̂(s,a) = λ-return of h steps of the model, then min_k Q_k;   y = r + γ V̄(s')
temperature  learned               H(q) ≥ -d
m-step       α                     the prior is constant

The target of the critic has no imagined steps (Marino et al. 2021, arXiv:2010.10670). With --horizon 0 it is sac.
"""

from __future__ import annotations

from dataclasses import dataclass

from estep.algorithms.model_based.model import check_model, with_model
from estep.algorithms.sac import SAC
from estep.algorithms.shared import like
from estep.core.agent import Agent
from estep.core.types import Key, Spec
from estep.settings import fields, groups
from estep.settings.kinds import named_options


@named_options
@dataclass(frozen=True)
class MVE(
    groups.Imagined,
    groups.WorldModel,
    groups.EntropyBound,
    groups.InferOn,
    groups.QInference,
    groups.QEnsemble,
    groups.Learner,
):
    """Soft actor-critic whose policy maximises returns of a few imagined steps, by a model that it learns."""

    tau: fields.Tau = 0.005

    def __post_init__(self) -> None:
        groups.validate_with_inference(self)
        check_model(self)

    def init(self, spec: Spec, key: Key) -> Agent:
        """A fresh agent for an environment. Raises UsageError where it has too many combinations of choices."""
        return with_model(like(SAC, self).init(spec, key), self, key)
