"""`estep eval`, and what commands that read a run have in common."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from estep.cli.main import Context
from estep.cli.parse import parse
from estep.cli.resolve import check_of_one, each_run, finish_several, read_env, run_folder, runs_of
from estep.cli.results import limits, spread
from estep.errors import UsageError, check, unknown
from estep.policy.job import RunContext
from estep.policy.progress import Plain
from estep.settings import arguments as arguments_of
from estep.settings import schema

if TYPE_CHECKING:
    from estep.core.agent import Agent
    from estep.plots.over_seeds import Number


@dataclass(frozen=True)
class Evaluate:
    """Evaluate the policy of a run over whole episodes, in new environments with other seeds than in training. Actions
    are deterministic unless --stochastic is given. Of several runs, means over the seeds of each curve follow."""

    runs: tuple[str, ...]
    """Folders of runs, folders in which there are runs, files named latest, or files of estep publish."""
    member: int | None = None
    """Seed of a population to evaluate, by its number from 0. None evaluates all of them."""
    episodes: int = 10
    """Number of episodes."""
    checkpoint: str = "best"
    """Checkpoint: best, latest, or its number of environment steps."""
    seed: int | None = None
    """Seed of the evaluation. None takes the run's seed."""
    max_episode_steps: int | None = None
    """Largest length of an episode, for an environment without a time limit. None takes the run's setting."""
    stochastic: bool = False
    """Sample actions from the policy, as in training, instead of taking its mode."""
    inference: str | None = None
    """Use another inference optimiser with the trained critic: direct, iterative, gradient, semi-amortised, cem,
    importance, or your own function as module:function. None takes the run's optimiser."""
    iterations: int | None = None
    """Number of iterations of the optimiser of --inference. None takes the optimiser's default."""
    samples: int | None = None
    """Number of samples in each iteration of the optimiser of --inference. None takes the optimiser's default."""
    restarts: int | None = None
    """Run the optimiser of --inference from this many starts and take the best result. All starts except the first are
    random. None means one start."""
    rank_by: str | None = None
    """The score by which cem selects its elite: soft-value (Q̂ - α log q/p) or value (Q̂ alone, as in planning).
    None takes soft-value."""
    eval_with: str | None = None
    """Whether an algorithm that plans acts by its plans or by the policy that proposes them: plan or policy. None takes
    the run's setting, and policy with --inference."""
    env: tuple[str, ...] = ()
    """The run's environment, or all of its tasks. For module:Id it allows estep to import the module."""
    task: str = ""
    """Name of the only task that is wanted, where the run has several. Without it all are taken."""
    allow_import: bool = False
    """Allow estep to import the modules that the run folder names."""
    trust_dir: bool = False
    """Read a run folder that other users may write to, whom you trust."""


def evaluate(arguments: list[str], context: Context) -> int:
    """Evaluate the policy of a run over whole episodes."""
    values, _ = parse("estep eval", str(Evaluate.__doc__), schema.of(Evaluate), ("runs",), arguments)
    check("episodes", values["episodes"] >= 1, values["episodes"], "at least 1")
    if values["seed"] is not None:
        check("seed", values["seed"] >= 0, values["seed"], "at least 0")
    cap = values["max_episode_steps"]
    check("max_episode_steps", cap is None or cap >= 1, cap, "at least 1")
    arguments_of.checkpoint(values["checkpoint"])
    how = values["eval_with"]
    check("eval_with", how is None or how in ("plan", "policy"), how, "plan or policy")
    change = chosen_inference(values["inference"], {name: values[name] for name in SETTINGS})

    runs = runs_of(values["runs"], values["trust_dir"])
    values["env"] = read_env(values["env"]) if values["env"] else None
    if len(runs) == 1:
        return context.results.finish(0, _evaluate(runs[0], values, change, context))

    from estep.plots.over_seeds import means

    check_of_one(values, ("member",), len(runs))
    numbers: list[Number] = []
    several = each_run(runs, context.results, lambda run: _evaluate(run, values, change, context, numbers))
    return finish_several(several, means(numbers), context.results)


