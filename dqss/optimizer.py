"""What moves the parameters: Adam, with rates that are parts of each tensor's magnitude."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dqss.schedule import Rates
from dqss.supernet import Supernet


def optimizer_of(supernet: Supernet, rates: Rates) -> torch.optim.Optimizer:
    """Return Adam, with a group for each parameter, whose rate is a part of the magnitude that it begins with.

    Adam moves all parameters of a group about as far. Weights of folded layers are of all magnitudes, though, and
    learned steps and clips too: with one rate, some would move by a good part of themselves, and others not at all.
    Adafactor scales its steps likewise (Shazeer, Stern, arXiv 1804.04235, section 8). In a mixture a quantizer's
    gradient is as small as its mixing weight, which Adam undoes.
    """
    quantizers = [quantizer for layer in supernet.layers.values() for quantizer in layer.quantizers()]
    of_quantizers = {id(parameter) for quantizer in quantizers for parameter in quantizer.parameters()}
    network = [p for p in supernet.model.parameters() if p.is_floating_point() and id(p) not in of_quantizers]
    for parameter in network:
        parameter.requires_grad_()
    groups = groups_of(network, rates.network)
    for quantizer in quantizers:
        for part in quantizer.modules():
            groups += groups_of(list(part.parameters(recurse=False)), rates.quantizers)
    return torch.optim.Adam(groups)


def groups_of(parameters: list[nn.Parameter], rate: float) -> list[dict[str, Any]]:
    """Return a group for each parameter that is trained, with the rate times its magnitude.

    One that is 0, as an offset or a bias may begin, is taken to be as large as the smallest that stands beside it.
    """
    sizes = [magnitude(parameter) for parameter in parameters]
    least = min((size for size in sizes if size > 0), default=1.0)
    return [
        {"params": [parameter], "lr": rate * (size or least)}
        for parameter, size in zip(parameters, sizes, strict=True)
        # Some algorithms hold constants as parameters.
        if parameter.requires_grad
    ]


def magnitude(parameter: Tensor) -> float:
    """Return how large a parameter's values usually are: the median of its rows' mean magnitudes.

    In a folded layer a few channels may be a hundred times as large as the others.

    >>> magnitude(torch.tensor([[1.0, -3.0], [0.0, 1.0], [90.0, 90.0]]))
    2.0
    """
    sizes = parameter.detach().abs()
    return float((sizes.flatten(1).mean(1).median() if sizes.ndim > 1 else sizes.mean()).item())
