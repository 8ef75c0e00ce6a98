"""Bit-widths, grids and protocols: frozen values that fix what is compared with what. Imports no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

Granularity = Literal["per-tensor", "per-channel"]
Tail = Literal["last-layer", "enlarging"]

MIN_BITS, MAX_BITS = 2, 8


@dataclass(frozen=True)
class Bits:
    """Bit-widths of weights and activations.

    >>> Bits.parse("W4A8")
    Bits(weight=4, activation=8)
    >>> str(Bits(4, 8))
    'W4A8'
    """

    weight: int
    activation: int

    @classmethod
    def parse(cls, text: str) -> Bits:
        """Read `W4A8`.

        Raises:
            ValueError: not of that form, or outside 2 to 8 bits.
        """
        match = re.fullmatch(rf"W([{MIN_BITS}-{MAX_BITS}])A([{MIN_BITS}-{MAX_BITS}])", str(text))
        if match is None:
            raise ValueError(
                f"'{text}' is not a bit-width. "
                f"Write W<{MIN_BITS}-{MAX_BITS}>A<{MIN_BITS}-{MAX_BITS}>, for example W4A8."
            )
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"W{self.weight}A{self.activation}"


@dataclass(frozen=True)
class QuantSpec:
    """The integer grid that a tensor is mapped to: real = (q - zero_point) * scale.

    Args:
        bits: 2 to 8.
        symmetric: signed grid with zero_point 0; else unsigned with a zero_point that keeps 0 exact.
        channel_axis: one scale per index of this axis; None for one per tensor.
    """

    bits: int
    symmetric: bool
    channel_axis: int | None = None

    def __post_init__(self) -> None:
        if not MIN_BITS <= self.bits <= MAX_BITS:
            raise ValueError(f"bits: {self.bits} is not allowed. Give {MIN_BITS} to {MAX_BITS}.")

    @property
    def quant_min(self) -> int:
        return -(1 << (self.bits - 1)) if self.symmetric else 0

    @property
    def quant_max(self) -> int:
        return self.quant_min + (1 << self.bits) - 1


@dataclass(frozen=True)
class Scheme:
    """How one kind of tensor is quantized under a protocol."""

    symmetric: bool
    granularity: Granularity

    def __post_init__(self) -> None:
        if not isinstance(self.symmetric, bool):
            raise ValueError(f"symmetric: {self.symmetric!r} is not allowed. Give true or false.")
        if self.granularity not in get_args(Granularity):
            allowed = " or ".join(map(repr, get_args(Granularity)))
            raise ValueError(f"granularity: {self.granularity!r} is not allowed. Give {allowed}.")


@dataclass(frozen=True)
class Protocol:
    """What fixes a comparison beside bits, model and data. Scores of different protocols are never ranked together.

    Activation quantizers stand at the inputs of convolution and linear layers; batch normalisation is folded first.
    What only moves values, such as a pixel shuffle, quantizes nothing, and neither is the network's output quantized.

    Args:
        first_last_bits: bits of weights and activations of the first and the last layer; None: the cell's.
        tail: what counts as the last layer. `last-layer`: the one that runs last. `enlarging`: all from the layer
            before the first pixel shuffle, or from the first transposed convolution with a stride, on; in a network
            without these, the one that runs last.
        weight: the scheme of weights.
        activation: the scheme of activations; per-tensor only.
    """

    first_last_bits: int | None = None
    weight: Scheme = Scheme(symmetric=True, granularity="per-tensor")
    activation: Scheme = Scheme(symmetric=False, granularity="per-tensor")
    tail: Tail = "last-layer"

    def __post_init__(self) -> None:
        if self.first_last_bits is not None and not MIN_BITS <= self.first_last_bits <= MAX_BITS:
            raise ValueError(
                f"first_last_bits: {self.first_last_bits} is not allowed. Give {MIN_BITS} to {MAX_BITS}, or null."
            )
        if self.tail not in get_args(Tail):
            allowed = " or ".join(map(repr, get_args(Tail)))
            raise ValueError(f"tail: {self.tail!r} is not allowed. Give {allowed}.")
        if self.tail != "last-layer" and self.first_last_bits is None:
            raise ValueError(f"tail: {self.tail!r} says nothing without first_last_bits. Give these, or 'last-layer'.")
        if self.activation.granularity != "per-tensor":
            raise ValueError(
                f"activation granularity: '{self.activation.granularity}' is not allowed. "
                "Give 'per-tensor': integer convolution sums over input channels before it scales."
            )


COMMON_PROTOCOL = "all-layers"
"""The one that goes without saying."""

PROTOCOLS = {
    "all-layers": Protocol(),
    "academic": Protocol(first_last_bits=8),
    "super-resolution": Protocol(first_last_bits=8, tail="enlarging"),
    "per-channel": Protocol(weight=Scheme(symmetric=True, granularity="per-channel")),
}
