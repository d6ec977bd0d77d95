"""How an agent acts, as a program of `export.policy`: plain values and arrays, without code of the agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from estep.core.acting import act_from_posterior, act_from_prior
from estep.core.agent import Agent, as_it_is
from estep.core.types import Clip, Identity, Key, OneHot, OneHots, Tanh
from estep.data.normalise import Moments
from estep.e_steps.plans import Planner
from estep.errors import UsageError
from estep.export.networks import Arrays, refused
from estep.export.policy import FORMAT, Policy
from estep.families.autoregressive import Autoregressive
from estep.families.categorical import FactoredSoftmax, Softmax
from estep.families.full_gaussian import FullGaussian
from estep.families.gaussian import Gaussian
from estep.families.levels import Levels
from estep.families.mixture import Mixture
from estep.families.noise import antithetic, independent
from estep.inference.closed_form import ClosedForm, Exact
from estep.inference.columns import TwoColumns
from estep.inference.direct import Direct
from estep.inference.iterative import Iterative, layer_norm, log_sign, raw
from estep.inference.levels import TwoStage
from estep.inference.starts import AtPrior
from estep.inference.stein import Stein
from estep.m_steps.temperature import Constant, KLConstraint, TaskConstraints
from estep.priors.flat import Flat
from estep.priors.network import CategoricalNetwork, FactoredNetwork, FullGaussianNetwork, GaussianNetwork
from estep.priors.restricted import Restricted
from estep.priors.tempered import Tempered
from estep.priors.uniform import Uniform

SQUASHES = {Tanh: "tanh", Clip: "clip", Identity: "none", OneHot: "none", OneHots: "none"}
ENCODINGS = {log_sign: "log_sign", layer_norm: "layer_norm", raw: "raw"}


class Program(NamedTuple):
    """What `export.policy.Policy` runs."""

    record: dict[str, Any]
    """Its values, as JSON has them. A text that begins with # is the name of an array."""
    arrays: dict[str, npt.NDArray[Any]]


More: TypeAlias = Callable[[Agent, Any, Arrays], Mapping[str, Any]]
"""What a program has beyond that of deterministic actions, from the agent and the optimiser by which it acts: None if
it acts by its prior."""


def program_of(agent: Agent, moments: Moments | None, key: Key | None = None, more: More | None = None) -> Program:
    """The program by which an agent acts, by its deterministic action.

    Args:
        agent: the agent.
        moments: mean and variance of observations, if they are normalised.
        key: of the random numbers of inference, as `behave` of the agent gets it; they stay the same in the program.
            None refuses agents that need random numbers.
        more: makes what is added to the program.

    Raises:
        UsageError: what the agent does is not written out in NumPy; the message says what.
    """
    arrays = Arrays()
    scaling: dict[str, Any] = {"mean": None, "scale": None}
    if moments is not None:
        scaling = {"mean": arrays.put(moments.mean), "scale": arrays.put(moments.scale)}
    squash = SQUASHES.get(type(agent.spec.squash))
    if squash is None:
        raise refused("The actions of this policy are squashed by a function of its own.")
    behave, inference = agent.behave, None
    if isinstance(behave, Planner):
        if behave.eval_with == "plan":
            raise refused("This policy acts by plans, which are searches in a model of the environment.")
        behave = behave.proposal
    if behave is act_from_prior:
        record = {"kind": "direct", **_prior(agent, arrays)}
    elif behave is act_from_posterior:
        inference = agent.acting(agent.inference.model)
        maker = MAKERS.get(type(inference))
        if maker is None:
            raise refused(f"This policy acts by {type(inference).__name__} inference, which is not written out.")
        record = maker(agent, inference, arrays, key)
    else:
        raise refused("This policy acts by a function of its own.")
    added = more(agent, inference, arrays) if more else {}
    return Program({**record, **added, **scaling, "squash": squash}, arrays.held)


