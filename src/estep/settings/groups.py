"""Settings that several algorithms have together, each with the default that most of them share.

An algorithm inherits the groups it needs and writes down its own settings, and those whose default differs:

    @dataclass(frozen=True)
    class SAC(groups.EntropyBound, groups.QEnsemble, groups.Learner):
        tau: fields.Tau = 0.005

The last group comes first on the command line. A group holds settings and nothing else, so what an algorithm does
stands in its own file alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from estep.errors import UsageError
from estep.settings import fields
from estep.settings.kinds import validate
from estep.settings.references import is_reference


@dataclass(frozen=True)
class Learner:
    """What every algorithm has: its networks, their step size, and the discount factor."""

    hidden_sizes: fields.HiddenSizes = (256, 256)
    features: fields.Features = ""
    learning_rate: fields.LearningRate = 3e-4
    gamma: fields.Gamma = 0.99

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class QEnsemble:
    """An ensemble of action values and how pessimistic it is."""

    num_critics: fields.NumCritics = 2
    beta: fields.Pessimism = 1.0
    network: fields.Network = "mlp"
    critic_norm: fields.CriticNorm = "none"
    critic_activation: fields.CriticActivation = "relu"
    critic_hidden_sizes: fields.CriticHiddenSizes = ()
    critic_loss: fields.CriticLoss = "mse"
    value_range: fields.ValueRange = ()

    def __post_init__(self) -> None:
        validate_with_critic(self)


def validate_with_critic(settings: Any) -> None:
    """Check every setting of an algorithm that has a `QEnsemble`, and what those of its networks must agree on.

    Raises:
        UsageError: a value of the wrong kind, or two settings that do not go together.
    """
    validate(settings)
    residual = settings.network != "mlp"
    if residual and settings.critic_norm != "none":
        raise UsageError(
            "--network simba and simba2 have a normalisation of their own, so they take no --critic-norm layer.",
            "Give --critic-norm none, or --network mlp.",
        )
    for name in ("hidden_sizes", "critic_hidden_sizes"):
        sizes = getattr(settings, name)
        if residual and len(set(sizes)) > 1:
            flag = "--" + name.replace("_", "-")
            raise UsageError(
                f"{flag} has different sizes, but a residual block of {settings.network} is added to its own input.",
                f"Give {flag} equal sizes, one for each block, or --network mlp.",
            )
    if settings.value_range and settings.critic_loss == "mse" and settings.network != "simba2":
        raise UsageError(
            "--critic-loss mse has no range of values.", "Leave out --value-range, or give --critic-loss hl-gauss."
        )


@dataclass(frozen=True)
class QInference:
    """How pessimistic inference on a critic is, and in how many of a batch's states it infers."""

    pessimism: fields.PessimismOf = "value"
    inference_fraction: fields.InferenceFraction = 1.0

    def __post_init__(self) -> None:
        validate_with_inference(self)


@dataclass(frozen=True)
class InferOn:
    """The critic that inference maximises."""

    infer_on: fields.InferOn = "fast"


@dataclass(frozen=True)
class Acting:
    """How an agent acts that infers by iterations."""

    act_by: fields.ActBy = "inference"
    act_beta: fields.ActPessimism = None


@dataclass(frozen=True)
class IterativeInference:
    """Iterative amortised inference, in training, to act and in the critic's target."""

    iterations: fields.Iterations = 2
    samples: fields.Samples = 2
    antithetic: fields.Antithetic = True
    grad_encoding: fields.GradEncoding = "log_sign"
    direct_start: fields.DirectStart = True
    persist: fields.Persist = True
    restart_probability: fields.RestartProbability = 0.5
    inference_fraction: fields.InferenceFraction = 0.5
    act_iterations: fields.ActIterations = 0
    act_samples: fields.ActSamples = 10
    act_average: fields.ActAverage = 1
    target_iterations: fields.TargetIterations = 0
    target_samples: fields.TargetSamplesOrSame = 0


@dataclass(frozen=True)
class WorldModel:
    """A model of the environment that is learned beside the critic."""

    members: fields.Members = 5
    model_rate: fields.ModelRate = 1e-3
    model_every: fields.ModelEvery = 1
    model_hidden_sizes: fields.ModelHiddenSizes = (200, 200)


@dataclass(frozen=True)
class Imagined:
    """The imagined steps of a model that inference sees."""

    horizon: fields.Horizon = 2
    model_lambda: fields.ModelLambda = 0.9
    members_used: fields.MembersUsed = 1
    model_beta: fields.ModelBeta = 0.0


