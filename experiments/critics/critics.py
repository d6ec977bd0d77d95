"""What inferred actions are predicted to gain, and gain, on critics of several kinds that are fitted to one data set.

The policy and the temperature of a trained run do not change. Each critic is fitted from new to the soft value of that
policy, on the last steps of the run's replay. Then the gain of Adam from the direct policy is measured as
`estep inspect --only realised` does, and the correlation of Q̂ with the soft return. Run as

    python experiments/critics/critics.py results/critics RUN RUN ...

What results/critics/critics.csv has of other runs, sizes and critics stays; what it has already is not made again.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools as ft
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from estep.core.agent import Agent
from estep.core.em import apply_pending, critic_step
from estep.core.keys import make_key
from estep.core.learned import fixed, learn
from estep.core.types import Transition
from estep.envs.build import FRESH
from estep.instruments.calibration import calibration
from estep.instruments.interval import interval
from estep.instruments.play.realised import Extent, realised
from estep.instruments.states import replay_of
from estep.likelihoods.maximised import Maximised
from estep.plots import labels
from estep.policy.actor import scale
from estep.policy.environments import chosen_env, make_env
from estep.policy.job import QUIET
from estep.policy.policy import Policy, load
from estep.runs import tables

CRITICS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "layer": {"critic_norm": "layer"},
    "layer elu": {"critic_norm": "layer", "critic_activation": "elu"},
    "layer hl-gauss": {"critic_norm": "layer", "critic_loss": "hl-gauss"},
    "simba2": {"network": "simba2", "critic_hidden_sizes": (64, 64)},
    "five": {"num_critics": 5},
}
"""What differs from the settings of the run."""
DIFFERENCE = "five difference"
"""The five members, pessimistic about gains in place of values."""
SIZES = (30_000, 100_000, 300_000)
"""Steps of data, the latest of the replay."""
EFFORTS = (5, 20)
STATES = 128
UPDATES, BATCH, LEARNING_RATE, TAU = 12_000, 128, 1e-3, 0.05
BLOCK = 500
"""Updates of one compiled call."""


class Row(NamedTuple):
    """One critic of one run by one number of iterations."""

    env: str
    seed: int
    data: int
    """Steps of data."""
    critic: str
    iterations: int
    predicted: float
    realised: float
    control: float
    """The realised gain of displacements of the same size."""
    trimmed: float
    control_trimmed: float
    share: float
    """Share of the states that gain."""
    falls_caused: int
    falls_prevented: int
    disagreement_before: float
    disagreement_after: float
    distance: float
    direct: float
    """Mean of the discounted return of the direct policy."""
    correlation: float
    """Of Q̂ with the soft return, over pairs of ten episodes."""
    bias: float
    """Mean of Q̂ less the soft return."""
    loss: float
    """Of the last block of updates."""


def fresh(trained: Policy, changes: Mapping[str, Any], seed: int) -> Agent:
    """The trained policy with a new critic. Nothing but the critic learns."""
    agent = trained.agent
    algorithm = dataclasses.replace(trained.recipe.algorithm, learning_rate=LEARNING_RATE, tau=TAU, **changes)
    critic = algorithm.init(agent.spec, make_key(seed)).likelihood
    return replace(
        agent,
        inference=fixed(agent.inference.model),
        temperature=fixed(agent.temperature.model),
        likelihood=learn(critic.model, critic.tx, tau=TAU),
        training_critic=Maximised(),
        acting_critic=Maximised(),
    )


def data_of(trained: Policy) -> Transition:
    """All steps of the latest checkpoint's replay, the oldest first, on the device."""
    replay = replay_of(trained, "latest")
    steps = replay.read(replay.newest(len(replay), 1))
    obs, after = (scale(jnp.asarray(each), trained.scaling) for each in (steps.obs, steps.next_obs))
    return jax.tree.map(jnp.asarray, steps._replace(obs=obs, next_obs=after))


@ft.partial(jax.jit, donate_argnums=0)
def improve(agent: Agent, data: Transition, first: jax.Array, key: jax.Array) -> tuple[Agent, jax.Array]:
    """A block of updates of the critic on steps of the data from `first` on."""
    count = data.reward.shape[0]

    def update(agent: Agent, key: jax.Array) -> tuple[Agent, jax.Array]:
        k_rows, k_critic = jax.random.split(key)
        rows = jax.random.randint(k_rows, (BATCH,), first, count)
        batch = jax.tree.map(lambda column: column[rows], data)
        new, info = critic_step(agent, batch, k_critic)
        return apply_pending(new)[0], info["critic/loss"]

    agent, losses = jax.lax.scan(update, agent, jax.random.split(key, BLOCK))
    return agent, losses.mean()


