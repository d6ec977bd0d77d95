"""The words of the field that this library uses, with the papers' symbols, for `estep explain` and the docs."""

from __future__ import annotations

from typing import NamedTuple


class Term(NamedTuple):
    """A word of the field."""

    name: str
    symbol: str
    """The papers' symbol; empty where there is none."""
    meaning: str


TERMS = (
    Term(
        "advantage", "A(s, a)", "How much more return an action brings than the policy does on average in that state."
    ),
    Term(
        "amortisation gap",
        "max_λ V(s; q_λ) − V(s; q)",
        "The part of the inference gap that the optimiser leaves: a better λ exists in the family and was not found "
        "(Cremer et al. 2018, arXiv:1801.03558).",
    ),
    Term(
        "amortised inference",
        "λ = f_φ(s)",
        "A network is trained to give λ for any state, so that no state is optimised from scratch.",
    ),
    Term("antithetic samples", "ξ, −ξ", "Samples from noise in pairs of opposite sign, so that odd errors cancel."),
    Term(
        "approximation gap",
        "α log Z(s) − max_λ V(s; q_λ)",
        "The part of the inference gap that the family of q cannot close, whatever its λ is.",
    ),
    Term("bootstrap", "V̄(s')", "The value of the next state that stands for all later rewards in a critic's target."),
    Term(
        "calibration",
        "Q̂ − G",
        "How far the critic's values are from the returns that the policy gets, measured by whole episodes.",
    ),
    Term("checkpoint", "", "A folder with everything that a run needs to go on, written whole or not at all."),
    Term(
        "closed-form inference",
        "q ∝ p exp(Q̂/α)",
        "The best q is known and no optimiser is needed: its weights follow from samples of the prior, or from all "
        "choices of a discrete action.",
    ),
    Term(
        "control",
        "",
        "Of the realised gain: displacements of the direct action that are as large as those of inference and have a "
        "random direction, so that they tell what any such displacement brings.",
    ),
    Term(
        "critic", "Q(s, a) or V(s)", "A network that predicts the return; its estimate is the conditional likelihood."
    ),
    Term(
        "direct inference", "λ = f_φ(s)", "Amortised inference in one shot: a network maps the state to λ, as in SAC."
    ),
    Term("discount", "γ", "The factor by which a reward counts less for each environment step that it lies ahead."),
    Term(
        "dual",
        "α(ε − KL)",
        "The problem of a multiplier: it grows while its KL bound is exceeded and shrinks otherwise.",
    ),
    Term("E-step", "q ← argmax V(s; q)", "The step that improves the posterior q, given the prior and the critic."),
    Term(
        "effective sample size",
        "1/Σw²",
        "How many equally weighted samples the weighted ones are worth.",
    ),
    Term("ensemble", "Q_1 … Q_K", "Several critics trained on the same data, whose spread tells how sure they are."),
    Term("entropy", "H(q)", "How random a policy is, in nats; with the flat prior it is −KL(q‖p)."),
    Term("environment step", "", "One action in one environment, with its reward and the next observation."),
    Term("expectation maximisation", "EM", "The scheme of every update: an E-step for q, an M-step for p and α."),
    Term("flat prior", "p(a|s) ∝ 1", "An improper prior without preferences; with it V is the soft value of SAC."),
    Term(
        "GAE",
        "Â = Σ (γλ)^k δ",
        "Generalised advantage estimation: an average of returns over all lengths, weighted by powers of λ "
        "(Schulman et al. 2016, arXiv:1506.02438).",
    ),
    Term(
        "inference gap",
        "α log Z(s) − V(s; q)",
        "How far q is from the best that any q could do in a state; it equals α KL(q ‖ posterior) and is the sum of "
        "approximation gap and amortisation gap.",
    ),
    Term("inference optimiser", "", "The method that finds λ in a state: a network, gradient ascent, CEM, and others."),
    Term(
        "HL-Gauss",
        "Q = Σ p_i c_i",
        "A critic as a histogram: each bin of values has a probability, the mean is the value, and it is fitted by the "
        "cross-entropy to a Gaussian about the target (Imani & White 2018, arXiv:1806.04613).",
    ),
    Term(
        "iterative inference",
        "λ ← ωλ + (1 − ω) f_φ(s, λ, ∇V)",
        "Amortised inference in several steps: a network reads the state, λ and the gradient of V, and updates λ "
        "(Marino et al. 2021, arXiv:2010.10670).",
    ),
    Term("KL divergence", "KL(q‖p)", "How far a distribution q is from p, in nats; 0 only where they are equal."),
    Term("lambda", "λ", "The parameters of the posterior in one state, such as mean and log standard deviation."),
    Term(
        "likelihood",
        "exp(Q̂(s, a)/α)",
        "How likely success is after an action; its logarithm is the critic's estimate Q̂ over the temperature.",
    ),
    Term(
        "layer norm",
        "(x − mean)/std",
        "A hidden layer less its mean, over its standard deviation; its size then says nothing (Ba et al. 2016, "
        "arXiv:1607.06450).",
    ),
    Term("M-step", "p, α ← argmax", "The step that fits the prior to q, and the temperature to its constraint."),
    Term("observation", "s", "What the environment shows of its state; the networks read it."),
    Term("on-policy", "", "Learning from steps of the present policy alone, which are dropped after use."),
    Term("over-estimation", "Q̂ − G > 0", "The critic promises more than the policy gets, because q seeks its errors."),
    Term(
        "pessimism",
        "β",
        "How much the spread of the ensemble lowers the value: Q̂ = mean − β std; 1 is the minimum of two critics. "
        "Inference may be pessimistic about the gain over its start instead (--pessimism difference).",
    ),
    Term("point u", "u", "The action before the squash; densities, replay and KLs are in u."),
    Term(
        "posterior",
        "q(a|s)",
        "The distribution of actions that inference finds in a state: the best compromise of prior and critic.",
    ),
    Term("preset", "", "Settings that were found good for an algorithm on an environment, applied by default there."),
    Term("prior", "p(a|s)", "The distribution of actions that q is held close to: flat, fixed or learned."),
    Term(
        "realised gain",
        "G(inferred) − G(direct)",
        "How much more discounted return inferred actions bring than the direct policy, from the same states of the "
        "simulator. If the critic is exact, its predicted gain Σ γ^t (Q̂(s_t, a_t) − Q̂(s_t, direct action)) is equal.",
    ),
    Term("replay", "", "The memory of past transitions, from which batches are drawn at random."),
    Term(
        "Retrace",
        "c = λ min(1, π/μ)",
        "A correction of returns over several steps for actions of an older policy (Munos et al. 2016, "
        "arXiv:1606.02647).",
    ),
    Term("return", "G = Σ γ^k r", "The sum of rewards of an episode; evaluations report it without discount."),
    Term("rollout", "", "The environment steps that an on-policy algorithm collects before it updates."),
    Term("run folder", "", "The folder that holds all of a run: settings, metrics, checkpoints, figures."),
    Term(
        "slow copy",
        "p̄ or Q̄",
        "A copy of a network that follows it slowly (a target network); it makes targets and trust regions stable.",
    ),
    Term("soft value", "V(s; q)", "E_q[Q̂(s, a)] − α KL(q‖p): the objective of every algorithm here."),
    Term("squash", "a = tanh u", "The map from the point u to a bounded action."),
    Term(
        "temperature",
        "α or η",
        "The price of one nat of KL(q‖p) in units of reward: high, and q stays near the prior; low, and q follows the "
        "critic.",
    ),
    Term("trust region", "KL(p̄‖p) ≤ ε", "A bound on how far the policy may move from its slow copy in an M-step."),
    Term("unroll", "T", "Consecutive steps of one environment over which a return is taken."),
    Term("warm start", "", "Inference that begins at the λ stored with the step in replay (--persist)."),
    Term(
        "distillation",
        "max E_q log p",
        "Fitting a prior to the policies of several tasks, so that it has what they have in common.",
    ),
    Term(
        "tempered prior",
        "p^share",
        "A power of a prior, not normalised, which stands for a price of the KL and a price of entropy at once.",
    ),
)


def find(name: str) -> list[Term]:
    """The terms of a name or symbol. Case does not matter, and a dash may stand for a space."""
    wanted = _plain(name)
    return [term for term in TERMS if wanted in map(_plain, (term.name, *term.symbol.split(" or ")))]


def _plain(text: str) -> str:
    return text.lower().replace("-", " ").replace("_", " ")
