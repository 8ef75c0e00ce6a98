"""Bias correction: the bias takes up the mean error that quantized weights make.

Nagel et al., "Data-Free Quantization through Weight Equalization and Bias Correction" (ICCV 2019), section 4.2, with
the mean input measured on calibration data, as in its appendix; Banner et al., "Post Training 4-bit Quantization of
Convolutional Networks for Rapid-Deployment" (NeurIPS 2019), section 2.3, correct the same shift per channel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dqss.graph import Layer
from dqss.moments import MeanInput


def corrected_bias(layer: Layer, weight: Tensor, mean: MeanInput) -> Tensor:
    """Return (C_out,), the bias with which the layer's mean output per channel is that of full precision.

    It is exact over the calibration set for full-precision inputs: E[W x + b] = E[Q(W) x + b + (W - Q(W)) E[x]].

    Args:
        layer: in full precision.
        weight: the quantized weight.
        mean: of the layer's inputs.
    """
    with torch.no_grad():
        error = weight.double() - layer.weight.double()
        bias = torch.zeros((), dtype=torch.float64) if layer.bias is None else layer.bias.double()
        corrected: Tensor = bias.to(error.device) - mean.output(layer, error)
        return corrected.to(layer.weight.dtype)
