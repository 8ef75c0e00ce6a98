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
        "ste-minmax": Entry("dqss.learned.ste_minmax:SteMinMax"),
        "dorefa": Entry("dqss.learned.dorefa:DoReFa"),
        "pact": Entry("dqss.learned.pact:Pact"),
        "sawb": Entry("dqss.learned.sawb:Sawb"),
        "lsq": Entry("dqss.learned.lsq:Lsq"),
        "lsq-plus": Entry("dqss.learned.lsq_plus:LsqPlus"),
        "dsq": Entry("dqss.learned.dsq:Dsq"),
        "ewgs": Entry("dqss.learned.ewgs:Ewgs"),
        "apot": Entry("dqss.learned.apot:Apot"),
    },
)
