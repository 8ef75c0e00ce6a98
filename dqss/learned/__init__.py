"""The algorithms of quantization-aware training, whose grids are trained with the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dqss.registry import Entry, Registry

if TYPE_CHECKING:
    from dqss.learned.base import Learned

LEARNED: Registry[Learned] = Registry(
    "learned quantizer",
    "dqss.learned.base:Learned",
    {
        "lsq": Entry("dqss.learned.lsq:Lsq"),
    },
)
