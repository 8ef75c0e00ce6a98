"""Records as the board counts them: one per cell, each checked; what cannot be trusted is listed with its fault."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from benchmarks.records import BadRecordError, Record, iterate_records, key_of
from leaderboard.badges import Origin

if TYPE_CHECKING:
    from leaderboard.accepted import Submission


@dataclass(frozen=True)
class Loaded:
    """What a results folder holds, or the public board.

    Args:
        records: those that belong together, one per cell, in the order of suite, model, bits, method and seed.
        faults: one sentence per file that does not count, its path relative to the results folder.
        superseded: number of records left out because their cell was run later under another definition.
        origins: (suite, key) -> where the record is from; empty for somebody's own results folder.
        submissions: those that were read, whether any record of theirs is here or not.
    """

    records: tuple[Record, ...]
    faults: tuple[str, ...]
    superseded: int
    origins: Mapping[tuple[str, str], Origin] = field(default_factory=dict)
    submissions: tuple[Submission, ...] = ()

    def shown(self, submission: Submission) -> int:
        """Return how many records of a submission count: the others give way to what stood before it."""
        return sum(origin.archive == submission.archive for origin in self.origins.values())


def load(results: Path) -> Loaded:
    """Read every record under a results folder; a bad file becomes a fault, never an exception."""
    found: list[Record] = []
    faults: list[str] = []
    for item in iterate_records(results):
        if isinstance(item, BadRecordError):
            # The same records give the same page wherever they lie.
            faults.append(str(item).replace(f"{results}{os.sep}", ""))
        else:
            found.append(item)
    return belonging(found, faults)


def belonging(records: Sequence[Record], faults: Iterable[str] = ()) -> Loaded:
    """Return those of these records that belong together, one per cell."""
    newest = _newest(records)
    return Loaded(newest, tuple(faults), len(records) - len(newest))


def in_order(records: Iterable[Record]) -> tuple[Record, ...]:
    """Return records in the order of suite, model, bits, method and seed."""
    return tuple(sorted(records, key=lambda r: (*board_of(r), r.method, -1 if r.seed is None else r.seed, r.key)))


def candidates_of(record: Record, kind: Literal["weight", "activation"]) -> list[str]:
    """Return the names of a cell's candidates in the order of its alpha; empty where its definition tells none."""
    match record.definition.get("quantizers"):
        case {**kinds}:
            listed = kinds.get(kind)
        case _:
            return []
    entries = listed if isinstance(listed, list) else []
    return [str(entry["name"]) for entry in entries if isinstance(entry, dict) and "name" in entry]


def subject_of(record: Record) -> str:
    """Return the hash of what a record has in common with all it may be compared with: data, checkpoint, protocol."""
    return _hash_without(record, "method", "quantizers", "seed")


def _newest(records: Sequence[Record]) -> tuple[Record, ...]:
    """Return the records that belong together: of what was run under several definitions, the one run last."""
    ordered = sorted(records, key=lambda record: (record.started, record.key))
    version: dict[str, int] = {}
    for record in ordered:
        version[record.suite] = max(record.suite_version, version.get(record.suite, record.suite_version))
    ordered = [record for record in ordered if record.suite_version == version[record.suite]]
    subject = {board_of(record): subject_of(record) for record in ordered}
    ordered = [record for record in ordered if subject[board_of(record)] == subject_of(record)]
    # A mean over seeds of different options would mean nothing.
    variant = {(*board_of(record), record.method): _hash_without(record, "seed") for record in ordered}
    ordered = [r for r in ordered if variant[(*board_of(r), r.method)] == _hash_without(r, "seed")]
    return in_order(ordered)


def board_of(record: Record) -> tuple[str, ...]:
    """Return suite, task, mode and protocol, which make a comparison, then model and bits, which make a board of it."""
    return (record.suite, record.task, record.mode, record.protocol, record.model, record.bits)


def _hash_without(record: Record, *names: str) -> str:
    return key_of({name: value for name, value in record.definition.items() if name not in names})