def fit(agent: Agent, data: Transition, size: int, seed: int) -> tuple[Agent, float]:
    """The agent with its critic fitted to the last `size` steps, and the loss of the last block."""
    first, loss = jnp.asarray(data.reward.shape[0] - size), jnp.zeros(())
    agent = jax.tree.map(jnp.array, agent)  # `improve` overwrites its argument
    for block in range(UPDATES // BLOCK):
        agent, loss = improve(agent, data, first, jax.random.fold_in(make_key(seed), block))
    return agent, float(loss)


def measure(trained: Policy, agent: Agent, about: Sequence[Any], loss: float) -> list[Row]:
    """The rows of one fitted critic."""
    run = dataclasses.replace(trained.recipe.run, eval_episodes=10)
    source, key = chosen_env(trained.recipe, None, True), make_key(run.seed)
    with closing(make_env(source, run, QUIET, FRESH)) as env:
        pairs = calibration(agent, env, trained.scaling, key, 10).pairs
    with closing(make_env(source, run, QUIET, FRESH)) as env:
        found = realised(agent, env, trained.scaling, key, Extent(STATES, efforts=EFFORTS))
    predicted, earned = (np.asarray([getattr(pair, name) for pair in pairs]) for name in ("predicted", "earned"))
    values = float(np.corrcoef(predicted, earned)[0, 1]), float((predicted - earned).mean())
    names = [name for name in Row._fields if name in found.rows[0]._fields and name != "iterations"]
    return [
        Row(*about, one.iterations, *(getattr(one, name) for name in names), found.direct, *values, loss)
        for one in found.rows
    ]


def missing(run: Path, known: Iterable[Row], sizes: Sequence[int], critics: Sequence[str]) -> list[tuple[int, str]]:
    """The sizes of data and the fits that have no row yet."""
    env, _, _, seed = labels.run_label(run)
    have = {(row.data, row.critic) for row in known if (row.env, row.seed) == (env, seed)}
    return [(size, critic) for critic in critics for size in sizes if (size, critic) not in have]


def critics_of(run: Path, wanted: Iterable[tuple[int, str]]) -> Iterable[list[Row]]:
    """Fit and measure, one critic after another."""
    trained = load(run, "latest")
    env, _, _, seed = labels.run_label(run)
    data = data_of(trained)
    for size, name in wanted:
        agent, loss = fit(fresh(trained, CRITICS[name], seed), data, size, seed)
        yield measure(trained, agent, (env, seed, size, name), loss)
        if name == "five":
            relative = replace(agent, acting_critic=Maximised(pessimism="difference"))
            yield measure(trained, relative, (env, seed, size, DIFFERENCE), loss)


class Summary(NamedTuple):
    """One critic over the runs of a task, with 95 % intervals over runs."""

    env: str
    data: int
    critic: str
    iterations: int
    runs: int
    predicted: float
    realised: float
    realised_low: float
    realised_high: float
    control: float
    difference: float
    """The realised gain less that of the control."""
    difference_low: float
    difference_high: float
    share: float
    correlation: float
    bias: float
    direct: float


def summary(rows: Sequence[Row]) -> list[Summary]:
    """All critics, those with the same task, data and iterations together."""
    found = []
    order = {name: place for place, name in enumerate([*CRITICS, DIFFERENCE])}
    cells = sorted({(r.env, r.data, r.critic, r.iterations) for r in rows}, key=lambda c: (*c[:2], c[3], order[c[2]]))
    for cell in cells:
        mine = [r for r in rows if (r.env, r.data, r.critic, r.iterations) == cell]

        def mean(name: str, mine: Sequence[Row] = mine) -> float:
            return float(np.mean([getattr(row, name) for row in mine]))

        gain, difference = ([r.realised for r in mine], [r.realised - r.control for r in mine])
        rest = mean("share"), mean("correlation"), mean("bias"), mean("direct")
        middle = *interval(gain), mean("control"), *interval(difference)
        found.append(Summary(*cell, len(mine), mean("predicted"), *middle, *rest))
    return found


def draw(rows: Sequence[Summary], path: Path) -> None:
    """A row of panels for each number of iterations, a panel for each task: gain by critic, a colour for each size."""
    tasks, efforts = list(dict.fromkeys(r.env for r in rows)), sorted({r.iterations for r in rows})
    critics, sizes = list(dict.fromkeys(r.critic for r in rows)), sorted({r.data for r in rows})
    figure = Figure(figsize=(5.2 * len(tasks), 3.6 * len(efforts)), layout="constrained")
    for line, effort in zip(figure.subplots(len(efforts), len(tasks), squeeze=False), efforts, strict=True):
        for axes, task in zip(line, tasks, strict=True):
            axes.axhline(0.0, color="0.7", linewidth=0.8)
            for offset, size in enumerate(sizes):
                mine = [r for r in rows if (r.env, r.iterations, r.data) == (task, effort, size)]
                at = np.asarray([critics.index(r.critic) for r in mine]) + 0.22 * (offset - 1)
                middle = np.asarray([r.realised for r in mine])
                error = [middle - [r.realised_low for r in mine], [r.realised_high for r in mine] - middle]
                axes.errorbar(at, middle, error, fmt="o", color=f"C{offset}", label=f"{size:,} steps of data")
                axes.plot(at, [r.control for r in mine], "x", color=f"C{offset}")
            axes.set_xticks(range(len(critics)), critics, rotation=30, ha="right")
            axes.set(title=f"{task}, {effort} steps of Adam", ylabel="realised gain of return")
            axes.legend(fontsize="x-small", frameon=False, title="× is the control", title_fontsize="x-small")
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--critics", nargs="+", choices=CRITICS, default=list(CRITICS))
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "critics.csv"
    rows: list[Row] = tables.read(path, Row) if path.is_file() else []
    for run in args.runs:
        for fitted in critics_of(run, missing(run, rows, args.sizes, args.critics)):
            rows += fitted
            tables.write(path, Row._fields, rows)
            print(*(f"{value:.3g}" if isinstance(value, float) else value for value in fitted[0]), flush=True)
    found = summary(rows)
    tables.write(args.out / "summary.csv", Summary._fields, found)
    draw(found, args.out / "critics.png")


if __name__ == "__main__":
    main()
