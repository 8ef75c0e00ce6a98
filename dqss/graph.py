"""From any traceable model to its quantizable layers: fold batch normalisation, find layers, place specs."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dqss.spec import Bits, Protocol, QuantSpec, Scheme

QUANTIZABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
FOLDABLE: dict[type[nn.Module], tuple[type[nn.Module], ...]] = {
    nn.BatchNorm1d: (nn.Conv1d, nn.ConvTranspose1d, nn.Linear),
    nn.BatchNorm2d: (nn.Conv2d, nn.ConvTranspose2d),
    nn.BatchNorm3d: (nn.Conv3d, nn.ConvTranspose3d),
}

Layer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d | nn.Linear
Batch = Tensor | Sequence[Tensor]
"""A batch of model inputs: one tensor, or the positional inputs in their order."""


@dataclass(frozen=True)
class LayerSpecs:
    """The grids of one layer."""

    weight: QuantSpec
    activation: QuantSpec

    @property
    def bits(self) -> Bits:
        return Bits(self.weight.bits, self.activation.bits)


@dataclass(frozen=True)
class Prepared:
    """A model ready for quantization.

    Args:
        model: a traced copy in full precision, batch normalisation folded; in eval mode.
        layers: name -> its quantizable layers, in the order in which they first run.
        specs: name -> what the protocol says of the layer at these bits.
    """

    model: fx.GraphModule
    layers: dict[str, Layer]
    specs: dict[str, LayerSpecs]
    protocol: Protocol
    bits: Bits

    def at(self, bits: Bits) -> Prepared:
        """Return the same model prepared for other bits."""
        ends = {next(iter(self.layers)), next(reversed(self.layers))}
        specs = {name: _specs(layer, self.protocol, bits, name in ends) for name, layer in self.layers.items()}
        return replace(self, specs=specs, bits=bits)


class UntraceableError(ValueError):
    """A model that torch.fx cannot follow."""


def prepare(model: nn.Module, protocol: Protocol, bits: Bits) -> Prepared:
    """Return a traced, folded copy of the model with its layers and their specs; the model itself is not changed.

    Raises:
        UntraceableError: torch.fx cannot trace the model.
        ValueError: no convolution or linear layer in it, or one called in a way that a quantized layer cannot serve.
    """
    try:
        traced = fx.symbolic_trace(copy.deepcopy(model).eval())
    except Exception as error:
        raise UntraceableError(
            f"model: torch.fx cannot trace {type(model).__name__} ({error}). "
            "Move data-dependent control flow out of forward, or wrap it with torch.fx.wrap."
        ) from error
    fold_batch_norms(traced)
    for parameter in traced.parameters():
        parameter.requires_grad_(False)
    layers = _layers_of(traced)
    if not layers:
        raise ValueError(
            f"model: {type(model).__name__} calls no convolution or linear module. There is nothing to quantize."
        )
    return Prepared(traced, layers, {}, protocol, bits).at(bits)


def fold_batch_norms(model: fx.GraphModule) -> None:
    """Fold batch normalisations, in place, into the layers before them; the model's outputs stay as they are.

    A layer that is used twice, or whose output goes elsewhere too, keeps its normalisation behind it; so does one whose
    normalisation uses the batch's own statistics.
    """
    uses = Counter(str(node.target) for node in model.graph.nodes if node.op == "call_module")
    uses.update(str(node.target).rpartition(".")[0] for node in model.graph.nodes if node.op == "get_attr")
    for node in list(model.graph.nodes):
        source = node.args[0] if node.args else None
        if not (isinstance(source, fx.Node) and node.op == source.op == "call_module" and len(source.users) == 1):
            continue
        name, norm_name = str(source.target), str(node.target)
        layer, norm = model.get_submodule(name), model.get_submodule(norm_name)
        once = uses[name] == uses[norm_name] == 1
        if once and isinstance(layer, QUANTIZABLE) and isinstance(norm, _BatchNorm) and _foldable(layer, norm):
            model.set_submodule(name, _folded(layer, norm))
            node.replace_all_uses_with(source)
            model.graph.erase_node(node)
    model.delete_all_unused_submodules()
    model.recompile()


def _foldable(layer: Layer, norm: _BatchNorm) -> bool:
    # Of (N, L, F) inputs the normalisation takes the second axis, a linear layer the last: their sizes must agree.
    features = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    matches = type(layer) in FOLDABLE.get(type(norm), ()) and features == norm.num_features
    return matches and norm.running_mean is not None


def _folded(layer: Layer, norm: _BatchNorm) -> Layer:
    """Return one layer that does what `norm` after `layer` does, which is y * scale + shift per output channel."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = torch.rsqrt(norm.running_var + norm.eps) * (1 if norm.weight is None else norm.weight)
    shift = (0 if norm.bias is None else norm.bias) - norm.running_mean * scale
    # (groups, in / groups, out / groups, ...) for a transposed convolution, else (1, out, in / groups, ...).
    groups, axis = (layer.groups, 2) if isinstance(layer, TRANSPOSED) else (1, 1)
    grouped = layer.weight.unflatten(0, (groups, -1)).movedim(axis, 1)
    per_channel = scale.view(groups, -1, *[1] * (grouped.ndim - 2))
    folded = copy.deepcopy(layer)
    folded.weight = nn.Parameter((grouped * per_channel).movedim(1, axis).flatten(0, 1).contiguous())
    folded.bias = nn.Parameter(shift if layer.bias is None else layer.bias * scale + shift)
    return folded


def _layers_of(model: fx.GraphModule) -> dict[str, Layer]:
    layers: dict[str, Layer] = {}
    for node in model.graph.nodes:
        name = str(node.target)
        if node.op == "call_module" and isinstance(layer := model.get_submodule(name), QUANTIZABLE):
            if len(node.args) != 1 or node.kwargs:
                raise ValueError(
                    f"model: layer '{name}' is called with more than its one positional input. "
                    "Give what else it needs, as output_padding for output_size, at construction."
                )
            layers[name] = layer
    return layers


def _specs(layer: Layer, protocol: Protocol, bits: Bits, end: bool) -> LayerSpecs:
    if end and protocol.first_last_bits is not None:
        bits = Bits(protocol.first_last_bits, protocol.first_last_bits)
    axis = 1 if isinstance(layer, TRANSPOSED) else 0
    return LayerSpecs(
        weight=_spec(protocol.weight, bits.weight, axis), activation=_spec(protocol.activation, bits.activation, 1)
    )


def _spec(scheme: Scheme, bits: int, axis: int) -> QuantSpec:
    return QuantSpec(bits, scheme.symmetric, axis if scheme.granularity == "per-channel" else None)


def with_layers(prepared: Prepared, make: Callable[[str, Layer], nn.Module]) -> fx.GraphModule:
    """Return a copy of the model in which `make(name, layer)` stands in the place of each quantizable layer."""
    replaced = copy.deepcopy(prepared.model)
    # The copy's own layers, not those of `prepared`: what `make` does to one must not reach the full-precision model.
    for name, layer in _layers_of(replaced).items():
        replaced.set_submodule(name, make(name, layer))
    return replaced.eval()


def call(model: nn.Module, batch: Batch) -> Tensor:
    """Return the model's output for a batch; where the model gives several, the first.

    Raises:
        ValueError: the output is not a tensor.
    """
    output = model(batch) if isinstance(batch, Tensor) else model(*batch)
    if isinstance(output, tuple | list):
        output = output[0]
    if not isinstance(output, Tensor):
        raise ValueError(f"model: its output is a {type(output).__name__}. Wrap it so that it returns a tensor.")
    return output
