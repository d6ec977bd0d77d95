"""`estep inspect`: measures inference in a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from estep.cli.main import Context
from estep.cli.parse import parse
from estep.cli.reading import chosen_run, run_context
from estep.cli.resolve import check_of_one, each_run, finish_several, read_env, run_folder, runs_of
from estep.cli.results import limits
from estep.errors import check, unknown
from estep.policy.job import note_reason
from estep.settings import arguments as arguments_of
from estep.settings import schema

if TYPE_CHECKING:
    from estep.instruments.inspection import Inspection

INSTRUMENTS = (
    *("improvement", "gap", "compare", "landscape", "modes"),
    *("transfer", "staleness", "calibration", "realised", "model"),
)
"""The names of `estep.instruments.inspection.INSTRUMENTS`, which cannot be imported without JAX."""


@dataclass(frozen=True)
class Inspect:
    """Measure inference in a run: improvement per iteration, inference gap, comparison of optimisers, landscape of V,
    modes, transfer to other objectives, gap of λ stored in replay, bias of Q̂, what inferred actions gain in the
    environment, and what its model predicts. Instruments that do not apply to the run are listed with the reason. Of
    several runs, means over the seeds of each curve follow."""

    runs: tuple[str, ...]
    """Folders of runs, folders in which there are runs, or files named latest."""
    member: int | None = None
    """Seed of a population to inspect, by its number from 0. None inspects all of them."""
    only: tuple[str, ...] = ()
    """Instruments: improvement, gap, compare, landscape, modes, transfer, staleness, calibration, realised, model. No
    name means all."""
    out: Path | None = None
    """Folder for tables and figures of one run. None takes the folder plots in each run."""
    checkpoint: str = "latest"
    """Checkpoint: best, latest, or its number of environment steps."""
    states: int | None = None
    """Number of states. None takes the default of each instrument (16 to 256)."""
    states_file: Path | None = None
    """A .npy file with states [n, o], as the environment gives them. None takes the latest states of the run."""
    iterations: int | None = None
    """Number of iterations for the improvement. None takes twice the number of training or acting."""
    episodes: int = 10
    """Number of episodes for the calibration, for the realised gain and for the model."""
    realised_steps: int = 25
    """Number of steps with inferred actions for the realised gain. The direct policy acts after them."""
    seed: int | None = None
    """Seed of all random numbers and episodes. None takes the run's seed."""
    env: tuple[str, ...] = ()
    """The run's environment, or all of its tasks. For module:Id it allows estep to import the module."""
    task: str = ""
    """Name of the only task that is wanted, where the run has several. Without it all are taken."""
    allow_import: bool = False
    """Allow estep to import the modules that the run folder names."""
    trust_dir: bool = False
    """Read a run folder that other users may write to, whom you trust."""
    imagined: bool = True
    """Measure inference on returns of imagined steps, if the run has a model of the environment (no-imagined: on the
    critic itself)."""


def inspect(arguments: list[str], context: Context) -> int:
    """Measure inference in one run or in several."""
    values, _ = parse("estep inspect", str(Inspect.__doc__), schema.of(Inspect), ("runs",), arguments)
    _check(values)
    runs = runs_of(values["runs"], values["trust_dir"])
    if len(runs) > 1:
        check_of_one(values, ("member",), len(runs))
    seeds = [seed for run in runs for seed in _seeds(run, values["member"])]
    if len(seeds) > 1:
        check_of_one(values, ("out",), len(seeds))
    values["env"] = read_env(values["env"]) if values["env"] else None

    from estep.policy import cache

    note_reason(cache.use_cache(), run_context(context).report)
    if len(seeds) == 1:
        return context.results.finish(0, _inspect(seeds[0], values, context))

    from estep.plots import measured
    from estep.plots.over_seeds import over_seeds

    several = each_run(seeds, context.results, lambda seed: _inspect(seed, values, context))
    tables = measured.read(list(map(Path, several.runs))).lines()
    means = over_seeds({name: tables[name] for name in values["only"] or INSTRUMENTS if name in tables})
    return finish_several(several, means, context.results)


def _seeds(run: Path, member: int | None) -> list[Path]:
    """A run folder; or of a population the folder of the seed that is asked for, or of each."""
    from estep.runs.folder import MEMBERS, member_path

    if not (run / MEMBERS).is_dir() and member is None:
        return [run]
    return [member_path(run, member)] if member is not None else sorted((run / MEMBERS).glob("[0-9]*"))


def _inspect(seed: Path, values: dict[str, Any], context: Context) -> dict[str, Any]:
    """Measure a run, or one seed of a population, say what was found, and return it as values of JSON."""
    from estep.instruments import inspection, states, tables
    from estep.plots import inference
    from estep.policy import policy
    from estep.runs.folder import MEMBERS

    alone = seed.parent.name == MEMBERS
    folder = run_folder(seed.parent.parent if alone else seed, context.results, values["trust_dir"])
    values = {**values, "member": int(seed.name) if alone else None}
    names = set(inspection.Options._fields) - {"given"}
    with chosen_run(folder, values, replay=True) as one:
        given = None
        if values["states_file"] is not None:
            size = policy.load(one, values["checkpoint"], allow_import=values["allow_import"]).agent.spec.obs_dim
            given = states.read_states(values["states_file"], size)
        options = inspection.Options(given=given, **{name: values[name] for name in names})
        found = inspection.inspect_run(one, options, run_context(context))
    out = values["out"] or (seed if alone else folder) / "plots"
    files = tables.write(found, out)
    files |= inference.draw(found, out)
    context.results.say("\n".join([*lines(found), f"wrote    {len(files)} tables and figures to {out}"]))
    return {**tables.summary(found), "files": files}


