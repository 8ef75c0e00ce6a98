"""Whether a submission can be believed: form, hashes, each record by itself, and the records beside each other.

Everything in it is a stranger's data. Nothing is unpacked, run, or shown as it stands; each fault is one line that
names its file. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from benchmarks.archive import ArchiveError, opened_archive, shown
from benchmarks.consistency import Claim, faults_between
from benchmarks.plausible import faults_of
from benchmarks.submission import NAMES, Manifest, file_sha256, path_of, read_manifest, read_records
from benchmarks.submission_report import Rerun, Verdict

TOLD_FAULTS = 50
"""A submission with more is not read to its end."""

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
    return Verdict(
        file_sha256(path), now.isoformat(timespec="seconds"), name, len(claims), len(ok), tuple(faults), reruns
    )
