"""The table of metrics holds what the code writes: every name, and no other."""

import ast
import functools as ft
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from estep.algorithms import ALGORITHMS
from estep.cli import results
from estep.core.em import update
from estep.core.keys import make_key
from estep.core.types import Spec, Transition
from estep.policy.actor import memo_widths
from estep.policy.progress import describe
from estep.settings import metrics
from estep.settings.metrics import METRICS
from estep.settings.numbers.metric import BOARD, EPISODES_FILE, EVAL_FILE, METRICS_FILE, PROGRESS, RESULT
from estep.training import sinks
from oracles.rows import spec_of

SRC = Path(__file__).parents[2] / "src" / "estep"
UPDATING = "core", "e_steps", "m_steps", "likelihoods", "inference", "priors", "families", "algorithms"
METRIC = re.compile(r"(e|m|critic|data|time)/[a-z_{}]+")
HOLE = "{}"


def tree_of(path):
    return ast.parse((SRC / path).read_text("utf-8"))


def function(tree, name):
    return next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name)


def text_of(key):
    """A string, or an f-string with {} for what varies, or nothing."""
    if isinstance(key, ast.Constant) and isinstance(key.value, str):
        return key.value
    if isinstance(key, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else HOLE for part in key.values)
    return None


def keys(tree):
    """The keys of every dict that is written down in a tree, and of every item that is assigned."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            found = node.keys
        elif isinstance(node, ast.DictComp):
            found = [node.key]
        elif isinstance(node, ast.Assign):
            found = [target.slice for target in node.targets if isinstance(target, ast.Subscript)]
        else:
            found = []
        yield from (text for text in map(text_of, found) if text)


def makes_info(node):
    return isinstance(node, ast.FunctionDef) and node.returns is not None and "Info" in ast.unparse(node.returns)


def in_updates(tree):
    """Names of metrics in a module: keys that look like one, and every key in a function that returns an `Info`."""
    yield from (key for key in keys(tree) if METRIC.fullmatch(key))
    for node in filter(makes_info, ast.walk(tree)):
        yield from keys(node)


def details_of_inference():
    """Keys of the fourth field of every `Inferred`."""
    for path in (SRC / "inference").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Inferred":
                for value in [*node.args[3:], *(word.value for word in node.keywords if word.arg == "info")]:
                    yield from keys(value)


def parts_of_policies():
    """Keys of what the splits of a trust region return."""
    for node in ast.walk(tree_of("m_steps/trust_region.py")):
        if (
            isinstance(node, ast.FunctionDef)
            and node.returns is not None
            and "dict[str, G" in ast.unparse(node.returns)
        ):
            yield from keys(node)


def clocks():
    tree = tree_of("training/trainer.py")
    return next(
        [text_of(key) for key in node.value.keys]
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "self.seconds"
    )


def of_each_task():
    """The metrics that `task_means` writes for each task."""
    trees = [tree_of("core/em.py"), tree_of("e_steps/climb.py")]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [f"{call.args[0].value}/{HOLE}" for call in calls if ast.unparse(call.func) == "task_means"]


@ft.cache
def inside():
    """The parts of names that vary, by the f-string of the code."""
    return {
        "e/{}": list(details_of_inference()),
        "e/improvement_{}": ["1", "20"],
        "m/alpha/{}": ["walk"],
        **{name: ["walk"] for name in ("{}/{}", "return/{}", "success/{}")},
        "time/{}": clocks(),
        **{name: list(parts_of_policies()) for name in ("m/kl_{}", "m/alpha_{}", "m/kl_{}_bound")},
    }


def varying(name):
    """The names that an f-string of the code stands for."""
    bases = of_each_task() if name == f"{HOLE}/{HOLE}" else [name]
    return [base.replace(HOLE, part) for base in bases for part in inside()[name]] if HOLE in name else [name]


def written_by_updates():
    """Every metric that an update can write."""
    trees = [ast.parse(path.read_text("utf-8")) for folder in UPDATING for path in (SRC / folder).rglob("*.py")]
    found = {name for tree in trees for name in in_updates(tree)}
    return {whole for name in found for whole in varying(name)}


def written_in_lines():
    """Every name in a line of metrics.jsonl."""
    log = function(tree_of("training/session.py"), "log")
    return written_by_updates() | {whole for name in keys(log) for whole in varying(name)}


def shown_as_progress():
    show = function(tree_of("training/session.py"), "show")
    return set(keys(show)) - {""}


def on_the_board():
    tree = tree_of("training/sinks.py")
    keys = [key for node in ast.walk(tree) if isinstance(node, ast.Dict) for key in node.keys]
    names = {key.value for key in keys if isinstance(key, ast.Constant)}
    return {name for name in names if name.startswith("eval/")}


WRITTEN = {
    METRICS_FILE: written_in_lines(),
    EVAL_FILE: set(sinks.EVAL_COLUMNS),
    EPISODES_FILE: set(sinks.EPISODE_COLUMNS),
    BOARD: on_the_board(),
    PROGRESS: shown_as_progress(),
    RESULT: set(results.FIELDS),
}


def table(file):
    return [metric for metric in METRICS if metric.file == file]


@pytest.mark.parametrize("file", WRITTEN)
def test_every_metric_that_is_written_is_in_the_table(file):
    lacking = {name for name in WRITTEN[file] if not any(metric.stands_for(name) for metric in table(file))}
    assert not lacking, f"say in settings/numbers what they mean: {sorted(lacking)}"


@pytest.mark.parametrize("file", WRITTEN)
def test_every_metric_of_the_table_is_written(file):
    named = [metric for metric in table(file) if metric.name in WRITTEN[file]]
    rest = {name for name in WRITTEN[file] if name not in {metric.name for metric in named}}
    odd = [metric.name for metric in table(file) if metric not in named and not any(map(metric.stands_for, rest))]
    assert not odd, f"no code writes {odd}"


def test_training_writes_no_other_metric():
    found = {
        name for path in (SRC / "training").glob("*.py") for name in in_updates(ast.parse(path.read_text("utf-8")))
    }
    assert {"data/replay", "e/improvement"} <= found
    assert all(metrics.find(whole) for name in found for whole in varying(name))


def test_a_metric_of_new_code_is_found():
    code = "def f(x) -> tuple[Scalar, Info]:\n    info = {'fresh': x}\n    info['late'] = x\n    return x, info"
    assert set(in_updates(ast.parse(code))) == {"fresh", "late"}
    assert set(in_updates(ast.parse("a | {'e/new': 1, 'lam': 2, f'm/{n}_x': 3}"))) == {"e/new", "m/{}_x"}


SMALL = {"hidden_sizes": (4,), "iterations": 2, "samples": 4, "unroll": 2, "rollout": 8, "num_critics": 1}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_what_an_update_returns_was_found_in_the_source(name):
    """The scan of the source misses nothing: an update of every algorithm is traced, and not run."""
    kind = ALGORITHMS[name]
    row = kind(**{field: value for field, value in SMALL.items() if field in kind.__dataclass_fields__})
    agent = jax.eval_shape(lambda key: row.init(spec_of(name, Spec(3, 2)), key), make_key(0))
    shape = 2, agent.length
    obs, zeros = jnp.zeros((*shape, 3)), jnp.zeros(shape)
    memo = {name: jnp.zeros((*shape, width)) for name, width in memo_widths(agent).items()}
    batch = Transition(obs, jnp.zeros((*shape, 2)), zeros, zeros, obs, zeros, memo)
    _, info = jax.eval_shape(update, agent, batch, make_key(1))
    names = {re.sub("(?<=e/improvement_)[0-9]+", "1", re.sub("/[01]$", "/walk", metric)) for metric in info}
    assert names <= WRITTEN[METRICS_FILE]
    assert all(metrics.find(metric) for metric in info)


def test_words_of_the_progress_line_are_in_the_table():
    numbers = {metric.name: 1.0 for metric in METRICS if "k" not in metric.name.split("_")}
    line = describe(numbers | {"m/kl_mean": 1.0, "m/kl_mean_bound": 2.0})
    for metric in METRICS:
        assert metric.shown in line
        assert not metric.shown or metrics.find(metric.shown) == [metric]
