"""What a record on the board is worth: this project's own run, or a submission, with or without cells run again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.records import Record

Badge = Literal["official", "verified", "self-reported"]
"""`official`: run by this project. `verified`: submitted, and the cells that were run again agree. `self-reported`:
submitted and checked, and no cell was run again. Somebody's own results folder has no badges."""

WORDS: Mapping[Badge, str] = {
    "official": "run by this project",
    "verified": "submitted; cells that were run again came out the same",
    "self-reported": "submitted and checked; no cell was run again",
}

ORDER: tuple[Badge | None, ...] = (None, "official", "verified", "self-reported")
"""The strongest first."""


@dataclass(frozen=True)
class Origin:
    """Where a record on the board is from.

    Args:
        submitter: who submitted it; None for official records.
        archive: the file name of the submission; None for official records.
    """

    badge: Badge
    submitter: str | None = None
    archive: str | None = None


Origins = Mapping[tuple[str, str], Origin]
"""(suite, key) -> origin; empty for somebody's own results folder."""


def badge_of(record: Record, origins: Origins) -> Badge | None:
    """Return the badge of a record; None where it has none."""
    origin = origins.get((record.suite, record.key))
    return None if origin is None else origin.badge


def weakest(badges: Iterable[Badge | None]) -> Badge | None:
    """Return the badge of what rests on all of these; None for nothing.

    >>> weakest(["official", "self-reported", "verified"])
    'self-reported'
    """
    return max(badges, key=ORDER.index, default=None)


def counted_among(badges: Iterable[Badge | None]) -> frozenset[Badge | None]:
    """Return the badges that take part in ranks, in a comparison that has all of these.

    Numbers that nobody ran again are shown, and move nobody else; among themselves they are ranked.
    """
    found = frozenset(badges)
    return found - {"self-reported"} or found


@dataclass(frozen=True)
class Judge:
    """Tells whose results take part in ranks.

    Args:
        origins: of all records that it is asked about.
        counted: the badges that take part, as `counted_among` tells them of the whole comparison.
    """

    origins: Origins
    counted: frozenset[Badge | None]

    def badge(self, records: Iterable[Record]) -> Badge | None:
        """Return the badge of a row that has these records."""
        return weakest(badge_of(record, self.origins) for record in records)

    def strongest(self, records: Sequence[Record]) -> list[Record]:
        """Return those of these records that have the strongest badge among them."""
        places = [ORDER.index(badge_of(record, self.origins)) for record in records]
        first = min(places, default=0)
        return [record for record, place in zip(records, places, strict=True) if place == first]
