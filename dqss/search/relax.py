"""From alpha to mixing weights that a gradient can follow."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

Relaxation = Callable[[Tensor, float, Generator], Tensor]
"""(L, K) logits, temperature and randomness to (L, K) mixing weights; each row sums to 1."""


def softmax(alpha: Tensor, temperature: float, generator: Generator) -> Tensor:
    """Return the softmax of alpha / temperature: as the temperature falls, one candidate per layer is left.

    Liu, Simonyan, Yang, "DARTS: Differentiable Architecture Search" (ICLR 2019), equation 2, with annealing.
    """
    return (alpha / temperature).softmax(1)


def gumbel(alpha: Tensor, temperature: float, generator: Generator) -> Tensor:
    """Return one candidate per layer, drawn by softmax(alpha / temperature), with the gradient of the soft draw.

    Jang, Gu, Poole, "Categorical Reparameterization with Gumbel-Softmax" (ICLR 2017), section 2.2; but the temperature
    divides alpha alone, so that draws, not only their gradient, become decided as it falls.
    """
    noise = -torch.empty_like(alpha).exponential_(generator=generator).log()
    soft = (alpha / temperature + noise).softmax(1)
    hard = F.one_hot(soft.argmax(1), alpha.shape[1]).to(soft.dtype)
    return hard - soft.detach() + soft


RELAXATIONS: dict[str, Relaxation] = {"softmax": softmax, "gumbel": gumbel}
