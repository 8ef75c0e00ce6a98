"""The report of `submit check` on a submission: it alone gives a badge, and only to the archive that it is of.

It is written by those who accept the submission, never taken from the submitter. Yet it may have been edited, be of
another archive, or say more than was done, and then gives none. Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from benchmarks.archive import MAX_FILE, shown, strict_json
from benchmarks.records import Record

Badge = Literal["verified", "self-reported", "refused"]
SAME_STRATEGY_APART = {"%": 0.5, "dB": 0.3}
OTHER_STRATEGY_APART = {"%": 2.5, "dB": 0.5}
"""How far scores may lie apart. Other processors add in another order: of one strategy a few images fall otherwise, a
search may end at another strategy, and a training at other weights. Among 211 cells of this project that were run twice
or more, by several versions and with one or two threads, the largest differences were 0.2 points and 0.24 dB without
a training, but for one search of 3 bits with 2.1 points, and 2.0 points with one."""
AS_WRITTEN = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@dataclass(frozen=True, config=AS_WRITTEN)
class Rerun:
    """One cell that was run again.

    Args:
        score: as submitted.
        again: as it came out here; None where the cell cannot run here.
        tolerance: how far apart the two may be, in the unit of the metric.
        fault: one sentence without its full stop: why it does not agree, or cannot run here; None where it agrees.
    """

    key: str
    score: float
    again: float | None
    tolerance: float
    fault: str | None

    @property
    def disagrees(self) -> bool:
        """Whether it ran and came out otherwise."""
        return self.again is not None and self.fault is not None


@dataclass(frozen=True, config=AS_WRITTEN)
class Verdict:
    """What was found.

    Args:
        sha256: of the archive.
        checked: when, in ISO 8601 with its zone.
        name: of the submitter; None where the manifest cannot be read.
        records: how many are good by themselves; `ok` of them have a score.
        faults: one line each, of the first TOLD_FAULTS.
        reruns: the cells that were run again.
    """

    sha256: str
    checked: str
    name: str | None
    records: int
    ok: int
    faults: tuple[str, ...]
    reruns: tuple[Rerun, ...] = ()

    @property
    def badge(self) -> Badge:
        """`verified` where cells were run again and all agree, `self-reported` where none disagrees, else `refused`."""
        if self.faults or any(rerun.disagrees for rerun in self.reruns):
            return "refused"
        agree = bool(self.reruns) and all(rerun.fault is None for rerun in self.reruns)
        return "verified" if agree else "self-reported"

    def to_json(self) -> str:
        """Return what a board needs for its badge, and all that led to it."""
        content: dict[str, Any] = {"badge": self.badge, **asdict(self)}
        return json.dumps(content, indent=1, allow_nan=False) + "\n"


VERDICT = TypeAdapter(Verdict)


class ReportError(ValueError):
    """A report that gives no badge; the message is one sentence without its full stop."""


def report_path(archive: Path) -> Path:
    """Return where the report of an archive lies.

    >>> report_path(Path("jane-doe.zip")).name
    'jane-doe.check.json'
    """
    return archive.with_suffix(".check.json")


def read_report(path: Path) -> Verdict:
    """Return what a report found.

    Raises:
        ReportError: not there, not a report, or its badge is not what its findings make.
    """
    try:
        with path.open("rb") as file:
            content = strict_json(file.read(MAX_FILE))
    except OSError as error:
        raise ReportError(f"its check report '{path.name}' cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ReportError(f"its check report is not JSON ({shown(str(error))})") from error
    badge = content.pop("badge", None) if isinstance(content, dict) else None
    try:
        verdict = VERDICT.validate_json(json.dumps(content))
        told = datetime.fromisoformat(verdict.checked)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        fault = shown(f"{where}: {first['msg']}")
        raise ReportError(f"its check report is none ({fault})") from error
    except ValueError as error:
        raise ReportError("its check report does not tell when it was made") from error
    if told.tzinfo is None:
        raise ReportError("its check report does not tell when it was made: the time zone is missing")
    if badge != verdict.badge:
        raise ReportError(f"its check report says '{shown(str(badge), 40)}', and what it found makes {verdict.badge}")
    return verdict


def check_report(verdict: Verdict, sha256: str, name: str, records: Sequence[Record]) -> None:
    """Check that a report is of this archive, and that each cell it says was run again can have been.

    Args:
        sha256: of the archive.
        name: of the submitter, as the manifest has it.
        records: all of the archive.

    Raises:
        ReportError: it is not.
    """
    if verdict.sha256 != sha256:
        raise ReportError(f"its check report is of another archive, {shown(verdict.sha256, 12)}")
    ok = {record.key: record for record in records if record.status == "ok"}
    told, here = (verdict.name, verdict.records, verdict.ok), (name, len(records), len(ok))
    if verdict.badge != "refused" and told != here:
        raise ReportError("its check report tells of another submitter or of other records than the archive has")
    if len({rerun.key for rerun in verdict.reruns}) < len(verdict.reruns):
        raise ReportError("its check report counts a cell twice that was run again")
    for rerun in verdict.reruns:
        if (fault := _fault_of(rerun, ok.get(rerun.key))) is not None:
            raise ReportError(f"its check report: cell {shown(rerun.key, 12)} {fault}")


def _fault_of(rerun: Rerun, record: Record | None) -> str | None:
    if record is None or record.metric is None:
        return "was run again, and is not among its cells with a score"
    if rerun.score != record.score:
        return f"was submitted with {record.score:g}, not with {rerun.score:g}"
    if rerun.fault is not None:
        return None
    if rerun.again is None:
        return "is said to agree, and was not run"
    allowed = OTHER_STRATEGY_APART.get(record.metric.unit, 0.0)
    if not abs(rerun.again - rerun.score) <= rerun.tolerance <= allowed:
        return f"is said to agree, and came out as {rerun.again:g} where {rerun.score:g} was submitted"
    return None
