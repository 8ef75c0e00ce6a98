"""The efficient convolution's two mixtures: of weights by a sum, of activations in one pass over the input.

Convolution is bilinear, so `sum_ij p_i q_j conv(Qw_i(W), Qa_j(X)) = conv(sum_i p_i Qw_i(W), sum_j q_j Qa_j(X))` (DQSS,
Li, Yan, Chen, arXiv 2404.08010, "efficient convolution"). For uniform quantizers of one input, `sum_j q_j Qa_j(x)` is a
piecewise constant function of the scalar x: find x's bucket, read a table. Buckets and tables are this project's own
derivation; docs/adr/0003-mixture.md has the measured alternatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from dqss.functional import Qparams, fake_quantize

# How many cells may find a bucket. Few fit the nearest cache, many leave fewer boundaries in one cell.
CELL_COUNTS = [round(2 ** (eighths / 8)) for eighths in range(8 * 11, 8 * 16 + 1)]
# Cells per unit at most, so that x times it stays finite for the inputs of a grid this fine.
FINEST = 2.0**100
# Products that are added up one by one, in the gradient to mixing, before they are added pairwise.
BAG = 256
# Integers as wide as a float, to read its sign bit.
_INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}
_STORED = (torch.uint8, torch.int16, torch.int32)


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

    Outputs and gradients (to x and to mixing) are those of the sum, for NaN and infinite inputs too. The output lies in
    memory as the input does.

    Args:
        qparams: N per-tensor grids.

    Raises:
        ValueError: no grids, or one per-channel.
    """

    def __init__(self, qparams: Sequence[Qparams]) -> None:
        super().__init__()
        if not qparams or any(q.spec.channel_axis is not None for q in qparams):
            raise ValueError("qparams: one per-tensor grid or more are needed; per-channel grids cannot share buckets.")
        self.qparams = list(qparams)
        # Where rounding falls depends on the input's type, so each type has tables of its own, made when first needed.
        self.tables: dict[tuple[torch.dtype, torch.device], Tables] = {}

    def forward(self, x: Tensor, mixing: Tensor, blend: float = 1.0) -> Tensor:
        """Return the mixture, or its blend with the input as it is, of the shape and type of `x`.

        Args:
            x: any shape, of a floating type; of halves it is worked out in float32, as `fake_quantize` does.
            mixing: (N,), the mixing weights.
            blend: the share of the mixture, 0 to 1; the rest is x.
        """
        if x.dtype in (torch.float16, torch.bfloat16):
            return self(x.float(), mixing, blend).to(x.dtype)  # type: ignore[no-any-return]
        kind = (x.dtype, x.device)
        if kind not in self.tables:
            self.tables[kind] = tables_of(self.qparams, *kind)
        result: Tensor = _Mixture.apply(x, mixing, blend, self.tables[kind])  # type: ignore[no-untyped-call]
        return result


@dataclass(frozen=True)
class Cells:
    """An even grid of cells; the cell of x never decreases with x.

    Args:
        count: cells 0 ... count - 1; NaN has a cell of its own, count.
        density: cells per unit.
        origin: where in the grid 0 lies.
    """

    count: int
    density: float
    origin: float

    def position(self, x: Tensor) -> Tensor:
        """Return where in the grid each element lies, in float; the whole part is its cell."""
        # Two roundings, never a fused multiply-add: the same x must fall into the same cell on every path of a kernel.
        position = x.mul(self.density).add_(self.origin).clamp_(0, self.count - 1)
        return position.nan_to_num_(nan=self.count)

    def of(self, x: Tensor) -> Tensor:
        """Return the int32 cell of each element."""
        return self.position(x).to(torch.int32)


@dataclass(frozen=True)
class Tables:
    """What the mixture reads: the way to x's row, and what each candidate makes of x there.

    A row stands for a bucket, the inputs between two neighbouring boundaries. Boundaries of lower cells lie below x,
    those of higher cells above; among the 2^R - 1 or fewer of x's own cell R comparisons (mostly one) find the place.

    Args:
        cells: the grid that x is looked up in.
        first: (cells + 1,) int32, by cell: the row above all its boundaries, counted as if they were 2^R - 1.
        halvings: R pairs: how many rows an x below takes off, and (K,), by row: the boundary it is compared with.
        values: (K, N), by row: what each candidate rounds x to.
        slopes: (K, N), by row: its straight-through gradient, 0 or 1.
        stored: the smallest integers that hold a row.
    """

    cells: Cells
    first: Tensor
    halvings: Sequence[tuple[int, Tensor]]
    values: Tensor
    slopes: Tensor
    stored: torch.dtype

    def read(self, x: Tensor, mixing: Tensor) -> tuple[Tensor, Tensor]:
        """Return the int32 row and the sum of its values, weighted, for each element.

        Args:
            x: (n,), of the type of `values`.
            mixing: (N,), the weights.
        """
        # One buffer for all floats in turn: fresh memory for each would cost as much as the arithmetic.
        buffer = self.cells.position(x)
        row = self.first.index_select(0, buffer.to(torch.int32))
        sign = buffer.view(_INTEGERS[x.dtype])
        for step, boundary in self.halvings:
            # The sign bit of x - boundary, several times faster than a comparison: -1 where x is below, else 0.
            torch.sub(x, torch.index_select(boundary, 0, row, out=buffer), out=buffer)
            row.add_(sign.bitwise_right_shift_(8 * x.element_size() - 1), alpha=step)
        # index_select on a flat index is several times faster than table[row].
        return row, torch.index_select(self.values @ mixing, 0, row, out=buffer)


