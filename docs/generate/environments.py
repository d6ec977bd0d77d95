"""The table of environments of other packages: each is checked and trained in for 500 steps, with updates.

`python docs/generate/environments.py results/environments/environments.csv docs/environments.md [PACKAGE ...]` tries
the environments of the packages that are installed, one process each, and rewrites their rows in the file and the page.
Rows of packages that are not installed stay, so that several virtual environments can fill one table.
"""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from estep.runs import storage

BEGIN, END = "<!-- table: from results/environments -->", "<!-- end of table -->"
COLUMNS = ("package", "version", "environment", "check-env", "500 steps of sac")
LIMIT = 600
"""Seconds for one environment."""
PACKAGES = {
    "gymnasium (classic control)": "CartPole-v1 MountainCar-v0 MountainCarContinuous-v0 Pendulum-v1 Acrobot-v1",
    "gymnasium (box2d)": "LunarLander-v3 LunarLanderContinuous-v3 BipedalWalker-v3 CarRacing-v3",
    "gymnasium (toy text)": "Blackjack-v1 FrozenLake-v1 FrozenLake8x8-v1 CliffWalking-v1 Taxi-v4",
    "gymnasium (mujoco)": "Reacher-v5 Pusher-v5 InvertedPendulum-v5 InvertedDoublePendulum-v5 HalfCheetah-v5 Hopper-v5 "
    "Swimmer-v5 Walker2d-v5 Ant-v5 Humanoid-v5 HumanoidStandup-v5",
    "gymnasium-robotics": "gymnasium_robotics:FetchReach-v4 gymnasium_robotics:FetchPush-v4 "
    "gymnasium_robotics:HandReach-v3 gymnasium_robotics:PointMaze_UMaze-v3 gymnasium_robotics:AntMaze_UMaze-v5 "
    "gymnasium_robotics:AdroitHandDoor-v1 gymnasium_robotics:FrankaKitchen-v1",
    "panda-gym": "panda_gym:PandaReach-v3 panda_gym:PandaPush-v3 panda_gym:PandaReachDense-v3",
    "highway-env": "highway_env:highway-v0 highway_env:merge-v0 highway_env:roundabout-v0 highway_env:parking-v0 "
    "highway_env:intersection-v0 highway_env:racetrack-v0",
    "minigrid": "minigrid:MiniGrid-Empty-5x5-v0 minigrid:MiniGrid-DoorKey-5x5-v0 minigrid:BabyAI-GoToRedBall-v0",
    "shimmy": "shimmy:dm_control/cartpole-swingup-v0 shimmy:dm_control/cheetah-run-v0 shimmy:dm_control/walker-walk-v0 "
    "shimmy:dm_control/reacher-easy-v0 shimmy:dm_control/humanoid-stand-v0",
    "ale-py": "ale_py:ALE/Pong-v5 ale_py:ALE/Breakout-v5",
    "metaworld": "metaworld:Meta-World/MT1",
}


def one(env: str) -> dict[str, str]:
    """Check an environment and train in it. A refusal is its own sentence."""
    import estep
    from estep.envs.checking.checker import check_env
    from estep.errors import EstepError

    source = metaworld_task if env.startswith("metaworld:") else env
    try:
        wrong = [f"{finding.name}: {finding.detail}" for finding in check_env(source) if not finding.ok]
        checked = "; ".join(wrong) or "ok"
    except EstepError as error:
        checked = f"{error.what} {error.fix}"
    small = {"hidden_sizes": (32, 32), "batch_size": 32, "warmup_steps": 100, "replay_size": 1000, "eval_every": 0}
    try:
        with tempfile.TemporaryDirectory() as out:
            policy = estep.train(
                "sac", source, steps=500, eval_episodes=1, max_episode_steps=200, out=out, preset="none", **small
            )
        trained = f"trains ({policy.updates} updates)"
    except EstepError as error:
        trained = f"refused: {error.what} {error.fix}"
    return {"check-env": " ".join(checked.split()), "500 steps of sac": " ".join(trained.split())}


def metaworld_task():
    """A task of Meta-World, whose ids need arguments."""
    import gymnasium
    import metaworld  # noqa: F401  (registers the ids)

    return gymnasium.make("Meta-World/MT1", env_name="reach-v3", seed=0)


def tried(env: str) -> dict[str, str]:
    """What `one` gives, in a process of its own."""
    try:
        call = [sys.executable, __file__, "--one", env]
        done = subprocess.run(call, capture_output=True, text=True, timeout=LIMIT, check=False)
        return dict(json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, ValueError):
        ended = f"the process ended with code {done.returncode}: {done.stderr.strip().splitlines()[-1:]}"
    except subprocess.TimeoutExpired:
        ended = f"took more than {LIMIT} s"
    return {"check-env": ended, "500 steps of sac": ended}


def version(package: str) -> str | None:
    """The installed version of a package, or None."""
    try:
        return metadata.version(package.partition(" ")[0])
    except metadata.PackageNotFoundError:
        return None


def rows_of(path: Path) -> dict[str, dict[str, str]]:
    """The rows of the file by environment."""
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        return {row["environment"]: row for row in csv.DictReader(file)}


def write(path: Path, page: Path, rows: dict[str, dict[str, str]]) -> None:
    """Write the file, and the table on the page, in the order of PACKAGES."""
    order = [env for envs in PACKAGES.values() for env in envs.split()]
    known = [rows[env] for env in order if env in rows]
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(known)
    path.parent.mkdir(parents=True, exist_ok=True)
    storage.write_atomic(path, text.getvalue().encode())
    lines = ["| " + " | ".join(cells) + " |" for cells in [COLUMNS, ["---"] * len(COLUMNS)]]
    lines += ["| " + " | ".join(row[name].replace("|", "\\|") for name in COLUMNS) + " |" for row in known]
    before, _, rest = page.read_text("utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    storage.write_atomic(page, (before + "\n".join([BEGIN, *lines, END]) + after).encode())


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        print(json.dumps(one(sys.argv[2])))
        sys.exit()
    path, page, chosen = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    rows = rows_of(path)
    for package, envs in PACKAGES.items():
        installed = version(package)
        if installed is None or (chosen and package not in chosen):
            continue
        for env in envs.split():
            rows[env] = {"package": package, "version": installed, "environment": env, **tried(env)}
            print(env, rows[env]["check-env"][:80], "|", rows[env]["500 steps of sac"][:160], flush=True)
            write(path, page, rows)
