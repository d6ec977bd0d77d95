"""`estep tune`: settings chosen by a study, and the best of them on fresh seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from estep.cli.main import Context
from estep.cli.parse import COMMON, parse
from estep.cli.resolve import read_env, row
from estep.cli.results import aligned
from estep.cli.sweeping import given as reader
from estep.cli.sweeping.sweep import note
from estep.errors import STOPPED, UsageError, check
from estep.settings import schema
from estep.settings.search import spaces
from estep.sweeps import engines, plan
from estep.sweeps.engines import Where
from estep.tuning.study import PBT


@dataclass(frozen=True)
class Tune:
    """Choose settings of an algorithm by a study of trials, each of which trains some seeds. Several estep tune on one
    folder share one study. In the end the best settings and the defaults are trained on fresh seeds."""

    env: tuple[str, ...]
    """The environment, or several as tasks of one run."""
    trials: int = 50
    """Trials of the study, over all processes that share it."""
    budget: int = 200_000
    """Environment steps of each run of a trial."""
    seeds: str = "0..2"
    """Seeds of each trial, whose interquartile mean of last returns is its value."""
    fresh: int = 5
    """Seeds behind these, on which the best settings and the defaults are trained in the end (0: none)."""
    space: tuple[str, ...] = ()
    """name=low..high, name=low..high,log or name=v1,v2 ...: the search space. Without it, the one that estep algos ALGO
    --space shows, as far as it applies to the actions of the environment."""
    preset: str = "auto"
    """Name of a preset from which all trials start, auto for that of the environment, or none."""
    out: Path | None = None
    """Folder of the study. One that exists is gone on with."""
    storage: str | None = None
    """URL of a storage of Optuna, such as sqlite:///study.db. Without it, a file in the folder."""
    study_seed: int = 0
    """Seed of the choices of the study."""
    on: Literal["local", "ray"] = "local"
    """Where trials run: on this machine one after the other, or on a Ray cluster many at once, by Ray Tune."""
    scheduler: Literal["asha", "pbt"] = "asha"
    """With --on ray: asha stops trials that are behind; pbt (population based training) trains all trials to the end,
    and the worst quarter goes on as copies of the best, with settings near theirs."""
    address: str = "auto"
    """Of the Ray cluster: auto, local, or HOST:PORT."""
    jobs: int | None = None
    """Most processes at once (with --on ray: trials). Without it one for each core."""


OWN = {field.name for field in (*schema.of(Tune), *COMMON)}
SET_BY_STUDY = {"steps", "seed", "population", "stop_at"}


def tune(arguments: list[str], context: Context) -> int:
    """Run a study, or go on with one."""
    if not arguments or arguments[0].startswith("-"):
        if {"-h", "--help"} & set(arguments):
            parse("estep tune ALGO", str(Tune.__doc__), schema.of(Tune), (), ["--help"])
        raise UsageError("No algorithm was given.", "Give one first: estep tune ALGO --env ID.")
    found = row(arguments[0])
    others = tuple(f for f in (*found.fields, *schema.run_fields()) if f.name not in OWN | SET_BY_STUDY)
    about = " ".join(str(Tune.__doc__).split())
    values, flags = parse(f"estep tune {found.name}", about, (*schema.of(Tune), *others), (), arguments[1:])
    for name, least in (("trials", 1), ("budget", 1), ("fresh", 0), ("jobs", 1), ("study_seed", 0)):
        check(name, values[name] is None or values[name] >= least, values[name], f"at least {least}")
    if values["scheduler"] == PBT and values["on"] != "ray":
        raise UsageError("Population based training runs on Ray alone.", "Give --on ray, or leave out --scheduler.")
    if values["out"] is None:
        raise UsageError("The folder of the study was not given.", "Give it: --out STUDY.")
    tuned = _tuned(arguments[0], values, {name: values[name] for name in sorted(flags - OWN)})

    from estep.tuning import study as studies

    studies.import_optuna()
    if values["on"] == "ray":
        check_tune(values["address"])
    folder = values["out"].absolute()
    studies.begin(folder, tuned)
    study = studies.opened(folder, values["storage"], values["study_seed"])
    return _work(study, tuned, folder, values, context)


def check_tune(address: str) -> None:
    """Refuse --on ray where Ray Tune cannot be imported, or no cluster answers. Raises UsageError."""
    engines.check(Where("ray", address=address), Path())
    try:
        import ray.tune  # noqa: F401
    except ImportError as error:
        what = f"Ray Tune cannot be imported: {error}."
        raise UsageError(what, "Install what it needs: pip install 'estep[ray-tune]'.") from error


