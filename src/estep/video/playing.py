"""Episodes of a policy as pictures, with what it thinks written on them where that is wanted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from estep.core.agent import Agent
from estep.core.types import Key, Scalar, Transition
from estep.envs.build import close, construct, env_name, make
from estep.envs.guard.watch import UNWATCHED, Watch
from estep.envs.ids import register
from estep.errors import EnvironmentFailure, UsageError, describe, describe_raised
from estep.policy.actor import ACT, key_of, scale
from estep.policy.policy import Policy
from estep.policy.spaces import rows_of
from estep.settings.references import ENVPOOL, EnvText, env_text
from estep.video.backends import INSTALL, Backend
from estep.video.encoding import Picture

DRAWN = 16
"""Samples of the policy from which its entropy is estimated."""
MODE = "rgb_array"
FPS = 30.0
"""Where the environment does not say how many frames a second has."""


class Settings(NamedTuple):
    """What is played, and how it looks."""

    episodes: int = 1
    seed: int = 0
    """Of the first episode; the next one has the next seed."""
    task: str = ""
    deterministic: bool = True
    size: Sequence[int] = ()
    """Width and height; empty takes those of the environment."""
    camera: str | None = None
    """Name or number of a camera of MuJoCo; None takes that of the environment."""
    overlay: bool = False
    """Whether return, value, entropy and action are written on each picture."""
    limit: int = 1000
    """Longest episode, where the environment has no limit of its own."""


def open_env(source: str, settings: Settings, backend: Backend, watch: Watch = UNWATCHED) -> gymnasium.Env[Any, Any]:
    """An environment that draws.

    Args:
        source: the text of the environment.
        settings: what is played.
        backend: what draws for MuJoCo.
        watch: measures how long its calls take.

    Raises:
        UsageError: it draws no pictures, or has no such camera or size; or nothing draws on this machine.
        EnvironmentFailure: it raised.
    """
    register(source)
    text = env_text(source)
    if text.id.startswith(ENVPOOL):
        same = text.id.removeprefix(ENVPOOL)
        what = f"{source} draws no pictures: EnvPool steps its environments without Gymnasium."
        where = f"gymnasium.make({same!r}, render_mode={MODE!r})"
        raise UsageError(what, f"If Gymnasium has this task, let estep.load(RUN) act there: {where}.")
    env = _make(text, {}, watch)
    drawn = hasattr(env.unwrapped, "mujoco_renderer")
    if drawn and backend.name is None:
        raise UsageError(f"{text.id} cannot be drawn without a display: {backend.why}.", INSTALL)
    arguments: dict[str, Any] = dict(zip(("width", "height"), settings.size, strict=False))
    if settings.camera is not None:
        number = settings.camera.isdigit()
        arguments |= {"camera_id" if number else "camera_name": int(settings.camera) if number else settings.camera}
    if not arguments:
        return env
    model = getattr(env.unwrapped, "model", None)
    close(env, text.id, watch)
    if not drawn:
        what = f"{text.id} is not drawn by MuJoCo, so its size and its camera cannot be chosen."
        raise UsageError(what, "Leave --size and --camera out.")
    if settings.camera is not None:
        check_camera(text.id, model, settings.camera)
    return _make(text, arguments, watch)


def check_camera(env: str, model: Any, camera: str) -> None:
    """Refuse a camera that a model of MuJoCo does not have: MuJoCo would end the process.

    Args:
        env: name of the environment.
        model: the model.
        camera: name or number of the camera.

    Raises:
        UsageError: there is no such camera; the message has those that there are.
    """
    names = [model.camera(i).name for i in range(model.ncam)]
    if camera not in (*names, *map(str, range(model.ncam))):
        known = ", ".join(f"{i} ({name})" if name else str(i) for i, name in enumerate(names))
        what = f"{env} has no camera {camera}; it has {known or 'none of its own'}."
        raise UsageError(what, "Leave --camera out, or give one of them." if known else "Leave --camera out.")


def _make(text: EnvText, arguments: dict[str, Any], watch: Watch) -> gymnasium.Env[Any, Any]:
    def made() -> gymnasium.Env[Any, Any]:
        try:
            return make(text._replace(arguments={**text.arguments, "render_mode": MODE, **arguments}))
        except gymnasium.error.DependencyNotInstalled:
            raise
        except gymnasium.error.Error as error:  # Gymnasium says that it draws nothing
            raise UsageError(f"{describe(error)}.", "") from error

    try:
        env = construct(made, text.id, watch)
    except UsageError as error:
        what = f"{text.id} cannot be made with render_mode={MODE}: {error.what.rstrip('.')}."
        raise UsageError(what, "Record an environment that draws, and install what it needs for that.") from error
    if env.render_mode != MODE:
        close(env, text.id, watch)
        raise UsageError(f"{text.id} draws no pictures.", f"Record an environment with the render mode {MODE}.")
    return env


def fps_of(env: gymnasium.Env[Any, Any]) -> float:
    """Frames in a second, as the environment says."""
    return float(env.metadata.get("render_fps") or FPS)


class Played:
    """The episodes that were played so far."""

    def __init__(self) -> None:
        self.returns: list[float] = []
        self.lengths: list[int] = []


def frames(
    policy: Policy, env: gymnasium.Env[Any, Any], settings: Settings, played: Played, watch: Watch = UNWATCHED
) -> Iterator[Picture]:
    """The pictures of whole episodes, of which `played` is told.

    Args:
        policy: the policy that plays.
        env: an environment that draws. It is closed at the end.
        settings: what is played.
        played: takes the returns and the lengths.
        watch: measures how long its calls take.

    Raises:
        EnvironmentFailure: the environment raised, or gave no picture.
    """
    with contextlib.ExitStack() as stack:
        stack.callback(close, env, env_name(env), watch)
        for episode in range(settings.episodes):
            yield from _episode(policy, _Stage(env, watch), settings, settings.seed + episode, played)


class _Stage(NamedTuple):
    """An environment that draws, and what measures how long its calls take."""

    env: gymnasium.Env[Any, Any]
    watch: Watch

    def call(self, name: str, *arguments: Any, **named: Any) -> Any:
        """Call the environment. Raises EnvironmentFailure, or UsageError where a module is missing."""
        try:
            return self.watch.run(getattr(self.env, name), *arguments, **named)
        except KeyboardInterrupt:
            raise
        except gymnasium.error.DependencyNotInstalled as error:
            raise UsageError(f"The environment needs a module to draw: {error}.", "Install that module.") from error
        except BaseException as error:  # an environment may raise SystemExit, or a class of its own
            what = f"{name} of the environment raised {describe_raised(error)}."
            raise EnvironmentFailure(what, "Check that the environment plays and draws without estep.") from error

    def picture(self) -> Picture:
        """What it draws. Raises EnvironmentFailure."""
        found = np.asarray(self.call("render"))
        if found.dtype != np.uint8 or found.ndim != 3 or found.shape[2] != 3:
            what = f"The environment drew {found.dtype}{list(found.shape)}, which is no picture."
            raise EnvironmentFailure(what, "Let render return bytes with the shape height, width and 3.")
        return found


def _episode(policy: Policy, stage: _Stage, settings: Settings, seed: int, played: Played) -> Iterator[Picture]:
    total, steps, over, spec = 0.0, 0, False, stage.env.spec
    obs, _ = _values(stage.call("reset", seed=seed), 2)
    limit = settings.limit if spec is None or spec.max_episode_steps is None else spec.max_episode_steps
    while not over and steps < limit:
        action = policy.act(obs, task=settings.task, deterministic=settings.deterministic, seed=seed, counter=steps)
        picture = stage.picture()
        yield _written(picture, _lines(policy, obs, settings, steps, total, action)) if settings.overlay else picture
        obs, reward, terminated, truncated, _ = _values(stage.call("step", action), 5)
        total, steps, over = total + float(reward), steps + 1, terminated or truncated
    yield stage.picture()
    played.returns.append(total)
    played.lengths.append(steps)


def _values(result: Any, count: int) -> Any:
    """What a call returned, which must be so many values. Raises EnvironmentFailure."""
    if not isinstance(result, tuple) or len(result) != count:
        what = f"The environment did not return {count} values from {'reset' if count == 2 else 'step'}."
        raise EnvironmentFailure(what, "Follow the gymnasium.Env interface. The old Gym interface has fewer values.")
    return result


def _lines(policy: Policy, obs: Any, settings: Settings, step: int, total: float, action: Any) -> list[str]:
    rows, _ = rows_of(policy.spaces, obs, settings.task)
    value, entropy = _thought(policy.agent, scale(jnp.asarray(rows), policy.scaling)[0], key_of(step, ACT))
    numbers = " ".join(f"{float(x):+.2f}" for x in np.ravel(action)[:8])
    return [f"step {step}  return {total:.1f}", f"V {float(value):.2f}  entropy {float(entropy):.2f}", f"a {numbers}"]


@jax.jit
def _thought(agent: Agent, obs: Array, key: Key) -> tuple[Scalar, Scalar]:
    """The value of a state from which the critic bootstraps, and the entropy of the policy in nats, before the
    squash."""
    k_value, k_infer, k_draw = jax.random.split(key, 3)
    nought = jnp.zeros(())
    arrival = Transition(obs, jnp.zeros(agent.spec.action_dim), nought, nought + 1.0, obs, nought)
    q = agent.behave(agent, obs, k_infer)
    drawn = jax.vmap(lambda key: q.log_prob(q.sample(key)))(jax.random.split(k_draw, DRAWN))
    return agent.bootstrap(agent).value(arrival, k_value), -drawn.mean()


def _written(picture: Picture, lines: Sequence[str]) -> Picture:
    """Lines of text on a picture."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(picture)
    ImageDraw.Draw(image).text((6, 4), "\n".join(lines), fill="white", stroke_width=1, stroke_fill="black")
    return np.asarray(image)