def one_shot(agent: Agent, moments: Moments | None) -> Policy | None:
    """The deterministic actions of an agent by NumPy, or None where it needs more than one pass of networks.

    Args:
        agent: the agent.
        moments: mean and variance of observations, if they are normalised.
    """
    try:
        program = program_of(agent, moments)
    except UsageError:
        return None
    return Policy({"format": FORMAT, "program": program.record}, program.arrays)


def learned_prior(agent: Agent) -> tuple[Any, Any]:
    """The prior without its power, and the places of the state that it sees; None for all."""
    prior: Any = agent.prior.slow
    if isinstance(prior, Tempered) and prior.share > 0.0:
        prior = prior.base
    return (prior.inner, prior.seen) if isinstance(prior, Restricted) else (prior, None)


def _prior(agent: Agent, arrays: Arrays) -> dict[str, Any]:
    """The network of a learned prior, and what stands for the mode of its distribution."""
    prior, sees = learned_prior(agent)
    kind: Any = type(prior)
    if kind not in (GaussianNetwork, FullGaussianNetwork, CategoricalNetwork, FactoredNetwork):
        raise refused(f"The prior of this policy is a {kind.__name__}, which is no network of ours.")
    mode = ["choices", *agent.spec.factors] if agent.spec.factors else ["gaussian", agent.spec.action_dim]
    bounds = None if agent.spec.factors else [prior.low, prior.high]
    return {"net": arrays.network(prior.net, sees), "mode": mode, "bounds": bounds}


def _mode(family: Any, low: float, high: float) -> list[Any]:
    """What stands for the mode of a family: its name and its sizes.

    Args:
        family: the family.
        low, high: limits of log σ of the network that gives λ.
    """
    if type(family) in (Gaussian, FullGaussian):
        return ["gaussian", family.action]
    if type(family) is Autoregressive:
        return ["autoregressive", family.action]
    if type(family) is Mixture:
        return ["mixture", family.components, low, high]
    if type(family) is Softmax:
        return ["choices", family.action]
    if type(family) is FactoredSoftmax:
        return ["choices", *family.sizes]
    raise refused(f"The distribution of actions is a {type(family).__name__}, whose mode is not written out.")


def _direct(agent: Agent, inference: Direct, arrays: Arrays, key: Key | None) -> dict[str, Any]:
    mode = _mode(agent.posterior, inference.low, inference.high)
    return {"kind": "direct", "net": arrays.network(inference.net), "mode": mode}


def _levels(agent: Agent, inference: TwoStage, arrays: Arrays, key: Key | None) -> dict[str, Any]:
    family: Any = agent.posterior
    if type(family) is not Levels or type(family.low) is Mixture:
        raise refused("The lower level of this policy has a distribution whose mode is not written out.")
    bottom = inference.bottom
    nets = {"top": arrays.network(inference.top), "net": arrays.network(bottom.net, bottom.seen)}
    return {"kind": "levels", **nets, "latent": family.latent, "mode": _mode(family.low, bottom.low, bottom.high)}


def _columns(agent: Agent, inference: TwoColumns, arrays: Arrays, key: Key | None) -> dict[str, Any]:
    shared = _prior(agent, arrays)
    if type(agent.posterior) not in (Gaussian, Softmax, FactoredSoftmax):
        raise refused("The product of two columns is written out for diagonal Gaussians and choices alone.")
    bounds = {"shared_bounds": shared["bounds"], "bounds": [inference.low, inference.high]}
    nets = {"shared": shared["net"], "net": arrays.network(inference.net)}
    return {"kind": "columns", **nets, **bounds, "share": inference.share, "mode": shared["mode"]}


def _sampler(agent: Agent, inference: Stein, arrays: Arrays, key: Key | None) -> dict[str, Any]:
    noise = antithetic(_first_half(key), inference.samples, inference.action)
    mode = ["gaussian", inference.action]
    record = {"kind": "sampler", "net": arrays.network(inference.net), "mode": mode, "noise": arrays.put(noise)}
    return {**record, **_critics(agent, arrays)}


