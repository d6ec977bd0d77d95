"""The examples run as they stand, and what they make goes on like everything that the library makes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from commandline import command
from own_algorithm import MixtureSAC

import estep
from estep.algorithms import ALGORITHMS
from estep.algorithms.named import name_of
from estep.errors import UsageError
from estep.runs.folder import RunFolder
from estep.runs.leaves import skeleton
from estep.settings import references
from oracles.rows import OF_TASKS, spec_of

EXAMPLES = Path(__file__).parents[2] / "examples"
OLD_RUN = EXAMPLES.parent / "tests" / "releases" / "0.1.0" / "sac-Pendulum-v1"
PROGRAMS = [
    ("own_environment", "150"),
    ("deploy", str(OLD_RUN)),
    ("sac_in_60_lines",),
]
TRAINED_FOR_LONG = [
    ("deploy",),  # what it trains where nobody gives it a run
    ("own_part", "120"),  # the command line trains its parts below
    ("own_images", "100"),  # another network of the same kind as that of `own_part`
    ("own_algorithm", "150"),  # `own_run` trains its algorithm by the command line
]
TINY = ("--steps", "120", "--warmup-steps", "60", "--batch-size", "16", "--replay-size", "500", "--preset", "none")
TINY += ("--hidden-sizes", "8", "--eval-every", "0", "--eval-episodes", "1", "--updates-per-step", "0.25")


def test_every_example_is_run():
    assert {name for name, *_ in PROGRAMS + TRAINED_FOR_LONG} == {path.stem for path in EXAMPLES.glob("*.py")}


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [*PROGRAMS, *(pytest.param(words, marks=pytest.mark.long) for words in TRAINED_FOR_LONG)],
    ids=lambda words: words[0],
)
def test_a_program_runs_from_any_folder(words, tmp_path):
    call = [sys.executable, str(EXAMPLES / f"{words[0]}.py"), *words[1:]]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    for run in re.findall(r"in (\S*/runs/\S+)", done.stdout):
        assert RunFolder.open(run).read_run()["status"] == "done"


@pytest.fixture(scope="module")
def own_run(tmp_path_factory):
    """A run of somebody's algorithm by the command line, stopped after its first steps."""
    folder = tmp_path_factory.mktemp("own")
    flags = (*TINY, "--components", "2", "--entropy", "-0.5")
    call = ("train", "own_algorithm:MixtureSAC", "--env", "Pendulum-v1", *flags, "--out", str(folder), "--json")
    ended = command(*call)
    assert ended.code == 0, ended.err
    return Path(ended.record["run_dir"])


def test_somebodys_algorithm_trains_by_its_own_flags(own_run):
    config = RunFolder.open(own_run).read_config()["algorithm"]
    assert config["name"] == "own_algorithm:MixtureSAC"
    assert (config["components"], config["entropy"], config["hidden_sizes"]) == (2, -0.5, [8])
    assert own_run.parents[1].name == "own_algorithm-MixtureSAC"


@pytest.mark.parametrize("words", [("resume",), ("eval",), ("inspect", "--only", "improvement")])
def test_its_module_is_imported_by_consent_alone(own_run, words):
    ended = command(words[0], str(own_run), *words[1:])
    assert ended.code == UsageError.exit_code
    assert "module own_algorithm" in ended.err
    assert "--allow-import" in ended.err
    with pytest.raises(UsageError, match="own_algorithm"):
        estep.load(own_run)


@pytest.mark.long
def test_it_evaluates_is_inspected_and_acts(own_run):
    assert command("eval", str(own_run), "--episodes", "1", "--allow-import").code == 0
    ended = command("inspect", str(own_run), "--only", "gap", "--states", "2", "--allow-import", "--json")
    assert ended.code == 0, ended.err
    policy = estep.load(own_run, allow_import=True)
    assert isinstance(policy.recipe.algorithm, MixtureSAC)
    assert policy.act(np.zeros(3, np.float32)).shape == (1,)


@pytest.mark.long
def test_it_goes_on_and_is_composed_with(own_run):
    ended = command("resume", str(own_run), "--steps", "160", "--allow-import", "--json")
    assert ended.code == 0, ended.err
    assert ended.record["env_steps"] == 160
    found = estep.load(own_run, allow_import=True)
    changed = command("eval", str(own_run), "--episodes", "1", "--inference", "own_part:slow_ascent", "--allow-import")
    assert changed.code == 0, changed.err
    assert found.env_steps <= 160


def test_it_is_listed_and_shown(own_run):
    shown = command("algos", "own_algorithm:MixtureSAC").out
    assert "--components" in shown
    assert "Lower bound of the policy's entropy" in shown
    assert (
        command("config", "show", "own_algorithm:MixtureSAC", "--json").record["config"]["algorithm"]["gamma"] == 0.99
    )
    wrong = command("train", "own_algorithm:MixtureSAC", "--env", "Pendulum-v1", "--gamma", "2")
    assert wrong.code == UsageError.exit_code
    assert "--gamma is 2" in wrong.err


