"""The guides run as they stand, at a small size, and every command in README and docs has options of this version."""

import re
import shlex
from pathlib import Path

import pytest
from commandline import command

from test_pages import options_unknown

ROOT = Path(__file__).parents[1]
GUIDES = ["five-minutes", "your-environment", "your-algorithm", "use-a-policy", "from-stable-baselines3"]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def commands_in(text):
    """The commands of estep in blocks without a language, without comments."""
    blocks = [body for language, body in BLOCK.findall(text) if not language]
    lines = [line for body in blocks for line in body.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("estep ")]


def small(text):
    """A block with fewer steps."""
    return re.sub(r"(steps[=\s])[0-9_]+", r"\g<1>400", text).replace("steps=GOES_ON", "steps=600")


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.stem
)
def test_commands_have_options_of_this_version(page):
    for words in commands_in(page.read_text("utf-8")):
        if any(":" in word for word in words[:3]):  # an algorithm of the reader's
            continue
        assert options_unknown(words) == [], " ".join(words)


@pytest.mark.long
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_runs_from_top_to_bottom(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / f"{name}.md").read_text("utf-8").replace("steps=6_000", "steps=GOES_ON")
    names = {"__name__": "guide"}
    for language, body in BLOCK.findall(text):
        if language == "python":
            exec(compile(small(body), f"{name}.md", "exec"), names)
        elif not language:
            for words in commands_in(f"```\n{small(body)}```"):
                fast = ["--eval-episodes", "1", "--warmup-steps", "200"] if words[1] in ("train", "compose") else []
                ended = command(*words[1:], *fast)
                assert ended.code == 0, f"{' '.join(words)}\n{ended.err}"
