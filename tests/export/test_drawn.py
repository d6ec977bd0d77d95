"""Policies that leave the library with drawn actions: by equal random numbers they give the agent's own."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exported import DICT, subject

import estep
from estep.algorithms import ALGORITHMS
from estep.errors import NumericHalt, UsageError
from estep.export import write
from estep.export.drawn import drawing
from estep.export.parity import drawn as observations
from estep.families.autoregressive import AutoregressiveNormal
from estep.families.full_gaussian import FullNormal, strictly_lower
from estep.policy.actor import ACT, key_of
from estep.policy.saving import draws as keys_of_act

SMALL = {"hidden_sizes": (8, 8)}
KINDS = {
    "numbers": {},
    "one choice": {"action": "one choice"},
    "several choices": {"action": "several choices"},
    "dict": {"observation": DICT, "normalise": True},
    "two tasks": {"tasks": 2},
}
COUNT = 3_000


def export(given, form, folder, count=200):
    if form == "jax":
        pytest.importorskip("flatbuffers", reason="the extra jax-export is not installed")
    return write.export(given, form, observations(given, count), folder / form, replace=False)


def test_a_network_is_exported_and_draws_alone_by_its_seed(tmp_path):
    given = subject(estep.SAC(**SMALL), drawn=True)
    assert export(given, "npz", tmp_path).check.largest <= 1e-5
    table = json.loads((tmp_path / "npz" / "contract.json").read_text("utf-8"))
    assert (table["deterministic"], table["random_numbers"][:23]) == (False, "of a NumPy generator, w")
    block = "import sys; sys.modules['jax'] = sys.modules['estep'] = None; sys.path.insert(0, '.')\n"
    block += "from policy import load\nfor seed in (1, 1, 2):\n    p = load('policy.npz', seed)\n"
    block += "    print([p.act([.1, .2, .3, .4, .5]).tolist() for _ in range(2)])"
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path / "npz", capture_output=True, text=True)
    one, same, other = done.stdout.splitlines()
    assert one == same != other
    assert len({tuple(action) for action in json.loads(one)}) == 2  # the generator goes on


@pytest.mark.long
def test_a_draw_that_differs_is_not_written(tmp_path, monkeypatch):
    true = drawing.FAMILIES["gaussian"]
    monkeypatch.setitem(drawing.FAMILIES, "gaussian", lambda *given: true(*given) + np.float32(1e-3))
    with pytest.raises(NumericHalt, match="differs from the trained one"):
        export(subject(estep.SAC(**SMALL), drawn=True), "npz", tmp_path, 20)
    assert list(tmp_path.iterdir()) == []


def draws(function, *given):
    generator = np.random.default_rng(0)
    return np.stack([function(*given[:1], generator, *given[1:]) for _ in range(COUNT)])


def test_families_have_their_means_and_covariances():
    lam = np.float32([0.5, -1.0, -0.5, 0.2, 0.7])
    found = draws(drawing.of_full_gaussian, lam, 2, [-10.0, 2.0])
    shear = np.array([[1.0, 0.0], [0.7, 1.0]])
    root = np.diag(np.exp(bounded(lam[2:4]))) @ shear
    np.testing.assert_allclose(found.mean(0), lam[:2], atol=0.1)
    np.testing.assert_allclose(np.cov(found.T), root @ root.T, atol=0.2)
    logits = np.float32([0.0, 1.0, 2.0, 0.5, 0.0])
    share = draws(drawing.of_choices, logits, 3, 2).mean(0)
    softmax = [np.exp(part) / np.exp(part).sum() for part in (logits[:3], logits[3:])]
    np.testing.assert_allclose(share, np.concatenate(softmax), atol=0.04)
    mixture = np.float32([0.0, 1.0, -3.0, 3.0, -2.0, -2.0])
    right = (draws(drawing.of_mixture, mixture, 2, [-10.0, 2.0])[:, 0] > 0).mean()
    assert right == pytest.approx(np.e / (1 + np.e), abs=0.04)


def bounded(x):
    return drawing.soft_bound(x, -10.0, 2.0)


def test_a_family_draws_as_its_density_from_equal_noise():
    rng = np.random.default_rng(1)
    lam, noise = rng.normal(size=12).astype(np.float32), rng.normal(size=3).astype(np.float32)

    class Given:
        def standard_normal(self, shape):
            return noise

    log_sigma = jnp.asarray(bounded(lam[3:6]))
    full = FullNormal(lam[:3], log_sigma, strictly_lower(jnp.asarray(lam[6:9]), 3))
    found = drawing.of_full_gaussian(lam[:9], Given(), 3, [-10.0, 2.0])
    np.testing.assert_allclose(found, full._point(noise), atol=1e-5)
    bend, fan = (strictly_lower(jnp.asarray(lam[i : i + 3]), 3) for i in (6, 9))
    chained = AutoregressiveNormal(lam[:3], log_sigma, bend, fan)
    found = drawing.of_autoregressive(lam, Given(), 3, [-10.0, 2.0])
    np.testing.assert_allclose(found, chained._point(noise), atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_draws_as_its_agent_or_is_refused_with_the_reason(name, kind, tmp_path):
    try:
        given = subject(ALGORITHMS[name](**SMALL), **KINDS[kind], drawn=True)
    except UsageError:
        pytest.skip("this algorithm does not take it")
    if name in ("smcp", "pp-smc", "iterative-mve") or (name, kind) == ("iterative-sac", "several choices"):
        with pytest.raises(UsageError, match='format="jax"'):
            export(given, "npz", tmp_path)
    else:
        export(given, "npz", tmp_path)
    export(given, "jax", tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("posterior", ["gaussian", "full-gaussian", "autoregressive", "mixture"])
def test_every_posterior_draws_as_its_agent(posterior, tmp_path):
    export(subject(estep.Compose(**SMALL, posterior=posterior), drawn=True), "npz", tmp_path)


@pytest.mark.long
@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [(estep.SAC, {}), (estep.MPO, {"action": "several choices"}), (estep.Hierarchical, {"tasks": 2})],
)
def test_a_graph_has_its_noise_as_a_second_input(algorithm, settings, tmp_path):
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason="the extra onnx is not installed")
    given = subject(algorithm(**SMALL), **settings, drawn=True)
    assert export(given, "onnx", tmp_path).check.largest <= 1e-5
    table = json.loads((tmp_path / "onnx" / "contract.json").read_text("utf-8"))
    assert {law for law, _ in table["noise"]} <= {"standard normal", "Gumbel"}


@pytest.mark.long
def test_a_mixture_has_no_graph_of_draws(tmp_path):
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason="the extra onnx is not installed")
    with pytest.raises(UsageError, match=r"\(direct, mixture\) have no graph of ONNX"):
        export(subject(estep.Compose(**SMALL, posterior="mixture"), drawn=True), "onnx", tmp_path)


def test_seed_and_counter_of_a_jax_program_are_those_of_act():
    for seed, counter in ((0, 0), (3, 7)):
        wanted = jax.random.fold_in(key_of(seed, ACT), np.uint32(counter))
        found = keys_of_act(np.uint32(seed), np.uint32(counter))
        assert (jax.random.key_data(found) == jax.random.key_data(wanted)).all()
