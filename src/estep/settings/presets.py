"""Settings by environment, each saying where it comes from. A flag that is given wins over a preset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from estep.errors import unknown
from estep.settings.run import RunConfig

ANY = "*"
"""The environment of a preset that fits all of them."""
AUTO, NONE = "auto", "none"
"""The environment's own preset if there is one, and no preset."""


class Preset(NamedTuple):
    """What changes from the defaults of an algorithm and of a run."""

    name: str
    algorithm: str
    env: str
    """Gymnasium id that it is chosen for by itself, or ANY."""
    changes: Mapping[str, Any]
    source: str


SAC = "Haarnoja et al. 2018 (arXiv:1812.05905)"
HAARNOJA = f"{SAC}; warmup as in the authors' code (haarnoja/sac)"
IAPO = "Marino et al. 2021 (arXiv:2010.10670); warmup and beta as in the authors' code (joelouismarino/variational_rl)"
HOPPER = "beta 1.5·√2 = 2.12: 1.5 in the authors' unbiased units is reported for Hopper, not confirmed in the paper"
SWIMMER = "gamma 0.9999 as in rl-baselines3-zoo, whose benchmark has 345 where 0.99 gives 44 (Tianshou)"
PAPERS = "steps as in both papers"
MARINO_STEPS = "steps as in Marino et al. 2021"
SHORT = "steps chosen here"

SQL = "Haarnoja et al. 2017 (arXiv:1702.08165), batch and reward scale as in the authors' code (haarnoja/softqlearning)"
UNPUBLISHED = "reward scale as published for Hopper: none is for this task"

MODEL_ROWS = {"mve": "sac", "iterative-mve": "iterative-sac", "kl-mve": "sac", "smcp": "sac"}
"""Rows with a model of the environment, and the row that each is built from."""
PRIOR_ROWS = ("mpo", "mpo-parametric", "rerpi", "pp-smc")

