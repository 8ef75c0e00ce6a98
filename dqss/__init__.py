"""DQSS: differentiable search for the quantization algorithm of each layer.

`import dqss` is quick: torch is imported with the first name that needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dqss.engine import Alone, Engine
    from dqss.ptq import PtqReport, PtqResult, apply_strategy, quantize_ptq
    from dqss.qat import QatReport, QatResult, train_qat
    from dqss.schedule import Rates, Schedule
    from dqss.snapshots import Snapshots
    from dqss.spec import Bits, Protocol, Scheme
    from dqss.strategy import Choice, Strategy

_HOMES = {
    "Alone": "dqss.engine",
    "Bits": "dqss.spec",
    "Choice": "dqss.strategy",
    "Engine": "dqss.engine",
    "Protocol": "dqss.spec",
    "PtqReport": "dqss.ptq",
    "PtqResult": "dqss.ptq",
    "QatReport": "dqss.qat",
    "QatResult": "dqss.qat",
    "Rates": "dqss.schedule",
    "Schedule": "dqss.schedule",
    "Scheme": "dqss.spec",
    "Snapshots": "dqss.snapshots",
    "Strategy": "dqss.strategy",
    "apply_strategy": "dqss.ptq",
    "quantize_ptq": "dqss.ptq",
    "train_qat": "dqss.qat",
}

__all__ = [
    "Alone",
    "Bits",
    "Choice",
    "Engine",
    "Protocol",
    "PtqReport",
    "PtqResult",
    "QatReport",
    "QatResult",
    "Rates",
    "Schedule",
    "Scheme",
    "Snapshots",
    "Strategy",
    "apply_strategy",
    "quantize_ptq",
    "train_qat",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dqss' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
