"""The methods that suites name, a table for each mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dqss.registry import Entry, Registry
from dqss.search import SEARCHES

if TYPE_CHECKING:
    from benchmarks.qat_methods import QatMethod
    from dqss.search.base import Search

# Searches: those of the library, and those that need more than it may import.
METHODS: Registry[Search] = Registry("search", SEARCHES.base, {**SEARCHES.table, "tpe": Entry("benchmarks.tuning:Tpe")})

QAT_METHODS: Registry[QatMethod] = Registry(
    "training method",
    "benchmarks.qat_methods:QatMethod",
    {
        "uniform": Entry("benchmarks.qat_methods:Uniform", version=2),
        "dqss": Entry("benchmarks.qat_methods:Dqss", version=2),
    },
)
