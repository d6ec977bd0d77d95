"""What does this machine's device do with many seeds at once? Runs alone, on whatever device JAX finds.

    python benchmarks/device.py [--small] [--minutes 8] [--only machine update cost ...]

Parts, each skipped when the time is over:
    machine  bandwidth of memory and rates of matrix products, at full and at JAX's default precision
    update   updates a second of all seeds together, batches given: sac and iterative-sac, 2 x 256, batches of 256
    cost     processor seconds of a population of 2 and 8 seeds on the host for each of one run: goal, at most 2 and 8
    loop     environment, replay, inference and update: on the device, on the device by MJX, on the host in threads
    many     one agent in thousands of environments: 0.02 updates a step, batches of 8192
    brax     brax's SAC at the sizes of `update`, one seed, where brax can be imported
    learn    Pendulum: seconds until the interquartile mean of all seeds is above -200

`compile_s` is the first call, `peak_gib` that of the device's memory where it is known.
"""

from __future__ import annotations

import functools as ft
import itertools
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sheet

import estep
from estep.core.types import Spec, Transition
from estep.envs.pure.environment import PureEnv
from estep.policy.actor import memo_widths
from estep.policy.job import QUIET
from estep.population import run
from estep.population.programs.updates import each_seed
from estep.population.trainer import PopulationTrainer
from estep.runs.config_file import Recipe
from estep.settings.run import RunConfig

COLUMNS = "part", "what", "algorithm", "seeds", "num_envs", "precision", "value", "unit", "compile_s", "peak_gib"
SIZES = Spec(17, 6)  # those of HalfCheetah-v5


class Sizes:
    """How large everything is: the reference sizes, or tiny ones that show that the script runs."""

    def __init__(self, small: bool) -> None:
        self.small = small
        self.hidden, self.batch = ((8, 8), 8) if small else ((256, 256), 256)
        on_cpu = jax.default_backend() == "cpu"
        self.seeds = (1, 2) if small else (1, 2, 8) if on_cpu else (1, 8, 64, 256)
        self.block, self.seconds = (2, 0.1) if small else (32, 2.0)
        self.elements, self.square = (2**16, 32) if small else (2**27, 4096)
        self.many = (16, 64, 0.1) if small else (4096, 8192, 0.02)
        self.steps = 400 if small else 20_000

    def algorithm(self, name: str) -> Any:
        """An algorithm with these networks."""
        return {"sac": estep.SAC, "iterative-sac": estep.IterativeSAC}[name](hidden_sizes=self.hidden)


def timed(call: Callable[[Any], Any], state: Any, seconds: float) -> tuple[float, float]:
    """Median seconds of a call of a program that takes and gives a state, and those of the first call."""
    begun = time.perf_counter()
    state = jax.block_until_ready(call(state))
    first, took = time.perf_counter() - begun, []
    while len(took) < 2 or sum(took) < seconds:
        begun = time.perf_counter()
        state = jax.block_until_ready(call(state))
        took.append(time.perf_counter() - begun)
    return float(np.median(took)), first


def line_of(part: str, what: str, value: float, unit: str, **more: Any) -> dict[str, str]:
    """A line of the CSV."""
    peak = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    found = {"part": part, "what": what, "value": f"{value:.4g}", "unit": unit, **more}
    found |= {} if peak is None else {"peak_gib": f"{peak / 2**30:.2f}"}
    return {name: f"{text:.3g}" if isinstance(text := found.get(name, ""), float) else str(text) for name in COLUMNS}


