"""What a quantized model costs as far as the shapes of its weights tell it: for checks that load no network.

`dqss.cost` counts on the network itself. Here batch normalisation is known by its running mean, and counts as the bias
that folding makes of it; a layer is whatever has a weight of two or four dimensions. Tests hold the two together on
every shipped checkpoint. Imports no torch.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.checkpoints import MissingCheckpointError, find_checkpoint
from benchmarks.records import LayerChoice
from dqss.spec import Bits, Protocol

FLOAT_BYTES = 4
SCALE_BYTES = 4
LAYER_DIMENSIONS = (2, 4)
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
LONGEST_HEADER = 10_000_000


@dataclass(frozen=True)
class LayerShape:
    """How many weights a layer has, and how many output channels."""

    weights: int
    channels: int


@dataclass(frozen=True)
class Shapes:
    """The shapes in a checkpoint.

    Args:
        layers: by the layers' names.
        others: how many numbers stay in full precision when batch normalisation is folded.
    """

    layers: Mapping[str, LayerShape]
    others: int

    @classmethod
    def of(cls, shapes: Mapping[str, tuple[int, ...]]) -> Shapes:
        """Return those of a checkpoint's tensors by name."""
        normalisations = {name.removesuffix(".running_mean") for name in shapes if name.endswith(".running_mean")}
        layers, others = {}, 0
        for name, shape in shapes.items():
            module, _, leaf = name.rpartition(".")
            if leaf == "weight" and len(shape) in LAYER_DIMENSIONS:
                # Transposed convolutions have their input channels first; a bias is of output channels in all.
                layers[module] = LayerShape(math.prod(shape), *shapes.get(f"{module}.bias", shape[:1]))
            elif not (leaf in STATISTICS or (leaf == "weight" and module in normalisations)):
                others += math.prod(shape)
        return cls(layers, others)

    def size_bytes(self, strategy: Mapping[str, LayerChoice], protocol: Protocol) -> int:
        """Return what `dqss.cost.size_bytes` counts.

        Args:
            strategy: for all layers.
            protocol: whose schemes say what each grid takes.
        """
        total = FLOAT_BYTES * self.others
        for name, layer in self.layers.items():
            grids = layer.channels if protocol.weight.granularity == "per-channel" else 1
            total += math.ceil(layer.weights * Bits.parse(strategy[name].bits).weight / 8)
            total += grids * (SCALE_BYTES + (not protocol.weight.symmetric))
            total += SCALE_BYTES + (not protocol.activation.symmetric)
        return total

    def unit_of_bops(self, strategy: Mapping[str, LayerChoice]) -> int:
        """Return what any model of these layers has a whole multiple of: each weight is used equally often."""
        return math.gcd(*self._bops(strategy))

    def least_bops(self, strategy: Mapping[str, LayerChoice]) -> int:
        """Return the bit operations if each weight were used once, at one position."""
        return sum(self._bops(strategy))

    def _bops(self, strategy: Mapping[str, LayerChoice]) -> list[int]:
        bits = {name: Bits.parse(strategy[name].bits) for name in self.layers}
        return [layer.weights * bits[name].weight * bits[name].activation for name, layer in self.layers.items()]


@cache
def shapes_of(model: str, task: str, sha256: str | None) -> Shapes | None:
    """Return the shapes of a checkpoint; None where this machine has another one, none, or one of another format."""
    try:
        checkpoint = find_checkpoint(model, task)
    except MissingCheckpointError:
        return None
    if checkpoint.sha256 != sha256 or checkpoint.weights.suffix != ".safetensors":
        return None
    return Shapes.of(_header(checkpoint.weights))


def _header(path: Path) -> dict[str, tuple[int, ...]]:
    """Return tensor name -> shape from the head of a safetensors file."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        content = json.loads(file.read(min(length, LONGEST_HEADER)))
    return {name: tuple(facts["shape"]) for name, facts in content.items() if name != "__metadata__"}
