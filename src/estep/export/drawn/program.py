"""What the program of a policy needs beyond that of deterministic actions, where its actions are drawn."""

from __future__ import annotations

from typing import Any

from estep.core.agent import Agent
from estep.export.contract import Subject
from estep.export.networks import Arrays, refused
from estep.export.program import Program, alpha_of, learned_prior, program_of
from estep.families.autoregressive import Autoregressive
from estep.families.categorical import FactoredSoftmax, Softmax
from estep.families.full_gaussian import FullGaussian
from estep.families.gaussian import Gaussian
from estep.families.mixture import Mixture
from estep.families.noise import antithetic, independent
from estep.families.particles import exponential
from estep.inference.closed_form import ClosedForm, Exact
from estep.inference.columns import TwoColumns
from estep.inference.direct import Direct
from estep.inference.iterative import Iterative
from estep.inference.levels import TwoStage
from estep.priors.network import FullGaussianNetwork

NAMES = {Gaussian: "gaussian", FullGaussian: "full-gaussian", Autoregressive: "autoregressive"}


def program(subject: Subject) -> Program:
    """The program of a policy, as its actions leave it: deterministic, or drawn.

    Args:
        subject: the policy.

    Raises:
        UsageError: what the policy does is not written out in NumPy.
    """
    more = None if subject.draws is None else added
    return program_of(subject.agent, subject.moments, subject.key, more)


def added(agent: Agent, inference: Any, arrays: Arrays) -> dict[str, Any]:
    """The distribution of the point u, by its name and its sizes, and what it takes to draw it.

    Args:
        agent: the agent.
        inference: the optimiser by which it acts; None if it acts by its prior.
        arrays: takes arrays.
    """
    return {"size": agent.spec.action_dim, **_family(agent, inference, arrays)}


def _family(agent: Agent, inference: Any, arrays: Arrays) -> dict[str, Any]:
    """As `added`, without the size of u."""
    kind = type(inference)
    if inference is None:
        return {"family": _of_prior(agent)}
    if kind is Direct:
        return {"family": _of(agent.posterior, [inference.low, inference.high])}
    if kind is TwoColumns:
        return {"family": ["choices", *agent.spec.factors] if agent.spec.factors else ["gaussian"]}
    if kind is Exact:
        return {"family": ["choices", *agent.spec.factors]}
    if kind is TwoStage:
        return _levels(agent, inference)
    if kind is Iterative:
        return _iterative(agent, inference)
    return _weighted(agent, inference, arrays) if kind is ClosedForm else {}


def _of_prior(agent: Agent) -> list[Any]:
    prior, _ = learned_prior(agent)
    if agent.spec.factors:
        return ["choices", *agent.spec.factors]
    name = "full-gaussian" if isinstance(prior, FullGaussianNetwork) else "gaussian"
    return [name, agent.spec.action_dim, [prior.low, prior.high]]


def _of(family: Any, bounds: list[float] | None) -> list[Any]:
    """A family of `drawing.FAMILIES` with its sizes. `bounds` are those of log σ; None where they hold already."""
    if isinstance(family, Softmax):
        return ["choices", family.action]
    if isinstance(family, FactoredSoftmax):
        return ["choices", *family.sizes]
    if isinstance(family, Mixture):
        return ["mixture", family.components, bounds]
    if type(family) in NAMES:
        return [NAMES[type(family)], family.action, bounds]
    raise refused(f"The distribution of actions is a {type(family).__name__}, of which no action is drawn in NumPy.")


def _levels(agent: Agent, inference: TwoStage) -> dict[str, Any]:
    family: Any = agent.posterior
    if inference.samples != 1 or type(family.low) not in (Gaussian, Softmax):
        raise refused("The two levels of this policy are drawn in a way that is not written out.")
    bottom = inference.bottom
    return {"family": _of(family.low, [bottom.low, bottom.high]), "top_bounds": [inference.low, inference.high]}


def _iterative(agent: Agent, inference: Iterative) -> dict[str, Any]:
    noise = getattr(agent.posterior, "noise", independent)
    if noise not in (antithetic, independent):
        raise refused("The iterations of this policy have noise of your own.")
    return {"family": _of(agent.posterior, None), "pairs": noise is antithetic}


def _weighted(agent: Agent, inference: ClosedForm, arrays: Arrays) -> dict[str, Any]:
    """The temperature of the weights. Raises UsageError where they are not exponential in Q̂."""
    weigh: Any = inference.weigh
    if weigh is not exponential:
        raise refused(f"The samples of this policy are weighed by {getattr(weigh, '__name__', type(weigh).__name__)}.")
    return {"alpha": alpha_of(agent, arrays)}
