"""config.json: everything needed to build a run again, and nothing else is accepted."""

import dataclasses
import json

import pytest
from child import SMALL, config
from hypothesis import given, settings
from hypothesis import strategies as st

from estep.algorithms import ALGORITHMS, SAC, IterativeSAC
from estep.algorithms.named import name_of
from estep.errors import RejectedInput, UsageError
from estep.runs import config_file, strict
from estep.runs.config_file import Recipe
from estep.settings import renamed
from estep.settings.run import RunConfig

ODD = SAC(hidden_sizes=(7,), learning_rate=1e-3, beta=0.0, entropy=2.5)
RECIPES = [
    *(Recipe(name, row(), "Pendulum-v1", True, RunConfig(), "pendulum") for name, row in ALGORITHMS.items()),
    *(Recipe(name, row, "module:Id-v3", True, config(seed=3), None) for name, row in SMALL.items()),
    Recipe("sac", ODD, "my_factory", False, RunConfig(updates_per_step=0.25, normalise=True, env_timeout=0.0), None),
    Recipe(
        "iterative-sac", IterativeSAC(grad_encoding="layer_norm", antithetic=False), "A-v0", True, RunConfig(), None
    ),
]


def read_back(encoded):
    """Through the file's own writer and reader."""
    return strict.parse(strict.dump(encoded))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_survives_the_file(recipe):
    found = config_file.decode(read_back(config_file.encode(recipe)))
    assert found == recipe
    assert type(found.algorithm) is type(recipe.algorithm)
    assert hash(found.algorithm) == hash(recipe.algorithm)  # a list would not be a static argument


def test_differences_are_those_from_the_defaults():
    assert config_file.differences(RECIPES[0]) == {}
    found = config_file.differences(RECIPES[-2])
    assert found == {"hidden_sizes": (7,), "learning_rate": 1e-3, "beta": 0.0, "entropy": 2.5} | {
        "updates_per_step": 0.25,
        "normalise": True,
        "env_timeout": 0.0,
    }


def changed(path, value):
    """An encoded recipe with one place changed (or removed, for `...`)."""
    encoded = json.loads(strict.dump(config_file.encode(RECIPES[1])))
    *way, last = path
    table = encoded
    for name in way:
        table = table[name]
    if value is ...:
        del table[last]
    else:
        table[last] = value
    return encoded


TAMPERED = [
    (["format"], 3),
    (["format"], True),
    (["format"], "1"),
    (["format"], ...),
    (["extra"], 1),
    (["run"], ...),
    (["run", "extra"], 1),
    (["run", "steps"], 0),
    (["run", "steps"], 1.5),
    (["run", "steps"], True),
    (["run", "steps"], "100"),
    (["run", "steps"], None),
    (["run", "normalise"], 1),
    (["run", "updates_per_step"], float("nan")),
    (["run", "updates_per_step"], float("inf")),
    (["run", "updates_per_step"], 10**400),
    (["run"], []),
    (["env"], "Pendulum-v1"),
    (["env", "id"], 3),
    (["env", "by_id"], 1),
    (["env", "by_id"], ...),
    (["algorithm", "name"], "sacc"),
    (["algorithm", "name"], ["sac"]),
    (["algorithm", "name"], "sac"),
    (["algorithm", "hidden_sizes"], []),
    (["algorithm", "hidden_sizes"], [0]),
    (["algorithm", "hidden_sizes"], [16, "16"]),
    (["algorithm", "hidden_sizes"], [True]),
    (["algorithm", "hidden_sizes"], 16),
    (["algorithm", "learning_rate"], float("nan")),
    (["algorithm", "learning_rate"], -1),
    (["algorithm", "grad_encoding"], "__import__"),
    (["algorithm", "extra"], 1),
    (["algorithm", "critics"], 2),
    (["run", "block"], 8),
    (["algorithm"], None),
    (["preset"], 7),
    (["preset"], {"a": 1}),
]


@pytest.mark.parametrize(("path", "value"), TAMPERED)
def test_a_tampered_configuration_is_rejected(path, value):
    with pytest.raises(RejectedInput) as raised:
        config_file.decode(changed(path, value))
    assert raised.value.exit_code == 3
    assert raised.value.fix


def test_a_missing_setting_is_newer_than_the_file_and_takes_its_default():
    assert config_file.decode(changed(["run", "steps"], ...)).run.steps == RunConfig().steps
    assert config_file.decode(changed(["algorithm", "persist"], ...)).algorithm.persist == IterativeSAC().persist


def test_an_old_name_is_read_and_the_new_one_is_written():
    old = read_back(config_file.encode(RECIPES[1])) | {"format": 1}
    for table, name, value in (("algorithm", "discount", 0.5), ("run", "block", 3)):
        del old[table][renamed.SETTINGS[name]]
        old[table][name] = value
    found = config_file.decode(old)
    assert (found.algorithm.gamma, found.run.updates_per_call) == (0.5, 3)
    written = config_file.encode(found)
    assert written["format"] == 2
    assert "discount" not in written["algorithm"]
    assert "block" not in written["run"]


def test_the_table_of_renamings_is_sound():
    known = {field.name for row in (*ALGORITHMS.values(), RunConfig) for field in dataclasses.fields(row)}
    assert set(renamed.SETTINGS.values()) <= known
    assert set(renamed.SETTINGS) & known == {"population"}  # once a setting of compose, and now one of a run


def test_arrays_of_a_checkpoint_may_be_renamed_too(monkeypatch):
    monkeypatch.setattr(renamed, "LEAVES", {"inference.old.": "inference.model."})
    assert renamed.leaf("inference.old.net.first.0") == "inference.model.net.first.0"
    assert renamed.leaf("likelihood.model.net") == "likelihood.model.net"


def test_a_whole_number_may_stand_for_a_float():
    found = config_file.decode(changed(["run", "updates_per_step"], 2))
    assert found.run.updates_per_step == 2.0
    assert type(found.run.updates_per_step) is float


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
PLACES = [
    [part] if inner is None else [part, inner]
    for part, whole in config_file.encode(RECIPES[1]).items()
    for inner in (None, *(whole if isinstance(whole, dict) else ()))
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PLACES), JUNK | st.just(...))
def test_whatever_is_changed_only_rejected_input_is_raised(path, value):
    try:
        found = config_file.decode(changed(path, value))
    except RejectedInput:
        return
    assert config_file.decode(config_file.encode(found)) == found


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(["format", "algorithm", "env", "run", "preset"]) | st.text(), JUNK))
def test_junk_is_rejected(junk):
    with pytest.raises(RejectedInput):
        config_file.decode(junk)


@dataclasses.dataclass(frozen=True)
class Own:
    """An algorithm whose settings nothing checks."""

    width: int = 3
    scale: float = 1.0
    words: tuple = ("a",)

    def init(self, spec, key):
        raise NotImplementedError


@pytest.mark.parametrize("changes", [{}, {"scale": 2}, {"words": ("b", "c")}])
def test_what_can_be_read_back_is_written(changes):
    config_file.check_readable(Recipe(name_of(Own()), Own(**changes), "E", True, RunConfig(), None))


@pytest.mark.parametrize("changes", [{"width": 3.0}, {"width": "3"}, {"scale": float("nan")}, {"words": ["a"]}])
def test_what_could_not_be_read_back_is_refused_before_training(changes):
    with pytest.raises(UsageError, match="Own"):
        config_file.check_readable(Recipe(name_of(Own()), Own(**changes), "E", True, RunConfig(), None))