def machine(sizes: Sizes) -> Iterator[dict[str, str]]:
    """The rates that bound everything else."""
    numbers = jnp.ones(sizes.elements)
    took, _ = timed(jax.jit(lambda x: x + 1.0, donate_argnums=0), numbers, sizes.seconds)
    yield line_of("machine", "read and write memory", 8e-9 * sizes.elements / took, "GB/s")
    for precision, (count, size) in itertools.product(
        ("highest", "default"), ((1, sizes.square), (64, sizes.square // 16))
    ):
        matrix = jnp.full((count, size, size), 1e-3)
        product = jax.jit(ft.partial(jnp.matmul, matrix, precision=precision))
        took, _ = timed(product, matrix, sizes.seconds / 4)
        rate = 2e-12 * count * size**3 / took
        yield line_of("machine", f"{count} products of {size}", rate, "TFLOP/s", precision=precision)


def batches(agent: Any, seeds: int, sizes: Sizes) -> Transition:
    """Random transitions [s, k, b, 1, ...] with the memo that the algorithm stores."""
    shape, keys = (seeds, sizes.block, sizes.batch, 1), jax.random.split(jax.random.key(0), 4)
    obs, next_obs = (jax.random.normal(key, (*shape, SIZES.obs_dim)) for key in keys[:2])
    action, reward = jax.random.normal(keys[2], (*shape, SIZES.action_dim)), jax.random.normal(keys[3], shape)
    memo = {name: jnp.zeros((*shape, width)) for name, width in memo_widths(agent).items()}
    return Transition(obs, action, reward, jnp.ones(shape), next_obs, jnp.zeros(shape), memo or ())


def update(sizes: Sizes) -> Iterator[dict[str, str]]:
    """Updates of all seeds, without environments and replay."""
    for name, seeds, precision in itertools.product(("sac", "iterative-sac"), sizes.seeds, ("default", "highest")):
        if precision == "highest" and seeds != sizes.seeds[-2]:
            continue
        algorithm = sizes.algorithm(name)

        def one_seed(agent: Any, batches: Transition) -> Any:
            def one(agent: Any, batch: Transition) -> tuple[Any, None]:
                return estep.update(agent, batch, estep.make_key(1))[0], None

            return jax.lax.scan(one, agent, batches)[0]

        keys = jax.random.split(estep.make_key(0), seeds)
        agents = jax.jit(jax.vmap(ft.partial(algorithm.init, SIZES)))(keys)
        data = batches(jax.tree.map(lambda leaf: leaf[0], agents), seeds, sizes)
        with jax.default_matmul_precision(precision):
            call = jax.jit(lambda agents, data: each_seed(one_seed)(agents, data))
            took, first = timed(lambda agents, call=call, data=data: call(agents, data), agents, sizes.seconds)
        more = {"seeds": seeds, "precision": precision, "compile_s": first}
        yield line_of("update", "batches given", seeds * sizes.block / took, "updates/s", algorithm=name, **more)


@contextmanager
def started(sizes: Sizes, name: str, env: Any, **settings: Any) -> Iterator[PopulationTrainer]:
    """A population that has taken no step yet, without a folder."""
    options = {"batch_size": sizes.batch, "warmup_steps": 2 * sizes.batch, "steps": 100_000, **settings}
    config = RunConfig(**options)
    with run.opened(env, config, QUIET) as place:
        recipe = Recipe(name, sizes.algorithm(name), place.name, True, config, None)
        plan = run.planned(recipe, place, Path(tempfile.gettempdir()), QUIET.report)
        trainer = run.trainer_of(recipe, plan, place)
        trainer.engine.begin()
        yield trainer


def warm(trainer: PopulationTrainer) -> float:
    """Take the turns of the warm-up and a first block. Returns the seconds, nearly all of which are compilation."""
    begun = time.perf_counter()
    while trainer.updates == 0:
        trainer.advance(1 + trainer.config.warmup_steps // trainer.config.num_envs // 4)
    trainer.advance(1)
    return time.perf_counter() - begun


def steps_a_second(trainer: PopulationTrainer, seconds: float) -> float:
    """Steps of all seeds together in a second of training."""
    before, begun = trainer.env_steps, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        trainer.advance(8)
    return (trainer.env_steps - before) * len(trainer.seeds) / (time.perf_counter() - begun)


def loop(sizes: Sizes) -> Iterator[dict[str, str]]:
    """The whole loop at one update a step."""
    envs = {"stand-in": stand_in(), "host, in threads": "HalfCheetah-v5", "MJX": "mjx:HalfCheetah-v5"}
    for (what, env), name in itertools.product(envs.items(), ("sac", "iterative-sac")):
        seeds = sizes.seeds[-2]
        with started(sizes, name, env, population=seeds, updates_per_call=1) as trainer:
            more = {"algorithm": name, "seeds": seeds, "num_envs": 1, "compile_s": warm(trainer)}
            yield line_of("loop", what, steps_a_second(trainer, sizes.seconds), "steps/s", **more)


def many(sizes: Sizes) -> Iterator[dict[str, str]]:
    """One agent that learns from thousands of environments."""
    num_envs, batch, rate = sizes.many
    for env in ("pure/Pendulum-v1", "mjx:HalfCheetah-v5"):
        settings = {"population": 1, "num_envs": num_envs, "updates_per_step": rate, "batch_size": batch}
        with started(sizes, "sac", env, **settings, warmup_steps=num_envs) as trainer:
            more = {"algorithm": "sac", "seeds": 1, "num_envs": num_envs, "compile_s": warm(trainer)}
            yield line_of("many", env, steps_a_second(trainer, sizes.seconds), "steps/s", **more)


def stand_in() -> PureEnv:
    """An environment of HalfCheetah's sizes that costs next to nothing."""
    mix = jnp.asarray(np.random.default_rng(0).standard_normal((SIZES.action_dim, SIZES.obs_dim)), jnp.float32)

    def step(state: Any, action: Any) -> Any:
        after = 0.9 * state + jnp.tanh(action @ mix)
        return after, -jnp.square(after).mean(), jnp.zeros((), bool)

    return PureEnv("stand-in", SIZES, lambda key: jax.random.normal(key, (SIZES.obs_dim,)), lambda s: s, step, 1_000)


def cost(sizes: Sizes) -> Iterator[dict[str, str]]:
    """Processor seconds of a population for each of one run, both on the host, after compilation."""
    from estep.policy.environments import make_pair
    from estep.training.trainer import Trainer

    turns = 16 if sizes.small else 400
    config = RunConfig(batch_size=sizes.batch, warmup_steps=2 * sizes.batch)
    with make_pair("Pendulum-v1", config, QUIET) as (env, _):
        alone = Trainer(sizes.algorithm("sac"), env, config, lambda line: None)
        alone.begin()
        while alone.counts.updates < 16:
            alone.advance()
        begun = time.process_time()
        for _ in range(turns):
            alone.advance()
        one = time.process_time() - begun
    for what, seeds in itertools.product(("Pendulum-v1", "pure/Pendulum-v1"), (2, 8)):
        with started(sizes, "sac", what, population=seeds) as trainer:
            first = warm(trainer)
            trainer.advance(8)
            begun = time.process_time()
            trainer.advance(turns)
            took = time.process_time() - begun
        more = {"algorithm": "sac", "seeds": seeds, "num_envs": 1, "compile_s": first}
        yield line_of("cost", what, took / one, "of one run", **more)


def brax(sizes: Sizes) -> Iterator[dict[str, str]]:
    """brax's SAC on the stand-in. JAX has lost a function that brax calls, so a stand-in of that is handed over."""
    if not hasattr(jax, "device_put_replicated"):
        jax.device_put_replicated = lambda tree, on: jax.tree.map(lambda leaf: jnp.stack([leaf] * len(on)), tree)
    from brax.envs.base import Env, State
    from brax.training.agents.sac import networks
    from brax.training.agents.sac import train as sac

    inner = stand_in()

    class StandIn(Env):  # type: ignore[misc]
        observation_size, action_size, backend = SIZES.obs_dim, SIZES.action_dim, "none"

        def reset(self, rng: Any) -> Any:
            return State(None, inner.reset(rng), jnp.zeros(()), jnp.zeros(()), {}, {})

        def step(self, state: Any, action: Any) -> Any:
            obs, reward, _ = inner.step(state.obs, action)
            return state.replace(obs=obs, reward=reward)

    envs, seen = 8 if sizes.small else 64, [0.0]
    made = ft.partial(networks.make_sac_networks, hidden_layer_sizes=sizes.hidden)
    options = {"num_timesteps": envs * (8 if sizes.small else 400), "episode_length": 1_000, "num_envs": envs}
    options |= {"num_eval_envs": 2, "num_evals": 3, "batch_size": sizes.batch, "grad_updates_per_step": envs}
    options |= {"min_replay_size": 2 * sizes.batch, "max_replay_size": 100_000, "discounting": 0.99}
    options["progress_fn"] = lambda steps, metrics: seen.append(metrics.get("training/sps", 0.0))
    sac.train(StandIn(), **options, network_factory=made)
    yield line_of("brax", "stand-in", float(seen[-1]), "updates/s", algorithm="brax sac", seeds=1, num_envs=envs)


def learn(sizes: Sizes) -> Iterator[dict[str, str]]:
    """Pendulum from nothing, without a folder, evaluated on the way."""
    for name in ("sac", "iterative-sac"):
        seeds = sizes.seeds[-2]
        settings = {"population": seeds, "warmup_steps": 100 if sizes.small else 500, "updates_per_call": 1}
        begun, mean = time.perf_counter(), -np.inf
        with started(sizes, name, "pure/Pendulum-v1", **settings) as trainer:
            while mean < -200 and trainer.env_steps < sizes.steps:
                trainer.advance(100 if sizes.small else 500)
                means = sorted(one.mean for one in trainer.engine.evaluate(10, trainer.env_steps) if one is not None)
                mean = float(np.mean(means[seeds // 4 : seeds - seeds // 4]))
        what = f"Pendulum, mean {mean:.0f} at {trainer.env_steps} steps"
        yield line_of("learn", what, time.perf_counter() - begun, "s", algorithm=name, seeds=seeds, num_envs=1)


PARTS = {part.__name__: part for part in (machine, update, cost, loop, many, brax, learn)}


def main() -> None:
    parser = sheet.parser(__file__, __doc__)
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see that everything runs")
    parser.add_argument("--minutes", type=float, default=8.0, help="after this time no further line begins (8)")
    parser.add_argument("--only", nargs="+", choices=sorted(PARTS), default=list(PARTS), help="parts to run (all)")
    args = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    begun, here, rows = time.monotonic(), sheet.machine(), []
    here["device"] = jax.local_devices()[0].device_kind
    for name in args.only:
        found = PARTS[name](Sizes(args.small))
        while time.monotonic() - begun < 60 * args.minutes:
            try:
                line = next(found, None)
            except Exception as error:  # a part that cannot run here must not end the others
                line = None
                if not isinstance(error, ImportError | estep.UsageError):
                    traceback.print_exc(limit=4)
                print(f"{name} ended early: {str(error).splitlines()[0]}", flush=True)
            if line is None:
                break
            rows.append(line)
            sheet.write(args.out, [line], here)  # at once, because a lent machine may be taken away
            print(" ".join(filter(None, line.values())), flush=True)
    sheet.show(rows, COLUMNS)


if __name__ == "__main__":
    main()
