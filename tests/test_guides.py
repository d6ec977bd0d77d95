"""Programs in the docs run as they stand, at a small size, and commands in README and docs have options of today."""

import re
import shlex
from pathlib import Path

import pytest
from commandline import command

import estep
from estep import api
from test_pages import options_unknown

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
GUIDES = ["five-minutes", "your-environment", "your-algorithm", "use-a-policy", "from-stable-baselines3"]
"""Pages that run from top to bottom, their commands too."""
SMALL = {"steps": 400, "warmup_steps": 200, "hidden_sizes": (8,), "eval_episodes": 1, "replay_size": 1_000}
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
    text, names = (ROOT / "docs" / f"{name}.md").read_text("utf-8"), {"__name__": "page"}
    exec(BEFORE.get(name, ""), names)
    for language, body in BLOCK.findall(text):
        if language == "python":
            exec(compile(body.replace("steps=6_000", "steps=600"), f"{name}.md", "exec"), names)
        elif name in GUIDES:
            for words in commands_in(f"```\n{body}```"):
                less = ["--steps", "400", "--warmup-steps", "200", "--eval-episodes", "1", "--preset", "none"]
                words = [word for word in words if word not in ("--steps", "5000")]
                ended = command(*words[1:], *(less if words[1] in ("train", "compose") else []))
                assert ended.code == 0, f"{' '.join(words)}\n{ended.err}"
