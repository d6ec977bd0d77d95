"""Reads pages as a browser does."""

import json
import random
from html.parser import HTMLParser

VOID = {"meta", "link", "input", "img", "br"}
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u202e<!--"
"""A text of a run that would break a page into which it goes as it is."""


class Page(HTMLParser):
    """The elements of a page, its addresses, and the text of its scripts."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.addresses, self.scripts, self.handlers = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)


def long_run(folder, steps=3_000_000):
    """Give a run the files of one of so many steps: a line of all metrics at each 1,000 steps, an evaluation at each
    5,000, and episodes of 200 steps."""
    metrics = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text("utf-8").splitlines()][-1]
    rng = random.Random(0)
    numbers = {name: value for name, value in metrics.items() if type(value) in (int, float)}
    with open(folder.path / "metrics.jsonl", "w", encoding="utf-8") as file:
        for step in range(1000, steps + 1, 1000):
            line = {name: abs(rng.gauss(value, abs(value))) for name, value in numbers.items()}
            file.write(json.dumps({**line, "env_steps": step, "updates": step, "wall_s": step / 100.0}) + "\n")
    for name, every in (("eval.csv", 5000), ("episodes.csv", 200)):
        with open(folder.path / name, encoding="utf-8") as file:
            head = file.readline().strip().split(",")
        with open(folder.path / name, "w", encoding="utf-8") as file:
            file.write(",".join(head) + "\n")
            for step in range(every, steps + 1, every):
                known = {"env_steps": step, "updates": step, "episodes": 10, "episode": step // every, "length": 200}
                cells = [known.get(column, f"{rng.gauss(-500.0, 100.0):.6f}") for column in head]
                file.write(",".join(map(str, cells)) + "\n")


def data_of(text):
    return json.loads(Page(text).scripts[0])
