"""Policies in ONNX act as their agents, by onnxruntime."""

import json

import numpy as np
import pytest
from exported import DICT, subject
from gymnasium import spaces

import estep
from estep.export import write
from estep.export.parity import drawn

SMALL = {"hidden_sizes": (8, 8)}
IMAGE = spaces.Box(-1, 1, (2, 3, 1))


for package in ("onnx", "onnxruntime"):
    pytest.importorskip(package, reason="the extra onnx is not installed")


def export(given, folder):
    return write.export(given, "onnx", drawn(given, 200), folder / "onnx", replace=False)


def test_a_graph_acts_as_its_agent_and_holds_the_contract(tmp_path):
    export(subject(estep.SAC(**SMALL), observation=IMAGE, normalise=True), tmp_path)
    onnx = pytest.importorskip("onnx")
    model = onnx.load(tmp_path / "onnx" / "policy.onnx")
    (contract,) = (entry.value for entry in model.metadata_props if entry.key == "contract")
    assert json.loads(contract) == json.loads((tmp_path / "onnx" / "contract.json").read_text("utf-8"))
    sizes = [one.dim_param or one.dim_value for one in model.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == ["batch", 2, 3, 1]


DIRECT = {
    "several choices": (estep.SAC(**SMALL), {"action": "several choices"}),
    "one choice of a dict": (estep.MPO(**SMALL), {"action": "one choice", "observation": DICT}),
    "wide numbers": (estep.SAC(**SMALL), {"action": spaces.Box(-1, 2, (2, 2), np.float64)}),
    "simba": (estep.SAC(**SMALL, network="simba"), {"normalise": True}),
    "simba2": (estep.MPO(**SMALL, network="simba2"), {}),
    "mixture": (estep.Compose(**SMALL, posterior="mixture"), {}),
    "autoregressive": (estep.Compose(**SMALL, posterior="autoregressive"), {}),
    "two columns": (estep.Distral(**SMALL), {"tasks": 2}),
    "two levels": (estep.Hierarchical(**SMALL), {"tasks": 2}),
}


@pytest.mark.long
@pytest.mark.parametrize("name", DIRECT)
def test_every_network_has_a_graph(name, tmp_path):
    algorithm, settings = DIRECT[name]
    assert export(subject(algorithm, **settings), tmp_path).check.largest <= 1e-5


INFERENCE = {
    "numbers": (estep.IterativeSAC(**SMALL, iterations=2, samples=2), {}),
    "a choice": (estep.IterativeSAC(**SMALL, iterations=2, samples=2), {"action": "one choice"}),
    "a dict": (estep.IterativeSAC(**SMALL, iterations=2, samples=2), {"observation": DICT, "normalise": True}),
    "a direct start": (
        estep.IterativeSAC(**SMALL, iterations=2, samples=2, direct_start=True, network="simba2"),
        {"tasks": 2},
    ),
    "layer norm": (estep.IterativeSAC(**SMALL, iterations=2, samples=2, grad_encoding="layer_norm"), {}),
    "particles": (estep.SQL(**SMALL), {}),
    "particles of two tasks": (estep.SQL(**SMALL), {"tasks": 2}),
}


@pytest.mark.long
@pytest.mark.parametrize("name", INFERENCE)
def test_inference_is_translated(name, tmp_path):
    pytest.importorskip("jax2onnx", reason="the extra jax2onnx is not installed")
    algorithm, settings = INFERENCE[name]
    made = export(subject(algorithm, **settings), tmp_path)
    assert made.check.largest <= 1e-4
