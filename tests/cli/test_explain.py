"""`estep explain`: a page for every setting, metric and term."""

import dataclasses
import subprocess
import sys

import pytest

from estep.algorithms import ALGORITHMS
from estep.settings import glossary, renamed, terms
from estep.settings.glossary import ALGORITHM, RUN, TERM
from estep.settings.run import RunConfig


def test_a_setting_has_its_meaning_its_limits_its_defaults_and_its_old_name(run):
    ended = run("explain", "gamma")
    assert ended.code == 0
    for words in ("Discount factor", "--gamma", "at least 0 and below 1", "0.99", "--discount"):
        assert words in ended.out


def test_a_default_is_named_with_its_algorithms(run):
    (entry,) = run("explain", "beta", "--json").record["explained"]
    assert "3.54 (iterative-sac, " in entry["facts"]["default"]
    assert "1.0 (sac, mpo-parametric, " in entry["facts"]["default"]
    assert "authors" in entry["facts"]["iterative-sac"]


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        *(
            ("--gamma", "gamma"),
            ("--discount", "gamma"),
            ("hidden", "hidden_sizes"),
            ("--hidden-sizes", "hidden_sizes"),
        ),
        *(("--no-persist", "persist"), ("e/value", "e/value"), ("e/improvement_3", "e/improvement_k")),
        *(("m/kl_mean_bound", "m/kl_part_bound"), ("m/kl_bound", "m/kl_bound"), ("m/alpha_box", "m/alpha_box")),
        *(("step/s", "env_steps_per_s"), ("posterior", "posterior"), ("e-step", "E-step"), ("slow-copy", "slow copy")),
        *(("β", "pessimism"), ("η", "temperature"), ("steps", "steps"), ("critic/explained", "critic/explained")),
    ],
)
def test_a_name_leads_to_its_page(run, asked, name):
    ended = run("explain", asked)
    assert ended.code == 0
    assert ended.out.startswith(name)
    assert name in [entry["name"] for entry in run("explain", asked, "--json").record["explained"]]


def test_a_name_of_two_words_needs_no_quotes(run):
    assert run("explain", "inference", "gap").out.startswith("inference gap")


def test_a_name_with_two_meanings_has_both(run):
    topics = [entry["topic"] for entry in run("explain", "posterior", "--json").record["explained"]]
    assert topics == [ALGORITHM, TERM]
    assert len(run("explain", "samples", "--json").record["explained"]) == 2  # any number, or two at least


def test_without_a_name_all_are_listed_by_topic(run):
    ended = run("explain")
    assert ended.code == 0
    assert list(run("explain", "--json").record["topics"]) == list(glossary.TOPICS)
    plain = " ".join(ended.out.split())
    for topic in glossary.TOPICS:
        assert topic in plain
    for name in glossary.known_names():
        assert name in plain


@pytest.mark.parametrize("asked", ["gama", "--gama"])
def test_an_unknown_name_gets_the_nearest(run, asked):
    ended = run("explain", asked)
    assert ended.code == 2
    assert "Did you mean gamma?" in ended.err
    assert run("explain", asked, "--json").record["exit_code"] == 2


def test_help_and_unknown_options_are_as_for_other_commands(run):
    assert "usage: estep explain" in run("explain", "--help").out
    assert run("explain", "-x").code == 2


@pytest.mark.parametrize("name", [*ALGORITHMS, "run"])
def test_every_setting_is_explained_with_its_default(name):
    kind = ALGORITHMS.get(name, RunConfig)
    topic = RUN if kind is RunConfig else ALGORITHM
    for field in dataclasses.fields(kind):
        entries = [entry for entry in glossary.find(field.name) if entry.topic == topic]
        assert entries, field.name
        assert any(glossary.plain(field.default) in dict(entry.facts)["default"] for entry in entries)
        assert all(entry.meaning and dict(entry.facts)["value"] for entry in entries)


def test_old_names_lead_to_the_names_of_today():
    for old, new in renamed.SETTINGS.items():
        assert new in [entry.name for entry in glossary.find(old)]


def test_every_term_is_said_once_and_in_one_sentence():
    names = [term.name.lower() for term in terms.TERMS]
    assert len(names) == len(set(names))
    for term in terms.TERMS:
        assert term.meaning.endswith((".", ").")), term.name


def test_it_answers_without_importing_jax():
    code = (
        "import sys; from estep.cli.main import main; main(['explain', 'e/value']); main(['explain', 'gamma']); "
        "sys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, capture_output=True).returncode == 0