def _weighted(agent: Agent, inference: ClosedForm, arrays: Arrays, key: Key | None) -> dict[str, Any]:
    prior = _prior(agent, arrays)
    if type(agent.prior.slow) is not GaussianNetwork:
        raise refused("Samples of the prior of this policy are not written out.")
    noise = independent(_first_half(key), inference.samples, agent.spec.action_dim)
    return {"kind": "weighted", **prior, "noise": arrays.put(noise), **_critics(agent, arrays)}


def _exact(agent: Agent, inference: Exact, arrays: Arrays, key: Key | None) -> dict[str, Any]:
    _first_half(key)
    constant = type(agent.prior.slow) in (Flat, Uniform)
    mode = ["choices", *agent.spec.factors]
    prior = {"net": None, "mode": mode, "bounds": None} if constant else _prior(agent, arrays)
    return {"kind": "exact", **prior, **_critics(agent, arrays), "alpha": alpha_of(agent, arrays)}


def _iterative(agent: Agent, inference: Iterative, arrays: Arrays, key: Key | None) -> dict[str, Any]:
    family, start = agent.posterior, inference.start
    _first_half(key)
    if type(family) not in (Gaussian, Softmax) or type(agent.prior.slow) not in (Flat, Uniform):
        raise refused("Iterative inference is written out for Gaussians and choices under a flat prior alone.")
    if type(start) not in (AtPrior, Direct) or inference.encoding not in ENCODINGS:
        raise refused("Iterative inference of this policy starts or reads its gradient in a way of its own.")
    record: dict[str, Any] = {
        "kind": "iterative",
        "net": arrays.network(inference.net),
        "mode": _mode(family, 0.0, 0.0),
    }
    if isinstance(start, Direct):
        record |= {"start": arrays.network(start.net), "start_bounds": [start.low, start.high]}
    else:
        record |= {"start": arrays.put(family.start(agent.prior.slow(jnp.zeros(agent.spec.obs_dim))))}
    noise = np.zeros((inference.steps, 0, 0))
    if isinstance(family, Gaussian):  # as `soft_value` draws it in each iteration
        draw, size, count = family.noise, family.action, inference.samples
        known: Any = key
        keys = jax.random.split(jax.random.split(known)[1], inference.steps)
        noise = np.stack([np.asarray(draw(_first_half(one), count, size)) for one in keys])
    record |= {"low": arrays.put(inference.low), "high": arrays.put(inference.high), "noise": arrays.put(noise)}
    record |= {"average": inference.average, "encoding": ENCODINGS[inference.encoding]}
    record |= {"sizes": list(family.block_sizes), "alpha": alpha_of(agent, arrays)}
    return {**record, **_critics(agent, arrays)}


MAKERS: Mapping[type, Callable[..., dict[str, Any]]] = {
    Direct: _direct,
    TwoStage: _levels,
    TwoColumns: _columns,
    Stein: _sampler,
    ClosedForm: _weighted,
    Exact: _exact,
    Iterative: _iterative,
}
"""By the optimiser that an agent acts by."""


def _first_half(key: Key | None) -> Key:
    """The key of the noise, where an optimiser splits its own into that and the rest. Raises UsageError for None."""
    if key is None:
        raise refused("This policy infers while it acts.")
    first: Key = jax.random.split(key)[0]
    return first


def _critics(agent: Agent, arrays: Arrays) -> dict[str, Any]:
    """The critics on which the agent infers while it acts."""
    if agent.view is not as_it_is:
        raise refused("This policy infers on returns of imagined steps, whose gradient is not written out.")
    return arrays.critics(agent.acting_critic(agent.likelihood))


def alpha_of(agent: Agent, arrays: Arrays) -> str:
    """The temperature, or that of each task."""
    temperature: Any = agent.temperature.model
    if type(temperature) is TaskConstraints:
        return arrays.put(np.exp(np.asarray(temperature.log_alpha)))
    if type(temperature) not in (Constant, KLConstraint):
        raise refused(f"The temperature of this policy is a {type(temperature).__name__}, which is not written out.")
    return arrays.put([temperature(None)])
