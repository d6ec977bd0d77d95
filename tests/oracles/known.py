"""A prior and an estimate of Q̂ that are tables: states and actions are one-hot."""

import jax

from estep.core.slots import Likelihood, Prior
from estep.families.categorical import Categorical


class Known(Prior):
    """Logits for each of the observations, which are one-hot."""

    logits: jax.Array

    def __call__(self, obs):
        return Categorical(obs @ self.logits)


class Tabular(Likelihood):
    """Q̂ as a table."""

    values: jax.Array

    def __call__(self, problem, action, key):
        return problem.obs @ self.values @ action

    def loss(self, batch, bootstrap, key):
        raise NotImplementedError
