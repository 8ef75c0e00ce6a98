"""The public board: this project's own records, then what accepted submissions add to them.

A submission lies as `<name>.zip` beside `<name>.check.json`, the report of its check. What stands before it stays as it
is: no cell, method, board or suite version of it is replaced, and nothing that it is ranked by grows.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.archive import ArchiveError, opened_archive
from benchmarks.outcomes import fault_of
from benchmarks.records import Record, contradiction, key_of
from benchmarks.submission import NAMES, file_sha256, path_of, read_manifest, read_records
from benchmarks.submission_report import ReportError, check_report, read_report, report_path
from leaderboard.badges import ORDER, Badge, Origin
from leaderboard.load import BoardName, Entry, Fault, Index, Mapped, belonging, board_of, in_order, index_of, read_whole


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
        shown: how many of its records are on the board: the others give way to what stood before it.
    """

    archive: str
    sha256: str
    submitter: str
    contact: str | None
    badge: Badge
    checked: str | None
    again: int
    records: tuple[Record, ...]
    shown: int = 0

    @property
    def origin(self) -> Origin:
        return Origin(self.badge, self.submitter, self.archive)


class SubmissionRefusedError(ValueError):
    """A submission that has no place on the board; the message names its file and the fault."""


def index_of_board(results: Path, submissions: Path, mapped: Mapped = map) -> Index:
    """Return what there is of official records and accepted submissions.

    Args:
        results: the folder of the official records.
        submissions: the folder of the archives and their reports; it need not be there.
        mapped: may read files in several processes.
    """
    found: list[Submission] = []
    faults: list[Fault] = []
    for archive in sorted(submissions.glob("*.zip")):
        try:
            found.append(read_submission(archive))
        except SubmissionRefusedError as error:
            faults.append(Fault(("submissions", archive.name), str(error).replace(f"{submissions}{os.sep}", "")))
    index = official(index_of(results, mapped))
    for submission in by_strength(found):
        index = with_submission(index, submission, results)
    return replace(index, faults=(*index.faults, *faults))


def official(index: Index) -> Index:
    """Return the entries of a folder as this project's own."""
    own = Origin("official")
    return replace(index, entries=tuple(replace(entry, origin=own) for entry in index.entries))


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


def with_submission(index: Index, submission: Submission, results: Path) -> Index:
    """Return what is on the board when a submission is added to what stands there.

    Args:
        results: where the files of the entries are; those of the submission's boards are read whole.
    """
    submitted = [
        replace(Entry.of(record), origin=submission.origin, whole=record) for record in belonging(submission.records)
    ]
    boards = {entry.board for entry in submitted}
    standing, _ = read_whole(results, [entry for entry in index.entries if entry.board in boards])
    fresh = list(additions(index.entries, _images_of(standing), submitted))
    return replace(
        index,
        entries=in_order((*index.entries, *fresh)),
        submissions=(*index.submissions, replace(submission, shown=len(fresh))),
    )


Images = Mapping[BoardName, Set[str]]
"""Board -> the test images of its records that are ok, as hashes."""


@dataclass
class _Board:
    """What stands on a board.

    Args:
        subject: data, checkpoint and protocol of all its records.
        methods: those that have a record.
        seeds: all of them.
    """

    subject: str
    methods: set[str] = field(default_factory=set)
    seeds: set[int] = field(default_factory=set)


def additions(standing: Iterable[Entry], images: Images, submitted: Iterable[Entry]) -> Iterator[Entry]:
    """Yield the submitted records that may stand beside others.

    They are whole comparisons that are not there, and methods that a board has not, with its images and the seeds it
    asks for. A board more, a seed more or a newer version would make what stands there incomplete, or take its place.

    Args:
        images: of what stands on the boards of the submitted records.
        submitted: entries that have their record with them.
    """
    versions: dict[str, int] = {}
    boards: dict[BoardName, _Board] = {}
    for entry in standing:
        versions[entry.board.suite] = entry.suite_version
        board = boards.setdefault(entry.board, _Board(entry.subject))
        board.methods.add(entry.method)
        if entry.seed is not None:
            board.seeds.add(entry.seed)
    comparisons = {name[:4] for name in boards}
    for entry in submitted:
        if versions.get(entry.board.suite, entry.suite_version) != entry.suite_version:
            continue
        known = images.get(entry.board, frozenset())
        if entry.board[:4] not in comparisons or _has_room(boards.get(entry.board), known, entry):
            yield entry


def _has_room(board: _Board | None, images: Set[str], entry: Entry) -> bool:
    if board is None or board.subject != entry.subject or entry.method in board.methods:
        return False
    if images and entry.whole is not None and entry.whole.status == "ok" and _images(entry.whole) not in images:
        return False
    return entry.seed is None or not board.seeds or entry.seed in board.seeds


def _images_of(records: Iterable[Record]) -> Images:
    found: dict[BoardName, set[str]] = {}
    for record in records:
        if record.status == "ok":
            found.setdefault(board_of(record), set()).add(_images(record))
    return found


def _images(record: Record) -> str:
    return key_of({"test": record.ids.get("test")})
