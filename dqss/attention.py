"""Multi-head attention out of plain linear layers, which can be quantized one by one.

Vaswani et al., "Attention Is All You Need" (arXiv 1706.03762), section 3.2. `nn.MultiheadAttention` keeps its
projections as parameters and hands them to fused kernels, past any layer that stands in their place.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """What `nn.MultiheadAttention` does in eval mode, with a linear layer for each projection.

    Args:
        attention: gives the projections, which are shared with it. Its bias_k and add_zero_attn are not supported.
    """

    # What nn.TransformerEncoderLayer asks before it takes its fused kernel: no bias, no kernel.
    in_proj_bias = None
    _qkv_same_embed_dim = False

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.num_heads = attention.num_heads
        self.batch_first = attention.batch_first
        if attention.in_proj_weight is None:
            weights = (attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight)
        else:
            weights = attention.in_proj_weight.detach().chunk(3)
        biases = (None,) * 3 if attention.in_proj_bias is None else attention.in_proj_bias.detach().chunk(3)
        self.q, self.k, self.v = (linear(weight, bias) for weight, bias in zip(weights, biases, strict=True))
        self.out_proj = linear(attention.out_proj.weight, attention.out_proj.bias)
        self.eval()

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the outputs and, where asked for, the attention weights; shapes as of `nn.MultiheadAttention`.

        Args:
            is_causal: a hint that attn_mask is causal; the mask itself says enough.
        """
        batched = query.dim() == 3
        q = self._heads(self.q(self._batch_first(query)))
        k = self._heads(self.k(self._batch_first(key)))
        v = self._heads(self.v(self._batch_first(value)))
        mask = self._mask(q, attn_mask, key_padding_mask)
        weights = None
        if need_weights:
            scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
            weights = (scores if mask is None else scores + mask).softmax(3)
            mixed = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        output: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        if not batched:
            return output.squeeze(0), None if weights is None else weights.squeeze(0)
        return output if self.batch_first else output.transpose(0, 1), weights

    def _batch_first(self, x: Tensor) -> Tensor:
        """Return (N, L, E)."""
        if x.dim() == 2:
            return x.unsqueeze(0)
        return x if self.batch_first else x.transpose(0, 1)

    def _heads(self, x: Tensor) -> Tensor:
        """Return (N, heads, L, E / heads) of (N, L, E)."""
        heads: Tensor = x.unflatten(2, (self.num_heads, -1))
        return heads.transpose(1, 2)

    def _mask(self, q: Tensor, attn_mask: Tensor | None, key_padding_mask: Tensor | None) -> Tensor | None:
        """Return what is added to the (N, heads, L, S) scores."""
        masks: list[Tensor] = []
        if attn_mask is not None:
            mask = added(attn_mask, q)
            masks.append(mask if mask.dim() == 2 else mask.unflatten(0, (-1, self.num_heads)))
        if key_padding_mask is not None:
            mask = added(key_padding_mask, q)
            masks.append((mask if mask.dim() == 2 else mask.unsqueeze(0))[:, None, None, :])
        return torch.stack(torch.broadcast_tensors(*masks)).sum(0) if masks else None


def added(mask: Tensor, like: Tensor) -> Tensor:
    """Return a mask as numbers to be added to scores: a truth value says that the place is not looked at."""
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=like.dtype).masked_fill_(mask, -math.inf)
    return mask.to(like.dtype)


def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Return a linear layer with these parameters. No random number is drawn for it."""
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    made.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        made.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return made
