"""The layers that can be quantized, and batch normalisation folded into them."""

from __future__ import annotations

import copy
from collections import Counter

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

QUANTIZABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
FOLDABLE: dict[type[nn.Module], tuple[type[nn.Module], ...]] = {
    nn.BatchNorm1d: (nn.Conv1d, nn.ConvTranspose1d, nn.Linear),
    nn.BatchNorm2d: (nn.Conv2d, nn.ConvTranspose2d),
    nn.BatchNorm3d: (nn.Conv3d, nn.ConvTranspose3d),
}

Layer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d | nn.Linear


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