# Steps, warm-up of SAC, other changes for either algorithm, and what the source adds.
_TASKS: Mapping[str, tuple[int, int, Mapping[str, Any], str]] = {
    "InvertedPendulum-v5": (50_000, 1_000, {"replay_size": 50_000, "eval_every": 5_000}, SHORT),
    "InvertedDoublePendulum-v5": (200_000, 1_000, {"replay_size": 200_000}, SHORT),
    "Reacher-v5": (200_000, 1_000, {"replay_size": 200_000}, SHORT),
    "Pusher-v5": (1_000_000, 1_000, {}, "steps as in CleanRL's benchmark"),
    "Swimmer-v5": (1_000_000, 10_000, {"gamma": 0.9999}, SWIMMER),
    "Hopper-v5": (1_000_000, 1_000, {}, ""),
    "HalfCheetah-v5": (3_000_000, 10_000, {}, PAPERS),
    "Walker2d-v5": (3_000_000, 1_000, {}, PAPERS),
    "Ant-v5": (3_000_000, 10_000, {}, PAPERS),
    "Humanoid-v5": (3_000_000, 1_000, {}, MARINO_STEPS),
    "HumanoidStandup-v5": (3_000_000, 1_000, {}, MARINO_STEPS),
}
_PENDULUM: Mapping[str, Any] = {
    **{"steps": 20_000, "warmup_steps": 1_000, "replay_size": 20_000, "beta": 1.0},
    **{"learning_rate": 1e-3, "eval_every": 2_000, "checkpoint_every": 5_000},
}
_DISCRETE: Mapping[str, Any] = {
    **{"steps": 30_000, "warmup_steps": 500, "replay_size": 30_000, "batch_size": 64, "eval_every": 2_500},
    **{"hidden_sizes": (64, 64), "learning_rate": 1e-3},
}
_FIRST_SEED = "all chosen here, on the first seed"
_RERPI_SOURCE = "as for mpo, its trust region included; tried on one seed"
_ACROBOT_SOURCE = "as for CartPole-v1; tried on one seed"
_FRESH: Mapping[str, Any] = {
    **{"steps": 60_000, "num_envs": 8, "eval_every": 5_000},
    **{"hidden_sizes": (64, 64), "unroll": 32},
}
_VMPO_PENDULUM: Mapping[str, Any] = {
    **{"steps": 200_000, "eval_every": 20_000},
    **{"learning_rate": 1e-3, "gamma": 0.95, "epsilon_mean": 0.01},
}
_SOFT_PG: Mapping[str, Any] = {
    **{"steps": 100_000, "alpha": 0.1, "rollout": 512, "batch_size": 64},
    **{"learning_rate": 5e-4, "critic_learning_rate": 2e-2},
}
_SOFT_PG_PENDULUM: Mapping[str, Any] = {
    **{"steps": 300_000, "eval_every": 30_000, "normalise": True, "gamma": 0.95, "alpha": 0.1},
    **{"rollout": 128, "batch_size": 128, "unroll": 16, "learning_rate": 7e-4, "critic_learning_rate": 2e-3},
}
_FRESH_INVERTED: Mapping[str, Any] = {"steps": 150_000, "eval_every": 15_000, "learning_rate": 1e-3}
_SOFT_PG_INVERTED: Mapping[str, Any] = {
    **_FRESH_INVERTED,
    **{"normalise": True, "rollout": 256, "batch_size": 256, "critic_learning_rate": 3e-3},
}
_SOFT_PG_SOURCE = "all chosen here, on the first two seeds"
_PENDULUM_SOURCE = "steps and learning rate as in rl-baselines3-zoo; warmup, replay, beta and intervals chosen here"
_SQL_PENDULUM: Mapping[str, Any] = {
    **{name: value for name, value in _PENDULUM.items() if name != "beta"},
    **{"batch_size": 128, "alpha": 0.2, "target_period": 200},
}
_SQL_INVERTED: Mapping[str, Any] = {"num_critics": 2, "beta": 1.0, "target_period": 1, "tau": 0.005}
_OWN: Mapping[tuple[str, str], tuple[Mapping[str, Any], str]] = {
    ("iterative-sac", "Hopper-v5"): ({"beta": 2.12}, HOPPER),
    ("sql", "InvertedPendulum-v5"): (_SQL_INVERTED, "slow critic and pair of critics chosen here, on two seeds"),
}
"""What one algorithm changes for one task alone, and what the source adds."""
_REWARD_SCALE = {
    "Swimmer-v5": 30,
    "Hopper-v5": 30,
    "HalfCheetah-v5": 30,
    "Walker2d-v5": 10,
    "Ant-v5": 300,
    "Humanoid-v5": 100,
}
"""Of SQL as published; its temperature is one over it."""
_MULTIGOAL: Mapping[str, Any] = {
    **{"steps": 50_000, "alpha": 10.0, "particles": 32, "batch_size": 64, "warmup_steps": 500, "replay_size": 50_000},
    **{"eval_every": 5_000, "learning_rate": 1e-3},
}
_MULTIGOAL_SOURCE = "steps, warmup, replay, learning rate and intervals chosen here"
_PAPER: Mapping[str, Any] = {
    **{"iterations": 5, "samples": 10, "antithetic": False, "act_iterations": 0, "act_samples": 0},
    **{"direct_start": False, "persist": False, "inference_fraction": 1.0, "grad_encoding": "layer_norm"},
    **{"beta": 3.54, "act_beta": 1.41, "infer_on": "slow", "warmup_steps": 5_000},
    **{"critic_hidden_sizes": (512, 512, 512), "critic_activation": "elu", "critic_norm": "layer"},
}
_PAPER_SOURCES = (
    "beta 2.5·√2 = 3.54",
    "act_beta 1·√2 = 1.41 and infer_on as in their code of October 2020 (optimism=-1 to act, optimize_targets=True)",
    "critics as there, without their highway gates",
)
_FAST: Mapping[str, Any] = {
    **{"iterations": 2, "samples": 2, "antithetic": True, "act_iterations": 0, "act_samples": 10},
    **{
        "direct_start": True,
        "persist": True,
        "restart_probability": 0.5,
        "inference_fraction": 0.5,
        "grad_encoding": "log_sign",
    },
}
_FAST_SOURCE = (
    "the defaults, chosen here by results/frontier and results/earned: inference starts at a direct network or goes on "
    "from the last visit, by two iterations a time, as it acts, and half of a batch's states train the network"
)


def presets() -> tuple[Preset, ...]:
    """All of them, by algorithm."""
    return (
        _preset("sac", "Pendulum-v1", _PENDULUM, _PENDULUM_SOURCE),
        *(_sac(env) for env in _TASKS),
        _preset("iterative-sac", "Pendulum-v1", _PENDULUM, _PENDULUM_SOURCE),
        *(_iterative(env) for env in _TASKS),
        *(preset for row in MODEL_ROWS for preset in _model_based(row)),
        _discrete("sac", "CartPole-v1", _FIRST_SEED, tau=0.02),
        _discrete("mpo", "CartPole-v1", _FIRST_SEED, target="td0"),
        _discrete("mpo", "Acrobot-v1", _ACROBOT_SOURCE, target="td0"),
        _discrete("rerpi", "CartPole-v1", _RERPI_SOURCE, epsilon_mean=2.5e-3),
        _preset("vmpo", "CartPole-v1", {**_FRESH, "learning_rate": 1e-3}, _FIRST_SEED),
        _preset("vmpo", "Pendulum-v1", {**_FRESH, **_VMPO_PENDULUM}, _FIRST_SEED),
        _preset("vmpo", "InvertedPendulum-v5", {**_FRESH, **_FRESH_INVERTED}, _FIRST_SEED),
        _preset("soft-pg", "InvertedPendulum-v5", {**_FRESH, **_SOFT_PG_INVERTED}, _FIRST_SEED),
        _preset("soft-pg", "Pendulum-v1", {**_FRESH, **_SOFT_PG_PENDULUM}, "all chosen here, on the first two seeds"),
        _preset("soft-pg", "CartPole-v1", {**_FRESH, **_SOFT_PG}, _SOFT_PG_SOURCE),
        *(preset for row in PRIOR_ROWS for preset in _learned_prior(row)),
        Preset("fast", "iterative-sac", ANY, MappingProxyType(dict(_FAST)), _FAST_SOURCE),
        _preset("sql", "Pendulum-v1", _SQL_PENDULUM, f"{_PENDULUM_SOURCE}; alpha and target_period chosen here"),
        *(_sql(env) for env in _TASKS),
        _preset("sql", "estep/MultiGoal-v0", _MULTIGOAL, f"{SQL}; {_MULTIGOAL_SOURCE}"),
        Preset("paper", "iterative-sac", ANY, MappingProxyType(dict(_PAPER)), _join(IAPO, *_PAPER_SOURCES)),
    )


