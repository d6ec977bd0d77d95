"""One small population for all tests of populations, so that its program is compiled once."""

from pathlib import Path

from child import config, job

from estep.algorithms import SAC
from estep.population import run

SMALL = SAC(hidden_sizes=(8,))
PURE = "pure/Pendulum-v1"
SEVERAL = {"population": 3, "num_envs": 2, "normalise": True, "batch_size": 8, "env": PURE, "steps": 160}
SEVERAL |= {"log_every": 40, "eval_every": 70, "checkpoint_every": 30, "warmup_steps": 50, "seed": 5}
"""Every group of state is in use, and nothing falls on the same step."""


def started(algorithm=SMALL, **changes):
    """A trainer that has taken no step yet, without a run folder."""
    settings = {**SEVERAL, **changes}
    env, chosen = settings.pop("env"), config(**settings)
    with run.opened(env, chosen, job()) as place:
        recipe = run.Recipe("sac", algorithm, place.name, True, chosen, None)
        trainer = run.trainer_of(recipe, run.planned(recipe, place, Path.cwd(), job().report), place)
    trainer.engine.begin()
    return trainer
