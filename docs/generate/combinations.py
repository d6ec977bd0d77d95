"""The table of what `compose` takes, made by trying everything.

`python docs/generate/combinations.py docs/combinations.md` rewrites it. A combination is tried by tracing one update of
it: a shape that does not fit or a part that another lacks would raise.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp

from estep.algorithms import Compose
from estep.algorithms.compose.rules import broken_rule
from estep.core.acting import act_greedily
from estep.core.em import update
from estep.core.keys import make_key
from estep.core.types import OneHot, Spec, Transition
from estep.errors import UsageError
from estep.policy.actor import memo_widths
from estep.runs import storage
from estep.settings.part_fields import INFERENCES, POSTERIORS, PRIORS

SMALL: dict[str, Any] = {
    **{"hidden_sizes": (8,), "iterations": 2, "samples": 4},
    **{"num_candidates": 20, "components": 2, "unroll": 2, "members": 2, "model_hidden_sizes": (8,)},
    **{"particles": 2, "plan_horizon": 2},
}
BATCH = 4


def attempt(**parts: Any) -> str:
    """What is wrong with a combination; nothing if an update of it traces."""
    on_policy = parts.get("inference") == "advantages"
    rest: dict[str, Any] = {"likelihood": "state-value", "act_with": "prior"} if on_policy else {}
    fields = dataclasses.asdict(Compose()) | SMALL | rest | parts
    wrong = broken_rule(SimpleNamespace(**fields))
    if wrong is not None:
        return wrong.why.format(**{name: name.upper() for name in fields})
    try:
        row = Compose(**fields)
    except UsageError as error:
        return error.what
    spec = Spec(3, 3, OneHot()) if parts.get("posterior") == "categorical" else Spec(3, 2)
    agent = jax.eval_shape(lambda key: row.init(spec, key), make_key(0))
    shape = BATCH, agent.length
    states, nought = jnp.zeros((*shape, spec.obs_dim)), jnp.zeros(shape)
    memo = {name: jnp.zeros((*shape, width)) for name, width in memo_widths(agent).items()}
    batch = Transition(states, jnp.zeros((*shape, spec.action_dim)), nought, nought, states, nought, memo)
    jax.eval_shape(update, agent, batch, make_key(1))
    jax.eval_shape(act_greedily, agent, states[:, 0], make_key(1))
    return ""


CRITICS = {"network": ("mlp", "simba", "simba2"), "critic_norm": ("none", "layer"), "critic_loss": ("mse", "hl-gauss")}
"""The settings of networks and losses that do not all go together."""
OF_STATES = {"inference": "advantages", "posterior": "boltzmann", "prior": "learned"}
CHANGES: dict[str, dict[str, Any]] = {
    "--infer-on slow": {"infer_on": "slow"},
    "--pessimism difference": {"pessimism": "difference"},
    "--inference-fraction 0.5": {"inference_fraction": 0.5},
    "--act-beta 0.5": {"act_beta": 0.5},
    "--act-by start": {"act_by": "start"},
    "--act-by start --start direct": {"act_by": "start", "start": "direct"},
    "--act-with prior --act-beta 0.5": {"act_with": "prior", "act_beta": 0.5},
    "--likelihood model": {"likelihood": "model"},
    "--likelihood model --act-with plan": {"likelihood": "model", "act_with": "plan"},
    "--likelihood model --act-with plan --no-kl-in-value": {
        **{"likelihood": "model", "act_with": "plan", "kl_in_value": False, "prior": "learned"}
    },
    "--likelihood model --start direct": {"likelihood": "model", "start": "direct"},
    "--likelihood model --no-kl-in-value": {"likelihood": "model", "kl_in_value": False, "prior": "learned"},
}
"""Settings of what inference maximises and of what acts, by their flags."""
FITTING: dict[str, dict[str, str]] = {
    "closed-form": {"prior": "uniform", "posterior": "boltzmann"},
    "advantages": {"prior": "learned", "posterior": "gaussian"},
}
"""The prior and the posterior beside which an inference is tried; flat and gaussian for the others."""


def cell(why: str, reasons: list[str]) -> str:
    """What a table has for a combination. A new reason is added to those of before."""
    if why and why not in reasons:
        reasons.append(why)
    return str(reasons.index(why) + 1) if why else "✓"


def critics(reasons: list[str]) -> Iterator[str]:
    """The table of networks and losses, for action values and for state values."""
    yield "| network | critic-norm | critic-loss | likelihood q | likelihood state-value |"
    yield "| --- " * 5 + "|"
    for chosen in itertools.product(*CRITICS.values()):
        named = dict(zip(CRITICS, chosen, strict=True))
        cells = [cell(attempt(**named, **parts), reasons) for parts in ({}, OF_STATES)]
        yield f"| {' | '.join([*chosen, *cells])} |"


def maximised(reasons: list[str]) -> Iterator[str]:
    """The table of what inference maximises, by inference and setting."""
    yield "| setting | " + " | ".join(INFERENCES) + " |"
    yield "| --- " * (len(INFERENCES) + 1) + "|"
    for flags, change in CHANGES.items():
        cells = []
        for inference in INFERENCES:
            parts = FITTING.get(inference, {"prior": "flat", "posterior": "gaussian"})
            learned = {"prior": "learned"} if change.get("act_with") == "prior" else {}
            cells.append(cell(attempt(**{**parts, **learned, "inference": inference, **change}), reasons))
        yield f"| `{flags}` | " + " | ".join(cells) + " |"


def lines() -> Iterator[str]:
    """Both tables, and below them the reasons that their numbers stand for."""
    reasons: list[str] = []
    yield "| prior | posterior | " + " | ".join(INFERENCES) + " |"
    yield "| --- " * (len(INFERENCES) + 2) + "|"
    for prior, posterior in itertools.product(PRIORS, POSTERIORS):
        cells = []
        for inference in INFERENCES:
            cells.append(cell(attempt(prior=prior, posterior=posterior, inference=inference), reasons))
        yield f"| {prior} | {posterior} | " + " | ".join(cells) + " |"
    yield from ("", *BETWEEN.splitlines(), "")
    yield from maximised(reasons)
    yield ""
    yield "Networks and losses, with any `--critic-activation`:"
    yield ""
    yield from critics(reasons)
    yield ""
    for number, why in enumerate(reasons, 1):
        yield from textwrap.wrap(f"{number}. {why}", WIDTH, subsequent_indent="    ", break_long_words=False)


WIDTH = 120

BETWEEN = """\
What inference maximises and what acts, beside a flat prior and a Gaussian posterior (closed-form: uniform and
Boltzmann; advantages: a learned prior). [likelihoods.md](likelihoods.md) says what each setting is for. Over
discrete actions `--pessimism difference` needs a start that prefers an action: a learned prior or a network."""

HEAD = """# What composes

`estep compose --prior P --posterior Q --inference I --env ID` trains any combination marked ✓; another is refused
with the reason that its number stands for. `advantages` goes with `--likelihood state-value --act-with prior`, every
other inference with `--likelihood q` or `model`. A categorical posterior is for discrete actions, the others are not.

`iterative`, `gradient`, `cem` and `importance` start where `--start` says: at the prior, or where a `direct` or an
`iterative` network ends, which learns beside them.

This file is generated by trying every combination: `python docs/generate/combinations.py docs/combinations.md`.

"""


def markdown() -> str:
    """The whole page."""
    return HEAD + "\n".join(lines()) + "\n"


if __name__ == "__main__":
    storage.write_atomic(Path(sys.argv[1]), markdown().encode())
