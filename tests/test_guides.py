"""Programs in the docs run as they stand, at a small size, and commands in README and docs have options of today."""

import itertools
import re
import shlex
import shutil
from pathlib import Path

import pytest
from commandline import command

import estep
from estep import api
from estep.runs import tables
from estep.video import backends, encoding
from test_pages import options_unknown

ROOT = Path(__file__).parents[1]
RELEASES = ROOT / "tests" / "releases"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
GUIDES = ["five-minutes", "your-environment", "your-algorithm", "use-a-policy", "from-stable-baselines3"]
"""Pages that run from top to bottom, their commands too."""
SMALL = {"steps": 400, "hidden_sizes": (8,), "eval_episodes": 1, "replay_size": 1_000}
BEFORE = {
    "command-line": "import estep",
    "populations": "import estep",
    "several-tasks": "import estep, gymnasium, numpy as np\nobs = np.zeros(17)\n"
    "def make_backward(): return gymnasium.make('HalfCheetah-v5', forward_reward_weight=-1)",
    "instruments": "import estep\nfrom pathlib import Path\n"
    "run_dir, out = estep.train('sac', 'Pendulum-v1').run_dir, Path('out')",
}
"""Pages of which the programs run, and what the reader has before them."""


def commands_in(text):
    """The commands of estep in blocks of commands, without comments."""
    blocks = [body for language, body in BLOCK.findall(text) if language in ("", "bash")]
    lines = [line for body in blocks for line in body.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("estep ")]


def small_train(*args, **settings):
    """`estep.train` with a small network and few steps."""
    steps = min(settings.get("steps", SMALL["steps"]), SMALL["steps"])
    return api.train(*args, **{**SMALL, **settings, "steps": steps})


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.stem
)
def test_commands_have_options_of_this_version(page):
    for words in commands_in(page.read_text("utf-8")):
        if any(":" in word for word in words[:3]):  # an algorithm of the reader's
            continue
        assert options_unknown(words) == [], " ".join(words)


def test_every_page_with_a_program_is_run():
    pages = {path.stem for path in (ROOT / "docs").glob("*.md") if "```python" in path.read_text("utf-8")}
    assert pages == {*GUIDES, *BEFORE}


@pytest.mark.long
@pytest.mark.filterwarnings("default")  # a user's program need not be as strict as ours
@pytest.mark.parametrize("name", [*GUIDES, *BEFORE])
def test_a_page_runs_from_top_to_bottom(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(estep, "train", small_train, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    text, names = (ROOT / "docs" / f"{name}.md").read_text("utf-8"), {"__name__": "page"}
    exec(BEFORE.get(name, ""), names)
    for language, body in BLOCK.findall(text):
        if language == "python":
            body = body.replace("steps=6_000", "steps=600")
            exec(compile(body, f"{name}.md", "exec"), names)
            Path("my_module.py").write_text(body)
        elif name in GUIDES:
            for words in commands_in(f"```\n{body}```"):
                less = ["--steps", "400", "--eval-episodes", "1"]
                words = [word for word in words if word not in ("--steps", "5000")]
                ended = command(*words[1:], *(less if words[1] in ("train", "compose") else []))
                assert ended.code == 0, f"{' '.join(words)}\n{ended.err}"


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Runs of two algorithms in the folders that the page of comparisons names; returns both."""
    monkeypatch.chdir(tmp_path)
    found = []
    for name, release in (("sac", "0.2.0/sac-Pendulum-v1"), ("mpo", "0.1.0/mpo-Pendulum-v1")):
        found.append(tmp_path / "runs" / name / "run")
        shutil.copytree(RELEASES / release, found[-1], ignore=shutil.ignore_patterns("checkpoints"))
        subset = list(tables.cells(found[-1] / "eval.csv"))[:1]
        lines = [[*{**row, "env_steps": "300"}.values()] for row in subset]  # both after the same number of steps
        tables.write(found[-1] / "eval.csv", list(subset[0]), lines)
    return found


def commands_of(page):
    return commands_in((ROOT / "docs" / f"{page}.md").read_text("utf-8"))


@pytest.mark.long
def test_the_commands_of_the_page_of_comparisons_run(runs, tmp_path):
    assert command("compare", *map(str, runs), "--csv", "before").code == 0
    shutil.copy("before/evaluations.csv", "evaluations.csv")
    Path("scale.csv").write_text("task,low,high\nPendulum-v1,-1500,0\n")
    for words in commands_of("compare"):
        paths = itertools.cycle(map(str, runs))
        ended = command(*(next(paths) if word == "RUN" else word for word in words[1:]))
        assert ended.code == 0, f"{' '.join(words)}\n{ended.err}"
    assert all(Path(name).is_file() for name in ("cmp.html", "statistics.csv", "tables/pairs.csv", "OUT/compare.html"))


def test_the_commands_of_the_page_of_reports_run(runs, monkeypatch):
    monkeypatch.setattr("webbrowser.open_new_tab", lambda address: True)
    (runs[0] / "members" / "0003").mkdir(parents=True)
    for words in commands_of("report"):
        ended = command(*(str(runs[0]) if word == "RUN" else word for word in words[1:]))
        assert ended.code == 0, f"{' '.join(words)}\n{ended.err}"
    assert Path("report.html").is_file()


@pytest.mark.long
@pytest.mark.filterwarnings("default")
def test_the_commands_of_the_page_of_videos_run(tmp_path, monkeypatch):
    if backends.choose().name is None:
        pytest.skip("nothing draws here")
    monkeypatch.chdir(tmp_path)
    small = ["--steps", "400", "--hidden-sizes", "8", "--eval-episodes", "1", "--preset", "none"]
    assert command("train", "sac", "--env", "Hopper-v5", "--run-dir", "RUN", *small).code == 0
    for words in commands_of("videos"):
        more = [] if words[1] == "record" else small
        words = ["walk.webp" if word == "walk.mp4" and encoding.kind() != ".mp4" else word for word in words]
        ended = command(*words[1:], *more)
        assert ended.code == 0, f"{' '.join(words)}\n{ended.err}"
