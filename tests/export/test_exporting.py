"""`estep export` and `estep publish`: what they write, and what they refuse."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commandline import command

import estep
from estep.cli.sharing.publish import readme
from estep.errors import UsageError
from estep.export import archive, onnx_files, policy
from estep.runs.config_file import TaskRecord

RUN = Path(__file__).parents[1] / "releases" / "0.2.0" / "sac-Pendulum-v1"
OBS = np.float32([1.0, 0.0, 0.5])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run, which is exported and published."""
    return estep.load(shutil.copytree(RUN, tmp_path_factory.mktemp("runs") / "run"))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_run_is_exported_and_acts_alike(trained):
    ended = command("export", str(trained.run_dir), "--json")
    assert ended.code == 0, ended.err
    assert ended.record["observations"] > 10
    assert ended.record["observations_from"] == "observations of the run's replay"
    assert ended.record["largest_difference"] <= ended.record["limit"] == 1e-5
    alone = policy.load(trained.run_dir / "export" / "npz" / "policy.npz")
    np.testing.assert_allclose(alone.act(OBS), trained.act(OBS), atol=1e-6)
    table = json.loads((trained.run_dir / "export" / "npz" / "contract.json").read_text("utf-8"))
    assert table["made_of"]["environment"] == "Pendulum-v1"
    assert len(table["made_of"]["checkpoint_sha256"]) == 64
    assert command("export", str(trained.run_dir)).code == 0  # the export of before is replaced


def test_one_observation_by_numpy_is_as_compiled(trained):
    many = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    np.testing.assert_allclose([trained.act(one) for one in many], trained.act(many), atol=1e-6)
    assert trained._arithmetic is not None


def test_a_run_is_published_loaded_evaluated_and_exported(trained, tmp_path):
    ended = command("publish", str(trained.run_dir), "--json")
    assert ended.code == 0, ended.err
    path = tmp_path / "sac-Pendulum-v1.zip"
    names = set(archive.unpacked(path.read_bytes()))
    step = f"checkpoints/step_{trained.env_steps}/"
    assert names == {
        *("README.md", "report.html", "run.json", "config.json", "config.diff.json", "best", "latest", "eval.csv"),
        *(step + "manifest.json", step + "params.safetensors"),
    }
    loaded = estep.load(path)
    assert (loaded.act(OBS) == trained.act(OBS)).all()
    assert loaded.run_dir == path
    ended = command("eval", path.name, "--episodes", "1", "--json")
    assert (ended.code, ended.record["run_dir"]) == (0, path.name)
    assert command("publish", str(trained.run_dir)).code == 2  # the file is there
    ended = command("export", path.name, "--json")
    assert (ended.code, ended.record["observations_from"]) == (0, "normal observations, because there is no replay")
    assert (tmp_path / "sac-Pendulum-v1-npz" / "policy.py").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["export", "RUN", "--format", "npy"], 2, "There is no format 'npy'"),
        (["export", "nothing"], 3, "is not a run folder"),
        (["export", "nothing.zip"], 3, "was rejected"),
        (["export", "RUN", "--checkpoint", "77"], 3, "has no checkpoint"),
        (["export", "RUN", "--out", "."], 2, "exists, so nothing was written"),
        (["publish", "RUN", "--out", "policy.tar"], 2, "does not end in .zip"),
        (["publish", "nothing"], 3, "is not a run folder"),
    ],
)
def test_bad_input_is_refused_in_a_sentence_and_leaves_nothing(arguments, code, sentence, trained, tmp_path):
    ended = command(*(str(trained.run_dir) if word == "RUN" else word for word in arguments))
    assert ended.code == code
    assert sentence in ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("form", "package"), [("onnx", "onnx"), ("jax", "flatbuffers")])
