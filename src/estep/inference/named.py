"""Inference optimisers by name: one table for `compose`, for `eval --inference` and for `inspect`.

A maker takes the networks that there are and how to infer, and gives an optimiser. A function of yours with these two
arguments may stand for a name, as `module:function`:

    def slow_ascent(networks: Networks, settings: InferenceSettings) -> Inference:
        return GradientAscent(settings.iterations or 500, tx=adam(1e-3), start=networks.start())
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import jax

from estep.core.agent import Agent, with_inference
from estep.core.optim import adam
from estep.core.slots import Inference, Posterior
from estep.core.types import Key, Spec
from estep.errors import UsageError
from estep.inference.cem import CEM, Ranking, by_soft_value, by_value
from estep.inference.closed_form import closed_form
from estep.inference.direct import Direct
from estep.inference.gradient import GradientAscent, semi_amortised
from estep.inference.importance import Importance
from estep.inference.iterative import Iterations, Iterative, iterative
from estep.inference.starts import AtPrior, Restarts, Starting
from estep.nets import Body, network
from estep.settings import references

N = TypeVar("N", bound=Inference)


class InferenceSettings(NamedTuple):
    """How to infer; None leaves it to the optimiser."""

    iterations: int | None = None
    samples: int | None = None
    """In each iteration, in one state."""
    restarts: int | None = None
    """Starts, all but one of them random, of which the best end by V is taken; None for the own start alone."""
    rank_by: str | None = None
    """How the cross-entropy method chooses its elite, a name in RANKINGS."""
    step_size: float | None = None
    """Of gradient ascent, in units of λ."""


class Networks(Protocol):
    """Where the networks of an optimiser come from: fresh ones for a new agent, or those that a run has trained."""

    @property
    def spec(self) -> Spec:
        """The environment."""

    @property
    def posterior(self) -> Posterior:
        """The family whose λ is optimised."""

    def amortised(self) -> Inference:
        """What semi-amortised inference starts from."""

    def direct(self, settings: InferenceSettings) -> Inference:
        """A direct network."""

    def iterative(self, settings: InferenceSettings) -> Inference:
        """An iterative network."""

    def start(self) -> Inference:
        """Where an optimiser without a network of its own starts."""


Maker: TypeAlias = Callable[[Networks, InferenceSettings], Inference]
RANKINGS: Mapping[str, Ranking] = {"soft-value": by_soft_value, "value": by_value}


@dataclass(frozen=True)
class Fresh:
    """Networks of a new agent."""

    spec: Spec
    posterior: Posterior
    body: Body
    key: Key
    start_at: str = "prior"
    """Where optimisers start: "prior", "direct" or "iterative"."""
    iterations: int = 5
    samples: int = 4
    """Of the iterative network that an optimiser may start at."""

    def amortised(self) -> Inference:
        return self.direct(InferenceSettings())

    def direct(self, settings: InferenceSettings) -> Inference:
        return self._direct(self.key)

    def iterative(self, settings: InferenceSettings) -> Inference:
        return self._iterative(self.key, settings, self.start())

    def start(self) -> Inference:
        """By a key of its own."""
        key = jax.random.fold_in(self.key, 1)
        if self.start_at == "direct":
            return self._direct(key)
        return self._iterative(key, InferenceSettings(), None) if self.start_at == "iterative" else AtPrior()

    def _direct(self, key: Key) -> Inference:
        return Direct(network((self.spec.obs_dim,), sum(self.posterior.block_sizes), self.body, key=key))

    def _iterative(self, key: Key, settings: InferenceSettings, start: Inference | None) -> Inference:
        length = Iterations(settings.iterations or self.iterations, settings.samples or self.samples)
        return iterative(self.spec.obs_dim, self.posterior, self.body, length, start=start, key=key)


@dataclass(frozen=True)
class Trained:
    """Networks of a run: its own optimiser, and what that one starts from."""

    spec: Spec
    posterior: Posterior
    own: Inference
    """As it acts."""
    training: Inference | None = None
    """As it is trained, where that is another one."""

    def amortised(self) -> Inference:
        return self.own

    def direct(self, settings: InferenceSettings) -> Inference:
        found = trained(self.own, Direct)
        if found is None:
            raise UsageError(
                "This run trained no direct network.",
                "Choose another optimiser, or train sac, or iterative-sac with --direct-start.",
            )
        if settings != InferenceSettings():
            what = "A direct network has no iterations, no samples and no starts."
            raise UsageError(what, "Leave out --iterations, --samples and --restarts.")
        return found

    def iterative(self, settings: InferenceSettings) -> Inference:
        found = trained(self.own, Iterative) or trained(self.training, Iterative)
        if found is None:
            raise UsageError(
                f"This run trained {type(self.own).__name__} inference, so there is no iterative network to run.",
                "Choose gradient, semi-amortised, cem or importance, which need none, or train iterative-sac.",
            )
        changed: Inference = Iterations(settings.iterations or found.steps, settings.samples or found.samples)(found)
        return changed

    def start(self) -> Inference:
        return AtPrior()


def trained(inference: Any, kind: type[N]) -> N | None:
    """The optimiser of a kind: this one, or one that it starts from."""
    if isinstance(inference, kind):
        return inference
    return trained(inference.start, kind) if isinstance(inference, Starting) else None


def _gradient(networks: Networks, settings: InferenceSettings) -> Inference:
    return _ascent(settings, 100, 5e-2, networks.start())


def _semi_amortised(networks: Networks, settings: InferenceSettings) -> Inference:
    return semi_amortised(networks.amortised(), _ascent(settings, 10, 1e-2, AtPrior()))


def _ascent(settings: InferenceSettings, steps: int, step_size: float, start: Inference) -> GradientAscent:
    tx = adam(settings.step_size or step_size)
    return GradientAscent(settings.iterations or steps, settings.samples or 10, tx, start)


def _cem(networks: Networks, settings: InferenceSettings) -> Inference:
    ranking = RANKINGS[settings.rank_by or "soft-value"]
    return CEM(settings.iterations or 200, settings.samples or 100, ranking=ranking, start=networks.start())


def _importance(networks: Networks, settings: InferenceSettings) -> Inference:
    return Importance(settings.samples or 1000, settings.iterations or 5, start=networks.start())


INFERENCES: Mapping[str, Maker] = {
    "direct": lambda networks, settings: networks.direct(settings),
    "iterative": lambda networks, settings: networks.iterative(settings),
    "gradient": _gradient,
    "semi-amortised": _semi_amortised,
    "cem": _cem,
    "importance": _importance,
    "closed-form": lambda networks, settings: closed_form(networks.spec, settings.samples or 20),
    "advantages": lambda networks, settings: AtPrior(),
}
"""Every optimiser of the library by its name, with the one set of defaults that each has."""
ON_A_CRITIC = ("direct", "iterative", "gradient", "semi-amortised", "cem", "importance")
"""Those that can take the place of a trained agent's own: they find the λ of any parametric family."""


