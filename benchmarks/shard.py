"""One machine's part of a suite, for machines that share nothing: every one works out the same parts by itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.suite import Cell

TEXT = re.compile(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})")


@dataclass(frozen=True)
class Shard:
    """A part of so many.

    Args:
        index: from 1 to `count`.
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `i/n`.

        >>> Shard.parse("2/3")
        Shard(index=2, count=3)

        Raises:
            ValueError: it is none.
        """
        found = TEXT.fullmatch(text)
        if found is None or int(found[1]) > int(found[2]):
            raise ValueError(f"'{text}' is not a part of the cells. Write i/n with i from 1 to n, for example 2/3.")
        return cls(int(found[1]), int(found[2]))

    def of(self, cells: Sequence[Cell]) -> list[Cell]:
        """Return this part of the cells, in their order.

        What has been measured differs between machines, so it decides nothing. Cells that are alike, the model first,
        then mode, method and bits, are brought together and dealt one by one: of every kind each part has as many as
        any other, but for one. In the suite's own order a number of methods that `count` divides would give all
        searches to the same part.
        """
        places: dict[tuple[str, ...], int] = {}
        kinds = [[places.setdefault(kind, len(places)) for kind in _kinds(cell)] for cell in cells]
        by_kind = sorted(range(len(cells)), key=lambda position: kinds[position])
        return [cells[position] for position in sorted(by_kind[self.index - 1 :: self.count])]


def _kinds(cell: Cell) -> list[tuple[str, ...]]:
    """Return what a cell has in common with others, the coarsest first."""
    facts = (cell.model, cell.mode, cell.method, cell.bits, cell.protocol)
    return [facts[: length + 1] for length in range(len(facts))]
