"""Small agents of every row and batches to feed them; each program is compiled once for the whole suite."""

import functools as ft

import jax
import jax.numpy as jnp
import pytest

from estep.algorithms.iterative_sac import IterativeSAC
from estep.algorithms.model_based.iterative_mve import IterativeMVE
from estep.algorithms.model_based.kl_mve import KLMVE
from estep.algorithms.model_based.mve import MVE
from estep.algorithms.model_based.pp_smc import PPSMC
from estep.algorithms.model_based.smcp import SMCP
from estep.algorithms.mpo import MPO
from estep.algorithms.mpo_parametric import ParametricMPO
from estep.algorithms.rerpi import RERPI
from estep.algorithms.sac import SAC
from estep.algorithms.several_tasks.default_policy import DefaultPolicy
from estep.algorithms.several_tasks.distral import Distral
from estep.algorithms.several_tasks.hierarchical import Hierarchical
from estep.algorithms.soft_pg import SoftPG
from estep.algorithms.sql import SQL
from estep.algorithms.vmpo import VMPO
from estep.core import em
from estep.core.keys import make_key
from estep.core.types import Spec, Transition
from estep.e_steps.plans import PLAN
from estep.e_steps.searches import ADVANTAGE, WEIGHT
from estep.policy.actor import memo_widths

SPEC = Spec(3, 2)
AFRESH = {"persist": False, "direct_start": False, "inference_fraction": 1.0, "act_iterations": 0}
"""Iterative inference from a fixed place at each visit."""
ROWS = {
    "sac": SAC(hidden_sizes=(16, 16)),
    "iterative-sac": IterativeSAC(hidden_sizes=(16, 16), iterations=3, **AFRESH),
    "mpo": MPO(hidden_sizes=(16, 16), samples=5, target_period=1, target="td0"),
    "mpo-parametric": ParametricMPO(hidden_sizes=(16, 16), target_period=1),
    "rerpi": RERPI(hidden_sizes=(16, 16), samples=5, target_period=1),
    "sql": SQL(hidden_sizes=(16, 16), alpha=0.3, particles=6, target_samples=5, target_period=1),
    "vmpo": VMPO(hidden_sizes=(16, 16), target_period=1, unroll=1),
    "soft-pg": SoftPG(hidden_sizes=(16, 16), unroll=1),
    "distral": Distral(hidden_sizes=(16, 16)),
    "default-policy": DefaultPolicy(hidden_sizes=(16, 16), target="td0", target_period=1),
    "hierarchical": Hierarchical(hidden_sizes=(16, 16), latent=2, samples=2, target="td0", target_period=1),
}
MODEL = {"hidden_sizes": (8,), "members": 2, "model_hidden_sizes": (8,)}
SEARCH = {"particles": 3, "horizon": 2}
WITH_MODEL = {
    "mve": MVE(**MODEL),
    "iterative-mve": IterativeMVE(**MODEL, iterations=2),
    "kl-mve": KLMVE(**MODEL, target_period=1),
    "smcp": SMCP(**MODEL, **SEARCH),
    "pp-smc": PPSMC(**MODEL, **SEARCH, samples=3, target_period=1),
}
"""Rows that learn a model, which compile for long."""
EVERY = [*ROWS, *(pytest.param(name, marks=pytest.mark.long) for name in WITH_MODEL)]
"""All rows, for parametrised tests."""
OF_TASKS = "distral", "default-policy", "hierarchical"
"""Rows that refuse one task. Two numbers of their observations are a task."""
BATCH = 8
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
compiled = ft.partial(jax.jit, compiler_options=QUICKLY)
"""`jax.jit` for programs that run a few times only: half the time to compile."""
TRACED = dict.fromkeys((*ROWS, *WITH_MODEL), 0)
"""How often `update` of each row was traced."""


def spec_of(name, spec=SPEC):
    """The environment of a row."""
    return spec._replace(tasks=2) if name in OF_TASKS else spec


@ft.cache
def starter(name):
    """`init` of a row, compiled."""
    return compiled(lambda key: (ROWS | WITH_MODEL)[name].init(spec_of(name), key))


@ft.cache
def start(name, seed=0):
    """A fresh agent."""
    return starter(name)(make_key(seed))


@ft.cache
def updater(name):
    """`update`, compiled for agents of one row, that counts how often it is traced."""

    def update(agent, batch, key):
        TRACED[name] += 1
        return em.update(agent, batch, key)

    return compiled(update)


def arriving(obs):
    """A step of which only where it leads is told."""
    nought = jnp.zeros(())
    return Transition(obs, obs, nought, nought, obs, nought)


def batch_of(name, seed=0):
    """Random transitions of a row, with what it stores beside them."""
    steps, agent = batch(seed), start(name)
    k, widths = make_key(seed), memo_widths(agent)
    memo = {key: jax.random.normal(k, (BATCH, 1, width)) for key, width in widths.items()}
    if PLAN in widths:
        memo[PLAN] = jnp.tile(jnp.asarray([1.0, 0.0, 2.0, 2.0, 0.0, 0.0]), (BATCH, 1, 1))
    if WEIGHT in widths:
        memo[WEIGHT] = jax.nn.softmax(memo[ADVANTAGE])
    return steps._replace(memo=memo) if memo else steps


def batch(seed=0, size=BATCH, spec=SPEC):
    """Random transitions of shape [size, 1], some of them terminal, with what `hierarchical` stores with each."""
    k = jax.random.split(make_key(seed), 5)
    obs, next_obs = (jax.random.normal(key, (size, 1, spec.obs_dim)) for key in k[:2])
    u, reward = jax.random.normal(k[2], (size, 1, spec.action_dim)), jax.random.normal(k[3], (size, 1))
    end = (jax.random.uniform(k[4], (size, 1)) < 0.3).astype(jnp.float32)
    memo = {"latent": obs[..., :2], "known": jnp.ones((size, 1, 1)), "log_prob": jnp.zeros((size, 1, 1))}
    return Transition(obs, u, reward, 1.0 - end, next_obs, end, memo)
