"""Signal to quantization noise of each layer under a strategy."""

from __future__ import annotations

import math

from dqss.calibrate import Calibration
from dqss.candidates import activation_candidate, weight_candidate
from dqss.graph import Prepared
from dqss.strategy import Strategy
from dqss.weights import quantized_weight


def decibels(signal: float, noise: float) -> float | None:
    """Return 10 log10(signal / noise); None where either is nil.

    >>> decibels(100.0, 1.0)
    20.0
    """
    return 10 * math.log10(signal / noise) if signal > 0 and noise > 0 else None


def layer_sqnr(
    prepared: Prepared, calibration: Calibration, strategy: Strategy
) -> dict[str, tuple[float | None, float | None]]:
    """Return layer name -> SQNR in dB of its weights, and of its inputs over the calibration set, off the histogram."""
    result = {}
    for name, choice in strategy.layers.items():
        exact = prepared.layers[name].weight.detach().double()
        made = quantized_weight(weight_candidate(choice.weight), name, prepared, calibration).weight
        weight = decibels(exact.square().sum().item(), (made - exact).square().sum().item())
        summary, spec = calibration.activations[name], prepared.specs[name].activation
        noise = summary.squared_error(activation_candidate(choice.activation).qparams(summary, spec))
        result[name] = (weight, decibels(summary.energy.sum().item(), noise.sum().item()))
    return result
