"""Sensitivity of each layer under a strategy: what quantizing it alone costs.

Cai et al., "ZeroQ: A Novel Zero Shot Quantization Framework" (CVPR 2020), section 3: the output loss between the
full-precision model and the one with a single quantized layer.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence

import torch

from dqss.calibrate import Calibration
from dqss.candidates import activation_candidate, weight_candidate
from dqss.graph import Prepared, with_layers
from dqss.inputs import Batch, call
from dqss.layers import QuantizedLayer
from dqss.matching import OutputLoss
from dqss.strategy import Choice, Strategy
from dqss.weights import quantized_weight


def layer_sensitivity(
    prepared: Prepared,
    calibration: Calibration,
    batches: Sequence[Batch],
    loss: OutputLoss,
    strategy: Strategy,
    known: MutableMapping[tuple[str, Choice], float],
) -> dict[str, float]:
    """Return layer name -> the loss over the calibration set with that layer quantized and all others exact.

    Args:
        prepared: the model in full precision.
        calibration: of the batches.
        batches: calibration inputs.
        loss: compares outputs with full-precision ones; the result is in its unit.
        strategy: of the prepared model.
        known: (layer name, choice) -> sensitivity, for the same model and loss; what is worked out is added.
    """
    for name, choice in strategy.layers.items():
        if (name, choice) not in known:
            known[name, choice] = _alone(prepared, calibration, batches, loss, name, choice)
    return {name: known[name, choice] for name, choice in strategy.layers.items()}


def _alone(
    prepared: Prepared, calibration: Calibration, batches: Sequence[Batch], loss: OutputLoss, name: str, choice: Choice
) -> float:
    made = quantized_weight(weight_candidate(choice.weight), name, prepared, calibration)
    grid = activation_candidate(choice.activation).qparams(
        calibration.activations[name], prepared.specs[name].activation
    )
    model = with_layers(
        prepared, lambda at, layer: QuantizedLayer(layer, made.weight, grid, made.bias) if at == name else layer
    )
    with torch.no_grad():
        losses = [
            loss(call(model, batch), target).item() * len(target)
            for batch, target in zip(batches, calibration.targets, strict=True)
        ]
    return sum(losses) / sum(len(target) for target in calibration.targets)
