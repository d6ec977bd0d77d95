"""A policy that leaves the library acts as the agent that it was made of."""

import functools
import json
import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exported import DICT, subject

import estep
from estep.algorithms import ALGORITHMS
from estep.core.objective import soft_value
from estep.errors import NumericHalt, UsageError
from estep.export import inference, onnx_files, policy, write
from estep.export.parity import drawn
from estep.export.program import program_of
from estep.families.categorical import Softmax

SMALL = {"hidden_sizes": (8, 8)}
KINDS = {
    "numbers": {},
    "one choice": {"action": "one choice"},
    "several choices": {"action": "several choices"},
    "dict": {"observation": DICT},
    "two tasks": {"tasks": 2},
    "normalised": {"normalise": True},
}
GENERATOR = np.random.default_rng(0)


def export(given, form, folder):
    if form != "npz":
        pytest.importorskip("flatbuffers", reason="the extra jax-export is not installed")
    return write.export(given, form, drawn(given, 200), folder / form, replace=False)


@pytest.mark.parametrize("form", ["npz", "jax"])
def test_a_network_is_exported(form, tmp_path):
    made = export(subject(estep.SAC(**SMALL), normalise=True), form, tmp_path)
    assert made.check.largest <= 1e-5
    table = json.loads((tmp_path / form / "contract.json").read_text("utf-8"))
    assert (table["random_numbers"], table["deterministic"], table["action"]["high"]) == ("none", True, [1, 3, 1])
    assert table["observation"]["parts"][0]["places"] == [0, 5]


