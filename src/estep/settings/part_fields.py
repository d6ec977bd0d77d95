"""The settings that one algorithm alone has: of `compose`, those that name its parts too.

See `settings.fields` for what a setting is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from annotated_types import Ge, Interval

from estep.settings.kinds import Choices, Help

PRIORS = ("flat", "uniform", "gaussian", "learned")
POSTERIORS = ("gaussian", "full-gaussian", "mixture", "autoregressive", "boltzmann", "categorical")
LIKELIHOODS = ("q", "state-value", "model")
INFERENCES = ("direct", "iterative", "gradient", "semi-amortised", "cem", "importance", "closed-form", "advantages")

Prior: TypeAlias = Annotated[
    str,
    Help("p(a|s): improper and flat, uniform, N(0, 1) before squashing, or a network fitted to the posterior."),
    Choices(PRIORS, own="prior"),
]
Posterior: TypeAlias = Annotated[
    str,
    Help("q(a|s): a family of continuous actions, weighted samples of the prior, or a distribution over choices."),
    Choices(POSTERIORS, own="posterior"),
]
Likelihood: TypeAlias = Annotated[
    str,
    Help(
        "What inference maximises: action values learned from replay, advantages of on-policy data, or returns of "
        "imagined steps, by a model that is learned beside action values."
    ),
    Choices(LIKELIHOODS, own="likelihood"),
]
Inference: TypeAlias = Annotated[
    str,
    Help("How q is found. semi-amortised is gradient ascent that starts at a direct network."),
    Choices(INFERENCES, own="inference"),
]
Start: TypeAlias = Annotated[
    Literal["prior", "direct", "iterative"],
    Help(
        "Where an optimiser that iterates starts: at the prior where the family holds it, else at a fixed place; or "
        "where a network ends, which is trained on the same objective."
    ),
]

InferOnOrDefault: TypeAlias = Annotated[
    Literal["auto", "fast", "slow"],
    Help(
        "The critic whose value inference maximises, in the E-step and to act: the trained one, or its slow copy. "
        "auto is fast, but slow in the E-step with --no-kl-in-value."
    ),
]
NumCandidates: TypeAlias = Annotated[
    int, Help("Samples in each iteration of cem and importance, from which the next distribution is fitted."), Ge(20)
]
EpsilonOrDefault: TypeAlias = Annotated[
    float,
    Help(
        "Upper bound of KL(q‖p), in nats (0: d for a flat prior and d (1 + log 2) for a uniform one, an entropy "
        "of -1 nat per dimension; over choices, what leaves a third of log n; 0.1 for the other priors)."
    ),
    Interval(ge=0, lt=1e3),
]
KLInValue: TypeAlias = Annotated[
    bool, Help("Charge KL(q‖p) at every step of a return. Without it the critic learns the prior's plain return.")
]
PriorSees: TypeAlias = Annotated[
    tuple[str, ...],
    Help(
        "What the prior sees of the observation: places from 0 (3), ranges (0:4 are the places 0 to 3), names of "
        "parts of a dict, or one of state (all but the one-hot vector of the task), all and nothing."
    ),
]
EpsilonOrFixed: TypeAlias = Annotated[
    float,
    Help("Upper bound of KL(q‖p), in nats, whose multiplier is α (0: no bound, and α is fixed)."),
    Interval(ge=0, lt=100),
]

# Several tasks

KLCost: TypeAlias = Annotated[
    float,
    Help("Price of one nat of KL(q‖p) in units of reward, p the prior that the tasks share."),
    Interval(ge=0, lt=1e6),
]
EntropyCost: TypeAlias = Annotated[
    float,
    Help("Price of one nat of entropy that the policy lacks, in units of reward."),
    Interval(ge=0, lt=1e6),
]
Policies: TypeAlias = Annotated[
    Literal["two-column", "one-column", "common"],
    Help(
        "two-column: the policy of a task is a power of the shared prior times what the task adds, which over discrete "
        "actions is exp(Q̂/α); one-column: a network that sees the task; common: one policy for all tasks, a network "
        "that sees what the prior sees."
    ),
]
Heads: TypeAlias = Annotated[
    Literal["shared", "own"],
    Help("Whether policy and critic read the task from the observation, or have an output layer for each task."),
]
PriorFit: TypeAlias = Annotated[
    Literal["distil", "trust-region"],
    Help("How the prior is fitted to the policies: by likelihood, or also near its slow copy."),
]
EntropyIn: TypeAlias = Annotated[
    Literal["both", "policy"],
    Help("Where entropy has its price: in the policy and in the critic, or, as in public code, in the policy alone."),
]
FreezePrior: TypeAlias = Annotated[
    str,
    Help(
        "A run folder whose prior is taken as it is and not trained, for a new task or several; of a folder of runs, "
        "that of the run with the same seed (empty: none)."
    ),
]

Latent: TypeAlias = Annotated[
    int,
    Help("k, how many numbers the latent z has, by which the upper level guides the lower one."),
    Interval(ge=1, le=256),
]
LatentPrior: TypeAlias = Annotated[
    Literal["normal", "learned"],
    Help("The prior of z: N(0, I), or a Gaussian network of what the prior sees, fitted to the policies."),
]
Rho: TypeAlias = Annotated[
    float,
    Help(
        "ρ of a prior by which z stays near the z of the step before, z_t ~ N(ρ z_{t-1}, 1 - ρ²), an AR(1) process (0: "
        "every z by itself)."
    ),
    Interval(ge=0, lt=1),
]
LowLevel: TypeAlias = Annotated[
    Literal["shared", "own"],
    Help(
        "shared: policies and prior have one lower level, which sees what the prior sees, so that z alone has a KL; "
        "own: the lower level of the policies sees the task, and that of the prior is fitted to it."
    ),
]
FreezeLow: TypeAlias = Annotated[
    str,
    Help(
        "A run folder whose lower level is taken as it is and not trained, for a new task or several; of a folder of "
        "runs, that of the run with the same seed (empty: none)."
    ),
]

# Plans

PlanParticles: TypeAlias = Annotated[
    int, Help("N, the particles of a search. Each begins with an action of its own, the roots of the plan."), Ge(2)
]
PlanHorizon: TypeAlias = Annotated[
    int,
    Help("h, the imagined steps of a search. The critic's value of the last state stands for the rest."),
    Interval(ge=1, le=50),
]
Resample: TypeAlias = Annotated[
    Literal["ess", "every", "never"],
    Help(
        "When the particles of a search are replaced by copies of those with more weight: before a step at which their "
        "effective sample size is below half of their number, before every step after the first, or never."
    ),
]
Dynamics: TypeAlias = Annotated[
    Literal["variational", "optimistic"],
    Help(
        "Weigh an imagined step by its mean over members of the model, with the same luck for all particles; or by one "
        "draw of one member, with luck of its own for each particle, as published: good luck is then a weight."
    ),
]
PlanMembers: TypeAlias = Annotated[
    int,
    Help("How many members of the model that mean is over, others at each imagined step (0: all)."),
    Ge(0),
]
PlanPower: TypeAlias = Annotated[
    float,
    Help("κ, the power of the whole weight of a plan. Below 1 plans stay nearer to the policy."),
    Interval(gt=0, le=10),
]
ValueSamples: TypeAlias = Annotated[
    int,
    Help("Samples of the policy in the value of an imagined state; all particles of a step have the same noise."),
    Ge(1),
]
SearchFraction: TypeAlias = Annotated[
    float,
    Help(
        "Fraction of a batch in whose states an update searches anew, with the policy and the critic of now, and to "
        "which the policy is fitted. 0 fits it to the searches of the steps. Replay then keeps them: give it few steps."
    ),
    Interval(ge=0, le=1),
]
EvalWith: TypeAlias = Annotated[
    Literal["plan", "policy"],
    Help(
        "What the deterministic action of an evaluation is: the root of greatest weight, or the mode of the policy "
        "that proposes the roots. Training acts by plans either way."
    ),
]


ActWithOrPlan: TypeAlias = Annotated[
    Literal["prior", "posterior", "plan"],
    Help("What acts: the prior, the posterior, or plans whose actions the policy proposes that the critic learns of."),
]


@dataclass(frozen=True)
class Plans:
    """A search that acts, by particles that a learned model carries forward."""

    particles: PlanParticles = 32
    resample: Resample = "ess"
    dynamics: Dynamics = "variational"
    plan_members: PlanMembers = 0
    value_samples: ValueSamples = 1
    eval_with: EvalWith = "plan"


@dataclass(frozen=True)
class SharedPrior:
    """A prior that all tasks share, and the prices of being unlike it and of being certain."""

    kl_cost: KLCost = 0.05
    entropy_cost: EntropyCost = 0.05
    prior_sees: PriorSees = ("state",)
    heads: Heads = "shared"
