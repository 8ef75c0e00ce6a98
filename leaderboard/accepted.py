"""The public board: this project's own records, then what accepted submissions add to them.

A submission lies as `<name>.zip` beside `<name>.check.json`, the report of its check. What stands before it stays as it
is: no cell, method, board or suite version of it is replaced, and nothing that it is ranked by grows.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.archive import ArchiveError, opened_archive
from benchmarks.outcomes import fault_of
from benchmarks.records import Record, contradiction, key_of
from benchmarks.submission import NAMES, file_sha256, path_of, read_manifest, read_records
from benchmarks.submission_report import ReportError, check_report, read_report, report_path
from leaderboard.badges import ORDER, Badge, Origin
from leaderboard.load import Loaded, belonging, board_of, in_order, load, subject_of


@dataclass(frozen=True)
class Submission:
    """An archive that can be believed as far as its badge says.

    Args:
        archive: its file name.
        submitter: as the board shows it.
        contact: a mail address or an https address; None where none is given.
        checked: when, in ISO 8601 with its zone; None where it has no report.
        again: how many cells were run again, all with the same outcome.
        records: all of it.
    """

    archive: str
    sha256: str
    submitter: str
    contact: str | None
    badge: Badge
    checked: str | None
    again: int
    records: tuple[Record, ...]

    @property
    def origin(self) -> Origin:
        return Origin(self.badge, self.submitter, self.archive)


class SubmissionRefusedError(ValueError):
    """A submission that has no place on the board; the message names its file and the fault."""


def load_board(results: Path, submissions: Path) -> Loaded:
    """Read the official records and the accepted submissions.

    Args:
        results: the folder of the official records.
        submissions: the folder of the archives and their reports; it need not be there.
    """
    found: list[Submission] = []
    faults: list[str] = []
    for archive in sorted(submissions.glob("*.zip")):
        try:
            found.append(read_submission(archive))
        except SubmissionRefusedError as error:
            faults.append(str(error).replace(f"{submissions}{os.sep}", ""))
    loaded = official(load(results))
    for submission in by_strength(found):
        loaded = with_submission(loaded, submission)
    return replace(loaded, faults=(*loaded.faults, *faults))


def official(loaded: Loaded) -> Loaded:
    """Return the records of a folder as this project's own."""
    return replace(loaded, origins={(record.suite, record.key): Origin("official") for record in loaded.records})


def by_strength(submissions: Iterable[Submission]) -> list[Submission]:
    """Return submissions as they are added: stronger badges first, then in the order of their checks."""
    return sorted(submissions, key=lambda one: (ORDER.index(one.badge), one.checked or "", one.archive))


def read_submission(path: Path) -> Submission:
    """Read an accepted submission, and hold its report against it.

    Raises:
        SubmissionRefusedError: it cannot be read or believed, or its check refused it.
    """
    try:
        verdict = read_report(report_path(path))
        found = unchecked(path)
        check_report(verdict, found.sha256, found.submitter, found.records)
    except ReportError as error:
        report = report_path(path).name
        raise SubmissionRefusedError(
            f"{path}: {error}. Make it with `dqss-bench submit check {path.name} --report {report}`."
        ) from error
    if verdict.badge == "refused":
        raise SubmissionRefusedError(f"{path}: its check refused it.")
    again = sum(rerun.fault is None for rerun in verdict.reruns)
    return replace(found, badge=verdict.badge, checked=verdict.checked, again=again)


def unchecked(path: Path) -> Submission:
    """Read a submission without a report, as self-reported.

    Raises:
        SubmissionRefusedError: it cannot be read, or a file in it is no record.
    """
    records: list[Record] = []
    try:
        with opened_archive(path, NAMES) as archive:
            manifest = read_manifest(archive)
            for item in read_records(archive, manifest):
                if isinstance(item, ArchiveError):
                    raise item
                if (fault := _fault_of(item)) is not None:
                    raise ArchiveError(path_of(item), fault)
                records.append(item)
        digest = file_sha256(path)
    except ArchiveError as error:
        raise SubmissionRefusedError(f"{path}: {error} See `dqss-bench submit check {path.name}`.") from error
    except OSError as error:
        raise SubmissionRefusedError(f"{path}: cannot be read: {error.strerror}.") from error
    return Submission(path.name, digest, manifest.name, manifest.contact, "self-reported", None, 0, tuple(records))


def _fault_of(record: Record) -> str | None:
    """Return what the board's arithmetic would stumble over; the check asked more."""
    if key_of(record.definition) != record.key:
        return "its key does not fit its content"
    if (field := contradiction(record)) is not None:
        return f"its {field} is not what its definition says"
    fault = fault_of(record)
    return None if fault is None else fault.rstrip(".")


def with_submission(loaded: Loaded, submission: Submission) -> Loaded:
    """Return what is on the board when a submission is added to what stands there."""
    fresh = tuple(additions(loaded.records, belonging(submission.records).records))
    origins = {(record.suite, record.key): submission.origin for record in fresh}
    return replace(
        loaded,
        records=in_order((*loaded.records, *fresh)),
        origins={**loaded.origins, **origins},
        submissions=(*loaded.submissions, submission),
    )


@dataclass
class _Board:
    """What stands on a board.

    Args:
        subject: data, checkpoint and protocol of all its records.
        methods: those that have a record.
        seeds: all of them.
        images: the test images of all records that are ok, as a hash.
    """

    subject: str
    methods: set[str] = field(default_factory=set)
    seeds: set[int] = field(default_factory=set)
    images: set[str] = field(default_factory=set)


def additions(standing: Sequence[Record], submitted: Iterable[Record]) -> Iterator[Record]:
    """Yield the submitted records that may stand beside others.

    They are whole comparisons that are not there, and methods that a board has not, with its images and the seeds it
    asks for. A board more, a seed more or a newer version would make what stands there incomplete, or take its place.
    """
    versions = {record.suite: record.suite_version for record in standing}
    comparisons = {board_of(record)[:4] for record in standing}
    boards: dict[tuple[str, ...], _Board] = {}
    for record in standing:
        board = boards.setdefault(board_of(record), _Board(subject_of(record)))
        board.methods.add(record.method)
        if record.seed is not None:
            board.seeds.add(record.seed)
        if record.status == "ok":
            board.images.add(_images(record))
    for record in submitted:
        name = board_of(record)
        if versions.get(record.suite, record.suite_version) != record.suite_version:
            continue
        if name[:4] not in comparisons or _has_room(boards.get(name), record):
            yield record


def _has_room(board: _Board | None, record: Record) -> bool:
    if board is None or board.subject != subject_of(record) or record.method in board.methods:
        return False
    if record.status == "ok" and board.images and _images(record) not in board.images:
        return False
    return record.seed is None or not board.seeds or record.seed in board.seeds


def _images(record: Record) -> str:
    return key_of({"test": record.ids.get("test")})
