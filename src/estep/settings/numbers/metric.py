"""What is said of one number that a run writes."""

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
    "algorithms that fit a prior in a trust region: mpo, rerpi, vmpo, kl-mve, pp-smc, compose --prior learned, "
    "default-policy --prior-fit trust-region"
)
FITTED_PRIOR = f"{LEARNED_PRIOR}, or distil one: distral, default-policy"
MODEL = "algorithms with a model: mve, iterative-mve, kl-mve, smcp, pp-smc, compose --likelihood model"
PLANS = "algorithms that plan: smcp, pp-smc"
ON_POLICY = "on-policy algorithms: vmpo, soft-pg, compose --likelihood state-value"
SEVERAL_TASKS = "several tasks; TASK is the name of one"
SUCCESS = "environments whose info has is_success or success"
EVALUATED = "once the policy was evaluated"
