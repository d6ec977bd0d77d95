"""What had another name in an earlier release. Runs, commands and programs of before go on with the old names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

SETTINGS: Mapping[str, str] = {
    "block": "updates_per_call",
    "checkpoints": "keep_checkpoints",
    "critics": "num_critics",
    "discount": "gamma",
    "every": "target_period",
    "form": "loss",
    "hidden": "hidden_sizes",
    "lam": "gae_lambda",
    "pairs": "antithetic",
    "part": "inference_fraction",
    "population": "num_candidates",
    "replay": "replay_size",
    "restart": "restart_probability",
    "top": "top_fraction",
    "warmup": "warmup_steps",
}
"""Settings of algorithms and of runs, since 0.2.0."""

ELSEWHERE: Mapping[str, str] = {
    **dict.fromkeys(("total_timesteps", "num_timesteps", "total_steps", "max_timesteps", "num_steps"), "steps"),
    **dict.fromkeys(("learning_starts", "start_steps", "start_timesteps", "random_steps"), "warmup_steps"),
    **dict.fromkeys(("buffer_size", "memory_size", "replay_capacity", "replay_buffer_size"), "replay_size"),
    **dict.fromkeys(("net_arch", "hidden_dim", "hidden_dims", "hidden_layers", "policy_kwargs"), "hidden_sizes"),
    **dict.fromkeys(("lr", "policy_lr", "actor_lr", "step_size"), "learning_rate"),
    **dict.fromkeys(("q_lr", "critic_lr"), "critic_learning_rate"),
    **dict.fromkeys(("discount_factor", "discount_rate"), "gamma"),
    **dict.fromkeys(("polyak", "soft_update_tau"), "tau"),
    **dict.fromkeys(("gradient_steps", "train_freq", "utd", "utd_ratio", "replay_ratio"), "updates_per_step"),
    **dict.fromkeys(("n_envs", "num_workers", "num_env_runners"), "num_envs"),
    **dict.fromkeys(("n_critics", "num_qs", "ensemble_size"), "num_critics"),
    **dict.fromkeys(("ent_coef", "entropy_coef", "temperature_coef"), "alpha"),
    "target_entropy": "entropy",
    **dict.fromkeys(("eval_freq", "eval_interval", "eval_frequency"), "eval_every"),
    **dict.fromkeys(("n_eval_episodes", "num_eval_episodes"), "eval_episodes"),
    **dict.fromkeys(("save_freq", "save_every", "checkpoint_freq"), "checkpoint_every"),
    **dict.fromkeys(("normalize", "normalize_obs", "norm_obs", "observation_normalization"), "normalise"),
    **dict.fromkeys(("normalize_reward", "normalize_rewards", "norm_reward"), "normalise_rewards"),
    **dict.fromkeys(("pretrained", "load_path", "load_from", "init_from", "warm_start"), "start_from"),
    **dict.fromkeys(("env_id", "environment", "env_name"), "env"),
    **dict.fromkeys(("log_dir", "logdir", "output_dir", "save_path"), "out"),
}
"""Names of other libraries for settings of estep. They are answered with ours, and not taken: a value may mean another
thing there."""

LEAVES: Mapping[str, str] = {}
"""Beginnings of the names of a checkpoint's arrays, such as `inference.model.net.`. None was renamed so far."""


def current(name: str, known: Collection[str]) -> str:
    """Today's name of a setting, where the old one is no setting of its own among those that are known.

    Example:
        >>> current("discount", {"gamma", "tau"})
        'gamma'
        >>> current("discount", {"discount"})
        'discount'
    """
    return name if name in known or SETTINGS.get(name) not in known else SETTINGS[name]


def settings(values: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Values by today's names. A setting that is given by both names keeps its old one, so that it is refused."""
    return {name if current(name, known) in values else current(name, known): value for name, value in values.items()}


def leaf(name: str) -> str:
    """Today's name of an array of a checkpoint."""
    old = next((old for old in LEAVES if name.startswith(old)), None)
    return name if old is None else LEAVES[old] + name.removeprefix(old)
