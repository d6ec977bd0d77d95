"""A run that starts from the agent of another one."""

import json
import shutil

import jax
import numpy as np
import pytest
from child import SMALL, Notes, digest, resume, train

import estep
from estep.algorithms import SAC, DefaultPolicy, Hierarchical
from estep.cli.sharing.publish import packed
from estep.errors import RejectedInput, UsageError
from estep.policy.actor import key_of
from estep.policy.starts.from_run import check_modules, starting_agent
from estep.policy.starts.of_seed import with_runs
from estep.runs.leaves import named_leaves
from estep.settings.run import RunConfig
from estep.training.trainer import Trainer
from estep.training.update import init

NO_UPDATE = {"steps": 40, "eval_every": 0, "eval_episodes": 1}
"""A run that ends with its warm-up."""


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A finished run, whose last evaluation is its best or not."""
    return train(tmp_path_factory.mktemp("first"), normalise=True).run_dir


def fresh(row=SMALL["sac"], spec=None):
    return init(row, spec or estep.Spec(3, 1), key_of(0, 0))


def parameters(agent):
    return {name: np.asarray(leaf) for name, leaf in named_leaves(agent)["params"].items()}


def test_the_first_agent_is_the_best_of_that_run_with_fresh_optimisers(first, tmp_path):
    notes = Notes()
    run = train(tmp_path, start_from=str(first), normalise=True, report=notes, env=other_gravity, **NO_UPDATE).run_dir
    assert notes.said("start    from the agent of")
    found, agent = estep.load(run, "latest"), estep.load(first).agent
    jax.tree.map(np.testing.assert_array_equal, parameters(found.agent), parameters(agent))
    optimisers = jax.tree.leaves(named_leaves(found.agent)["optim"])
    jax.tree.map(np.testing.assert_array_equal, optimisers, jax.tree.leaves(named_leaves(fresh())["optim"]))
    assert found.moments.count == estep.load(first).moments.count + 41  # and the first state


def other_gravity():
    import gymnasium

    return gymnasium.make("Pendulum-v1", g=5.0)


def test_that_agent_acts_in_the_warm_up(first, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "explore", lambda trainer, step: pytest.fail("an action was uniform"))
    train(tmp_path, start_from=str(first), normalise=True, **NO_UPDATE)


def test_it_goes_on_from_there_exactly(first, tmp_path):
    given = {"start_from": str(first), "normalise": True}
    whole = train(tmp_path / "whole", **given).run_dir
    cut = train(tmp_path / "cut", stop=iter([False] * 69 + [True]).__next__, **given)
    assert resume(cut.run_dir).status == "done"
    assert digest(cut.run_dir) == digest(whole)


@pytest.mark.parametrize("form", ["folder", "file"])
def test_a_saved_policy_and_a_published_one_will_do(form, first, tmp_path):
    policy = estep.load(first)
    if form == "folder":
        path = policy.save(tmp_path / "policy")
    else:
        path = tmp_path / "policy.zip"
        path.write_bytes(packed(first, policy))
    agent = starting_agent(str(path), fresh(), policy.moments)
    jax.tree.map(np.testing.assert_array_equal, parameters(agent), parameters(policy.agent))


@pytest.mark.parametrize(
    ("agent", "moments", "message"),
    [
        (fresh(SAC(hidden_sizes=(8,))), True, r"leaf .*\nGive its algorithm, 'sac', with the networks"),
        (fresh(SMALL["iterative-sac"]), True, r"does not fit this run: The leaf .*\nGive its algorithm, 'sac'"),
        (fresh(spec=estep.Spec(2, 1)), True, "is for observations of size 3, actions of size 1, and this .* of size 2"),
        (fresh(), False, r"sees observations normalised\.\nGive normalise"),
    ],
)
def test_what_does_not_fit_is_refused(agent, moments, message, first):
    with pytest.raises(UsageError, match=message):
        starting_agent(str(first), agent, estep.load(first).moments if moments else None)


def test_a_plain_agent_is_not_normalised_afterwards(first, tmp_path):
    plain = train(tmp_path, **NO_UPDATE).run_dir
    with pytest.raises(UsageError, match=r"sees observations as they are\.\nLeave out normalise"):
        starting_agent(str(plain), fresh(), estep.load(first).moments)


def test_several_seeds_and_no_run_at_all_are_refused(tmp_path):
    with pytest.raises(UsageError, match="one agent, but population"):
        RunConfig(population=2, start_from="run")
    with pytest.raises(RejectedInput, match="not a run folder"):
        train(tmp_path / "out", start_from=str(tmp_path))
    assert not (tmp_path / "out").exists()
    seeds = train(tmp_path, population=2, **NO_UPDATE).run_dir
    with pytest.raises(UsageError, match=r"trained several seeds.*\nSave one"):
        starting_agent(str(seeds), fresh(), None)


def test_another_environment_is_not_resumed_but_begun(first):
    with pytest.raises(UsageError, match="train a new run with start_from"):
        resume(first, env="Pendulum-v1?g=5")


def test_the_modules_of_a_run_are_imported_where_the_new_one_names_them(first, tmp_path):
    """What `freeze_prior` and `freeze_low` take may have a network of one's own in front."""
    run = shutil.copytree(first, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["algorithm"]["features"] = "its_module:net"
    (run / "config.json").write_text(json.dumps(config))
    check_modules(str(run), SAC(features="its_module:other_net"))
    with pytest.raises(UsageError, match=r"needs the module its_module, which this run does not name"):
        check_modules(str(run), SAC(features="my_module:net"))
    check_modules(str(first), SAC())


def test_of_a_folder_of_runs_the_one_with_the_same_seed_is_taken(tmp_path):
    before, notes = tmp_path / "before", Notes()
    runs = [train(before, seed=seed, **NO_UPDATE).run_dir for seed in (3, 4)]
    run = train(tmp_path / "after", start_from=str(before), seed=4, report=notes, **NO_UPDATE).run_dir
    assert notes.said(f"start    from the agent of {runs[1]}")
    assert json.loads((run / "config.json").read_text())["run"]["start_from"] == str(runs[1])
    jax.tree.map(np.testing.assert_array_equal, *(parameters(estep.load(one).agent) for one in (run, runs[1])))

    one = with_runs(Hierarchical(freeze_low=str(before)), 3)
    assert (one.freeze_low, with_runs(one, 4), with_runs(SAC(), 4)) == (str(runs[0]), one, SAC())
    with pytest.raises(UsageError, match=r"start_from names the folder .*, in which none of 2 runs has the seed 5"):
        train(tmp_path / "none", start_from=str(before), seed=5, **NO_UPDATE)
    with pytest.raises(UsageError, match=r"freeze_prior names the folder .* has the seed 0"):
        with_runs(DefaultPolicy(freeze_prior=str(before)), 0)
    shutil.copytree(runs[0], runs[0].with_name("again"))
    with pytest.raises(UsageError, match=r"2 runs have the seed 3: .*, again\.\nGive one of them"):
        train(tmp_path / "none", start_from=str(before), seed=3, **NO_UPDATE)
    assert not (tmp_path / "none").exists()


def test_a_path_is_taken_as_its_text(tmp_path):
    assert RunConfig(start_from=tmp_path).start_from == str(tmp_path)