def _tuned(algorithm: str, values: dict[str, Any], settings: dict[str, Any]) -> Any:
    """What the study is about, with every value checked. Raises UsageError."""
    from estep.tuning.study import Tuned

    env = read_env(values["env"])
    of_runs = plan.resolved(plan.make(algorithm, values["env"], 0, {}, values["preset"], settings))
    space = spaces.chosen(algorithm, reader.pairs("--space", values["space"]))
    space = space or _space(algorithm, env, values["out"], of_runs)
    if both := sorted(set(space) & set(settings)):
        if values["space"]:
            raise UsageError(f"{both[0]} is given as a flag and in --space.", "Give it once.")
        space = {name: where for name, where in space.items() if name not in settings}
    if not space:
        raise UsageError(f"{algorithm} has no search space.", "Give one: --space name=low..high.")
    chosen = reader.seeds(values["seeds"])
    about = algorithm, values["env"], tuple(chosen), values["budget"], settings, space, values["preset"]
    tuned = Tuned(*about, values["scheduler"])
    tuned.defaults()  # an unknown preset is an error
    if values["on"] == "ray":
        tuned = _with_short_warm_up(tuned)
    if tuned.scheduler == PBT:
        check("trials", values["trials"] >= 2, values["trials"], "at least 2, which are the population")
        if not spaces.changeable(algorithm, space):
            what = f"No setting among {', '.join(space)} may change while a run goes on."
            raise UsageError(what, "Add one to --space that is a number with a fraction, such as learning_rate.")
    return tuned


def _space(algorithm: str, env: Any, folder: Path, of_runs: Mapping[str, Any]) -> spaces.Space:
    """The space of the study that is in the folder; else that of the algorithm, as far as it changes something with the
    actions of the environment and the settings of all runs.

    Raises:
        UsageError: the environment's actions are of a kind that estep does not have.
        EnvironmentFailure: the environment cannot be made.
    """
    from estep.envs.actions import action_space
    from estep.envs.build import build
    from estep.envs.choices import Choices, SeveralChoices
    from estep.envs.pure.adapter import hosted
    from estep.envs.tasks.sources import sources, task_name
    from estep.tuning import study as studies

    known = studies.space_in(folder, algorithm)
    if known is not None:
        return known
    first = sources(hosted(env))[0]
    one = build(first, 1)[0]
    actions = action_space(one.action_space, task_name(first))
    one.close()
    choices = len(actions.factors) if isinstance(actions, Choices | SeveralChoices) else 0
    return spaces.of_use(spaces.space_of(algorithm), of_runs, choices)


def _with_short_warm_up(tuned: Any) -> Any:
    """The study with a warm-up that leaves half of the steps before the first comparison of trials for learning."""
    from estep.tuning import members, rungs

    first = (members.rounds if tuned.scheduler == PBT else rungs.rungs)(tuned.budget)[0]
    short, whole = [plan.resolved(one.runs({})[0])["warmup_steps"] for one in (tuned._replace(budget=first), tuned)]
    if short == whole or "warmup_steps" in tuned.space:
        return tuned
    return tuned._replace(settings={**tuned.settings, "warmup_steps": short})


def _work(study: Any, tuned: Any, folder: Path, values: dict[str, Any], context: Context) -> int:
    """Run trials until there are enough, then report."""
    from estep.tuning import study as studies
    from estep.tuning import summary, trial

    def stop() -> bool:
        return context.life.stop_requested

    if not study.get_trials(deepcopy=False):
        study.enqueue_trial(studies.as_parameters(tuned.defaults(), tuned.space))
    note(f"study    {folder}  ({values['trials']} trials of {len(tuned.seeds)} runs)")
    where = Where(values["on"], values["jobs"], address=values["address"])
    engine = engines.make(where, folder, note)
    if where.on == "ray":
        from estep.tuning import on_ray, pbt

        by = pbt if tuned.scheduler == PBT else on_ray
        by.run(study, tuned, folder, (values["trials"], where.jobs), stop, note)
    else:
        while not stop() and (one := studies.next_trial(study, folder, values["trials"])) is not None:
            trial.run(study, one, tuned, folder, engine, stop, note)
    record: dict[str, Any] = {"study": str(folder)}
    if stop() or not summary.complete(study):
        context.results.say(f"study    {folder}")
        if stop():
            return context.results.finish(STOPPED, record)
        return context.results.fail(1, "No trial has a result.", f"See the logs in {folder / studies.TRIALS}.")
    stages = summary.best_stages(study, tuned, folder)
    best, shares = stages[-1].values, {} if tuned.scheduler == PBT else summary.importances(study)
    lines = [*summary.table(study), *aligned([(name, summary.text(share)) for name, share in shares.items()])]
    lines += ["", *summary.schedule(stages), *summary.preset(tuned, best), ""]
    fresh = None
    if values["fresh"]:
        note("fresh    the best settings and the defaults on seeds that no trial had")
        fresh = summary.on_fresh_seeds(study, tuned, folder, values["fresh"], lambda: engine, stop)
    if fresh is not None:
        lines += [
            f"study    {fresh.study:.5g} for the best settings, on the seeds that chose them",
            f"fresh    {summary.text(fresh.best)} best, {summary.text(fresh.defaults)} defaults",
            f"         {fresh.sentence} Difference {summary.text(fresh.gap)}.",
        ]
    context.results.say("\n".join(lines))
    if len(stages) > 1:
        record["schedule"] = [stage._asdict() for stage in stages]
    record |= {"best": best, "value": summary.complete(study)[0].value, "fresh": fresh and fresh._asdict()}
    record["importances"] = {name: share._asdict() for name, share in shares.items()}
    return context.results.finish(STOPPED if values["fresh"] and fresh is None and stop() else 0, record)
