"""The efficient convolution's two mixtures: of weights by a sum, of activations in one pass over the input.

Convolution is bilinear, so `sum_ij p_i q_j conv(Qw_i(W), Qa_j(X)) = conv(sum_i p_i Qw_i(W), sum_j q_j Qa_j(X))` (DQSS,
Li, Yan, Chen, arXiv 2404.08010, "efficient convolution"). For uniform quantizers of one input, `sum_j q_j Qa_j(x)` is a
piecewise constant function of the scalar x: find x's bucket, read a table. Buckets and tables are this project's own
derivation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dqss.functional import Qparams, fake_quantize

# Cells of the grid that finds a bucket. More make ties within a cell rarer; these still fit a processor's cache.
CELLS = 2**14
# Cells per unit, so that x times it stays finite for the inputs of a grid this fine.
FINEST = 2.0**100


def mix_weights(candidates: Tensor, mixing: Tensor) -> Tensor:
    """Return `sum_i mixing[i] * candidates[i]`.

    Args:
        candidates: (M, ...), the quantized weight by each candidate.
        mixing: (M,).
    """
    mixed: Tensor = torch.tensordot(mixing, candidates, dims=1)
    return mixed


class ActivationMixture(nn.Module):
    """`sum_j mixing[j] * fake_quantize(x, qparams[j])` at a cost that hardly grows with the number of candidates.

    Outputs and gradients (to x and to mixing) are those of the sum. With K buckets in all, forward finds the bucket and
    reads a table; backward to mixing is one histogram of the incoming gradient, (K,) times a (K, N) table.

    The bucket is found through a grid of even cells: `cell(x)` never decreases with x, so boundaries of lower cells lie
    below x, those of higher cells above, and only those of x's own cell (rarely more than one or two) are compared
    with x.

    Args:
        qparams: N per-tensor grids.

    Raises:
        ValueError: no grids, or one per-channel.
    """

    values: Tensor
    slopes: Tensor
    first: Tensor
    upper: Tensor
    origin: Tensor
    density: Tensor

    def __init__(self, qparams: Sequence[Qparams]) -> None:
        super().__init__()
        if not qparams or any(q.spec.channel_axis is not None for q in qparams):
            raise ValueError("qparams: one per-tensor grid or more are needed; per-channel grids cannot share buckets.")
        boundaries = torch.cat([boundaries_of(q) for q in qparams]).unique()
        # A bucket holds its lower boundary, so any function constant on buckets is read off there.
        floor = torch.full_like(boundaries[:1], -torch.inf)
        probes = torch.cat([boundaries[:1].nextafter(floor), boundaries])
        columns = [_values_and_slopes(probes, q) for q in qparams]
        self.register_buffer("density", (CELLS / (boundaries[-1] - boundaries[0])).clamp(max=FINEST))
        self.register_buffer("origin", -boundaries[0] * self.density)
        cells = self._cell(boundaries)
        self.rounds = int(torch.bincount(cells).max())
        every_cell = torch.arange(CELLS, dtype=torch.int32, device=boundaries.device)
        self.register_buffer("first", torch.searchsorted(cells, every_cell, out_int32=True))
        # No value reaches NaN, the upper end of the last bucket; infinity would reach infinity.
        self.register_buffer("upper", torch.cat([boundaries, floor * torch.nan]))
        self.register_buffer("values", torch.stack([value for value, _ in columns], dim=1))
        self.register_buffer("slopes", torch.stack([slope for _, slope in columns], dim=1))

    def forward(self, x: Tensor, mixing: Tensor) -> Tensor:
        """Return the mixture, of the shape of `x`.

        Args:
            x: any shape.
            mixing: (N,), the mixing weights.
        """
        with torch.no_grad():
            bucket = self.bucket(x)
        result: Tensor = _Mixture.apply(x, mixing, bucket, self.values, self.slopes)  # type: ignore[no-untyped-call]
        return result

    def bucket(self, x: Tensor) -> Tensor:
        """Return (x.numel(),) int32: how many boundaries each element has reached."""
        x = x.flatten()
        bucket = self.first.index_select(0, self._cell(x))
        for _ in range(self.rounds):
            bucket += x >= self.upper.index_select(0, bucket)
        return bucket

    def _cell(self, x: Tensor) -> Tensor:
        # Two roundings, never a fused multiply-add: the same x must fall into the same cell on every path of a kernel.
        return (x * self.density).add_(self.origin).clamp_(0, CELLS - 1).to(torch.int32)


def boundaries_of(qparams: Qparams) -> Tensor:
    """Return the least floats at which the integer code, before clipping, reaches quant_min ... quant_max + 1.

    These (2^bits + 1,) are found by bisection on `fake_quantize`'s own arithmetic, so that bucket and rounding agree to
    the last bit.
    """
    spec = qparams.spec
    codes = torch.arange(spec.quant_min, spec.quant_max + 2, device=qparams.scale.device)
    scale, zero_point = qparams.scale[0], qparams.zero_point[0]
    inverse = 1 / scale
    low = (codes - zero_point - 1) * scale
    high = (codes - zero_point) * scale
    while True:
        middle = low + (high - low) / 2
        # The gap shrinks to neighbouring floats; then the middle is one of the two.
        if bool(((middle == low) | (middle == high)).all()):
            return high
        reached = torch.round(middle * inverse) + zero_point >= codes
        low, high = torch.where(reached, low, middle), torch.where(reached, middle, high)


def _values_and_slopes(probes: Tensor, qparams: Qparams) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        x = probes.clone().requires_grad_()
        values = fake_quantize(x, qparams)
        (slopes,) = torch.autograd.grad(values.sum(), x)
    return values.detach(), slopes


class _Mixture(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, mixing: Tensor, bucket: Tensor, values: Tensor, slopes: Tensor) -> Tensor:
        ctx.save_for_backward(mixing, bucket, values, slopes)
        # index_select on a flat index is several times faster than table[bucket].
        return (values @ mixing).index_select(0, bucket).view(x.shape)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        mixing, bucket, values, slopes = ctx.saved_tensors
        to_x = to_mixing = None
        if ctx.needs_input_grad[0]:
            to_x = gradient * (slopes @ mixing).index_select(0, bucket).view(gradient.shape)
        if ctx.needs_input_grad[1]:
            # bincount adds one by one: in float32 a million gradients of one sign end 1 % off.
            per_bucket = torch.bincount(bucket, gradient.flatten().double(), minlength=len(values))
            to_mixing = per_bucket.to(values.dtype) @ values
        return to_x, to_mixing, None, None, None
