"""Whether a submission can be believed: form, hashes, each record by itself, and the records beside each other.

Everything in it is a stranger's data. Nothing is unpacked, run, or shown as it stands; each fault is one line that
names its file. Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from benchmarks.archive import ArchiveError, opened_archive, shown
from benchmarks.consistency import Claim, faults_between
from benchmarks.plausible import faults_of
from benchmarks.submission import NAMES, Manifest, file_sha256, path_of, read_manifest, read_records

Badge = Literal["verified", "self-reported", "refused"]
TOLD_FAULTS = 50
"""A submission with more is not read to its end."""


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Verdict:
    """What was found.

    Args:
        sha256: of the archive.
        name: of the submitter; None where the manifest cannot be read.
        records: how many are good by themselves; `ok` of them have a score.
        faults: one line each, of the first TOLD_FAULTS.
        reruns: the cells that were run again.
    """

    sha256: str
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


RunAgain = Callable[[Sequence[Claim]], Sequence[Rerun]]


def check(path: Path, now: datetime, run_again: RunAgain | None = None) -> Verdict:
    """Check a submission.

    Args:
        path: the archive.
        now: records from later than tomorrow are none.
        run_again: runs some of these cells again, all ok; asked only where nothing else is wrong.

    Raises:
        OSError: the file cannot be read.
    """
    claims: list[Claim] = []
    faults: list[str] = []
    manifest: Manifest | None = None
    try:
        with opened_archive(path, NAMES) as archive:
            manifest = read_manifest(archive)
            for item in read_records(archive, manifest):
                if isinstance(item, ArchiveError):
                    faults.append(str(item))
                elif (fault := next(faults_of(item, now), None)) is not None:
                    # The first tells enough of a record, and the others may only follow from it.
                    faults.append(f"{path_of(item)}: {shown(fault, 300)}.")
                else:
                    claims.append(Claim.of(item))
                if len(faults) >= TOLD_FAULTS:
                    faults[TOLD_FAULTS - 1 :] = ["There are more faults; the rest was not read."]
                    break
    except ArchiveError as error:
        faults.append(str(error))
    if not faults:
        faults += faults_between(claims)[:TOLD_FAULTS]
    ok = [claim for claim in claims if claim.status == "ok"]
    reruns = tuple(run_again(ok)) if run_again and not faults else ()
    name = manifest.name if manifest else None
    return Verdict(file_sha256(path), name, len(claims), len(ok), tuple(faults), reruns)
