"""Which parts of `compose` fit together, and why others do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from estep.algorithms.checks import check_combinations
from estep.algorithms.model_based.model import check_model
from estep.core.types import Spec
from estep.errors import UsageError
from estep.settings.groups import validate_with_inference
from estep.settings.kinds import check_order
from estep.settings.references import is_reference

FITTED = ("gaussian", "full-gaussian")
"""Families of numbers whose best fit to weighted draws has a closed form."""

STARTED = ("iterative", "gradient", "cem", "importance")
"""Optimisers that may start where another one ends."""


class Rule(NamedTuple):
    """What two parts must agree on."""

    holds: Callable[[Any], bool]
    why: str
    """A sentence on what is wrong, with the row's fields in braces."""
    fix: str


def _may_learn(row: Any) -> bool:
    """Whether the prior has parameters; one of somebody's own may."""
    return row.prior == "learned" or is_reference(row.prior)


def _starts_at_no_choice(row: Any) -> bool:
    """Whether inference over choices starts at a distribution that prefers none of them."""
    at_prior = row.inference == "closed-form" or (row.inference in STARTED and row.start == "prior")
    return row.posterior == "categorical" and row.prior in ("flat", "uniform") and at_prior


def _may_be_followed(row: Any) -> bool:
    """Whether the policy whose value the critic learns needs no Q̂: it is a network, or the prior."""
    network = row.inference in ("direct", "semi-amortised") or (row.inference in STARTED and row.start == "direct")
    return network or not row.kl_in_value or is_reference(row.inference)


def _may_propose(row: Any) -> bool:
    """Whether the policy that proposes the actions of plans is a network, or the prior."""
    return row.inference == "direct" or not row.kl_in_value or is_reference(row.inference)


