"""From a weight candidate to a layer's quantized weight and bias."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from dqss.bias_correction import corrected_bias
from dqss.calibrate import Calibration
from dqss.candidates import BiasCorrected
from dqss.functional import fake_quantize
from dqss.graph import Prepared
from dqss.moments import second_moments
from dqss.quantizers.base import Quantizer
from dqss.reconstruction.base import Reconstruction

WeightCandidate = Quantizer | Reconstruction | BiasCorrected


class QuantizedWeight(NamedTuple):
    """A layer's weight on a grid, in float, and the (C_out,) bias that goes with it; None for the layer's own."""

    weight: Tensor
    bias: Tensor | None


def quantized_weight(
    candidate: WeightCandidate, name: str, prepared: Prepared, calibration: Calibration
) -> QuantizedWeight:
    """Return the weight and bias of the layer of that name by a candidate."""
    layer, spec, summary = prepared.layers[name], prepared.specs[name].weight, calibration.weights[name]
    match candidate:
        case BiasCorrected(algorithm):
            weight = quantized_weight(algorithm, name, prepared, calibration).weight
            return QuantizedWeight(weight, corrected_bias(layer, weight, calibration.means[name]))
        case Reconstruction():
            key = (name, candidate, spec)
            if key not in calibration.reconstructed:
                moment = moments_of(prepared, calibration)[name]
                calibration.reconstructed[key] = candidate.quantized(layer, summary, spec, moment)
            return QuantizedWeight(calibration.reconstructed[key], None)
        case Quantizer():
            with torch.no_grad():
                return QuantizedWeight(fake_quantize(layer.weight, candidate.qparams(summary, spec)), None)


def reconstruct(
    candidates: Iterable[WeightCandidate],
    prepared: Prepared,
    calibration: Calibration,
    report: Callable[[str, int, int], None],
) -> None:
    """Make the weights of reconstructions, bias-corrected or not, for all layers; the calibration keeps them."""
    algorithms = [c.algorithm if isinstance(c, BiasCorrected) else c for c in candidates]
    made = [c for c in dict.fromkeys(algorithms) if isinstance(c, Reconstruction)]
    total = len(made) * len(prepared.layers)
    for candidate in made:
        for done, name in enumerate(prepared.layers, start=1 + made.index(candidate) * len(prepared.layers)):
            quantized_weight(candidate, name, prepared, calibration)
            report("reconstruction", done, total)


def moments_of(prepared: Prepared, calibration: Calibration) -> dict[str, Tensor]:
    """Return `second_moments` over the calibration set: worked out when first asked for, as few strategies need it."""
    if not calibration.second_moments:
        calibration.second_moments.update(second_moments(prepared, calibration.batches))
    return calibration.second_moments