def make(name: str, networks: Networks, settings: InferenceSettings) -> Inference:
    """The optimiser of a name, or of a `module:function` of somebody's own.

    Raises:
        UsageError: there is no such function, or the networks that it needs are not there.
    """
    if name in INFERENCES:
        return INFERENCES[name](networks, settings)
    maker: Maker = references.resolve(name)
    found = references.call(maker, name, (networks, settings), "Networks and InferenceSettings")
    if not isinstance(found, Inference):
        raise UsageError(f"{name} made {type(found).__name__}, not an Inference.", "Return an estep Inference from it.")
    return found


def chosen(name: str, settings: InferenceSettings) -> Callable[[Agent], Agent]:
    """The change to an agent that makes it infer by the optimiser of this name.

    Raises:
        UsageError: this optimiser ranks nothing; and in the change, where the run has not what the optimiser needs, or
            its λ is not free.
    """
    if settings.rank_by is not None and name in INFERENCES and name != "cem":
        raise UsageError(f"{name} inference ranks no samples.", "Leave out --rank-by, or give --inference cem.")

    def change(agent: Agent) -> Agent:
        if not agent.posterior.free:
            what = "A part of λ of this run is what a network gives, so no other optimiser can choose it."
            raise UsageError(what, "Leave out --inference, which acts by the run's own.")
        own = agent.acting(agent.inference.model)
        inference = make(name, Trained(agent.spec, agent.posterior, own, agent.inference.model), settings)
        return with_inference(agent, Restarts(inference, settings.restarts) if settings.restarts else inference)

    return change