def _sac(env: str) -> Preset:
    steps, warmup, changes, source = _TASKS[env]
    return _preset("sac", env, {"steps": steps, "warmup_steps": warmup, **changes}, _join(HAARNOJA, source))


def _iterative(env: str) -> Preset:
    """The iterative rows keep the authors' warm-up, except where it would be a tenth of the run or more."""
    steps, _, changes, source = _TASKS[env]
    warmup = min(5_000, steps // 50)
    shorter = "" if warmup == 5_000 else "warmup chosen here"
    all_changes = {"steps": steps, "warmup_steps": warmup, **changes}
    return _preset("iterative-sac", env, all_changes, _join(IAPO, source, shorter))


def _model_based(row: str) -> Iterator[Preset]:
    """Rows with a model take the presets of the row without one."""
    yield _preset(row, "Pendulum-v1", _PENDULUM, f"as for {MODEL_ROWS[row]} ({_PENDULUM_SOURCE})")
    for env in _TASKS:
        found = _iterative(env) if MODEL_ROWS[row] == "iterative-sac" else _sac(env)
        yield _preset(row, env, found.changes, f"as for {MODEL_ROWS[row]} ({found.source}); not tuned for this row")


def _learned_prior(row: str) -> Iterator[Preset]:
    """Rows whose prior learns take the steps and intervals of SAC and keep their own defaults for the rest."""
    pendulum = {name: value for name, value in _PENDULUM.items() if name != "beta"}
    yield _preset(row, "Pendulum-v1", pendulum, f"as for sac ({_PENDULUM_SOURCE}); not tuned for this row")
    for env, (steps, warmup, changes, source) in _TASKS.items():
        all_changes = {"steps": steps, "warmup_steps": warmup, **changes}
        yield _preset(row, env, all_changes, _join("steps and warmup as for sac; not tuned for this row", source))


def _discrete(row: str, env: str, source: str, **own: Any) -> Preset:
    """Small networks; the slow critic of sac follows faster than elsewhere, as values are 100 rewards high."""
    return _preset(row, env, {**_DISCRETE, **own}, source)


def _sql(env: str) -> Preset:
    """The published temperatures and batch; steps, warm-up and intervals as for SAC."""
    steps, warmup, changes, source = _TASKS[env]
    scale = _REWARD_SCALE.get(env)
    unpublished = "" if scale else UNPUBLISHED
    all_changes = {"steps": steps, "warmup_steps": warmup, **changes, "batch_size": 128, "alpha": 1 / (scale or 30)}
    return _preset("sql", env, all_changes, _join(SQL, "warmup as for sac", source, unpublished))


def _join(*sources: str) -> str:
    return "; ".join(source for source in sources if source)


def _preset(algorithm: str, env: str, changes: Mapping[str, Any], source: str) -> Preset:
    own, own_source = _OWN.get((algorithm, env), ({}, ""))
    return Preset(env, algorithm, env, MappingProxyType({**changes, **own}), _join(source, own_source))


def find(algorithm: str, env: str, name: str = AUTO) -> Preset | None:
    """The preset of this name; with `auto` the environment's own or None; with `none`, None.

    A preset of one environment may be asked for by name on another. Raises UsageError for an unknown name.
    """
    if name == NONE:
        return None
    known = {preset.name: preset for preset in presets() if preset.algorithm == algorithm}
    if name == AUTO:
        return known.get(env.partition("?")[0].rpartition("=")[2])
    if name in known:
        return known[name]
    raise unknown(f"preset of {algorithm}", name, known, f"Give auto, none, or one of: {', '.join(known)}.")


def changes(preset: Preset | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """What changes from the defaults: the settings of a preset, then those that the user gave.

    A warm-up that the user did not give is at most half of the steps, so that a short run learns too.

    Example:
        >>> from estep.settings.presets import changes
        >>> changes(None, {"steps": 4_000})
        {'steps': 4000, 'warmup_steps': 2000}
    """
    found = {**(preset.changes if preset else {}), **given}
    steps, warmup = found.get("steps"), found.get("warmup_steps", RunConfig.warmup_steps)
    if "warmup_steps" not in given and isinstance(steps, int) and 0 < steps // 2 < warmup:
        found["warmup_steps"] = steps // 2
    return found
