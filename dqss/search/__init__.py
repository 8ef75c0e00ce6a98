"""The procedures that find a strategy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dqss.registry import Entry, Registry

if TYPE_CHECKING:
    from dqss.search.base import Search

SEARCHES: Registry[Search] = Registry(
    "search",
    "dqss.search.base:Search",
    {
        "uniform": Entry("dqss.search.uniform:Uniform"),
        "best-uniform": Entry("dqss.search.best_uniform:BestUniform", version=2),
        "random": Entry("dqss.search.random:Random", version=6),
        "greedy-sqnr": Entry("dqss.search.greedy_sqnr:GreedySqnr"),
        "fisher": Entry("dqss.search.fisher:Fisher"),
        "coordinate-descent": Entry("dqss.search.coordinate_descent:CoordinateDescent"),
        "exhaustive": Entry("dqss.search.exhaustive:Exhaustive"),
        # DQSS without its refinement, by either relaxation.
        "dqss-softmax": Entry(
            "dqss.search.dqss:Dqss", 5, options={"relaxation": "softmax", "cold": 0.02, "refinement": 0}
        ),
        "dqss-gumbel": Entry("dqss.search.dqss:Dqss", 5, options={"refinement": 0}),
        "dqss": Entry("dqss.search.dqss:Dqss", version=6),
    },
)

# Those whose result no seed changes.
DETERMINISTIC = frozenset({"uniform", "best-uniform", "greedy-sqnr", "coordinate-descent", "exhaustive"})
