"""Every number that a run writes, said once: its name, where it is written, its unit and when it is there.

`estep explain` and docs/glossary.md read this table, and a test holds it to the code that writes the numbers. Nothing
here imports JAX.
"""

from __future__ import annotations

import re
from typing import NamedTuple

METRICS_FILE = "metrics.jsonl"
EVAL_FILE = "eval.csv"
EPISODES_FILE = "episodes.csv"
BOARD = "TensorBoard"
PROGRESS = "the progress line"
RESULT = "the result of a command"


class Metric(NamedTuple):
    """One number that is written."""

    name: str
    meaning: str
    unit: str
    appears: str
    """When it is written."""
    file: str = METRICS_FILE
    """Where it is written."""
    pattern: str = ""
    """Of names with a part that varies: the names that this entry stands for, as a regular expression."""
    shown: str = ""
    """Its word on the progress line, where that is another."""

    def stands_for(self, name: str) -> bool:
        """Whether a name is this entry's, or one of those that it stands for.

        Example:
            >>> Metric("e/improvement_k", "", "", "", pattern="e/improvement_[0-9]+").stands_for("e/improvement_3")
            True
        """
        return name == self.name or bool(self.pattern and re.fullmatch(self.pattern, name))


ALWAYS = "always"
LEARNED_PRIOR = (
    "algorithms that fit a prior in a trust region: mpo, rerpi, vmpo, kl-mve, pp-smc, compose --prior learned"
)
MODEL = "algorithms with a model: mve, iterative-mve, kl-mve, smcp, pp-smc, compose --likelihood model"
PLANS = "algorithms that plan: smcp, pp-smc"
ON_POLICY = "on-policy algorithms: vmpo, soft-pg, compose --likelihood state-value"
SUCCESS = "environments whose info has is_success or success"
EVALUATED = "once the policy was evaluated"

