"""Signal to quantization noise of each layer of a trained quantized model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dqss.layers import LearnedLayer
from dqss.learned.base import LearnedQuantizer
from dqss.sqnr import decibels


def learned_sqnr(
    model: nn.Module, names: Sequence[str], batches: Iterable[Tensor]
) -> dict[str, tuple[float | None, float | None]]:
    """Return layer name -> SQNR in dB of its weights, and of its inputs over some batches.

    Signal is what the quantizer rounds: where an algorithm changes values before that, the changed ones.

    Args:
        model: that training gave, in eval mode; each layer has one pair of quantizers.
        names: of its layers.
        batches: inputs of the model.
    """
    powers = {name: [0.0, 0.0] for name in names}

    def watch(name: str) -> Any:
        def hook(layer: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
            signal, noise = _powers(_quantizer(layer, "activation"), args[0] if args else kwargs["input"])
            powers[name][0] += signal
            powers[name][1] += noise

        return hook

    layers = {name: model.get_submodule(name) for name in names}
    hooks = [layer.register_forward_pre_hook(watch(name), with_kwargs=True) for name, layer in layers.items()]
    try:
        with torch.no_grad():
            for batch in batches:
                model(batch)
            weights = {
                name: _powers(_quantizer(layer, "weight"), layer.get_parameter("layer.weight"))
                for name, layer in layers.items()
            }
    finally:
        for hook in hooks:
            hook.remove()
    return {name: (decibels(*weights[name]), decibels(*powers[name])) for name in names}


def _quantizer(layer: nn.Module, kind: str) -> LearnedQuantizer:
    assert isinstance(layer, LearnedLayer)
    only: LearnedQuantizer = getattr(layer, f"{kind}_quantizers")[0]
    return only


def _powers(quantizer: LearnedQuantizer, x: Tensor) -> tuple[float, float]:
    exact = quantizer.transformed(x)
    noise = quantizer(x) - exact
    return exact.double().square().sum().item(), noise.double().square().sum().item()
