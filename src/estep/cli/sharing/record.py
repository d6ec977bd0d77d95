"""`estep record`: a video of the policy of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from estep.cli.main import Context
from estep.cli.parse import parse
from estep.cli.reading import SETTINGS, chosen_inference, chosen_run, run_context
from estep.cli.resolve import read_env, run_folder
from estep.errors import check
from estep.settings import arguments as arguments_of
from estep.settings import schema

LARGEST = 4096
"""Pixels of a side of a picture."""


@dataclass(frozen=True)
class Record:
    """Record a video of the policy of a run: an MP4 that a browser plays where imageio-ffmpeg is installed (pip install
    'estep[video]'), else an animated WebP. It is drawn without a display; MUJOCO_GL chooses how."""

    run: Path
    """Folder of the run, or a file `latest` that has the folder's name."""
    member: int | None = None
    """Seed of a population to record, by its number from 0."""
    episodes: int = 1
    """Number of episodes, one after the other."""
    checkpoint: str = "best"
    """Checkpoint: best, latest, or its number of environment steps."""
    seed: int | None = None
    """Seed of the first episode; the next one has the next seed. None takes the run's seed."""
    stochastic: bool = False
    """Sample actions from the policy, as in training, instead of taking its mode."""
    inference: str | None = None
    """Use another inference optimiser with the trained critic, as estep eval does. None takes the run's optimiser."""
    iterations: int | None = None
    """Number of iterations of the optimiser of --inference. None takes the optimiser's default."""
    samples: int | None = None
    """Number of samples in each iteration of the optimiser of --inference. None takes the optimiser's default."""
    restarts: int | None = None
    """Run the optimiser of --inference from this many starts and take the best result. None means one start."""
    rank_by: str | None = None
    """The score by which cem selects its elite: soft-value or value. None takes soft-value."""
    eval_with: str | None = None
    """Whether an algorithm that plans acts by its plans or by the policy that proposes them: plan or policy. None takes
    the run's setting, and policy with --inference."""
    fps: float | None = None
    """Frames in a second. None takes those of the environment."""
    size: tuple[int, int] | None = None
    """Width and height in pixels, for environments that MuJoCo draws. None takes those of the environment."""
    camera: str | None = None
    """Name or number of a camera of MuJoCo. None takes that of the environment."""
    overlay: bool = False
    """Write return, value, entropy and action on each picture."""
    out: Path | None = None
    """The file, name.mp4 or name.webp. None takes videos/step_N in the run folder, where the report shows it."""
    env: tuple[str, ...] = ()
    """The run's environment, or all of its tasks. For module:Id it allows estep to import the module."""
    task: str = ""
    """Name of the task to play, where the run has several."""
    allow_import: bool = False
    """Allow estep to import the modules that the run folder names."""
    trust_dir: bool = False
    """Read a run folder that other users may write to, whom you trust."""


def record(arguments: list[str], context: Context) -> int:
    """Record a video of the policy of a run."""
    values, _ = parse("estep record", str(Record.__doc__), schema.of(Record), ("run",), arguments)
    check("episodes", values["episodes"] >= 1, values["episodes"], "at least 1")
    check("seed", values["seed"] is None or values["seed"] >= 0, values["seed"], "at least 0")
    check("fps", values["fps"] is None or 0 < values["fps"] <= 240, values["fps"], "above 0 and at most 240")
    size = values["size"]
    check("size", size is None or all(2 <= side <= LARGEST for side in size), size, f"from 2 to {LARGEST}")
    how = values["eval_with"]
    check("eval_with", how is None or how in ("plan", "policy"), how, "plan or policy")
    arguments_of.checkpoint(values["checkpoint"])
    change = chosen_inference(values["inference"], {name: values[name] for name in SETTINGS})
    folder = run_folder(values["run"], context.results, values["trust_dir"])
    env = read_env(values["env"]) if values["env"] else None

    from estep.runs.folder import member_path
    from estep.video.playing import Settings
    from estep.video.recording import Chosen, record_run

    given = {name: values[name] for name in ("checkpoint", "out", "fps", "allow_import", "eval_with", "seed")}
    looks = {name: values[name] for name in ("episodes", "task", "camera", "overlay")}
    settings = Settings(**looks, size=size or (), deterministic=not values["stochastic"])
    home = folder if values["member"] is None else member_path(folder, values["member"])
    with chosen_run(folder, values, replay=False) as run:
        made = record_run(run, Chosen(**given, env=env, change=change), settings, run_context(context), home)
    ends = ", ".join(f"{total:.5g}" for total in made.returns)
    context.results.say(f"wrote    {made.path} ({made.frames} frames, {made.size / 1e6:.2f} MB)\nreturn   {ends}")
    found = {**made._asdict(), "path": str(made.path), "file": str(made.path)}
    return context.results.finish(0, found)
