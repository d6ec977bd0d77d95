"""The settings of a run that are not an algorithm's own. One dataclass serves the command line, Python and run.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Interval

from estep.errors import UsageError
from estep.settings.kinds import Help, named_options, validate


@named_options
@dataclass(frozen=True)
class RunConfig:
    """How long to train, on what data, and what to write down. The algorithm's own settings live in its row.

    Example:
        >>> RunConfig(steps=2e4).steps
        20000
    """

    steps: Annotated[int, Help("Environment steps to take, over all environments together."), Ge(1)] = 1_000_000
    seed: Annotated[
        int,
        Help("Seed of everything: parameters, noise, replay, environments, evaluation."),
        Interval(ge=0, lt=2**32),
    ] = 0
    start_from: Annotated[
        str,
        Help(
            "A run folder, or a saved policy, whose agent is the first one of this run, with fresh optimisers and an "
            "empty replay; it acts in the warm-up too. Of a folder of runs, the run with the same seed (empty: a "
            "fresh agent)."
        ),
    ] = ""
    population: Annotated[
        int | None,
        Help("Train so many seeds at once as one program: seed, seed + 1 and so on. Without it, train one seed."),
        Ge(1),
    ] = None
    num_envs: Annotated[
        int,
        Help("Environments stepped side by side (of each task). The updates for each step do not depend on it."),
        Ge(1),
    ] = 1
    batch_size: Annotated[int, Help("Transitions in one update."), Ge(1)] = 256
    updates_per_step: Annotated[
        float, Help("Updates for each environment step taken after the warm-up."), Interval(gt=0, le=1000)
    ] = 1.0
    updates_per_call: Annotated[
        int,
        Help("Updates compiled into one call. The policy that acts is at most this old; 1 alternates strictly."),
        Ge(1),
    ] = 8
    warmup_steps: Annotated[
        int,
        Help("Uniformly random environment steps before the first update. If not given, at most half of --steps."),
        Ge(0),
    ] = 5_000
    replay_size: Annotated[int, Help("Transitions kept in replay."), Ge(1)] = 1_000_000
    reward_scale: Annotated[
        tuple[Annotated[float, Interval(gt=0, lt=1e9)], ...],
        Help(
            "Factors of the rewards that are learned from: one, or one for each task in the order of their names. "
            "Reported returns are without them (none: 1)."
        ),
    ] = ()
    normalise_rewards: Annotated[
        bool,
        Help(
            "Divide the rewards that are learned from by the standard deviation of their discounted sums so far, or by "
            "a fifth of the largest sum if that is more. Reported returns are without it."
        ),
    ] = False
    normalise: Annotated[
        bool, Help("Normalise observations by their running mean and variance, which are stored with the policy.")
    ] = False
    eval_every: Annotated[int, Help("Environment steps between evaluations (0: only at the end)."), Ge(0)] = 10_000
    stop_at: Annotated[
        float | None, Help("Stop as soon as an evaluation's mean return reaches this. Without it, take every step.")
    ] = None
    eval_episodes: Annotated[
        int,
        Help(
            "Episodes in one evaluation (of each task), in environments and with seeds of their own, by the "
            "deterministic action (0: train without evaluation, which needs no second environment)."
        ),
        Ge(0),
    ] = 10
    checkpoint_every: Annotated[int, Help("Environment steps between checkpoints (0: only at the end)."), Ge(0)] = (
        10_000
    )
    checkpoint_minutes: Annotated[
        float,
        Help(
            "Minutes after which a checkpoint is due too, where steps are slow (0: by steps alone). "
            "It changes no result, and does nothing if checkpoint_every is 0."
        ),
        Ge(0),
    ] = 5.0
    keep_checkpoints: Annotated[
        int, Help("How many of the newest checkpoints are kept, beside the best (0: all of them)."), Ge(0)
    ] = 3
    log_every: Annotated[int, Help("Environment steps between lines of metrics.jsonl."), Ge(1)] = 1_000
    log: Annotated[
        Literal["none", "wandb", "mlflow"],
        Help(
            "A service that gets the numbers of the run too: wandb or mlflow, each an extra of its own name. If it "
            "fails, the run goes on."
        ),
    ] = "none"
    record_every: Annotated[
        int,
        Help(
            "Environment steps between videos of the policy, which a process of its own records from a checkpoint that "
            "is saved for it. After the first one they take at most 2 % of the time (0: none)."
        ),
        Ge(0),
    ] = 0
    max_episode_steps: Annotated[
        int, Help("Longest evaluation episode, where the environment has no time limit of its own."), Ge(1)
    ] = 1_000
    env_timeout: Annotated[
        float,
        Help("Seconds that one call of the environment may take before the run ends as hung (0: no limit)."),
        Ge(0),
    ] = 60.0
    env_workers: Annotated[
        int,
        Help(
            "Processes that step the environments, at the same time and with the same results (0: the run's own "
            "process, one after the other)."
        ),
        Interval(ge=0, le=256),
    ] = 0
    retry_env: Annotated[
        int,
        Help(
            "How often in ten minutes an environment that raises may be made anew; its episode is truncated "
            "(0: the run ends, saved)."
        ),
        Ge(0),
    ] = 0

    detect_resets: Annotated[
        bool, Help("Leave out the step in which MuJoCo reset itself, because its state had become unstable.")
    ] = True

    def __post_init__(self) -> None:
        validate(self)
        if self.stop_at is not None and not self.eval_episodes:
            what = "--stop-at needs evaluations, but --eval-episodes is 0."
            raise UsageError(what, "Give --eval-episodes at least 1, or leave --stop-at out.")
        if self.population is not None and self.log != "none":
            what = f"--log {self.log} follows one run, but --population trains several seeds in one program."
            raise UsageError(what, "Leave --log out, or train the seeds one by one.")
        if self.population is not None and self.stop_at is not None:
            what = "--stop-at ends one run, but --population trains several seeds for the same number of steps."
            raise UsageError(what, "Leave --stop-at out, or train the seeds one by one.")
        if self.population is not None and self.start_from:
            what = "--start-from gives one agent, but --population trains several seeds."
            raise UsageError(what, "Leave --start-from out, or train the seeds one by one.")
        if self.population is not None and self.env_workers:
            what = "--env-workers is for one run; a population steps the environments of its seeds in threads."
            raise UsageError(what, "Leave --env-workers out, or train the seeds one by one.")
        if self.population is not None and self.record_every:
            what = "--record-every records one run, but --population trains several seeds."
            raise UsageError(what, "Leave --record-every out, and record a seed: estep record RUN --member 0.")
        if self.population is not None and self.normalise_rewards:
            what = "--normalise-rewards follows the returns of one run, but --population trains several seeds."
            raise UsageError(what, "Leave --normalise-rewards out, or train the seeds one by one.")
        if self.population is not None and len(self.reward_scale) > 1:
            what = f"--reward-scale has {len(self.reward_scale)} factors, but a population has one environment."
            raise UsageError(what, "Give one factor, or train the seeds one by one.")
        if self.population is not None and self.seed + self.population > 2**32:
            what = f"The seeds {self.seed} to {self.seed + self.population - 1} do not fit below 2^32."
            raise UsageError(what, "Give a smaller --seed.")
