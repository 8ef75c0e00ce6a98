"""The network that is trained: its layers hold the latent weights and, for each candidate, a learned quantizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from dqss.calibrate import Calibration
from dqss.graph import Layer, Prepared, with_layers
from dqss.layers import LearnedLayer
from dqss.learned import LEARNED
from dqss.learned.base import Learned
from dqss.quantizers import QUANTIZERS
from dqss.strategy import Strategy


@dataclass(frozen=True)
class Supernet:
    """A network that shares its latent weights among all strategies.

    Args:
        model: with a LearnedLayer in the place of each quantizable layer.
        layers: name -> its LearnedLayer in `model`, in the network's order.
    """

    model: nn.Module
    layers: dict[str, LearnedLayer]


def weight_algorithms(names: Sequence[str]) -> dict[str, Learned]:
    """Return name -> algorithm for weights, of those named or of those that stand in for them.

    >>> list(weight_algorithms(["pact", "lsq", "dorefa"]))
    ['dorefa', 'lsq']

    Raises:
        UnknownNameError: no such name.
    """
    resolved = [LEARNED.load(name).weight_from or name for name in names]
    return {name: LEARNED.create(name) for name in resolved}


def activation_algorithms(names: Sequence[str]) -> dict[str, Learned]:
    """Return name -> algorithm for activations, likewise.

    >>> list(activation_algorithms(["sawb", "lsq"]))
    ['pact', 'lsq']

    Raises:
        UnknownNameError: no such name.
    """
    resolved = [LEARNED.load(name).activation_from or name for name in names]
    return {name: LEARNED.create(name) for name in resolved}


def supernet_of(
    prepared: Prepared,
    calibration: Calibration,
    start: Strategy,
    weights: Mapping[str, Learned],
    activations: Mapping[str, Learned],
) -> Supernet:
    """Return a copy of the prepared model whose layers hold all candidates, as they begin.

    Args:
        prepared: the model in full precision with its layers and specs.
        calibration: of it.
        start: a post-training strategy; in each layer candidates begin at the ranges of its algorithms there.
        weights: name -> candidate for weights.
        activations: name -> candidate for activations.
    """

    def learned(name: str, layer: Layer) -> LearnedLayer:
        specs, seen, inputs = prepared.specs[name], calibration.weights[name], calibration.activations[name]
        of_weights = QUANTIZERS.create(start.layers[name].weight)
        of_inputs = QUANTIZERS.create(start.layers[name].activation)
        weight = layer.weight.detach()
        made = LearnedLayer(
            layer,
            [each.beginning_at(of_weights).for_weight(weight, seen, specs.weight) for each in weights.values()],
            [each.beginning_at(of_inputs).for_activation(inputs, specs.activation) for each in activations.values()],
        )
        return made.to(layer.weight.device)

    model = with_layers(prepared, learned)
    layers = {name: model.get_submodule(name) for name in prepared.layers}
    return Supernet(model, {name: layer for name, layer in layers.items() if isinstance(layer, LearnedLayer)})


def settled(supernet: Supernet) -> nn.Module:
    """Return the trained model in eval mode, its grids those of the weights as the last step left them."""
    for layer in supernet.layers.values():
        layer.settle()
    return supernet.model.eval().requires_grad_(False)