def tables_of(qparams: Sequence[Qparams], dtype: torch.dtype, device: torch.device) -> Tables:
    """Return the tables for inputs of this type."""
    qparams = [Qparams(q.scale.to(device), q.zero_point.to(device), q.spec) for q in qparams]
    boundaries = torch.cat([boundaries_of(q, dtype) for q in qparams]).unique()
    # A bucket holds its lower boundary, so any function constant on buckets is read off there.
    floor = torch.full_like(boundaries[:1], -torch.inf)
    probes = torch.cat([boundaries[:1].nextafter(floor), boundaries])
    columns = [_values_and_slopes(probes, q) for q in qparams]
    cells, halvings = _best_cells(boundaries)
    # Beyond the last bucket the sign of infinity - infinity decides, then that of NaN - infinity; either may be set.
    spare = 2**halvings - 1
    order = torch.cat([torch.arange(len(probes)), torch.full((spare,), len(probes) - 1)]).to(device)
    nan = boundaries.new_full((spare + 1, len(qparams)), torch.nan)
    values = torch.cat([torch.stack([value for value, _ in columns], dim=1).to(nan)[order], nan])
    slopes = torch.cat([torch.stack([slope for _, slope in columns], dim=1).to(nan)[order], torch.zeros_like(nan)])
    upper = torch.cat([boundaries, boundaries.new_full((len(values) - len(boundaries),), torch.inf)])
    every_cell = torch.arange(cells.count, dtype=torch.int32, device=device)
    first = torch.searchsorted(cells.of(boundaries), every_cell, out_int32=True)
    return Tables(
        cells=cells,
        first=torch.cat([first, first.new_tensor([len(order)])]) + spare,
        halvings=[(step, upper.roll(step)) for step in (2**halving for halving in reversed(range(halvings)))],
        values=values,
        slopes=slopes,
        stored=next(kind for kind in _STORED if len(values) - 1 <= torch.iinfo(kind).max),
    )


def _best_cells(boundaries: Tensor) -> tuple[Cells, int]:
    """Return the smallest grid whose fullest cell takes the fewest halvings, and how many these are."""
    low, high = boundaries[0].item(), boundaries[-1].item()
    grids = []
    for count in CELL_COUNTS:
        density = min(count / max(high - low, 1 / FINEST), FINEST)
        grids.append(Cells(count, density, -low * density))
    halvings = [int(torch.bincount(grid.of(boundaries)).max()).bit_length() for grid in grids]
    return grids[halvings.index(min(halvings))], min(halvings)


def boundaries_of(qparams: Qparams, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the least floats at which the integer code, before clipping, reaches quant_min ... quant_max + 1.

    These (2^bits + 1,) are found by bisection on `fake_quantize`'s own arithmetic, so that bucket and rounding agree to
    the last bit.
    """
    spec = qparams.spec
    codes = torch.arange(spec.quant_min, spec.quant_max + 2, device=qparams.scale.device)
    steps = (codes - qparams.zero_point[0]).to(dtype)
    scale = qparams.scale[0].to(dtype)
    inverse = 1 / scale
    low, high = (steps - 1) * scale, steps * scale
    while True:
        middle = low + (high - low) / 2
        # The gap shrinks to neighbouring floats; then the middle is one of the two.
        if bool(((middle == low) | (middle == high)).all()):
            return high
        reached = torch.round(middle * inverse) >= steps
        low, high = torch.where(reached, low, middle), torch.where(reached, middle, high)


def _values_and_slopes(probes: Tensor, qparams: Qparams) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        x = probes.clone().requires_grad_()
        values = fake_quantize(x, qparams)
        (slopes,) = torch.autograd.grad(values.sum(), x)
    return values.detach(), slopes


class _Mixture(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, mixing: Tensor, blend: float, tables: Tables) -> Tensor:
        # In the order in which x lies in memory, a dense tensor is flat without a copy.
        order = sorted(range(x.ndim), key=x.stride, reverse=True)
        lying = x.permute(order)
        flat = lying.flatten().to(tables.values.dtype)
        # Blending the tables leaves one pass over the elements, where there is any blending.
        row, result = tables.read(flat, mixing.to(tables.values) * blend)
        if blend < 1:
            result.add_(flat, alpha=1 - blend)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(mixing, row.to(tables.stored))
            ctx.blend, ctx.tables, ctx.order = blend, tables, order
        return restored(result.to(x.dtype), lying.shape, order)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        mixing, row = ctx.saved_tensors
        tables: Tables = ctx.tables
        row = row.to(torch.int32)
        lying = gradient.permute(ctx.order)
        flat = lying.flatten().to(tables.values.dtype)
        to_x = to_mixing = None
        if ctx.needs_input_grad[0]:
            by_row = tables.slopes @ (mixing.to(tables.slopes) * ctx.blend) + (1 - ctx.blend)
            slopes = by_row.index_select(0, row)
            to_x = restored(slopes.mul_(flat).to(gradient.dtype), lying.shape, ctx.order)
        if ctx.needs_input_grad[1]:
            to_mixing = _weighted_rows(row, tables.values, flat).mul_(ctx.blend).to(mixing.dtype)
        return to_x, to_mixing, None, None


def _weighted_rows(row: Tensor, values: Tensor, weight: Tensor) -> Tensor:
    """Return (N,), the sum of `weight[i] * values[row[i]]`."""
    # One by one in float32, a million gradients of one sign end 1 % off: sum in short bags, then the bags pairwise.
    bags = torch.arange(0, len(row), BAG, dtype=row.dtype, device=row.device)
    return embedding_bag(row, values, bags, mode="sum", per_sample_weights=weight).sum(0)


def restored(flat: Tensor, shape: torch.Size, order: list[int]) -> Tensor:
    """Return the tensor of which `flat` is `permute(order).flatten()`, of that shape before flattening."""
    back = [order.index(axis) for axis in range(len(order))]
    return flat.view(shape).permute(back)
