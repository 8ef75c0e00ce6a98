"""The algorithms that choose a weight's rounding from the layer's inputs. They have no form for activations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dqss.registry import Entry, Registry

if TYPE_CHECKING:
    from dqss.reconstruction.base import Reconstruction

RECONSTRUCTIONS: Registry[Reconstruction] = Registry(
    "reconstruction",
    "dqss.reconstruction.base:Reconstruction",
    {
        # Rounds on the grid of `mse`: raise its version with that of `mse`.
        "adaround": Entry("dqss.reconstruction.adaround:AdaRound"),
    },
)