METRICS = (
    # The E-step
    Metric(
        "e/value",
        "V(s; q), the objective of the E-step, after inference. Mean over the states of a batch.",
        "reward",
        "algorithms that maximise V on a critic: all but sql and those on-policy",
        shown="value",
    ),
    Metric(
        "e/improvement_k",
        "V(λ_k) − V(λ_0): how much k inference iterations improve the objective. At most 20 values of k are written.",
        "reward",
        "inference by iterations",
        pattern="e/improvement_[0-9]+",
    ),
    Metric(
        "e/last_gain",
        "How much the last inference iteration improves V. It is a proxy for the inference gap that is left.",
        "reward",
        "inference by iterations",
    ),
    Metric(
        "e/gate",
        "Mean gate ω of the last iteration: the fraction of λ that the inference network keeps.",
        "fraction",
        "iterative amortised inference",
    ),
    Metric(
        "e/afresh",
        "Fraction of the states in which inference starts from its own start instead of the λ stored in replay.",
        "fraction",
        "iterative-sac with --persist",
    ),
    Metric(
        "e/ess",
        "Effective sample size 1/Σw² of the weights: over the samples of a state, or for vmpo over the batch.",
        "samples",
        "posteriors that are weighted samples: mpo, rerpi, vmpo, pp-smc, compose with closed-form or advantages",
        shown="ess",
    ),
    Metric(
        "e/kept",
        "Fraction of the batch's steps, those of greatest advantage, to which the policy is fitted.",
        "fraction",
        "vmpo, compose --likelihood state-value",
        shown="kept",
    ),
    Metric("e/advantage", "Mean advantage A_t of the steps of a batch.", "reward", ON_POLICY),
    Metric("e/loss", "Loss of the policy: the policy gradient's, or the regression of soft Q-learning.", "", "soft-pg"),
    Metric(
        "e/stein",
        "Root mean square length of the Stein direction, in units of u: 0 where the sampler has the posterior.",
        "u",
        "sql",
    ),
    # Plans: of the steps of a batch, when they were taken
    Metric("plan/ess", "Effective sample size of the particles of a search, mean over its steps.", "particles", PLANS),
    Metric("plan/roots", "First actions of a search from which particles descend at its end.", "actions", PLANS),
    Metric("plan/resampled", "How often the particles of a search were resampled.", "times", PLANS),
    Metric("plan/failed", "Fraction of plans that were not finite, so that the policy acted.", "fraction", PLANS),
    Metric("plan/age", "Age of the searches that the policy is fitted to.", "updates", "pp-smc"),
    # The M-step
    Metric(
        "m/alpha",
        "Temperature α (η in MPO): the price of one nat of KL(q‖p). A run notes when log α reaches a limit, -15 or 10.",
        "reward per nat",
        ALWAYS,
        shown="alpha",
    ),
    Metric(
        "m/kl",
        "KL(q‖p), mean over the batch. With the flat prior it is minus the entropy of q. sql has no density and "
        "writes 0.",
        "nats",
        ALWAYS,
        shown="kl",
    ),
    Metric("m/kl_bound", "ε, the bound of m/kl that the temperature is fitted to.", "nats", "a learned temperature"),
    Metric("m/fit", "Weighted log-likelihood of samples, which the M-step maximises.", "nats", LEARNED_PRIOR),
    Metric(
        "m/kl_part",
        "KL by which a part of the policy moves away from its slow copy: mean, scale, or policy (the whole). Summed "
        "over action dimensions.",
        "nats",
        LEARNED_PRIOR,
        pattern="m/kl_[a-z]+",
    ),
    Metric(
        "m/kl_part_bound",
        "Bound of m/kl_mean, m/kl_scale or m/kl_policy, summed over action dimensions.",
        "nats",
        LEARNED_PRIOR,
        pattern="m/kl_[a-z]+_bound",
    ),
    Metric(
        "m/alpha_part",
        "Multiplier of the KL bound of a part of the policy: mean, scale, or policy (the whole). It grows while the "
        "bound is exceeded.",
        "",
        LEARNED_PRIOR,
        pattern="m/alpha_[a-z]+",
    ),
    Metric(
        "m/alpha_box",
        "Temperature of the second objective, which keeps the policy inside the action box.",
        "",
        "mpo and rerpi on continuous actions with --epsilon-box above 0",
    ),
    # The critic
    Metric(
        "critic/loss",
        "Half the mean squared error of the critic, or its mean cross-entropy in nats with --critic-loss hl-gauss; "
        "summed over the ensemble.",
        "reward²",
        ALWAYS,
    ),
    Metric("critic/value", "Mean value that the critic gives to the steps of a batch.", "reward", ALWAYS),
    Metric("critic/target", "Mean target of the critic's regression.", "reward", "a critic Q(s, a)"),
    Metric(
        "critic/outside",
        "Fraction of the critic's targets that lie outside the range of values, and are clipped to it.",
        "fraction",
        "--critic-loss hl-gauss",
    ),
    Metric(
        "critic/disagreement",
        "Standard deviation over the ensemble, mean over the batch.",
        "reward",
        "a critic Q(s, a); 0 with one critic",
    ),
    Metric("critic/explained", "Fraction of the variance of the returns that V(s) explains.", "fraction", ON_POLICY),
    # The model of the environment
    Metric("model/nll", "-log density of a number of (s' - s, r) in standard deviations of the data.", "nats", MODEL),
    Metric("model/error", "Squared error of the predicted (s' - s, r), relative to their variance.", "fraction", MODEL),
    Metric("model/ends", "Cross-entropy of the predicted probability that the episode goes on.", "nats", MODEL),
    Metric(
        "model/outside", "Share of next states beyond 10 std of the data, where imagined ones end.", "fraction", MODEL
    ),
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
    Metric("data/replay", "Transitions held in replay.", "transitions", ALWAYS),
    Metric(
        "data/bad", "Bad transitions of the environment, such as numbers that are not finite.", "transitions", ALWAYS
    ),
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
    Metric("eval/return", "Mean return of an evaluation, as in eval.csv.", "reward", ALWAYS, BOARD),
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


def find(name: str) -> list[Metric]:
    """The entries of a name or of a word of the progress line, or else the first whose pattern it has."""
    exact = [metric for metric in METRICS if name in (metric.name, metric.shown)]
    return exact or [metric for metric in METRICS if metric.stands_for(name)][:1]
