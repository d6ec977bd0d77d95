"""The numbers of a run: its state, its episodes and evaluations, its progress, and the result of a command."""

from __future__ import annotations

from estep.settings.numbers.metric import (
    ALWAYS,
    BOARD,
    EPISODES_FILE,
    EVAL_FILE,
    EVALUATED,
    PROGRESS,
    RESULT,
    SEVERAL_TASKS,
    SUCCESS,
    Metric,
)

RECORDS = (
    # The run
    Metric("env_steps", "Environment steps taken, over all environments together.", "steps", ALWAYS),
    Metric("updates", "Updates made.", "updates", ALWAYS),
    Metric("episodes", "Training episodes that ended.", "episodes", ALWAYS),
    Metric(
        "return",
        "Mean undiscounted return of the last ten training episodes, whose actions are sampled.",
        "reward",
        "once a training episode ended",
    ),
    Metric(
        "success",
        "Share of successes in the last ten training episodes whose info tells success.",
        "fraction",
        SUCCESS,
    ),
    Metric(
        "return/TASK",
        "As return, of the last ten episodes of one task.",
        "reward",
        SEVERAL_TASKS,
        pattern="return/.+",
    ),
    Metric("success/TASK", "As success, in one task.", "fraction", SEVERAL_TASKS, pattern="success/.+"),
    Metric("data/replay", "Transitions held in replay.", "transitions", ALWAYS),
    Metric(
        "data/bad", "Bad transitions of the environment, such as numbers that are not finite.", "transitions", ALWAYS
    ),
    Metric(
        "data/at_bounds",
        "Share of the components of the newest 256 actions in replay that are at their bounds: beyond 0.99 of [-1, 1].",
        "fraction",
        "actions with bounds, of one seed",
    ),
    Metric(
        "data/reward_divisor",
        "What rewards are divided by before they are learned from.",
        "reward",
        "with --normalise-rewards",
    ),
    Metric(
        "data/dropped",
        "Steps taken out of replay because no update on them is finite.",
        "transitions",
        "once there was one",
    ),
    Metric("data/retries", "Environments made anew after a failure (--retry-env).", "", "once there was one"),
    Metric("rollbacks", "How often the run went back to a checkpoint.", "", "once it did"),
    Metric("skipped", "Updates skipped because a loss or gradient was not finite.", "updates", ALWAYS),
    Metric("time/act_s", "Time spent choosing actions, since the process started.", "seconds", ALWAYS),
    Metric("time/env_s", "Time spent in the environments, since the process started.", "seconds", ALWAYS),
    Metric("time/sample_s", "Time spent drawing batches from replay, since the process started.", "seconds", ALWAYS),
    Metric("time/update_s", "Time spent in updates, since the process started.", "seconds", ALWAYS),
    Metric("wall_s", "Time that the run has taken, over all its processes.", "seconds", ALWAYS),
    # Evaluations
    Metric("env_steps", "Environment steps taken before this evaluation.", "steps", ALWAYS, EVAL_FILE),
    Metric("updates", "Updates made before this evaluation.", "updates", ALWAYS, EVAL_FILE),
    Metric("mean", "Mean undiscounted return of the evaluation's episodes.", "reward", ALWAYS, EVAL_FILE),
    Metric("std", "Standard deviation of the return over these episodes (ddof 0).", "reward", ALWAYS, EVAL_FILE),
    Metric("episodes", "Episodes in this evaluation.", "episodes", ALWAYS, EVAL_FILE),
    Metric("min", "Lowest return of these episodes.", "reward", ALWAYS, EVAL_FILE),
    Metric("max", "Highest return of these episodes.", "reward", ALWAYS, EVAL_FILE),
    Metric("wall_s", "Time that the run had taken by then.", "seconds", ALWAYS, EVAL_FILE),
    Metric(
        "success", "Share of successful episodes, of those whose info tells success.", "fraction", SUCCESS, EVAL_FILE
    ),
    Metric("task", "Name of the task; all for the mean of the tasks' means.", "", SEVERAL_TASKS, EVAL_FILE),
    Metric(
        "eval/return",
        "Mean return of an evaluation, as in eval.csv (/TASK: of one task).",
        "reward",
        ALWAYS,
        BOARD,
        "eval/return/.+",
    ),
    Metric("eval/return_std", "Standard deviation of that return over the episodes.", "reward", ALWAYS, BOARD),
    Metric("eval/success", "Share of successful episodes of an evaluation.", "fraction", SUCCESS, BOARD),
    # Training episodes
    Metric("env_steps", "Environment steps taken when the episode ended.", "steps", ALWAYS, EPISODES_FILE),
    Metric("env", "Number of the environment, from 0.", "", ALWAYS, EPISODES_FILE),
    Metric("episode", "Number of the episode in its environment, from 0.", "", ALWAYS, EPISODES_FILE),
    Metric("return", "Undiscounted return of the episode.", "reward", ALWAYS, EPISODES_FILE),
    Metric("length", "Length of the episode.", "steps", ALWAYS, EPISODES_FILE),
    Metric(
        "success",
        "Whether the episode was successful, from 0 to 1: is_success at its last step, or success at any step.",
        "",
        SUCCESS,
        EPISODES_FILE,
    ),
    Metric("task", "Name of the task.", "", SEVERAL_TASKS, EPISODES_FILE),
    # The progress line
    Metric("env_steps", "Environment steps taken.", "steps", ALWAYS, PROGRESS),
    Metric("steps", "Environment steps that the run is to take.", "steps", ALWAYS, PROGRESS),
    Metric("updates", "Updates made.", "updates", ALWAYS, PROGRESS),
    Metric(
        "env_steps_per_s",
        "Environment steps a second since training was under way.",
        "steps per second",
        "after the first updates",
        PROGRESS,
        shown="step/s",
    ),
    Metric(
        "eta_s",
        "Time that the remaining steps will take at this speed.",
        "seconds",
        "after the first updates",
        PROGRESS,
        shown="eta",
    ),
    Metric(
        "return", "Mean return of the last ten training episodes.", "reward", "once a training episode ended", PROGRESS
    ),
    Metric(
        "e/improvement",
        "e/improvement_k of the largest k, shown in brackets behind the value.",
        "reward",
        "inference by iterations",
        PROGRESS,
    ),
    Metric("success", "Share of successes in the last training episodes.", "fraction", SUCCESS, PROGRESS),
    Metric("best", "Best mean return of an evaluation so far.", "reward", EVALUATED, PROGRESS),
    # The result
    Metric("status", 'How the command ended: "done", "stopped" or "error".', "", ALWAYS, RESULT),
    Metric("run_dir", "Absolute path of the run folder.", "", "once there is one", RESULT),
    Metric("env_steps", "Environment steps that the run took.", "steps", ALWAYS, RESULT),
    Metric("updates", "Updates that the run made.", "updates", ALWAYS, RESULT),
    Metric("eval_mean", "Mean return of the last evaluation.", "reward", EVALUATED, RESULT),
    Metric("eval_std", "Standard deviation of the return in the last evaluation.", "reward", EVALUATED, RESULT),
    Metric("eval_episodes", "Episodes in the last evaluation.", "episodes", EVALUATED, RESULT),
    Metric("wall_s", "Time that the run took, over all its processes.", "seconds", ALWAYS, RESULT),
    Metric("env_steps_per_s", "Environment steps a second, over the whole run.", "steps per second", ALWAYS, RESULT),
)
