"""A policy in ONNX: a graph of our own, or the NumPy program traced by JAX and translated by jax2onnx."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from estep.core.types import Floats
from estep.errors import describe
from estep.export import inference, policy
from estep.export.contract import Act, Made, Noise, Subject, contract, extra
from estep.export.drawn.graph import NOISE, Numbers, point
from estep.export.drawn.program import program as program_of
from estep.export.native import dtype_of, native
from estep.export.networks import refused
from estep.export.onnx_graph import OPSET, Graph
from estep.export.policy import Policy
from estep.runs import reading, strict

NAME = "policy.onnx"
IR = 10
"""The version of the file format."""
MOST_BYTES = 1 << 30


def made(subject: Subject) -> Made:
    """The files of a policy in ONNX: the graph, which has the contract as metadata, and the contract.

    Args:
        subject: the policy.

    Raises:
        UsageError: a package is missing, or the policy infers in a way that has no graph.
    """
    onnx, runtime = extra("onnx", "onnx"), extra("onnxruntime", "onnx")
    importlib.import_module("onnx.numpy_helper")
    program = program_of(subject)
    numpy_policy = Policy({"format": policy.FORMAT, "program": program.record}, program.arrays)
    infers = program.record["kind"] not in policy.KINDS
    if infers and subject.draws is not None:
        raise refused("Drawn actions of a policy that infers while it acts have no graph of ONNX.")
    model, laws = (_traced(subject, numpy_policy), []) if infers else _own(onnx, subject, numpy_policy.p)
    text = strict.dump(contract(subject, "onnx", infers) | ({"noise": laws} if laws else {}), indent=1)
    onnx.helper.set_model_props(model, {"contract": text.decode()})
    onnx.checker.check_model(model)
    shape = subject.shape

    def opened(folder: Path) -> Act:
        data = reading.read_path(folder / NAME, MOST_BYTES)
        session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])

        def act(obs: Floats, noise: Noise | None) -> Any:
            given = {"observation": obs.reshape(-1, *shape)}
            if laws:
                size = sum(count for _, count in laws)
                each = [np.zeros(size)] * len(obs) if noise is None else [np.concatenate(row) for row in noise]
                given[NOISE] = np.asarray(each, np.float32)
            return _run(session, given, len(obs))

        return act

    return Made({NAME: model.SerializeToString(), "contract.json": text + b"\n"}, opened, numpy_policy, infers)


def _run(session: Any, given: Mapping[str, Any], count: int) -> Any:
    """The actions of a graph. The check of an export runs it, so a translation that was wrong is refused."""
    try:
        found = session.run(None, given)[0]
    except Exception as error:  # the package has no kind of its own for a graph that does not fit
        what = f"ONNX Runtime cannot run the graph of this policy: {describe(error)[:200]}."
        raise refused(what) from error
    if len(found) != count:
        raise refused(f"The graph of this policy gave {len(found)} actions for {count} observations.")
    return found


def _own(onnx: Any, subject: Subject, p: Mapping[str, Any]) -> tuple[Any, list[tuple[str, int]]]:
    """The model of a policy that acts by one pass of networks, and the laws of its random numbers."""
    graph, spec, space = Graph(onnx), subject.agent.spec, subject.action_space
    x, size = graph.shaped("observation", 0, spec.obs_dim), spec.obs_dim
    if len(subject.shape) != 1:
        x = graph.shaped("observation", 0, -1)
    if p["scale"] is not None:
        scaled = graph.node("Mul", graph.node("Sub", x, graph.constant(p["mean"])), graph.constant(p["scale"]))
        x = graph.node("Clip", scaled, graph.constant(-10.0), graph.constant(10.0))
    numbers = Numbers(graph)
    if subject.draws is not None:
        u, numbers = point(graph, p, x, size)
    elif p["kind"] == "columns":
        u = graph.columns(p, x, size, spec.action_dim)
    else:
        more = []
        if p["kind"] == "levels":
            more = [graph.sliced(graph.network(p["top"], x, size), 0, p["latent"])]
        u = graph.mode(p["mode"], graph.network(p["net"], x, size, *more), spec.action_dim)
    if spec.factors:
        y = graph.choices(u, spec.factors, space.record()["start"])
    else:
        a = graph.node("Tanh", u) if p["squash"] == "tanh" else u
        a = graph.node("Clip", u, graph.constant(-1.0), graph.constant(1.0)) if p["squash"] == "clip" else a
        low, high = (np.asarray(space.record()[name]) for name in ("low", "high"))
        y = graph.node("Mul", a, graph.constant(high / 2 - low / 2))
        y = graph.node("Add", y, graph.constant(high / 2 + low / 2))
        y = graph.node("Max", graph.node("Min", y, graph.constant(high)), graph.constant(low))
    helper = onnx.helper
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype_of(space)))
    y = graph.node("Cast", y, to=kind)
    shape = graph.ints(0, *space.shape) if space.shape else graph.ints(-1)
    graph.nodes.append(helper.make_node("Reshape", [y, shape], ["action"]))
    float32 = onnx.TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info("observation", float32, ["batch", *subject.shape])]
    if numbers.laws:
        inputs.append(helper.make_tensor_value_info(NOISE, float32, ["batch", numbers.size]))
    outputs = [helper.make_tensor_value_info("action", kind, ["batch", *space.shape])]
    body = helper.make_graph(graph.nodes, "policy", inputs, outputs, graph.constants)
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(body, opset_imports=opset, ir_version=IR, producer_name="estep"), numbers.laws


def _traced(subject: Subject, program: Policy) -> Any:
    """The model of a policy that infers while it acts, by jax2onnx. Raises UsageError where that cannot."""
    translate = extra("jax2onnx", "jax2onnx")
    p: dict[str, Any] = {
        name: jnp.asarray(value) if isinstance(value, np.ndarray) else value for name, value in program.p.items()
    }
    act = in_jax(p["kind"])

    def whole(observation: Any) -> Any:
        def one(x: Any) -> Any:
            x = x.reshape(-1)
            if p["scale"] is not None:
                x = jnp.clip((x - p["mean"]) * p["scale"], -10.0, 10.0)
            return act(p, x)

        return native(subject.action_space, jax.vmap(one)(observation))

    logging.getLogger("jax2onnx").setLevel(logging.ERROR)  # it warns of each plugin whose library is not there
    try:
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):  # as NumPy has them
            model = translate.to_onnx(whole, [("batch", *subject.shape)], model_name="policy", opset=OPSET)
    except Exception as error:  # of whatever kind: the package translates only a part of JAX
        what = f"jax2onnx cannot translate the inference of this policy: {describe(error)[:200]}."
        raise refused(what) from error
    del model.graph.value_info[:]  # its shapes of values in between are wrong where a policy chooses
    names = {model.graph.input[0].name: "observation", model.graph.output[0].name: "action"}
    for value in (*model.graph.input, *model.graph.output):
        value.name = names[value.name]
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    return model


def in_jax(kind: str) -> Any:
    """The NumPy program of a kind with JAX in NumPy's place: from (program, state) to the action in [-1, 1]."""
    ours, more = _copy(policy), _copy(inference)
    table: Mapping[str, Any] = {**ours.KINDS, **more.KINDS}
    for name in vars(more):
        if name in vars(ours) and not name.startswith("__"):
            setattr(more, name, getattr(ours, name))
    for module in (ours, more):
        module.np = jnp
    return lambda p, x: ours.SQUASH[p["squash"]](table[kind](p, x))


def _copy(module: ModuleType) -> Any:
    """A module of its own from the same source."""
    spec = importlib.util.spec_from_file_location(f"{module.__name__}_in_jax", str(module.__file__))
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made