RULES = (
    Rule(
        lambda row: row.posterior != "boltzmann" or row.inference in ("closed-form", "advantages"),
        "Weighted particles have no parameters that --inference {inference} could improve.",
        "Give --inference closed-form, or a parametric --posterior.",
    ),
    Rule(
        lambda row: row.inference != "closed-form" or row.posterior in ("boltzmann", "categorical"),
        "Closed-form inference gives weighted particles, and not {posterior} posteriors.",
        "Give --posterior boltzmann, or categorical where actions are discrete.",
    ),
    Rule(
        lambda row: row.inference != "cem" or row.posterior in FITTED or is_reference(row.posterior),
        "The cross-entropy method fits the family to the best samples. For {posterior} it has no closed form.",
        "Give --posterior gaussian or full-gaussian, or --inference gradient.",
    ),
    Rule(
        lambda row: (
            row.inference != "importance" or row.posterior in (*FITTED, "categorical") or is_reference(row.posterior)
        ),
        "Importance sampling fits the family to weighted samples. For {posterior} it has no closed form.",
        "Give --posterior gaussian or full-gaussian, or --inference gradient.",
    ),
    Rule(
        lambda row: row.start == "prior" or row.inference in STARTED or is_reference(row.inference),
        "{inference} inference does not start where another optimiser ends.",
        "Give --start prior, or --inference iterative, gradient, cem or importance.",
    ),
    Rule(
        lambda row: row.start != "iterative" or row.inference != "iterative",
        "Iterative inference that starts where iterative inference ends is the same with more iterations.",
        "Give more --iterations, or --start direct.",
    ),
    Rule(
        lambda row: row.posterior != "boltzmann" or row.prior != "flat" or row.inference != "closed-form",
        "Closed-form inference samples the prior, and a flat prior cannot be sampled.",
        "Give --prior uniform, gaussian or learned.",
    ),
    Rule(
        lambda row: row.posterior != "categorical" or row.prior != "gaussian",
        "A Gaussian prior has no discrete actions.",
        "Give --prior flat, uniform or learned.",
    ),
    Rule(
        lambda row: (row.inference == "advantages") == (row.likelihood == "state-value"),
        "--likelihood {likelihood} and --inference {inference} do not go together: advantages of the actions taken "
        "come from a state value, and only they do.",
        "Give both --likelihood state-value and --inference advantages, or neither.",
    ),
    Rule(
        lambda row: row.inference != "advantages" or (_may_learn(row) and row.act_with == "prior"),
        "Advantages weigh the actions that the prior took, so it must be learned and must act.",
        "Give --prior learned and --act-with prior.",
    ),
    Rule(
        lambda row: row.act_with != "plan" or row.likelihood == "model",
        "Plans are searches in a model of the environment, and --likelihood {likelihood} learns none.",
        "Give --likelihood model, or --act-with posterior.",
    ),
    Rule(
        lambda row: row.likelihood != "model" or not row.horizon or row.posterior != "mixture",
        "An imagined step has one sample of the policy, and a mixture needs one of each component.",
        "Give another --posterior, or --horizon 0.",
    ),
    Rule(
        lambda row: row.act_with != "plan" or row.posterior != "mixture" or row.value_samples >= row.components,
        "A mixture of {components} components needs a sample of each, and the value of a state in a plan has "
        "{value_samples}.",
        "Give --value-samples at least as many as --components, or another --posterior.",
    ),
    Rule(
        lambda row: row.act_with != "plan" or _may_propose(row),
        "A network or the prior proposes the actions of a plan. {inference} inference would be needed in the state of "
        "every particle.",
        "Give --inference direct, --no-kl-in-value with --prior learned, or --act-with posterior.",
    ),
    Rule(
        lambda row: _may_learn(row) or (row.act_with != "prior" and row.kl_in_value),
        "--prior {prior} does not learn, so it can neither act nor be the policy whose value the critic learns.",
        "Give --prior learned, or --act-with posterior and --kl-in-value.",
    ),
    Rule(
        lambda row: row.target != "retrace" or row.act_with == "prior" or row.posterior != "boltzmann",
        "Retrace needs the density of the actions taken, and weighted particles have none.",
        "Give --target n-step or td0, or --act-with prior.",
    ),
    Rule(
        lambda row: row.target != "retrace" or row.act_with != "plan",
        "Retrace needs the density of the actions taken, and plans are weighted samples, which have none.",
        "Give --target n-step or td0, or --act-with posterior.",
    ),
    Rule(
        lambda row: row.likelihood != "state-value" or (row.critic_loss == "mse" and row.network != "simba2"),
        "--critic-loss hl-gauss and the scale of --network simba2 are of action values; a state value has neither.",
        "Give --critic-loss mse and --network mlp or simba, or --likelihood q.",
    ),
    Rule(
        lambda row: row.posterior != "mixture" or row.samples >= row.components,
        "{samples} samples of a mixture of {components} components leave some components without a sample.",
        "Give --samples at least as many as --components.",
    ),
    Rule(
        lambda row: (
            row.likelihood != "state-value"
            or (row.infer_on == "auto" and row.pessimism == "value" and row.inference_fraction == 1.0)
        ),
        "Advantages come without inference on a critic: --infer-on, --pessimism and --inference-fraction have no use.",
        "Give --likelihood q, or leave them out.",
    ),
    Rule(
        lambda row: row.likelihood in ("q", "model") or (row.pessimism == "value" and row.act_beta is None),
        "--pessimism difference and --act-beta use the spread of an ensemble. A {likelihood} likelihood may have none.",
        "Give --likelihood q, or leave them out.",
    ),
    Rule(
        lambda row: row.pessimism == "value" or row.num_critics > 1,
        "--pessimism difference is about the spread of several critics, and --num-critics is 1.",
        "Give --num-critics 2 or more, or --pessimism value.",
    ),
    Rule(
        lambda row: row.pessimism == "value" or not _starts_at_no_choice(row),
        "Over discrete actions {inference} inference starts at equal probabilities where the prior is {prior}, so no "
        "action is the one that --pessimism difference compares with.",
        "Give --prior learned, a --start other than prior, or --pessimism value.",
    ),
    Rule(
        lambda row: row.likelihood != "model" or not row.horizon or _may_be_followed(row),
        "Imagined steps follow the policy whose value the critic learns. {inference} inference with --start {start} "
        "would need inference of its own in every imagined state.",
        "Give --inference direct or semi-amortised, --start direct, --no-kl-in-value, or --horizon 0.",
    ),
    Rule(
        lambda row: row.act_by == "inference" or row.act_with == "posterior",
        "--act-by start acts by the start of inference, and --act-with {act_with} does not act by inference.",
        "Give --act-by inference, or --act-with posterior.",
    ),
    Rule(
        lambda row: (
            row.act_by == "inference"
            or row.inference == "semi-amortised"
            or is_reference(row.inference)
            or (row.inference in STARTED and row.start != "prior")
        ),
        "{inference} inference with --start {start} starts at no network that could act.",
        "Give --act-by inference, or --start direct with an inference that iterates.",
    ),
    Rule(
        lambda row: (
            row.act_beta is None
            or (row.act_with == "posterior" and row.act_by == "inference" and row.inference != "direct")
        ),
        "--act-beta is about inference on the critic to act, and this agent acts without it.",
        "Give --act-with posterior, --act-by inference and an --inference other than direct, or leave out --act-beta.",
    ),
)
"""All rules. A message names the first one that is broken."""


