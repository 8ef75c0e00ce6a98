"""Signal to quantization noise of each layer under a strategy."""

from __future__ import annotations

import math

from dqss.calibrate import Calibration
from dqss.graph import Prepared
from dqss.quantizers import QUANTIZERS
from dqss.strategy import Strategy


def decibels(signal: float, noise: float) -> float | None:
    """Return 10 log10(signal / noise); None where either is nil.

    >>> decibels(100.0, 1.0)
    20.0
    """
    return 10 * math.log10(signal / noise) if signal > 0 and noise > 0 else None


def layer_sqnr(
    prepared: Prepared, calibration: Calibration, strategy: Strategy
) -> dict[str, tuple[float | None, float | None]]:
    """Return layer name -> SQNR in dB of its weights and of its inputs over the calibration set, off the histograms."""
    result = {}
    for name, choice in strategy.layers.items():
        pair = []
        for quantizer, summary, spec in (
            (choice.weight, calibration.weights[name], prepared.specs[name].weight),
            (choice.activation, calibration.activations[name], prepared.specs[name].activation),
        ):
            noise = summary.squared_error(QUANTIZERS.create(quantizer).qparams(summary, spec))
            pair.append(decibels(summary.energy.sum().item(), noise.sum().item()))
        result[name] = (pair[0], pair[1])
    return result
