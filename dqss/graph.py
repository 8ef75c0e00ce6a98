"""From any model to its quantizable layers: trace, fold batch normalisation, find layers, place specs."""

from __future__ import annotations

import copy
import logging
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from dqss.attention import Attention
from dqss.folding import QUANTIZABLE, fold_batch_norms
from dqss.folding import TRANSPOSED as TRANSPOSED
from dqss.folding import Layer as Layer
from dqss.inputs import Batch, call, check_batch, defaults
from dqss.plain import plain_copy
from dqss.spec import Bits, Protocol, QuantSpec, Scheme
from dqss.tracing import FUNCTIONS, trace, with_function_layers

PRODUCTS = {
    *FUNCTIONS,
    *(torch.matmul, torch.mm, torch.bmm, torch.einsum, torch.addmm, torch.baddbmm, operator.matmul),
    F.scaled_dot_product_attention,
    *(f"torch.Tensor.{name}" for name in ("matmul", "mm", "bmm", "addmm", "baddbmm")),
}
"""Functions and methods that multiply as a layer does."""

SHUFFLES = {torch.pixel_shuffle, F.pixel_shuffle, "pixel_shuffle"}
"""Functions and methods that enlarge an image by moving channels into pixels, as nn.PixelShuffle does."""

logger = logging.getLogger(__name__)


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
        model: a copy in full precision, in eval mode; where it could be traced, batch normalisation is folded.
        layers: name -> its quantizable layers, in the order in which they first run.
        specs: name -> what the protocol says of the layer at these bits.
        ends: names of those layers that the protocol's `first_last_bits` are of.
        notes: what could not be done as for other models, and what stays in full precision; in whole sentences.
    """

    model: nn.Module
    layers: dict[str, Layer]
    specs: dict[str, LayerSpecs]
    protocol: Protocol
    bits: Bits
    ends: frozenset[str]
    notes: tuple[str, ...] = ()

    def at(self, bits: Bits) -> Prepared:
        """Return the same model prepared for other bits."""
        specs = {name: _specs(layer, self.protocol, bits, name in self.ends) for name, layer in self.layers.items()}
        return replace(self, specs=specs, bits=bits)


class UntraceableError(ValueError):
    """A model that torch.fx cannot follow, where no batch is there to tell its layers by."""


def prepare(model: nn.Module, protocol: Protocol, bits: Bits, batches: Sequence[Batch] = ()) -> Prepared:
    """Return a traced, folded copy of the model with its layers and their specs; the model itself is not changed.

    With batches, a model that torch.fx cannot trace, or whose graph gives other outputs, is prepared too: its layers
    are those that the batches pass, and its batch normalisation is not folded. Whatever stays in full precision is said
    in the notes, which are logged.

    Args:
        batches: inputs of the model. One of them is sent through it twice; where it cannot be traced, all of them once.

    Raises:
        UntraceableError: torch.fx cannot trace the model, and there are no batches.
        ValueError: no convolution or linear layer in it, a batch is not what the model takes, or torch.fx cannot trace
            a model whose tail the protocol wants to know.
    """
    for position, batch in enumerate(batches, start=1):
        check_batch(model, batch, f"batch {position} of {len(batches)}")
    plain = plain_copy(model)
    try:
        traced = _traced(plain, batches)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if not batches:
            raise UntraceableError(
                f"model: torch.fx cannot trace {type(model).__name__} ({reason}). Move data-dependent control flow out "
                "of forward, wrap it with torch.fx.wrap, or give batches, by which its layers can be told."
            ) from error
        prepared_model, layers = plain, layers_that_run(plain, batches)
        notes = [
            f"torch.fx cannot trace {type(model).__name__} ({reason}): its layers are replaced one by one, and batch "
            "normalisation is not folded."
        ]
    else:
        prepared_model, layers = traced, _layers_of(traced)
        notes = []
    if not layers:
        raise ValueError(
            f"model: {type(model).__name__} calls no convolution or linear layer. There is nothing to quantize."
        )
    if rest := in_full_precision(prepared_model, layers):
        notes.append(f"In full precision stay {', '.join(rest)}.")
    if notes:
        logger.warning("%s", " ".join(notes))
    ends = frozenset([next(iter(layers)), *tail_of(prepared_model, layers, protocol)])
    return Prepared(prepared_model, layers, {}, protocol, bits, ends, tuple(notes)).at(bits)


def _traced(plain: nn.Module, batches: Sequence[Batch]) -> fx.GraphModule:
    """Return the model's graph, folded.

    Raises:
        Exception: of any kind, where torch.fx cannot follow the model.
        ValueError: the graph does another thing than the model.
    """
    if not batches:
        traced = trace(plain, {})
    else:
        # Switches that the batches leave alone are no inputs: control flow may depend on them.
        traced = trace(plain, defaults(plain, batches[0]))
        with torch.no_grad():
            expected = call(plain, batches[0])
            output = call(traced, batches[0])
        far = 1e-3 * expected.detach().abs().max().item() if expected.numel() else 0.0
        if output.shape != expected.shape or not torch.allclose(output, expected, rtol=0, atol=far, equal_nan=True):
            raise ValueError("its graph gives other outputs than the model")
    traced = with_function_layers(traced)
    fold_batch_norms(traced)
    return traced.eval().requires_grad_(False)


def layers_that_run(model: nn.Module, batches: Sequence[Batch]) -> dict[str, Layer]:
    """Return the layers that the batches pass, in the order in which they first run.

    A subclass with a forward of its own may do more than its weight tells, and is not among them.
    """
    seen: dict[str, Layer] = {}
    names = {module: name for name, module in model.named_modules() if _is_plain_layer(module)}

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, QUANTIZABLE)
        seen.setdefault(names[module], module)

    hooks = [module.register_forward_pre_hook(note) for module in names]
    try:
        with torch.no_grad():
            for batch in batches:
                call(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def tail_of(model: nn.Module, layers: Mapping[str, Layer], protocol: Protocol) -> list[str]:
    """Return the names of the layers that the protocol counts as the last one.

    Raises:
        ValueError: the model is no graph, and only that tells where it shuffles pixels.
    """
    names = list(layers)
    if protocol.tail == "last-layer":
        return names[-1:]
    if not isinstance(model, fx.GraphModule):
        raise ValueError(
            f"protocol: the tail '{protocol.tail}' cannot be told of a model that torch.fx cannot trace. "
            "Give a protocol with the tail 'last-layer'."
        )
    latest = 0
    for node in model.graph.nodes:
        module = model.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.PixelShuffle) or node.target in SHUFFLES:
            return names[latest:]
        if str(node.target) in layers:
            latest = names.index(str(node.target))
            if isinstance(module, TRANSPOSED) and max(module.stride) > 1:
                return names[latest:]
    return names[-1:]


def _is_plain_layer(module: nn.Module) -> bool:
    return isinstance(module, QUANTIZABLE) and any(type(module).forward is kind.forward for kind in QUANTIZABLE)


def in_full_precision(model: nn.Module, layers: Mapping[str, Layer]) -> list[str]:
    """Return what multiplies but is not quantized: other weights of two or more axes, products of activations."""
    quantized = set(layers.values())
    rest = [
        f"{prefix}{'.' if prefix else ''}{name} ({type(module).__name__})"
        for prefix, module in model.named_modules()
        if module not in quantized
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.ndim > 1
    ]
    rest += [
        f"the products in {name} (Attention)" for name, part in model.named_modules() if isinstance(part, Attention)
    ]
    if isinstance(model, fx.GraphModule):
        rest += [f"{node.name} (a product of activations)" for node in model.graph.nodes if _multiplies(node)]
    return rest


def _multiplies(node: fx.Node) -> bool:
    target = f"torch.Tensor.{node.target}" if node.op == "call_method" else node.target
    return node.op in ("call_function", "call_method") and target in PRODUCTS


def _layers_of(model: fx.GraphModule) -> dict[str, Layer]:
    layers: dict[str, Layer] = {}
    for node in model.graph.nodes:
        if node.op != "call_module":
            continue
        # Modules that torch.fx takes as one step, such as transformer layers, have their layers inside.
        for path, module in model.get_submodule(str(node.target)).named_modules(prefix=str(node.target)):
            if isinstance(module, QUANTIZABLE) and not _inside_attention(model, path):
                layers.setdefault(path, module)
    return layers


def _inside_attention(model: nn.Module, path: str) -> bool:
    # nn.MultiheadAttention reads its out_proj's weight and never calls it.
    return isinstance(model.get_submodule(path.rpartition(".")[0]), nn.MultiheadAttention)


def _specs(layer: Layer, protocol: Protocol, bits: Bits, end: bool) -> LayerSpecs:
    if end and protocol.first_last_bits is not None:
        bits = Bits(protocol.first_last_bits, protocol.first_last_bits)
    axis = 1 if isinstance(layer, TRANSPOSED) else 0
    return LayerSpecs(
        weight=_spec(protocol.weight, bits.weight, axis), activation=_spec(protocol.activation, bits.activation, 1)
    )


def _spec(scheme: Scheme, bits: int, axis: int) -> QuantSpec:
    return QuantSpec(bits, scheme.symmetric, axis if scheme.granularity == "per-channel" else None)


def with_layers(prepared: Prepared, make: Callable[[str, Layer], nn.Module]) -> nn.Module:
    """Return a copy of the model in which `make(name, layer)` stands in the place of each quantizable layer."""
    replaced = copy.deepcopy(prepared.model)
    # The copy's own layers, not those of `prepared`: what `make` does to one must not reach the full-precision model.
    paths: dict[nn.Module, list[str]] = {}
    for path, module in replaced.named_modules(remove_duplicate=False):
        paths.setdefault(module, []).append(path)
    for name in prepared.layers:
        layer = replaced.get_submodule(name)
        assert isinstance(layer, QUANTIZABLE)
        made = make(name, layer)
        # Untraced models may call one layer by several names.
        for path in paths[layer]:
            replaced.set_submodule(path, made)
    return replaced.eval()
