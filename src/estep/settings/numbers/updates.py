"""The numbers of an update: what E-step, M-step and critic write into metrics.jsonl."""

from __future__ import annotations

from estep.settings.numbers.metric import (
    ALWAYS,
    FITTED_PRIOR,
    LEARNED_PRIOR,
    MODEL,
    ON_POLICY,
    PLANS,
    SEVERAL_TASKS,
    Metric,
)

UPDATES = (
    # The E-step
    Metric(
        "e/value",
        "V(s; q), the objective of the E-step, after inference. Mean over the states of a batch.",
        "reward",
        "algorithms that maximise V on a critic: all but sql and those on-policy",
        shown="value",
    ),
    Metric(
        "e/value/TASK",
        "As e/value, over the states of one task.",
        "reward",
        SEVERAL_TASKS,
        pattern="e/value/.+",
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
        "e/lost",
        "Fraction of the next states whose λ ran away or is not finite, so that their next inference starts afresh.",
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
    Metric(
        "e/advantage",
        "Mean advantage A_t of the steps of a batch.",
        "reward",
        ON_POLICY,
    ),
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
    Metric("m/kl/TASK", "As m/kl, over the states of one task.", "nats", SEVERAL_TASKS, pattern="m/kl/.+"),
    Metric(
        "m/alpha/TASK",
        "The temperature α of one task (--alpha-per-task); m/alpha is the mean of all.",
        "reward per nat",
        SEVERAL_TASKS,
        pattern="m/alpha/.+",
    ),
    Metric("m/kl_bound", "ε, the bound of m/kl that the temperature is fitted to.", "nats", "a learned temperature"),
    Metric(
        "m/fit",
        "Weighted log-likelihood of the samples under the policy or prior, which the M-step maximises.",
        "nats",
        FITTED_PRIOR,
    ),
    Metric(
        "m/levels",
        "KL of both levels, KL(q(z)‖p(z)) + E KL(q(u|z)‖p(u|z)), which the M-step minimises.",
        "nats",
        "hierarchical --latent-prior learned or --low-level own",
    ),
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
)