@pytest.mark.parametrize(
    ("algorithm", "more"),
    [
        (estep.SAC(**SMALL), set()),
        pytest.param(
            estep.IterativeSAC(iterations=2, samples=2, hidden_sizes=(8,)), {"inference.py"}, marks=pytest.mark.long
        ),
    ],
    ids=["sac", "iterative-sac"],
)
def test_it_acts_where_jax_cannot_be_imported(algorithm, more, tmp_path):
    given = subject(algorithm, observation=DICT)
    export(given, "npz", tmp_path)
    names = {path.name for path in (tmp_path / "npz").iterdir()}
    assert names == {"policy.npz", "contract.json", "policy.py"} | more
    obs = [{"wanted": 2, "level": [[0.5, -0.5]]}, [0.5, -0.5, 0.0, 1.0, 0.0]]
    block = "import sys; sys.modules['jax'] = sys.modules['estep'] = None; import runpy; sys.path.insert(0, '.'); "
    block += "sys.argv = ['policy.py', 'policy.npz']; runpy.run_path('policy.py', run_name='__main__')"
    lines = "".join(json.dumps(one) + "\n" for one in obs)
    command = [sys.executable, "-c", block]
    done = subprocess.run(command, cwd=tmp_path / "npz", input=lines, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    acted = [json.loads(line) for line in done.stdout.splitlines()]
    assert acted[0] == acted[1]
    rows = np.float32([obs[1]])
    wanted = jax.vmap(lambda x: jnp.tanh(given.agent.behave(given.agent, x, given.key).mode()))(rows)
    np.testing.assert_allclose(acted[0], given.action_space.native(np.array(wanted))[0], atol=3e-4)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_is_exported_or_refused_with_the_reason(name, kind, tmp_path):
    """As NumPy, else as a JAX program, for every kind of action and of observation that it takes."""
    try:
        given = subject(ALGORITHMS[name](**SMALL), **KINDS[kind])
    except UsageError:
        pytest.skip("this algorithm does not take it")
    known = name in ("smcp", "pp-smc", "iterative-mve") or (name, kind) == ("iterative-sac", "several choices")
    if not known:
        export(given, "npz", tmp_path)
    else:
        with pytest.raises(UsageError, match='format="jax"'):
            export(given, "npz", tmp_path)
        assert not (tmp_path / "npz").exists()
    export(given, "jax", tmp_path)


PARTS = {
    "posterior": ["gaussian", "full-gaussian", "autoregressive", "mixture"],
    "network": ["simba", "simba2"],
    "inference": ["iterative", "gradient"],
}


@pytest.mark.long
@pytest.mark.parametrize(("part", "value"), [(part, value) for part in PARTS for value in PARTS[part]])
def test_every_part_is_exported_or_refused_with_the_reason(part, value, tmp_path):
    given = subject(estep.Compose(**{part: value}, **SMALL), normalise=True)
    if value == "gradient":
        with pytest.raises(UsageError, match="GradientAscent inference"):
            export(given, "npz", tmp_path)
    else:
        export(given, "npz", tmp_path)
    export(given, "jax", tmp_path)


@pytest.mark.long
@pytest.mark.parametrize(
    "settings",
    [
        *[{"network": "simba2", "critic_loss": "hl-gauss", "value_range": (-5.0, 5.0)}, {"critic_norm": "layer"}],
        *[{"network": "simba", "num_critics": 3}, {"critic_activation": "elu", "grad_encoding": "layer_norm"}],
        *[{"critic_activation": "silu", "direct_start": True, "grad_encoding": "none"}, {"act_by": "start"}],
        *[{"act_average": 2, "act_iterations": 4}, {"infer_on": "slow", "act_beta": 1.0}],
    ],
    ids=str,
)
def test_the_written_out_gradient_holds_for_every_critic(settings, tmp_path):
    if settings.get("act_by") == "start":
        settings = settings | {"direct_start": True}
    export(subject(estep.IterativeSAC(**SMALL, **settings), normalise=True), "npz", tmp_path)


@pytest.mark.parametrize(
    "layer",
    [
        ["linear", GENERATOR.normal(size=(4, 3)), GENERATOR.normal(size=3)],
        *[["relu"], ["elu"], ["silu"], ["centre"], ["unit", 1e-12], ["unit", 0.5], ["softmax"]],
        ["affine", GENERATOR.normal(size=4), 2.0],
        ["block", [["linear", GENERATOR.normal(size=(4, 4)), 0.0], ["silu"]], 0.7, 0.2],
    ],
    ids=lambda layer: layer[0],
)
def test_the_gradient_of_a_layer_is_that_of_differences(layer):
    x, h = GENERATOR.normal(size=(2, 4)), 1e-6
    y, back = inference.pull([layer], x)
    g = GENERATOR.normal(size=y.shape)
    step = [h * np.eye(4)[i] for i in range(4)]
    each = [(policy.run([layer], x + one) - policy.run([layer], x - one)) / (2 * h) for one in step]
    np.testing.assert_allclose(back(g), np.stack([(g * one).sum(-1) for one in each], -1), atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("algorithm", [estep.SAC(**SMALL), estep.IterativeSAC(**SMALL, iterations=2, samples=2)])
def test_the_program_in_jax_is_that_in_numpy(algorithm):
    """What is translated for ONNX where a policy infers."""
    given = subject(algorithm)
    program = program_of(given.agent, None, given.key)
    p, x = policy.bound(program.record, program.arrays), np.float32([0.1, -0.2, 0.3, 0.5, 1.0])
    p = {name: jnp.asarray(value) if isinstance(value, np.ndarray) else value for name, value in p.items()}
    made = policy.Policy({"format": 1, "program": program.record}, program.arrays)
    act = jax.jit(functools.partial(onnx_files.in_jax(p["kind"]), p))
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        found = act(x)
    np.testing.assert_allclose(found, made.action(x), atol=1e-5)


@pytest.mark.long
def test_the_gradient_of_v_over_choices_is_that_of_jax():
    given = subject(estep.IterativeSAC(iterations=1, num_critics=2, **SMALL), "one choice")
    agent, p = given.agent, None
    program = program_of(agent, None, given.key)
    p = policy.bound(program.record, program.arrays)
    x, lam = np.float32([0.1, -0.2, 0.3, 0.5, 1.0]), np.float32([0.5, -1.0, 0.2, 0.0])
    problem = agent.problem(agent.acting_critic(agent.likelihood), jnp.asarray(x))
    wanted = jax.grad(lambda lam: soft_value(Softmax(4)(lam), problem, given.key)[0])(lam)
    np.testing.assert_allclose(inference.value_slope(p, x, lam, None), wanted, atol=1e-5)


def test_a_policy_that_differs_is_not_written(tmp_path, monkeypatch):
    given = subject(estep.SAC(**SMALL))
    true = policy.LAYERS["relu"]
    monkeypatch.setitem(policy.LAYERS, "relu", lambda x: true(x) + np.float32(1e-4))
    with pytest.raises(NumericHalt, match=r"differs from the trained one by .* of the width"):
        export(given, "npz", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_network_of_your_own_is_refused(tmp_path):
    given = subject(estep.SAC(**SMALL))
    own = replace(given.agent, behave=lambda agent, obs, key: agent.behave(agent, obs, key))
    with pytest.raises(UsageError, match="acts by a function of its own"):
        export(given._replace(agent=own), "npz", tmp_path)


def test_the_files_are_short_and_need_numpy_alone():
    for module in (policy, inference):
        with open(module.__file__, encoding="utf-8") as file:
            text = file.read()
        assert len(text.splitlines()) < 200
        imported = {
            line.split()[1].partition(".")[0] for line in text.splitlines() if line.startswith(("import", "from"))
        }
        assert imported <= {
            "__future__",
            "collections",
            "importlib",
            "itertools",
            "json",
            "numpy",
            "pathlib",
            "sys",
            "typing",
            "estep",
        }
