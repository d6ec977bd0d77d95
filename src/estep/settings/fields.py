"""Every setting of the algorithms, said once: its kind, its bounds and what it means.

A row of the table is a frozen dataclass whose fields have these types:

    @dataclass(frozen=True)
    class Mine:
        gamma: fields.Gamma = 0.99

        def __post_init__(self) -> None:
            validate(self)

All that show or read a setting look at the same annotation: `validate`, the command line, `estep algos`,
`estep explain`, the reader of configurations and the docs. A row may say more of its own use of a setting:
`Annotated[fields.Samples, Help("...")]`, the last of which counts. Nothing here imports JAX, so that `--help` is quick.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from annotated_types import Ge, Interval, MinLen

from estep.settings.kinds import Choices, Help, LowHigh

# Networks and their optimisers

HiddenSizes: TypeAlias = Annotated[
    tuple[Annotated[int, Ge(1)], ...], Help("Sizes of the hidden layers of every network."), MinLen(1)
]
Features: TypeAlias = Annotated[
    str,
    Help(
        "A network of your own in front of every network, as module:function: (obs_dim, key) to a callable from one "
        "observation to a vector of features (empty: none)."
    ),
    Choices(("",), own="network"),
]
Network: TypeAlias = Annotated[
    Literal["mlp", "simba", "simba2"],
    Help(
        "What policy and critic are made of: layers in a row, SimBa's normalised residual blocks, or SimbaV2's blocks "
        "on the sphere. Each hidden size is one block then, and all of them are equal."
    ),
]
LearningRate: TypeAlias = Annotated[
    float, Help("Step size of Adam, for every component that has none of its own."), Interval(gt=0, lt=1)
]
CriticLearningRate: TypeAlias = Annotated[
    float,
    Help("Step size of Adam for the critic. A critic that lags behind gives advantages of one sign, which are noise."),
    Interval(gt=0, lt=1),
]
DualLearningRate: TypeAlias = Annotated[
    float, Help("Step size of Adam for the logarithm of every multiplier of a KL bound."), Interval(gt=0, lt=1)
]

# The critic

Gamma: TypeAlias = Annotated[float, Help("Discount factor γ, per environment step."), Interval(ge=0, lt=1)]
Tau: TypeAlias = Annotated[
    float,
    Help("How far the slow copies move towards the networks each time they move (1: they become equal)."),
    Interval(gt=0, le=1),
]
TargetPeriod: TypeAlias = Annotated[int, Help("Updates from one move of the slow copies to the next."), Ge(1)]
NumCritics: TypeAlias = Annotated[int, Help("How many critics the ensemble has."), Ge(1)]
Pessimism: TypeAlias = Annotated[
    float,
    Help(
        "Pessimism β: Q̂ = mean - β std over the ensemble, with the biased standard deviation, so that 1 is the "
        "minimum of two critics."
    ),
    Interval(ge=0, lt=100),
]
CriticHiddenSizes: TypeAlias = Annotated[
    tuple[Annotated[int, Ge(1)], ...], Help("Sizes of the hidden layers of the critic (none: those of hidden_sizes).")
]
CriticNorm: TypeAlias = Annotated[
    Literal["none", "layer"],
    Help("Whether each hidden layer of the critic is normalised before its bias and its activation."),
]
CriticActivation: TypeAlias = Annotated[
    Literal["relu", "elu", "silu"], Help("The function after each hidden layer of the critic.")
]
CriticLoss: TypeAlias = Annotated[
    Literal["mse", "hl-gauss"],
    Help(
        "How the critic is fitted to its target: by squared errors, or as a histogram whose mean is the value, by the "
        "cross-entropy to a Gaussian about the target."
    ),
]
ValueRange: TypeAlias = Annotated[
    tuple[float, ...],
    Help(
        "Least and largest value that the histogram of hl-gauss holds, in units of the reward; targets outside are "
        "clipped (none: ±5/(1 - γ), the value of a reward of 5 at every step). With mse it is the scale of simba2."
    ),
    LowHigh(),
]
PessimismOf: TypeAlias = Annotated[
    Literal["value", "difference"],
    Help(
        "What inference is pessimistic about, in the E-step and to act: the value of an action, or its difference to "
        "the mode at which inference starts. Targets are always pessimistic about the value."
    ),
]
InferOn: TypeAlias = Annotated[
    Literal["fast", "slow"],
    Help("The critic whose value inference maximises, in the E-step and to act: the trained one, or its slow copy."),
]
ActPessimism: TypeAlias = Annotated[
    float | None,
    Help("Pessimism β of the critic that inference maximises to act (none: that of training)."),
    Interval(ge=0, lt=100),
]
CriticTarget: TypeAlias = Annotated[
    Literal["td0", "n-step", "retrace"],
    Help("What the critic is regressed on: returns of one step, of n steps, or of n steps with Retrace's correction."),
]
Unroll: TypeAlias = Annotated[
    int, Help("Consecutive steps over which returns are taken. The value of the last state stands for the rest."), Ge(1)
]
GAELambda: TypeAlias = Annotated[
    float,
    Help("λ of the λ-returns (1: Monte-Carlo within an unroll, 0: one step)."),
    Interval(ge=0, le=1),
]

# The model of the environment

Horizon: TypeAlias = Annotated[
    int,
    Help("Steps of the learned model in each return that inference maximises (0: inference on the critic itself)."),
    Interval(ge=0, le=50),
]
ModelLambda: TypeAlias = Annotated[
    float,
    Help("λ of the returns of imagined steps (1: the return of all steps counts, 0: that of one step)."),
    Interval(ge=0, le=1),
]
Members: TypeAlias = Annotated[int, Help("How many networks the learned model has."), Ge(1)]
MembersUsed: TypeAlias = Annotated[
    int, Help("How many networks of the model estimate a return; in each update it is the turn of other ones."), Ge(1)
]
ModelBeta: TypeAlias = Annotated[
    float,
    Help("Pessimism β about the model: a return is mean - β std over the networks that estimate it."),
    Interval(ge=0, lt=100),
]
ModelRate: TypeAlias = Annotated[float, Help("Step size of Adam for the model."), Interval(gt=0, lt=1)]
ModelEvery: TypeAlias = Annotated[int, Help("Updates from one step of the model to the next."), Ge(1)]
ModelHiddenSizes: TypeAlias = Annotated[
    tuple[Annotated[int, Ge(1)], ...], Help("Sizes of the hidden layers of each network of the model."), MinLen(1)
]

# Data

Rollout: TypeAlias = Annotated[
    int, Help("Environment steps, of all environments together, that are learned from and then dropped."), Ge(1)
]
Epochs: TypeAlias = Annotated[int, Help("Passes over each rollout."), Ge(1)]
TopFraction: TypeAlias = Annotated[
    float,
    Help("Fraction of a batch's steps, those of greatest advantage, to which the policy is fitted."),
    Interval(gt=0, le=1),
]
PolicyLoss: TypeAlias = Annotated[
    Literal["policy-gradient", "soft-q"],
    Help("Follow the policy gradient, or regress the soft Q-function that the policy stands for."),
]

# Inference

Samples: TypeAlias = Annotated[int, Help("Samples of the posterior in each state."), Ge(1)]
WeightedSamples: TypeAlias = Annotated[
    int,
    Help("n, samples of the slow policy in each state, for the weights and for the critic's target."),
    Ge(2),
]
TargetSamples: TypeAlias = Annotated[int, Help("Samples at the next state in the critic's target."), Ge(1)]
Iterations: TypeAlias = Annotated[int, Help("Inference iterations in each state."), Ge(1)]
ActIterations: TypeAlias = Annotated[
    int,
    Help(
        "Iterations to act (0: as in training). More iterations come nearer to the optimum of V; on a critic that has "
        "not converged they can lower the return."
    ),
    Ge(0),
]
ActSamples: TypeAlias = Annotated[int, Help("Samples in each iteration to act (0: as in training)."), Ge(0)]
ActAverage: TypeAlias = Annotated[int, Help("Act on the mean of this many of the last iterates."), Ge(1)]
TargetIterations: TypeAlias = Annotated[
    int, Help("Iterations at the next state in the critic's target (0: as in training)."), Ge(0)
]
TargetSamplesOrSame: TypeAlias = Annotated[
    int, Help("Samples at the next state in the critic's target (0: as in training)."), Ge(0)
]
Antithetic: TypeAlias = Annotated[
    bool, Help("Draw noise in pairs ξ, -ξ. One pair does what ten independent samples do (discrete actions: not used).")
]
GradEncoding: TypeAlias = Annotated[
    Literal["log_sign", "layer_norm", "none"],
    Help("How the inference network reads the gradient (layer_norm is the authors')."),
]
DirectStart: TypeAlias = Annotated[
    bool, Help("Start inference from a direct network, trained on the same objective, instead of a fixed place.")
]
Persist: TypeAlias = Annotated[
    bool, Help("Keep λ(s) and λ(s') with every step in replay, and start inference there the next time it is sampled.")
]
RestartProbability: TypeAlias = Annotated[
    float,
    Help("With --persist, the probability that inference in a state starts anew instead."),
    Interval(ge=0, le=1),
]
InferenceFraction: TypeAlias = Annotated[
    float,
    Help("Fraction of a batch in whose states the E-step infers and the actor learns. The critic learns from all."),
    Interval(ge=0, le=1),
]
NumComponents: TypeAlias = Annotated[int, Help("Components of a mixture posterior."), Ge(1)]
Particles: TypeAlias = Annotated[
    int,
    Help("Samples of the sampler in a state, in training and to act. In training, half of them stand still."),
    Ge(4),
]
Proposal: TypeAlias = Annotated[
    Literal["uniform", "sampler"],
    Help(
        "Where the samples of the critic's target come from: the prior (as published), or half of them from the "
        "neighbourhood of the sampler."
    ),
]
ActBy: TypeAlias = Annotated[
    Literal["inference", "start"],
    Help(
        "What acts: the result of inference, or the network at which inference starts. The critic's target is the "
        "value of the result either way."
    ),
]
ActWith: TypeAlias = Annotated[Literal["prior", "posterior"], Help("Which distribution acts.")]

# Temperature, entropy and bounds of KLs

Alpha: TypeAlias = Annotated[
    float, Help("Temperature α, the price of one nat of KL(q‖p) in units of reward."), Interval(gt=1e-6, lt=1e6)
]
AlphaPerTask: TypeAlias = Annotated[
    bool,
    Help("With several tasks, learn a temperature for each, so that the bound of the entropy holds in every task."),
]
Entropy: TypeAlias = Annotated[
    float,
    Help("Lower bound of the posterior's entropy over continuous actions, in nats per action dimension."),
    Interval(gt=-100, lt=100),
]
EntropyFraction: TypeAlias = Annotated[
    float,
    Help(
        "Lower bound of the posterior's entropy over n discrete actions, as a fraction of log n. The paper of discrete "
        "SAC has 0.98, which is nearly chance; 0.3 takes one of two actions 19 times in 20."
    ),
    Interval(ge=0, lt=1),
]
Epsilon: TypeAlias = Annotated[float, Help("Upper bound of KL(q‖p), in nats."), Interval(gt=0, lt=100)]
EpsilonMean: TypeAlias = Annotated[
    float,
    Help("Upper bound of the KL by which the policy's mean moves (one KL, as for discrete actions: of the whole)."),
    Interval(gt=0, lt=100),
]
EpsilonScale: TypeAlias = Annotated[
    float,
    Help("Upper bound of the KL by which the policy's scale moves (one KL, as for discrete actions: not used)."),
    Interval(gt=0, lt=100),
]
EpsilonBox: TypeAlias = Annotated[
    float,
    Help("Upper bound of the KL of the second objective, the distance to the action box (0: without it)."),
    Interval(ge=0, lt=100),
]
TrustRegion: TypeAlias = Annotated[
    Literal["per-dimension", "joint", "coupled"],
    Help("Bound mean and scale in each action dimension, summed over dimensions, or together in one KL."),
]
Sigma: TypeAlias = Annotated[
    float,
    Help("Standard deviation of a fresh policy, before any squashing (discrete actions: not used)."),
    Interval(gt=1e-4, lt=7),
]
Covariance: TypeAlias = Annotated[
    Literal["diagonal", "full"],
    Help("Whether the policy correlates the dimensions of an action (discrete actions: diagonal, and not used)."),
]
Weights: TypeAlias = Annotated[
    Literal["exponential", "rank"], Help("How values become weights (discrete actions: exponential only).")
]
RankShift: TypeAlias = Annotated[
    float, Help("c of the rank weights log((n + c)/rank): the larger, the more equal the weights."), Interval(lt=1e6)
]