def _evaluate(
    run: Path,
    values: dict[str, Any],
    change: Callable[[Agent], Agent] | None,
    context: Context,
    numbers: list[Number] | None = None,
) -> dict[str, Any]:
    """Evaluate one run, or every seed of a population, and return values of JSON. `numbers` gets the mean returns."""
    from estep.export import archive

    with archive.folder_of(run) as place:
        folder = run_folder(place, context.results, values["trust_dir"])
        context.results.known["run_dir"] = str(folder if place == run else run)
        if _is_population(folder, values["member"]) and values["member"] is None:
            record = _evaluate_all(folder, values, context)
        else:
            record = _evaluate_one(folder, run, values, change, context)
        if numbers is not None:
            numbers += _returns(folder, record)
    return record


def _returns(folder: Path, record: dict[str, Any]) -> Iterator[Number]:
    """The mean return of a run, and of each of its tasks; or of each sound seed of a population."""
    from estep.plots.labels import run_label
    from estep.plots.over_seeds import Number

    env, algorithm, settings, seed = run_label(folder)
    for one in record.get("members", ()):
        if one["member"] not in record["failed"]:
            yield Number(env, algorithm, settings, seed + one["member"], "return", "", "", one["mean"])
    if "members" not in record:
        yield Number(env, algorithm, settings, seed, "return", "", "", record["eval_mean"])
    for task, one in record.get("tasks", {}).items():
        yield Number(env, algorithm, settings, seed, "return", task, "", one["mean"])


def _evaluate_one(
    folder: Path, run: Path, values: dict[str, Any], change: Callable[[Agent], Agent] | None, context: Context
) -> dict[str, Any]:
    """Evaluate one run of one seed, whose folder is that of a published file if `run` is one."""
    from estep.export import archive
    from estep.policy import recorded

    episodes = recorded.EvalSettings(
        values["episodes"], values["seed"], values["max_episode_steps"], not values["stochastic"], values["task"]
    )
    chosen = {name: values[name] for name in ("checkpoint", "allow_import", "eval_with", "env")}
    with chosen_run(folder, values, replay=False) as one:
        place = run if archive.is_file(run) else one
        result = recorded.evaluate_run(place, **chosen, settings=episodes, change=change, context=run_context(context))
    scores, count = result.evaluation, len(result.evaluation.returns)
    context.results.say(f"return   {spread(scores.mean, scores.std)} over {count} episodes{scores.success_text}")
    for task, by_task in scores.tasks.items():
        context.results.say(f"         {spread(by_task.mean, by_task.std)} in {task}{by_task.success_text}")
    record: dict[str, Any] = {"env_steps": result.env_steps, "updates": result.updates}
    record |= {"eval_mean": scores.mean, "eval_std": scores.std, "eval_success": scores.success}
    if scores.tasks:
        record["tasks"] = {task: {"mean": by.mean, "std": by.std} for task, by in scores.tasks.items()}
    return {**record, "eval_episodes": count, "returns": scores.returns, "lengths": scores.lengths}


def run_context(context: Context) -> RunContext:
    """What a command provides to what it runs: notes on stderr, stops by a signal, and exit code 5 at a hang."""
    report = Plain(context.results.known)
    return RunContext(context.command, report, lambda: context.life.stop_requested, context.results.hang)


def _is_population(folder: Path, member: int | None) -> bool:
    """Whether a run folder is that of a population. Raises UsageError for --member of one run."""
    from estep.population.population import is_population

    several = is_population(folder)
    if member is not None and not several:
        raise UsageError("This run has one seed, so it has no members.", "Leave --member out.")
    return several


