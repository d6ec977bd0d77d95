"""What a new run takes from another one: the agent to start from, or a prior or a lower level that stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax

from estep.algorithms.named import name_of
from estep.core.agent import Agent, Algorithm
from estep.core.types import Spec
from estep.data.normalise import Moments
from estep.errors import EnvironmentFailure, EstepError, RejectedInput, UsageError
from estep.export import archive
from estep.families.levels import Levels
from estep.inference.levels import TwoStage
from estep.policy.policy import load
from estep.policy.spaces import spaces_of
from estep.priors.restricted import Restricted
from estep.priors.tempered import Tempered
from estep.runs import checkpoint
from estep.runs.folder import RunFolder
from estep.runs.leaves import named_leaves, rebuild
from estep.settings import arguments
from estep.settings.references import is_reference


class Part(NamedTuple):
    """A part of an agent that another agent can take."""

    name: str
    taken_apart: Callable[[Agent], tuple[Any, tuple[int, ...]]]
    """From an agent to the network of the part, and the places of the observation that it sees."""
    put: Callable[[Agent, Any], Agent]
    """The agent with this network."""


def starting_agent(path: str, agent: Agent, moments: Moments | None) -> Agent:
    """The agent of another run with fresh optimisers, in place of a fresh agent. Its module need not be imported.

    Args:
        path: the folder of that run or of `Policy.save`, whose best checkpoint is taken; or a published file.
        agent: the fresh agent.
        moments: what scales observations, if they are normalised; it takes what the other run counted.

    Raises:
        RejectedInput: there is no such folder, or it is corrupt.
        UsageError: it is of several seeds, has other sizes or other parts, or one of the runs normalises observations.
    """
    with archive.folder_of(arguments.path("start_from", path)) as place:
        folder = RunFolder.open(place)
        loaded = checkpoint.load(checkpoint.locate(folder.path, "best"), None, None)
        algorithm = folder.read_config().get("algorithm")
    if "failed" in loaded.meta:
        what = f"{path} trained several seeds, and a run starts from one agent."
        raise UsageError(what, "Save one: estep.load_population(RUN)[0].save(FOLDER), and give that folder.")
    if (moments is None) != ("stats" not in loaded.tensors):
        seen, fix = ("normalised", "Give") if moments is None else ("as they are", "Leave out")
        raise UsageError(f"The agent of {path} sees observations {seen}.", f"{fix} --normalise.")
    try:
        theirs, ours = sizes_of(spaces_of(loaded.meta).spec), sizes_of(agent.spec)
        if theirs != ours:
            what = f"The agent of {path} is for {theirs}, and this environment has {ours}."
            raise UsageError(what, "Give an environment of the same sizes, or leave out --start-from.")
        taken = rebuild(agent, {"params": loaded.tensors["params"], "optim": named_leaves(agent)["optim"]})
        if moments is not None:
            moments.load(loaded.tensors["stats"])
    except (RejectedInput, EnvironmentFailure, KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"The agent of {path} does not fit this run: {error.what if isinstance(error, EstepError) else error}"
        name = algorithm.get("name") if isinstance(algorithm, dict) else algorithm
        fix = f"Give its algorithm, {name!a:.100}, with the networks that its config.json has."
        raise UsageError(what, fix) from error
    return taken


def sizes_of(spec: Spec) -> str:
    """What an agent must know of an environment, in words."""
    actions = f"{spec.action_dim} choices" if spec.factors else f"actions of size {spec.action_dim}"
    tasks = f" and {spec.tasks} tasks" if spec.tasks else ""
    return f"observations of size {spec.obs_dim}, {actions}{tasks}"


def frozen_by(algorithm: Algorithm) -> tuple[str, str]:
    """The setting by which an algorithm takes a part of another run, and this run; two empty texts for none."""
    given = {name: str(getattr(algorithm, name, "")) for name in PARTS}
    return next(((name, path) for name, path in given.items() if path), ("", ""))


def check_no_frozen_part(algorithm: Algorithm) -> None:
    """Refuse a part of another run, which a population does not take. Raises UsageError."""
    name, _ = frozen_by(algorithm)
    if name:
        flag = "--" + name.replace("_", "-")
        raise UsageError(
            f"A population learns the {PARTS[name].name} of each seed, and {flag} takes that of one run.",
            f"Leave out {flag}, or train each seed in a run of its own, without --population.",
        )


def with_frozen_part(agent: Agent, algorithm: Algorithm, normalise: bool) -> Agent:
    """A fresh agent with the part of the run that its algorithm names; the agent itself where it names none.

    Args:
        agent: the agent.
        algorithm: its algorithm.
        normalise: whether observations of the new run are normalised.

    Raises:
        RejectedInput: the named folder is no run folder.
        UsageError: there is no such part, it is of other sizes, sees other places, or either run normalises
            observations; or that run names a module that the algorithm does not.
    """
    name, path = frozen_by(algorithm)
    if not name:
        return agent
    check_modules(path, algorithm)
    part, policy = PARTS[name], load(Path(path), allow_import=True)
    if normalise or policy.moments is not None:
        raise UsageError(
            f"A frozen {part.name} sees observations as in its own run, and --normalise scales them by those of each "
            "run.",
            "Leave out --normalise in both runs.",
        )
    kept, mine = part.taken_apart(policy.agent), part.taken_apart(agent)
    if kept[1] != mine[1] or _shapes(kept[0]) != _shapes(mine[0]):
        raise UsageError(
            f"The {part.name} of {path} has other sizes than this run's, or sees other places of the observation.",
            "Give the --prior-sees, --hidden-sizes and --network of that run, and an environment of the same sizes.",
        )
    return part.put(agent, kept[0])


def check_modules(path: str, algorithm: Algorithm) -> None:
    """Check that an algorithm names all modules that that of another run names, which is consent to import them.

    Raises:
        RejectedInput: there is no such run.
        UsageError: that run names another one.
    """
    with archive.folder_of(Path(path)) as place:
        record = RunFolder.open(place).read_config().get("algorithm")
    theirs = modules_in(record.values() if isinstance(record, dict) else ())
    missing = theirs - modules_in((name_of(algorithm), *vars(algorithm).values()))
    if missing:
        raise UsageError(
            f"The run {path} needs the module {min(missing)}, which this run does not name.",
            "Give this run the algorithm, features and parts of that one.",
        )


def modules_in(values: Iterable[Any]) -> set[str]:
    """The modules of those settings that are the `module:name` of something."""
    return {value.partition(":")[0] for value in values if isinstance(value, str) and is_reference(value)}


def prior_of(agent: Agent) -> tuple[Any, tuple[int, ...]]:
    """The network of an agent's prior, and the places of the observation that it sees.

    Where a run has one task, all of its observation may be what is the state among several tasks.
    """
    prior = agent.prior.slow
    base = prior.base if isinstance(prior, Tempered) else prior
    return (base.inner, base.seen) if isinstance(base, Restricted) else (base, tuple(range(agent.spec.obs_dim)))


def with_prior(agent: Agent, network: Any) -> Agent:
    """The agent with this network as its prior."""
    tempered: Any = agent.prior.model
    base = replace(tempered.base, inner=network) if isinstance(tempered.base, Restricted) else network
    return replace(agent, prior=replace(agent.prior, model=replace(tempered, base=base)))


def low_level_of(agent: Agent) -> tuple[Any, tuple[int, ...]]:
    """The slow copy of the network of an agent's lower level, and the places that it sees.

    Raises:
        UsageError: the agent has no lower level.
    """
    inference = agent.inference.slow
    if not (isinstance(inference, TwoStage) and isinstance(agent.posterior, Levels)):
        raise UsageError("The run of --freeze-low has no lower level.", "Give a run of hierarchical.")
    return inference.bottom.net, inference.bottom.seen


def with_low_level(agent: Agent, network: Any) -> Agent:
    """The agent with this network as its lower level, in its slow copy too."""

    def put(inference: Any) -> Any:
        return replace(inference, bottom=replace(inference.bottom, net=jax.tree.map(jax.numpy.copy, network)))

    learned = agent.inference
    return replace(agent, inference=replace(learned, model=put(learned.model), target=put(learned.slow)))


PARTS: Mapping[str, Part] = {
    "freeze_prior": Part("prior", prior_of, with_prior),
    "freeze_low": Part("lower level", low_level_of, with_low_level),
}
"""By the setting of an algorithm that names the run."""


def _shapes(network: Any) -> Any:
    """What two networks must have alike."""
    leaves, structure = jax.tree.flatten(network)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]
