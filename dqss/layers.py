"""Layers that stand in the place of a convolution or linear layer: with one pair of grids, or with candidates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dqss.functional import Qparams, fake_quantize
from dqss.graph import Layer
from dqss.learned.mixture import mixture, sum_of
from dqss.mixture import ActivationMixture, mix_weights

if TYPE_CHECKING:
    from dqss.learned.base import LearnedQuantizer

    Mix = Callable[[Tensor, Sequence[LearnedQuantizer], Tensor], Tensor]


class QuantizedLayer(nn.Module):
    """A layer with quantized weights whose inputs are fake-quantized.

    Args:
        layer: gives the operation and the bias; its weight is replaced.
        weight: the quantized weight, in float.
        activation: the grid of the inputs.
        bias: in place of the layer's own.
    """

    def __init__(self, layer: Layer, weight: Tensor, activation: Qparams, bias: Tensor | None = None) -> None:
        super().__init__()
        self.layer = layer
        self.layer.weight = nn.Parameter(weight.clone(), requires_grad=False)
        if bias is not None:
            self.layer.bias = nn.Parameter(bias.clone(), requires_grad=False)
        self.spec = activation.spec
        self.register_buffer("scale", activation.scale)
        self.register_buffer("zero_point", activation.zero_point)

    @property
    def activation(self) -> Qparams:
        return Qparams(self.get_buffer("scale"), self.get_buffer("zero_point"), self.spec)

    def __getattr__(self, name: str) -> Any:
        return _attribute(self, name)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Run the layer; its arguments are those of the layer (output_size: of transposed convolutions)."""
        output: Tensor = self.layer(*_arguments(fake_quantize(input, self.activation), output_size))
        return output


class CandidateLayer(nn.Module):
    """A layer that holds every candidate and runs either one pair of them or a relaxed mixture.

    Args:
        layer: gives the operation and the bias.
        weights: (M, ...), the quantized weight by each weight candidate.
        activations: the grid of the inputs by each activation candidate.
        biases: (M, C_out), the bias that goes with each weight; None where all have the layer's own.
    """

    weights: Tensor
    biases: Tensor | None

    def __init__(
        self, layer: Layer, weights: Tensor, activations: Sequence[Qparams], biases: Tensor | None = None
    ) -> None:
        super().__init__()
        self.layer = layer
        if biases is not None and layer.bias is None:
            layer.bias = nn.Parameter(torch.zeros_like(biases[0]), requires_grad=False)
        self.register_buffer("weights", weights)
        self.register_buffer("biases", biases)
        self.activations = list(activations)
        self.mixture = ActivationMixture(activations)
        self.mixing: tuple[Tensor, Tensor] | None = None
        self.blend = 1.0
        self.choice = (0, 0)

    def choose(self, weight: int, activation: int) -> None:
        """Run this pair of candidates from now on."""
        self.mixing = None
        self.choice = (weight, activation)

    def mix(self, weight: Tensor, activation: Tensor, blend: float = 1.0) -> None:
        """Run the mixture of candidates with these mixing weights from now on.

        Args:
            weight: (M,).
            activation: (N,).
            blend: the share of the mixture; the rest is what the layer has in full precision.
        """
        self.mixing = (weight, activation)
        self.blend = blend

    def __getattr__(self, name: str) -> Any:
        return _attribute(self, name)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Run the layer; its arguments are those of the layer (output_size: of transposed convolutions)."""
        if self.mixing is None:
            parameters = {name: stack[self.choice[0]] for name, stack in self._stacks()}
            x = fake_quantize(input, self.activations[self.choice[1]])
        else:
            parameters = {name: mix_weights(stack, self.mixing[0]) for name, stack in self._stacks()}
            x = self.mixture(input, self.mixing[1], self.blend)
            if self.blend < 1:
                parameters = {
                    name: torch.lerp(self.layer.get_parameter(name), mixed, self.blend)
                    for name, mixed in parameters.items()
                }
        output: Tensor = functional_call(self.layer, parameters, _arguments(x, output_size))
        return output

    def _stacks(self) -> list[tuple[str, Tensor]]:
        """Return the layer's parameters that candidates set, each with one entry per weight candidate."""
        return [("weight", self.weights)] + ([] if self.biases is None else [("bias", self.biases)])


class LearnedLayer(nn.Module):
    """A layer whose latent weight is trained, with the quantizers of its candidates, which all share it.

    It runs the mixture of all pairs of candidates as one layer: the layer is bilinear in weight and inputs.

    Args:
        layer: gives the operation, the latent weight and the bias.
        weights: M candidates for its weight.
        activations: N candidates for its inputs.
    """

    def __init__(
        self, layer: Layer, weights: Sequence[LearnedQuantizer], activations: Sequence[LearnedQuantizer]
    ) -> None:
        super().__init__()
        self.layer = layer
        self.weight_quantizers = nn.ModuleList(weights)
        self.activation_quantizers = nn.ModuleList(activations)
        self.passed_over = nn.ModuleList()
        self.mixing = even_odds(len(weights)), even_odds(len(activations))

    def mix(self, weight: Tensor, activation: Tensor) -> None:
        """Run the mixture of candidates with these mixing weights, (M,) and (N,), from now on."""
        self.mixing = (weight, activation)

    def derive(self, weight: int, activation: int) -> None:
        """Run this pair of candidates alone from now on.

        The others stay in the module until it is settled: what wraps it for training holds their parameters.
        """
        self.passed_over.extend(part for i, part in enumerate(self.weight_quantizers) if i != weight)
        self.passed_over.extend(part for j, part in enumerate(self.activation_quantizers) if j != activation)
        self.weight_quantizers = self.weight_quantizers[weight : weight + 1]
        self.activation_quantizers = self.activation_quantizers[activation : activation + 1]
        self.mixing = even_odds(1), even_odds(1)

    def settle(self) -> None:
        """Drop the candidates passed over, and bring grids that depend on the weight to the weight as it stands."""
        self.passed_over = nn.ModuleList()
        with torch.no_grad():
            for quantizer in self.weight_quantizers:
                quantizer(self.layer.weight)

    def quantizers(self) -> Iterator[nn.Module]:
        """Yield the candidates for the weight, then those for the inputs."""
        return chain(self.weight_quantizers, self.activation_quantizers)

    def __getattr__(self, name: str) -> Any:
        return _attribute(self, name)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Run the layer; its arguments are those of the layer (output_size: of transposed convolutions)."""
        weight = _quantized(self.weight_quantizers, self.layer.weight, self.mixing[0], sum_of)
        x = _quantized(self.activation_quantizers, input, self.mixing[1], mixture)
        output: Tensor = functional_call(self.layer, {"weight": weight}, _arguments(x, output_size))
        return output


def even_odds(count: int) -> Tensor:
    """Return as many equal mixing weights."""
    return torch.full((count,), 1 / count)


def _quantized(quantizers: Iterable[Any], x: Tensor, mixing: Tensor, mix: Mix) -> Tensor:
    candidates: list[LearnedQuantizer] = list(quantizers)
    return candidates[0](x) if len(candidates) == 1 else mix(x, candidates, mixing)


def _attribute(module: nn.Module, name: str) -> Any:
    # Models may read a layer's weight or stride beside calling it.
    try:
        return nn.Module.__getattr__(module, name)
    except AttributeError:
        layer = vars(module).get("_modules", {}).get("layer")
        if layer is None:
            raise
        return getattr(layer, name)


def _arguments(x: Tensor, output_size: list[int] | None) -> tuple[Any, ...]:
    return (x,) if output_size is None else (x, output_size)
