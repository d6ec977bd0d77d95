"""`estep eval` and `estep verify`: commands that read a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from estep.cli.main import Context
from estep.cli.parse import parse, unknown
from estep.cli.progress import Plain
from estep.cli.resolve import run_folder
from estep.errors import RejectedInput, UsageError, check
from estep.policy.job import RunContext
from estep.settings import schema

if TYPE_CHECKING:
    from estep.core.agent import Agent


@dataclass(frozen=True)
class Evaluate:
    """Returns over whole episodes, on environments and seeds of their own, of the deterministic policy unless told."""

    run: Path
    """Folder of the run, or a file named latest that names it."""
    episodes: int = 10
    """Episodes to run."""
    checkpoint: str = "best"
    """Which one: best, latest, or its number of environment steps."""
    seed: int | None = None
    """Seed of the evaluation; without it, the run's own."""
    max_episode_steps: int | None = None
    """Cap on an episode of an environment without a time limit; without it, the run's own."""
    stochastic: bool = False
    """Draw actions from the policy, as training does, instead of taking its mode."""
    inference: str | None = None
    """Infer by another optimiser over the trained critic: direct, iterative, gradient, semi-amortised, cem,
    importance, or a function of yours as module:function; without it, as the run does."""
    iterations: int | None = None
    """Iterations of that optimiser; without it, its own."""
    samples: int | None = None
    """Samples in each of its iterations; without it, its own."""
    restarts: int | None = None
    """Infer from so many starts, all but its own one random, and take the best end; without it, from its own."""
    rank_by: str | None = None
    """What cem chooses its elite by: soft-value (Q̂ - α log q/p) or value (Q̂ alone, as planners do); without it, by
    soft-value."""
    env: str | None = None
    """The run's environment again: consent to import the module of a module:Id."""
    allow_import: bool = False
    """Import whatever module the run folder names."""


@dataclass(frozen=True)
class Verify:
    """Check every checkpoint of a run against its checksums; exit code 3 if any is bad."""

    run: Path
    """Folder of the run, or a file named latest that names it."""


def evaluate(arguments: list[str], context: Context) -> int:
    """Returns of a run's policy over whole episodes."""
    values, _ = parse("estep eval", str(Evaluate.__doc__), schema.of(Evaluate), ("run",), arguments)
    check("episodes", values["episodes"] >= 1, values["episodes"], "at least 1")
    if values["seed"] is not None:
        check("seed", values["seed"] >= 0, values["seed"], "at least 0")
    cap = values["max_episode_steps"]
    check("max_episode_steps", cap is None or cap >= 1, cap, "at least 1")
    check_checkpoint(values["checkpoint"])
    change = _inference(values["inference"], {name: values[name] for name in SETTINGS})
    folder = run_folder(values["run"], context.results)
    if values["env"]:
        from estep.envs.build import register

        register(values["env"])

    from estep.policy import recorded

    trial = recorded.EvalSettings(values["episodes"], values["seed"], cap, not values["stochastic"])
    chosen = {name: values[name] for name in ("checkpoint", "env", "allow_import")} | {"trial": trial}
    job = RunContext(context.command, Plain(context.results), lambda: context.life.stop_requested, context.results.hang)
    found = recorded.evaluate_run(folder, **chosen, change=change, job=job)
    scores, count = found.evaluation, len(found.evaluation.returns)
    context.results.say(f"return   {scores.mean:.5g} ± {scores.std:.2g} over {count} episodes")
    record = {"env_steps": found.env_steps, "updates": found.updates, "eval_mean": scores.mean, "eval_std": scores.std}
    return context.results.finish(
        0, {**record, "eval_episodes": count, "returns": scores.returns, "lengths": scores.lengths}
    )


def verify(arguments: list[str], context: Context) -> int:
    """Check every checkpoint of a run."""
    values, _ = parse("estep verify", str(Verify.__doc__), schema.of(Verify), ("run",), arguments)
    folder = run_folder(values["run"], context.results)

    from estep.runs import checkpoint

    found = checkpoint.verify(folder)
    bad = [f"{path.name}: {reason}" for path, reason in found if reason is not None]
    context.results.say(
        "\n".join(f"{'bad' if reason else 'ok':4s} {path.name}  {reason or ''}".rstrip() for path, reason in found)
    )
    context.results.known["checkpoints"] = [
        {"name": path.name, "ok": not reason, "reason": reason} for path, reason in found
    ]
    if bad:
        what = f"{len(bad)} of {len(found)} checkpoints cannot be used: {'; '.join(bad)}."
        raise RejectedInput(what, "Resume uses the newest sound one.")
    return context.results.finish(0, {})


SETTINGS = ("iterations", "samples", "restarts", "rank_by")
"""Flags that apply to a chosen optimiser."""


def _inference(name: str | None, settings: dict[str, Any]) -> Callable[[Agent], Agent] | None:
    """The change to the agent that a choice of an optimiser asks for."""
    for flag, least in (("iterations", 1), ("samples", 1), ("restarts", 2)):
        check(flag, settings[flag] is None or settings[flag] >= least, settings[flag], f"at least {least}")
    if name is None:
        given = [f"--{flag.replace('_', '-')}" for flag, value in settings.items() if value is not None]
        if given:
            verb = "needs" if len(given) == 1 else "need"
            raise UsageError(f"{' and '.join(given)} {verb} --inference.", "Add --inference iterative, for instance.")
        return None

    from estep.inference.named import ON_A_CRITIC, RANKINGS, InferenceSettings, chosen
    from estep.settings.references import is_reference

    if name not in ON_A_CRITIC and not is_reference(name):
        known = f"Give one of: {', '.join(ON_A_CRITIC)}; or module:function for your own."
        raise unknown("inference optimiser", name, ON_A_CRITIC, known)
    if settings["rank_by"] is not None and settings["rank_by"] not in RANKINGS:
        raise unknown("ranking", settings["rank_by"], tuple(RANKINGS), f"Give one of: {', '.join(RANKINGS)}.")
    return chosen(name, InferenceSettings(**settings))


def check_checkpoint(which: str) -> None:
    """Refuse what cannot name a checkpoint."""
    if which not in ("best", "latest") and not which.isdecimal():
        raise unknown("checkpoint", which, ("best", "latest"), "Give best, latest, or a number of environment steps.")
