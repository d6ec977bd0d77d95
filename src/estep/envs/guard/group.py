"""The environments of one task: how they are made, watched, counted and made anew."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import gymnasium

from estep.envs.build import TRAIN, Source, build, env_name
from estep.envs.elsewhere.pool import Pool
from estep.envs.elsewhere.slot import Elsewhere
from estep.envs.guard.retry import Retries
from estep.envs.guard.watch import Watch, end_process
from estep.envs.instance import EnvInstance
from estep.envs.validation import BadTransitions
from estep.errors import EnvironmentFailure, UsageError
from estep.settings.references import ENVPOOL, env_text


class Options(NamedTuple):
    """How environments are seeded, limited and watched."""

    seed: int = 0
    stream: int = TRAIN
    """With the seed it determines the seed of every episode."""
    max_episode_steps: int | None = None
    """Largest length of an episode, for environments without a TimeLimit."""
    timeout: float = 60.0
    """Seconds that one call of the environment may take; 0 means no limit."""
    on_hang: Callable[[str], None] = end_process
    """Called with a message, from another thread, when a call takes longer."""
    detect_resets: bool = True
    """Whether a step in which MuJoCo reset itself is a bad transition."""
    retries: Retries | None = None
    """How often an environment that failed is made anew; None never."""
    pool: Pool | None = None
    """The worker processes that step the environments; None for this process."""

    def watch(self, name: str) -> Watch:
        """What measures how long the calls of environments of this name take."""
        return Watch(0.0 if self.pool else self.timeout, name, self.on_hang)  # a pool sees itself that one hangs


def check_again(env: Source, options: Options) -> None:
    """Refuse to retry with an environment that cannot be made anew. Raises UsageError."""
    again = options.retries is not None and options.retries.limit
    if again and isinstance(env, str) and env_text(env).id.startswith(ENVPOOL):
        what = f"--retry-env makes one environment anew, and those of {env} are made together."
        raise UsageError(what, "Leave --retry-env out.")
    if again and isinstance(env, gymnasium.Env):
        what = f"--retry-env makes the environment anew, and {env_name(env)} is one instance."
        raise UsageError(what, "Pass the environment's id or a function that makes it, or set retry_env=0.")


class Group(NamedTuple):
    """The environments of one task, or those of a run with one environment."""

    instances: Sequence[EnvInstance]
    watch: Watch
    bad: BadTransitions
    ending: str
    """What ends an episode, in words."""
    closes: bool
    """Whether `close` closes them."""
    source: Source | None = None
    """What makes one anew after a failure; None if nothing does."""
    options: Options = Options()

    @property
    def name(self) -> str:
        """The task's name, or the environment's."""
        return self.instances[0].stream.name

    @property
    def retries(self) -> int:
        """How often an environment was made anew."""
        return 0 if self.options.retries is None else self.options.retries.total

    def renew(self, instance: EnvInstance, error: EnvironmentFailure) -> None:
        """Make the environment of an instance anew after a failure.

        Raises:
            EnvironmentFailure: no more retries are allowed, it fails again, or it has other spaces now.
        """
        retries, source = self.options.retries, self.source
        if retries is None or source is None or not retries.allowed():
            raise error
        warnings.warn(f"{error.what} It is made anew (retry {retries.total}).", RuntimeWarning, stacklevel=2)
        with contextlib.suppress(Exception, SystemExit):  # it has failed already
            self.watch.run(instance.env.close)
        try:
            failed = instance.env
            fresh = failed.again() if isinstance(failed, Elsewhere) else build(source, 1, self.watch)[0]
        except EnvironmentFailure as failure:
            self.renew(instance, failure)
            return
        if (fresh.observation_space, fresh.action_space) != (instance.env.observation_space, instance.env.action_space):
            what = f"{self.name} has other spaces after it was made anew."
            raise EnvironmentFailure(what, "Let the environment have the same spaces each time it is made.")
        instance.renew(fresh)
        self.bad.forgive(instance.stream.index)
