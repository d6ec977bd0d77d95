"""The settings of `compose` that name its parts. See `settings.fields` for what a setting is."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from estep.settings.kinds import Choices, Help

PRIORS = ("flat", "uniform", "gaussian", "learned")
POSTERIORS = ("gaussian", "full-gaussian", "mixture", "autoregressive", "boltzmann", "categorical")
LIKELIHOODS = ("q", "state-value")
INFERENCES = ("direct", "iterative", "gradient", "semi-amortised", "cem", "importance", "closed-form", "advantages")

Prior: TypeAlias = Annotated[
    str,
    Help("p(a|s): improper and flat, uniform, N(0, 1) before squashing, or a network fitted to the posterior."),
    Choices(PRIORS, own="prior"),
]
Posterior: TypeAlias = Annotated[
    str,
    Help("q(a|s): a family of continuous actions, weighted samples of the prior, or a distribution over choices."),
    Choices(POSTERIORS, own="posterior"),
]
Likelihood: TypeAlias = Annotated[
    str,
    Help("What inference maximises: action values learned from replay, or advantages of on-policy data."),
    Choices(LIKELIHOODS, own="likelihood"),
]
Inference: TypeAlias = Annotated[
    str,
    Help("How q is found. semi-amortised is gradient ascent that starts at a direct network."),
    Choices(INFERENCES, own="inference"),
]
Start: TypeAlias = Annotated[
    Literal["prior", "direct", "iterative"],
    Help(
        "Where an optimiser that iterates starts: at the prior where the family holds it, else at a fixed place; or "
        "where a network ends, which is trained on the same objective."
    ),
]
