"""The searches that suites name: those of the library, and those that need more than it may import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dqss.registry import Entry, Registry
from dqss.search import SEARCHES

if TYPE_CHECKING:
    from dqss.search.base import Search

METHODS: Registry[Search] = Registry("search", SEARCHES.base, {**SEARCHES.table, "tpe": Entry("benchmarks.tuning:Tpe")})