def test_an_installed_package_adds_a_short_name(monkeypatch):
    monkeypatch.setattr(references, "installed", lambda: {"mixture-sac": "own_algorithm:MixtureSAC"})
    assert name_of(MixtureSAC()) == "mixture-sac"
    assert "--components" in command("algos", "mixture-sac").out
    assert "mixture-sac" in command("train", "mixture-sca", "--env", "Pendulum-v1").err


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("own_algorithm:Nobody", "has no Nobody"),
        ("no_module_of_this_name:Row", "cannot be imported"),
        ("own_algorithm:main", "has no main"),
        ("own_part:narrow", "is not an algorithm"),
        ("os:system", "is not an algorithm"),
    ],
)
def test_what_is_no_algorithm_is_refused(name, match, tmp_path):
    with pytest.raises(UsageError, match=match):
        estep.train(name, "Pendulum-v1", out=tmp_path)
    ended = command("train", name, "--env", "Pendulum-v1")
    assert ended.code == UsageError.exit_code
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda spec, key: 3, "init of .*Broken returned no Agent"),
        (
            lambda spec, key: key.nothing,
            "init of .*Broken raised AttributeError: .*\nIt is called with the Spec and a key",
        ),
    ],
)
def test_an_init_that_makes_no_agent_is_named(make, match):
    class Broken:
        init = staticmethod(make)

    with pytest.raises(UsageError, match=match):
        skeleton(Broken(), estep.Spec(obs_dim=3, action_dim=1))


def test_a_class_that_no_process_could_find_is_refused_before_training(tmp_path):
    import dataclasses

    @dataclasses.dataclass(frozen=True)
    class Local(MixtureSAC.__mro__[1]):
        gamma: float = 0.9

        def init(self, spec, key):
            return None

    with pytest.raises(UsageError, match="top level of a module"):
        estep.train(Local(), "Pendulum-v1", out=tmp_path)
    assert not any(tmp_path.iterdir())


OWN_PARTS = [
    (
        *("compose", "--prior", "own_part:narrow", "--posterior", "own_part:logistic"),
        *("--likelihood", "own_part:huber"),
        *("--inference", "own_part:slow_ascent"),
        *("--start", "direct", "--iterations", "1", "--features", "own_part:fourier"),
    ),
    pytest.param(("iterative-sac", "--features", "own_part:fourier"), marks=pytest.mark.long),
]


@pytest.mark.parametrize("flags", OWN_PARTS, ids=["all parts", "network of iterative inference"])
def test_a_part_of_somebodys_trains_and_goes_on_by_consent(flags, tmp_path):
    ended = command("train", flags[0], "--env", "Pendulum-v1", *flags[1:], *TINY, "--out", str(tmp_path), "--json")
    assert ended.code == 0, ended.err
    run = ended.record["run_dir"]
    assert command("resume", run, "--steps", "130").code == UsageError.exit_code
    ended = command("resume", run, "--steps", "130", "--allow-import", "--json")
    assert ended.code == 0, ended.err
    assert ended.record["env_steps"] == 130


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_network_of_somebodys_goes_into_every_algorithm(name):
    """In front of every network: each has the projection of the example, of 3 numbers to 32."""

    def shapes(features):
        row = ALGORITHMS[name](features=features, **({"prior_sees": ("all",)} if name in OF_TASKS else {}))
        agent = jax.eval_shape(lambda key: row.init(spec_of(name, estep.Spec(3, 2)), key), estep.make_key(0))
        critic = getattr(
            agent.likelihood.model, "critic", agent.likelihood.model
        )  # a model of the environment sees obs
        return [leaf.shape for leaf in jax.tree.leaves((agent.prior.model, agent.inference.model, critic))]

    plain, own = shapes(""), shapes("own_part:fourier")
    networks = sum(shape[:1] == (3,) for shape in plain)  # the first layer of each reads the observation
    assert own.count((3, 32)) == networks > 0
    assert sum(shape[:1] == (35,) for shape in own) == networks


@pytest.mark.parametrize("flags", [("--features", "own_part:narrow"), ("--features", "own_part:nothing")])
def test_a_network_that_is_none_is_refused(flags, tmp_path):
    ended = command("train", "sac", "--env", "Pendulum-v1", *flags, *TINY, "--out", str(tmp_path))
    assert ended.code == UsageError.exit_code, ended.err
    assert not any(tmp_path.iterdir())


def test_loading_and_acting_need_no_drawing_logging_or_training(own_run):
    program = f"""
import sys
for name in ("matplotlib", "tensorboardX", "mujoco", "imageio", "rich", "tyro", "estep.training", "estep.plots"):
    sys.modules[name] = None
sys.path[:0] = {sys.path!r}
import estep
print(estep.load({str(own_run)!r}, allow_import=True).act([1.0, 0.0, 0.0]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr
