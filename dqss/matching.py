"""Losses between a quantized model's outputs and the full-precision model's: what a search minimises, label-free.

They are worked out in float32 whatever the precision of the model.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from dqss.registry import UnknownNameError, did_you_mean

OutputLoss = Callable[[Tensor, Tensor], Tensor]


def mse(output: Tensor, target: Tensor) -> Tensor:
    """Return the squared distance over the target's mean square: 0 is perfect, 1 as bad as an output of zeros.

    Args:
        output: of the quantized model, any shape.
        target: of the full-precision model, the same shape.
    """
    output, target = output.float(), target.float()
    power = target.square().mean().clamp(min=torch.finfo(target.dtype).tiny)
    return (output - target).square().mean() / power


def kl(output: Tensor, target: Tensor) -> Tensor:
    """Return KL(softmax(target) || softmax(output)) in nats, the mean over the batch.

    Args:
        output: (B, K) logits of the quantized model.
        target: (B, K) logits of the full-precision model.
    """
    output, target = output.float().log_softmax(1), target.float().log_softmax(1)
    return F.kl_div(output, target, log_target=True, reduction="batchmean")


OUTPUT_LOSSES: dict[str, OutputLoss] = {"mse": mse, "kl": kl}


def output_loss(name: str | None, target: Tensor) -> OutputLoss:
    """Return the loss of that name; for None, `kl` where outputs are (B, K > 1), that is class scores, else `mse`.

    Raises:
        UnknownNameError: no such loss.
    """
    if name is None:
        name = "kl" if target.ndim == 2 and target.shape[1] > 1 else "mse"
    if name not in OUTPUT_LOSSES:
        raise UnknownNameError(f"no output loss '{name}'. {did_you_mean(name, OUTPUT_LOSSES)}")
    return OUTPUT_LOSSES[name]
