"""Bringing MLflow up to date with all records there are."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.markers import record_files
from benchmarks.tracking.store import Store, hold_each, reason_of


@dataclass(frozen=True)
class SyncResult:
    """What a sync did, in records.

    Args:
        logged: brought to MLflow now.
        already: were there.
        failed: are still not there.
        reason: the first failure's; None where nothing failed.
    """

    logged: int
    already: int
    failed: int
    reason: str | None


def sync(out: Path, suite: str | None, report: Callable[[str, int, int], None]) -> SyncResult:
    """Make MLflow hold every record under the output folder, whatever the markers say; once each.

    Args:
        out: the output folder.
        suite: one suite, or None for all.
        report: called with a suite's name, its records seen so far and its records in all.
    """
    out = out.resolve()
    paths = record_files(out, suite)
    counts = {"logged": 0, "already": 0}
    reason: str | None = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name in sorted({path.parent.name for path in paths}):
                own = [path for path in paths if path.parent.name == name]
                report(name, 0, len(own))
                store = Store(out, name, f"{name} sync", {})
                for done, outcome in enumerate(hold_each(store, own), 1):
                    if isinstance(outcome, Exception):
                        reason = reason or reason_of(outcome)
                    else:
                        counts[outcome] += 1
                    report(name, done, len(own))
                store.end("FINISHED")
    except Exception as error:
        reason = reason or reason_of(error)
    return SyncResult(**counts, failed=len(paths) - sum(counts.values()), reason=reason)
