"""The libraries, set alike: SAC, HalfCheetah-v5, hidden 256 x 256, batches of 256, twin critics, float32.

Libraries are imported inside functions, so that a process holds one of them alone. What is not set here is each
library's default; sbx-rl and stable-baselines3 share their interface.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from race import Gate

if TYPE_CHECKING:
    from estep.algorithms import Algorithm
    from estep.training.trainer import Trainer

ENV = "HalfCheetah-v5"
HIDDEN, BATCH = (256, 256), 256
FILLED = 4_000
"""Random steps in replay before updates are timed."""
CALL = 64
"""Updates in one call of a peer where it is given many."""
WARM = 1_000
"""Random steps at the start of a loop that is timed in its steady state."""
SMALL = 64, 64
ROLLOUT, UNROLL, MINIBATCH, EPOCHS = 2048, 32, 64, 10
"""On policy: steps of all environments together, steps in a row that returns are taken over (estep), steps of a batch,
and passes."""
ENDLESS = 10**9
"""Environment steps: more than any window takes."""
PEERS = {"sbx-rl": "sbx", "stable-baselines3": "stable_baselines3"}
"""Modules by the names of the packages."""


def estep_trainer(row: Algorithm, block: int, filled: int, seed: int = 0) -> Trainer:
    """A trainer whose replay holds random steps, at the end of its warm-up."""
    from estep.envs.gymnasium import make
    from estep.settings.run import RunConfig
    from estep.training.trainer import Trainer

    config = RunConfig(steps=1_000_000, warmup_steps=filled, updates_per_call=block, batch_size=BATCH, seed=seed)
    trainer = Trainer(row, make(ENV, seed=seed), config, lambda text: None)
    trainer.begin()
    for _ in range(filled):
        trainer.step()
    return trainer


def peer_model(library: str, starts: int | None, seed: int = 0) -> Any:
    """A peer's SAC; `starts` random steps, None for the library's own default."""
    import gymnasium

    module = importlib.import_module(PEERS[library])
    policy = {"net_arch": list(HIDDEN), "n_critics": 2}
    more = {} if starts is None else {"learning_starts": starts}
    env = gymnasium.make(ENV)
    return module.SAC("MlpPolicy", env, batch_size=BATCH, policy_kwargs=policy, seed=seed, device="cpu", **more)


def waiter(library: str, model: Any) -> Callable[[], Any]:
    """Blocks until a peer's parameters are there. On a CPU torch's calls return when they are done."""
    if PEERS[library] != "sbx":
        return lambda: None
    import jax

    return lambda: jax.block_until_ready((model.policy.actor_state.params, model.policy.qf_state.params))


def estep_updates(block: int, gate: Gate) -> None:
    """Updates of SAC with their sampling."""
    estep_row_updates("sac", {}, block, gate)


def estep_row_updates(algorithm: str, settings: Mapping[str, Any], block: int, gate: Gate) -> None:
    """Updates of a row with their sampling."""
    import jax

    from estep.algorithms import ALGORITHMS

    trainer = estep_trainer(ALGORITHMS[algorithm](hidden_sizes=HIDDEN, **settings), block, FILLED)
    gate.wait = lambda: jax.block_until_ready(trainer.agent)
    while not gate(block):
        trainer.update_block()


def peer_updates(library: str, together: int, gate: Gate) -> None:
    """As `estep_updates`, `together` updates in a call."""
    model = peer_model(library, FILLED)
    model.learn(FILLED)
    gate.wait = waiter(library, model)
    while not gate(together):
        model.train(gradient_steps=together, batch_size=BATCH)


def estep_run(hook: Callable[[], bool], seed: int = 0, **options: Any) -> None:
    """As `estep_train`, SAC."""
    from estep.algorithms import SAC

    estep_train(SAC(hidden_sizes=HIDDEN), hook, batch_size=BATCH, seed=seed, **options)


def estep_train(row: Algorithm, hook: Callable[[], bool], **options: Any) -> None:
    """The whole of `estep.train` without preset, evaluations and checkpoints; the hook is called after each step of
    the environments, with the updates that it made due, and stops the run by returning True."""
    from estep.envs.guard.watch import end_process
    from estep.policy.job import RunContext, Silent
    from estep.settings.run import RunConfig
    from estep.training.run import train

    config = RunConfig(eval_every=0, checkpoint_every=0, **options)
    train(
        row, ENV, config, out=Path("runs"), preset=None, context=RunContext(["benchmark"], Silent(), hook, end_process)
    )


def estep_loop(block: int, seed: int, gate: Gate) -> None:
    """Environment steps in the steady state, one update for each."""
    estep_run(gate, seed, steps=ENDLESS, warmup_steps=WARM, updates_per_call=block)


def peer_loop(library: str, gate: Gate) -> None:
    """As `estep_loop`. The callback comes before the update of its step: at the edges of windows only."""
    model = peer_model(library, WARM)
    gate.wait = waiter(library, model)
    model.learn(ENDLESS, callback=lambda *unused: not gate())


def estep_rollouts(algorithm: str, settings: Mapping[str, Any], envs: int, gate: Gate) -> None:
    """Environment steps of a row that learns on policy, a rollout and its updates at a time."""
    from estep.algorithms import ALGORITHMS

    taken = 0

    def hook() -> bool:
        nonlocal taken
        taken += envs
        return taken % ROLLOUT == 0 and gate(ROLLOUT)

    row = ALGORITHMS[algorithm](hidden_sizes=SMALL, rollout=ROLLOUT, unroll=UNROLL, **settings)
    estep_train(row, hook, steps=ENDLESS, num_envs=envs, batch_size=MINIBATCH)


def peer_rollouts(envs: int, epochs: int, gate: Gate) -> None:
    """As `estep_rollouts`, PPO of stable-baselines3."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env

    class Cycle(BaseCallback):
        """Counts a rollout when the next one begins: learned from by then."""

        def _on_rollout_start(self) -> None:
            if self.num_timesteps:
                gate(ROLLOUT)

        def _on_step(self) -> bool:
            return True

    policy = {"net_arch": {"pi": list(SMALL), "vf": list(SMALL)}}
    more = {"n_steps": ROLLOUT // envs, "batch_size": MINIBATCH, "n_epochs": epochs}
    model = PPO("MlpPolicy", make_vec_env(ENV, envs, seed=0), policy_kwargs=policy, device="cpu", **more)
    model.learn(ENDLESS, callback=Cycle())


def estep_choose(algorithm: str, gate: Gate) -> None:
    """Actions as the loop of training draws them."""
    from estep.algorithms import ALGORITHMS

    trainer = estep_trainer(ALGORITHMS[algorithm](hidden_sizes=HIDDEN), 8, WARM)
    while not gate():
        trainer.choose()


def trained(algorithm: str) -> Any:
    """A policy of a short training."""
    import estep

    short = {"steps": 300, "warmup_steps": 200, "eval_episodes": 1, "hidden_sizes": HIDDEN}
    return estep.train(algorithm, ENV, preset="none", **short)


def estep_policy(algorithm: str, gate: Gate) -> None:
    """Deterministic actions of a trained policy."""
    policy, obs = trained(algorithm), first_observation()
    while not gate():
        policy.act(obs)


def estep_exported(algorithm: str, gate: Gate) -> None:
    """The same by the files of `estep export`."""
    from estep.cli.main import main
    from estep.export.policy import load

    run_dir = trained(algorithm).run_dir
    main(["export", str(run_dir)])
    policy, obs = load(run_dir / "export" / "npz" / "policy.npz"), first_observation()
    while not gate():
        policy.act(obs)


def first_observation() -> Any:
    """A first observation."""
    import gymnasium

    return gymnasium.make(ENV).reset(seed=0)[0]


def peer_choose(library: str, gate: Gate) -> None:
    """Actions as the loop of training draws them: a vectorised environment of one."""
    model = peer_model(library, 0)
    model.learn(1)
    while not gate():
        model._sample_action(0)


def peer_policy(library: str, gate: Gate) -> None:
    """Deterministic actions of a model."""
    model, obs = peer_model(library, 0), first_observation()
    while not gate():
        model.predict(obs, deterministic=True)