def _check(values: dict[str, Any]) -> None:
    arguments_of.checkpoint(values["checkpoint"])
    for name in values["only"]:
        if name not in INSTRUMENTS:
            raise unknown("instrument", name, INSTRUMENTS, f"Give some of: {', '.join(INSTRUMENTS)}.")
    for flag, least in (("states", 2), ("iterations", 1), ("episodes", 1), ("realised_steps", 1), ("seed", 0)):
        value = values[flag]
        check(flag, value is None or value >= least, value, f"at least {least}")


def lines(found: Inspection) -> Iterable[str]:
    """The results as lines of text."""
    yield f"Q̂       {found.estimate}"
    if found.improvement is not None:
        trained = found.trained_iterations
        yield f"improvement of V per iteration, 95 % interval (* number of iterations in training: {trained})"
        for row in found.improvement.curve:
            mark = "*" if row.iteration == trained else " "
            yield f"  {row.iteration:4d}{mark}{row.mean:12.5g}   [{row.low:.5g}, {row.high:.5g}]"
    if found.gap is not None:
        yield from _gap(found.gap)
    if found.compare is not None:
        yield f"optimisers: V minus V of the start, evaluations of Q̂ per state, time for {found.compare.states} states"
        last = {row.optimiser: row for row in found.compare.rows}
        for name, end in last.items():
            effort = f"{end.iterations:4d} iterations  {end.evaluations:6,d} evaluations {end.milliseconds:9.2f} ms"
            yield f"  {name:16s}{end.mean:10.4g}   {effort}"
    if found.modes is not None:
        counts = found.modes.counts
        states, restarts = found.modes.value.shape
        yield f"modes: mean {counts.mean():.3g} per state, maximum {counts.max()}; {restarts} restarts, {states} states"
    if found.transfer is not None:
        yield "gap to the best λ under objectives for which inference was not trained"
        for way in found.transfer:
            name = f"{way.objective}, {way.iterations} iterations" if way.iterations else way.objective
            yield f"  {name:32s}{way.missing:10.4g}   {limits(way)}"
    if found.staleness is not None:
        yield "gap to the best λ, of λ stored in replay (kept) and of new inference (afresh)"
        for old in found.staleness:
            name = f"{old.start}, {old.env_steps:,} steps old, {old.iterations} iterations"
            yield f"  {name:44s}{old.missing:10.4g}   {limits(old)}"
    if found.calibration is not None:
        yield f"over-estimation: mean of Q̂ - G, G the {found.calibration.kind}"
        for bias in found.calibration.biases:
            own = "  (the agent's β)" if bias.own else ""
            yield f"  β = {bias.beta:<5.3g}{bias.mean:12.4g}   {limits(bias)}{own}"
    if found.realised is not None:
        yield from _realised(found.realised)
    if found.model is not None:
        yield from _model(found.model)
    for name, reason in found.not_measured.items():
        yield f"no {name}: {reason}"


def _gap(found: Any) -> Iterable[str]:
    from estep.instruments.interval import interval
    from estep.instruments.tables import PARTS

    how = "by quadrature" if found.exact else "with the best of many gradient ascents and a lower bound of α log Z"
    yield f"inference gap α KL(q‖posterior) over {len(found.rows)} states, {how}"
    for name in PARTS:
        over = interval([getattr(row, name) for row in found.rows])
        yield f"  {name:16s}{over.mean:10.4g}   {limits(over)}"


def _realised(found: Any) -> Iterable[str]:
    yield (
        f"gain of {found.steps} inferred actions over the direct policy, in {found.states} states of "
        f"{found.episodes} episodes: predicted by Q̂, realised, and of random actions of the same size"
    )
    for row in found.rows:
        gains = [
            f"{getattr(row, name):10.4g} [{getattr(row, name + '_low'):.4g}, {getattr(row, name + '_high'):.4g}]"
            for name in ("predicted", "realised", "control")
        ]
        yield f"  {row.optimiser + ', ' + str(row.iterations):20s}" + "  ".join(gains)


def _model(found: Any) -> Iterable[str]:
    yield (
        f"model of {found.members} members in {found.episodes} episodes: error of imagined states and rewards in "
        f"standard deviations, and share of states within their interval ({found.errors[0].wanted:.0%} would be right)"
    )
    for row in found.errors:
        yield (
            f"  {row.steps:4d} steps {row.error:10.3g} [{row.low:.3g}, {row.high:.3g}] unchanged {row.unchanged:.3g}, "
            f"reward {row.reward:.3g}, within {row.coverage:.0%} [{row.coverage_low:.0%}, {row.coverage_high:.0%}]"
        )
    yield f"  ends: {found.ends}, predicted {found.predicted_ends:.3g}"