@contextlib.contextmanager
def chosen_run(folder: Path, values: dict[str, Any], *, replay: bool) -> Iterator[Path]:
    """The run folder, or for a population a folder of the member that is asked for, which is removed at the end.

    Args:
        folder: the run folder.
        values: of the flags `member` and `allow_import`.
        replay: whether the member's replay is needed.

    Raises:
        UsageError: there is no such member, or none is given.
    """
    if not _is_population(folder, values["member"]):
        yield folder
        return
    if values["member"] is None:
        raise UsageError("This run is a population of several seeds.", "Choose one: --member 0.")

    from estep.population.split import write_member
    from estep.runs import leftovers

    with leftovers.folder_for_a_while() as place:
        target = place / f"member-{values['member']}"
        yield write_member(folder, values["member"], target, replay=replay, allow_import=values["allow_import"])


def _evaluate_all(folder: Path, values: dict[str, Any], context: Context) -> dict[str, Any]:
    """Evaluate every seed of a population."""
    for flag in ("inference", "eval_with", "max_episode_steps"):
        if values[flag] is not None:
            name = f"--{flag.replace('_', '-')}"
            raise UsageError(f"{name} applies to one seed of a population.", f"Add --member 0, or leave {name} out.")

    from estep.instruments.interval import interval
    from estep.policy.spaces import check_task
    from estep.population import population

    if values["task"]:
        check_task(values["task"], [])
    found = population.load_population(folder, values["checkpoint"], allow_import=values["allow_import"])
    chosen = {"seed": values["seed"], "env": values["env"], "deterministic": not values["stochastic"]}
    scores = found.evaluate(values["episodes"], **chosen, on_hang=context.results.hang)
    for i, one in enumerate(scores):
        note = f"   failed in training: {found.failed[i]}" if i in found.failed else ""
        seed = found.recipe.run.seed + i
        context.results.say(f"seed {seed:<6d} return   {spread(one.mean, one.std)}{one.success_text}{note}")
    sound = [one.mean for i, one in enumerate(scores) if i not in found.failed]
    mean = interval(sound) if sound else None
    said = (
        f"mean     {mean.mean:.5g} over {len(sound)} seeds  {limits(mean)}" if mean else "All seeds failed in training."
    )
    context.results.say(said.rstrip())
    members = [{"member": i, "mean": one.mean, "returns": one.returns} for i, one in enumerate(scores)]
    failed = sorted(found.failed)
    return {"eval_mean": mean and mean.mean, "eval_episodes": values["episodes"], "members": members, "failed": failed}


SETTINGS = ("iterations", "samples", "restarts", "rank_by")
"""Flags that need --inference."""


def chosen_inference(name: str | None, settings: dict[str, Any]) -> Callable[[Agent], Agent] | None:
    """The function that gives an agent another inference optimiser, or None without --inference."""
    for flag, least in (("iterations", 1), ("samples", 1), ("restarts", 2)):
        check(flag, settings[flag] is None or settings[flag] >= least, settings[flag], f"at least {least}")
    if name is None:
        given = [f"--{flag.replace('_', '-')}" for flag, value in settings.items() if value is not None]
        if given:
            verb = "needs" if len(given) == 1 else "need"
            raise UsageError(f"{' and '.join(given)} {verb} --inference.", "Add --inference iterative, for example.")
        return None

    from estep.algorithms.contract import check_parts
    from estep.inference.named import ON_A_CRITIC, RANKINGS, InferenceSettings, chosen
    from estep.settings.references import is_reference

    if name not in ON_A_CRITIC and not is_reference(name):
        known = f"Give one of: {', '.join(ON_A_CRITIC)}; or module:function for your own."
        raise unknown("inference optimiser", name, ON_A_CRITIC, known)
    if settings["rank_by"] is not None and settings["rank_by"] not in RANKINGS:
        raise unknown("ranking", settings["rank_by"], tuple(RANKINGS), f"Give one of: {', '.join(RANKINGS)}.")
    change = chosen(name, InferenceSettings(**settings))

    def checked(agent: Agent) -> Agent:
        changed = change(agent)
        check_parts(changed)
        return changed

    return checked if is_reference(name) else change
