"""DQSS: differentiable search for the quantization algorithm of each layer.

`import dqss` is quick: torch is imported with the first name that needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dqss.ptq import PtqReport, PtqResult, apply_strategy, quantize_ptq
    from dqss.spec import Bits, Protocol, Scheme
    from dqss.strategy import Choice, Strategy

_HOMES = {
    "Bits": "dqss.spec",
    "Choice": "dqss.strategy",
    "Protocol": "dqss.spec",
    "PtqReport": "dqss.ptq",
    "PtqResult": "dqss.ptq",
    "Scheme": "dqss.spec",
    "Strategy": "dqss.strategy",
    "apply_strategy": "dqss.ptq",
    "quantize_ptq": "dqss.ptq",
}

__all__ = [
    "Bits",
    "Choice",
    "Protocol",
    "PtqReport",
    "PtqResult",
    "Scheme",
    "Strategy",
    "apply_strategy",
    "quantize_ptq",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dqss' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