def check_settings(row: Any) -> None:
    """Check every setting of `compose`, in its plain form, and that its parts fit together.

    Raises:
        UsageError: a value is out of bounds, or settings do not go together.
    """
    validate_with_inference(row)
    check_order(row, "unroll", "rollout")
    check_parts(row)
    if row.likelihood == "model":
        check_model(row)


def check_parts(row: Any) -> None:
    """Refuse what cannot work, whatever the environment.

    Raises:
        UsageError: which two parts do not fit, why, and what would.
    """
    found = broken_rule(row)
    if found is not None:
        raise UsageError(found.why.format(**vars(row)), found.fix)


def broken_rule(row: Any) -> Rule | None:
    """The first rule that a row breaks, or None."""
    return next((rule for rule in RULES if not rule.holds(row)), None)


def check_environment(row: Any, spec: Spec) -> None:
    """Refuse what cannot work in this environment.

    Raises:
        UsageError: a family of another kind of action than the environment's, or too many combinations of choices.
    """
    several = len(spec.factors) > 1
    fits = (row.posterior == "categorical") == bool(spec.factors) or (several and row.posterior == "boltzmann")
    if not is_reference(row.posterior) and not fits:
        kind = "several choices" if several else "one of several choices" if spec.discrete else "numbers"
        fix = "Give --posterior categorical." if spec.factors else "Give a --posterior other than categorical."
        raise UsageError(f"--posterior {row.posterior} does not fit this environment, whose actions are {kind}.", fix)
    if several:
        check_several(row, spec)


def check_several(row: Any, spec: Spec) -> None:
    """Refuse what cannot work where an action is several independent choices.

    Raises:
        UsageError: a prior over numbers, a posterior that is not independent, or sums over too many combinations.
    """
    if row.prior == "gaussian":
        raise UsageError("A Gaussian prior has no discrete actions.", "Give --prior flat, uniform or learned.")
    if row.posterior == "categorical" and row.inference == "closed-form":
        raise UsageError(
            "The exact posterior over several choices is not independent, as a categorical posterior of them is.",
            "Give --posterior boltzmann, which has samples of it.",
        )
    if row.posterior == "boltzmann" and row.prior == "uniform" and row.pessimism == "difference":
        raise UsageError(
            "A uniform prior prefers no action that --pessimism difference could compare with.",
            "Give --prior learned, or --pessimism value.",
        )
    if row.inference not in ("closed-form", "advantages"):
        fix = "Give --posterior boltzmann and --inference closed-form, which samples them."
        check_combinations(f"{row.inference} inference", spec, fix)
