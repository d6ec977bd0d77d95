"""The networks of an agent as layers of `export.policy`, whose arrays have names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from estep.errors import UsageError
from estep.likelihoods.losses import MARGIN, HLGauss, Squared
from estep.likelihoods.q_function import MeanMinusStd, QFunction, minimum
from estep.nets import MLP, OwnHeads, Seeing, Simba, SimbaV2
from estep.nets.mlp import ACTIVATIONS, LEAST_VARIANCE
from estep.nets.residual import LEAST_SQUARE, SHIFT

Layers = list[list[Any]]


def refused(what: str) -> UsageError:
    """The error for a policy that only a JAX program can hold.

    Args:
        what: a sentence on what is in the way.
    """
    return UsageError(what, "Give --format jax, which exports every policy.")


class Arrays:
    """Arrays by name. In layers a name stands for its array, after a #."""

    def __init__(self) -> None:
        self.held: dict[str, npt.NDArray[Any]] = {}

    def put(self, array: Any) -> str:
        """Hold an array, in float32; returns what stands for it."""
        name = f"a{len(self.held)}"
        self.held[name] = np.ascontiguousarray(np.asarray(array, np.float32))
        return f"#{name}"

    def places(self, sees: Sequence[int]) -> str:
        """Hold places of the state; returns what stands for them."""
        name = f"a{len(self.held)}"
        self.held[name] = np.asarray(sees, np.int64)
        return f"#{name}"

    def network(self, net: Any, sees: Sequence[int] | None = None) -> dict[str, Any]:
        """The record of a network: what it sees of the state, how many tasks have outputs of their own, its layers.

        Args:
            net: the network.
            sees: the places of the state that it gets; None for all of it.

        Raises:
            UsageError: it is a network of somebody's own.
        """
        tasks = 0
        if isinstance(net, Seeing) and sees is None:
            net, sees = net.net, net.places
        if isinstance(net, OwnHeads) and sees is None:
            tasks, net = net.tasks, net.net
            sees = range(len(net.first[0])) if isinstance(net, MLP | Simba | SimbaV2) else None
        makers: dict[type, Callable[[Any], Layers]] = {MLP: self._mlp, Simba: self._simba, SimbaV2: self._simba2}
        if type(net) not in makers:
            raise refused(f"The network of this policy is a {type(net).__name__}, or holds one of your own.")
        return {"sees": None if sees is None else self.places(sees), "tasks": tasks, "layers": makers[type(net)](net)}

    def critics(self, likelihood: Any) -> dict[str, Any]:
        """The records of the networks of a critic, and β.

        Args:
            likelihood: the critic.

        Raises:
            UsageError: it is no ensemble of networks whose values become one by mean - β std.
        """
        if type(likelihood) is not QFunction:
            raise refused(f"Inference maximises a {type(likelihood).__name__}, whose gradient is not written out.")
        rule, count = likelihood.pessimism, len(likelihood.members)
        if rule is minimum and count <= 2:
            beta = float(count - 1)
        elif isinstance(rule, MeanMinusStd):
            beta = rule.beta
        else:
            raise refused("The critics of this policy become one by a rule of their own.")
        records = [self.network(member) for member in likelihood.members]
        if any(record["tasks"] for record in records):
            raise refused("The critics of this policy have outputs for each task, whose gradient is not written out.")
        for record in records:
            record["layers"] += self._value(likelihood.regression)
        return {"critics": records, "beta": beta}

    def _value(self, regression: Any) -> Layers:
        """The layers from the outputs of a critic's network to its value."""
        if type(regression) is HLGauss:
            middle = regression.width * (np.arange(regression.bins) + 0.5)
            return [["softmax"], ["linear", self.put(middle[:, None]), regression.low - regression.width * MARGIN]]
        if type(regression) is Squared:
            return [] if regression.unit == 1.0 else [["affine", regression.unit, 0.0]]
        raise refused("The critics of this policy are fitted by a loss of their own.")

    def _mlp(self, net: MLP) -> Layers:
        weights: list[Any] = [np.concatenate([np.asarray(block) for block in net.first]), *net.rest]
        layers: Layers = []
        for i, (weight, bias) in enumerate(zip(weights, net.biases, strict=True)):
            hidden = i < len(weights) - 1
            if net.norm and hidden:
                layers += [["linear", self.put(weight), 0.0], *norm(weight.shape[1], self.put(bias))]
            else:
                layers += [["linear", self.put(weight), self.put(bias)]]
            layers += [activation(net)] if hidden else []
        return layers

    def _simba(self, net: Simba) -> Layers:
        first = np.concatenate([np.asarray(block) for block in net.first])
        layers: Layers = [["linear", self.put(first), self.put(net.first_bias)]]
        for up, up_bias, down, down_bias in zip(net.up, net.up_biases, net.down, net.down_biases, strict=True):
            inner = [*norm(up.shape[0], 0.0), ["linear", self.put(up), self.put(up_bias)], activation(net)]
            layers += [["block", [*inner, ["linear", self.put(down), self.put(down_bias)]], 1.0, 1.0]]
        return [*layers, *norm(net.head.shape[0], 0.0), ["linear", self.put(net.head), self.put(net.bias)]]

    def _simba2(self, net: SimbaV2) -> Layers:
        first = np.concatenate([np.asarray(block) for block in net.first])
        unit: list[Any] = ["unit", LEAST_SQUARE]
        layers: Layers = [["linear", self.put(first), self.put(SHIFT * np.asarray(net.shift[0]))]]
        layers += [["affine", self.put(net.first_scale), 0.0], unit]
        share = net.head.shape[0] ** 0.5 / (len(net.up) + 1)
        for up, scale, down, mix in zip(net.up, net.up_scales, net.down, net.mixes, strict=True):
            inner = [["linear", self.put(up), 0.0], ["affine", self.put(scale), 0.0], activation(net)]
            part = share * np.asarray(mix)
            layers += [["block", [*inner, ["linear", self.put(down), 0.0], unit], self.put(1 - part), self.put(part)]]
            layers += [unit]
        layers += [["linear", self.put(net.last), 0.0], ["affine", self.put(net.last_scale), 0.0]]
        return [*layers, ["linear", self.put(net.head), self.put(net.bias)]]


def norm(size: int, bias: Any) -> Layers:
    """The layers of `layer_norm` of so many numbers, plus a bias."""
    return [["centre"], ["unit", size * LEAST_VARIANCE], ["affine", size**0.5, bias]]


def activation(net: Any) -> list[Any]:
    """The layer of a network's activation. Raises UsageError for one of somebody's own."""
    name = next((name for name, function in ACTIVATIONS.items() if function is net.activation), None)
    if name is None:
        raise refused("The network of this policy has an activation of your own.")
    return [name]