@dataclass(frozen=True)
class EntropyBound:
    """A lower bound of the posterior's entropy, and whether it holds in every task."""

    entropy: fields.Entropy = -1.0
    entropy_fraction: fields.EntropyFraction = 0.3
    alpha_per_task: fields.AlphaPerTask = False


@dataclass(frozen=True)
class SlowCopies:
    """Slow copies that move once in a while."""

    target_period: fields.TargetPeriod = 100
    tau: fields.Tau = 1.0


@dataclass(frozen=True)
class LearnedPolicy:
    """A policy that is its own prior, and the bound of the KL of an E-step."""

    dual_learning_rate: fields.DualLearningRate = 1e-2
    sigma: fields.Sigma = 0.7
    epsilon: fields.Epsilon = 0.1


@dataclass(frozen=True)
class WeightedSamples:
    """Weighted samples of a policy, their critic, and the box to which actions are clipped."""

    unroll: fields.Unroll = 5
    samples: fields.WeightedSamples = 20
    infer_on: fields.InferOn = "slow"
    epsilon_box: fields.EpsilonBox = 1e-3


@dataclass(frozen=True)
class FreshData:
    """Data that are learned from and then dropped, and λ-returns over them."""

    rollout: fields.Rollout = 2048
    gae_lambda: fields.GAELambda = 0.95


def validate_with_inference(settings: Any) -> None:
    """Check every setting of an algorithm that has `QInference`, in its plain form.

    Raises:
        UsageError: a value is out of bounds; or one critic, which differs from nothing, is to be pessimistic about
            differences.
    """
    validate_with_critic(settings)
    if settings.pessimism == "difference" and settings.num_critics < 2:
        raise UsageError(
            "--pessimism difference is about the spread of several critics, and --num-critics is 1.",
            "Give --num-critics 2 or more, or --pessimism value.",
        )


OF_BOXES = frozenset(("entropy", "sigma", "antithetic", "act_samples", "epsilon_box", "epsilon_scale", "trust_region"))
"""Settings of a distribution over boxes, and of samples of it, whose place an exact mean over choices takes."""
OF_CHOICES = frozenset(("entropy_fraction",))
"""Settings of a distribution over choices."""
SAMPLED = frozenset(("samples", "target_samples"))
"""Settings of samples whose place an exact mean takes where the agent makes one choice."""


OF_PARTS = (
    (("members", "model_rate", "model_every", "model_hidden_sizes"), "likelihood", ("model",)),
    (("horizon", "model_lambda", "members_used", "model_beta"), "likelihood", ("model",)),
    (("particles", "resample", "dynamics", "plan_members", "value_samples"), "act_with", ("plan",)),
    (("eval_with", "plan_horizon", "power"), "act_with", ("plan",)),
    (("rollout", "gae_lambda", "epochs"), "likelihood", ("state-value",)),
    (("components",), "posterior", ("mixture",)),
    (("num_candidates",), "inference", ("cem", "importance")),
    (("iterations",), "inference", ("iterative", "gradient", "semi-amortised", "cem", "importance")),
    (("sigma", "epsilon_mean", "epsilon_scale"), "prior", ("learned",)),
)
"""Settings of `compose`, and the parts that make use of them."""


def idle(settings: Mapping[str, Any], choices: int) -> frozenset[str]:
    """The settings of an algorithm that change nothing beside its other ones.

    Args:
        settings: those of an algorithm of the library by name, with their values.
        choices: how many choices an action is made of; 0 where actions are numbers.

    Example:
        >>> sorted(idle({"num_critics": 1, "beta": 2.0, "sigma": 0.7}, choices=1) & {"beta", "sigma"})
        ['beta', 'sigma']
    """
    composed, fresh = "likelihood" in settings, settings.get("likelihood") == "state-value"
    found = set(OF_BOXES if choices else OF_CHOICES)
    if choices == 1 and "latent" not in settings:
        found |= SAMPLED
    if settings.get("num_critics") == 1 or fresh:
        found |= {"beta", "act_beta"}
    if fresh:
        found |= {"num_critics", "posterior", "samples", "target", "kl_in_value"}
    if settings.get("weights") == "exponential":
        found |= {"rank_shift"}
    if settings.get("freeze_prior"):
        found |= {"prior_fit"}
    if settings.get("prior_fit") == "distil" or settings.get("freeze_prior"):
        found |= {"dual_learning_rate", "epsilon_mean", "epsilon_scale"}
    if settings.get("persist") is False:
        found |= {"restart_probability"}
    if settings.get("target") == "td0" and not fresh and (composed or not settings.get("kl_in_value")):
        found |= {"unroll"}
    for names, part, values in OF_PARTS if composed else ():
        if settings[part] not in values and not is_reference(settings[part]):
            found.update(names)
    return frozenset(found)