def test_a_missing_extra_is_named_with_its_command(form, package, trained, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    ended = command("export", str(trained.run_dir), "--format", form, "--out", "here")
    assert ended.code == 2
    assert f"needs the package {package}" in ended.err
    assert "pip install 'estep[" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_contract_of_a_newer_estep_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has the format 9, and this file reads up to 1"):
        policy.Policy({"format": 9, "program": {}}, {})
    np.savez(tmp_path / "policy.npz")
    (tmp_path / "contract.json").write_text('{"format": 9, "program": {}}')
    alone = subprocess.run(
        [sys.executable, policy.__file__, str(tmp_path / "policy.npz")], input="", capture_output=True, text=True
    )
    assert (alone.returncode, alone.stdout) == (3, "")
    assert alone.stderr.splitlines() == ["The contract has the format 9, and this file reads up to 1."]


def test_a_published_policy_says_what_it_is_and_becomes_a_folder(trained, tmp_path):
    path = trained.run_dir / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "traceback": "File /home/me/arm.py"}))
    assert command("publish", str(trained.run_dir), "--out", "p.zip").code == 0
    assert json.loads(archive.unpacked((tmp_path / "p.zip").read_bytes())["run.json"])["traceback"] is None
    ended = command("load", "p.zip", "--out", "here", "--json")
    assert ended.code == 0, ended.err
    about = ended.record["policy"]
    assert about["environment"] == "Pendulum-v1"
    assert not {"tasks", "modules"} & set(about)
    evaluations = trained.history.evaluations
    assert evaluations["env_steps"][-1] == trained.env_steps
    assert about["evaluation"].startswith(f"return {evaluations['mean'][-1]:.5g} ± ")
    assert (estep.load("here").act(OBS) == trained.act(OBS)).all()
    assert command("load", "p.zip", "--out", "here").code == 2
    assert command("load", "nothing.zip").code == 3


def test_a_published_policy_says_its_own_evaluation(tmp_path):
    run = shutil.copytree(RUN, tmp_path / "run")
    head, row, *_ = (run / "eval.csv").read_text().splitlines()
    evaluated = dict(zip(head.split(","), row.split(","), strict=True))
    later = {**evaluated, "env_steps": str(int(evaluated["env_steps"]) + 1), "mean": "12345"}
    (run / "eval.csv").write_text("\n".join([head, row, ",".join(later.values()), ""]))
    step = evaluated["env_steps"]
    assert command("publish", str(run), "--checkpoint", step, "--out", "p.zip").code == 0
    page = archive.unpacked((tmp_path / "p.zip").read_bytes())["README.md"].decode()
    assert f"- evaluation: return {float(evaluated['mean']):.5g} ± " in page
    assert "12345" not in page


def test_a_published_policy_says_its_tasks_and_its_modules(trained):
    tasks = (TaskRecord("left", "theirs:Way-v0?side=-1", True), TaskRecord("right", "theirs:Way-v0", True))
    several = dataclasses.replace(trained, recipe=trained.recipe._replace(env="left+right", tasks=tasks))
    page = readme(several, {})
    assert "- tasks: left=theirs:Way-v0?side=-1, right=theirs:Way-v0\n" in page
    assert "- modules: theirs\n" in page
    assert "estep eval FILE.zip --allow-import\n" in page
    assert "estep.load('FILE.zip', allow_import=True)\naction = policy.act(observation, task='left')\n" in page


def test_a_published_policy_of_a_newer_format_is_refused_and_leaves_nothing(trained, tmp_path):
    assert command("publish", str(trained.run_dir), "--out", "p.zip").code == 0
    files = archive.unpacked((tmp_path / "p.zip").read_bytes())
    config = json.loads(files["config.json"])
    (tmp_path / "p.zip").write_bytes(
        archive.pack({**files, "config.json": json.dumps({**config, "format": 99}).encode()})
    )
    for words in (["eval", "p.zip"], ["export", "p.zip"], ["load", "p.zip"]):
        ended = command(*words)
        assert ended.code in (2, 3), words
        assert "Traceback" not in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["p.zip"]


def test_a_graph_that_was_translated_wrongly_is_refused():
    class Session:
        def run(self, names, given):
            if "observation" not in given:
                raise RuntimeError("shape mismatch")
            return [np.zeros((4, 1))]

    assert onnx_files._run(Session(), {"observation": 1}, 4).shape == (4, 1)
    with pytest.raises(UsageError, match="gave 4 actions for 2 observations"):
        onnx_files._run(Session(), {"observation": 1}, 2)
    with pytest.raises(UsageError, match="shape mismatch") as failed:
        onnx_files._run(Session(), {}, 4)
    assert "--format jax" in failed.value.fix
