"""Records of machines that share nothing, brought together in one output folder. Imports no torch.

Files are copied byte for byte, each whole or not at all. What stands where a merge was cut off is as good as before,
and the same merge again does the rest. Neither the order of the folders nor that of several merges changes the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.progress import cell_name
from benchmarks.records import BadRecordError, Record, checked, record_path
from benchmarks.storage import set_aside, write_atomically

BEFORE = {"ok": 0, "failed": 1, "skipped": 2}


class MergeError(ValueError):
    """Folders that cannot be merged; the message names them and says what to do."""


@dataclass
class Merged:
    """What a merge did, in records.

    Args:
        copied: were not there yet.
        replaced: took the place of one that is worth less.
        already: are there, byte for byte.
        left: are worth less than the one that is there.
        twice: good records that another good one of the same cell stands against; each is named.
        bad: files that are no records; each is named.
    """

    copied: int = 0
    replaced: int = 0
    already: int = 0
    left: int = 0
    twice: int = 0
    bad: int = 0


@dataclass(frozen=True)
class Found:
    """A record and its file."""

    path: Path
    record: Record
    content: bytes

    def rank(self) -> tuple[int, str, bytes]:
        """Return by what the record of a cell is chosen, the least first.

        A good one comes before one that failed, that before one that was skipped, and the earlier before the later. The
        content decides only where all else is equal, so that every order has the same end.
        """
        return BEFORE[self.record.status], self.record.started, self.content


def merge(folders: Sequence[Path], out: Path, warn: Callable[[str], None]) -> Merged:
    """Copy the records under some output folders into another one.

    What stands at `out` takes part; a bad file there is set aside where a folder has the cell's record. Nothing in
    `folders` is changed.

    Args:
        folders: output folders of runs.
        out: is made where it is not there.
        warn: is told what is left out.

    Raises:
        MergeError: a folder is not there, holds no records, or one of them is or holds another.
        StorageError: `out` cannot be written.
    """
    for folder in folders:
        _check(folder, folders, out)
    merged = Merged()
    for folder in folders:
        for path in sorted(folder.glob("*/*.json")):
            if len(path.stem) == 64:
                try:
                    _bring(_found(path), out, merged, warn)
                except BadRecordError as error:
                    merged.bad += 1
                    warn(f"{path}: {error.fault}. It is left out.")
    return merged


def _check(folder: Path, folders: Sequence[Path], out: Path) -> None:
    if not folder.is_dir():
        raise MergeError(f"no folder '{folder}'. Name the output folders of runs.")
    place, target = folder.resolve(), out.resolve()
    if place == target:
        raise MergeError(f"'{folder}' is the folder to merge into. Leave it out: what it holds takes part anyway.")
    if place in target.parents or target in place.parents:
        inner, outer = (out, folder) if place in target.parents else (folder, out)
        raise MergeError(f"'{inner}' is inside '{outer}'. Name with -o a folder beside those to merge.")
    if [other.resolve() for other in folders].count(place) > 1:
        raise MergeError(f"'{folder}' is named more than once. Name each folder once.")
    if not any(len(path.stem) == 64 for path in folder.glob("*/*.json")):
        own = any(len(path.stem) == 64 for path in folder.glob("*.json"))
        advice = f"It is the folder of one suite: name '{folder.parent}'" if own else "Name the output folder of a run"
        raise MergeError(f"no records in '{folder}'. {advice}.")


def _found(path: Path) -> Found:
    """Read a record.

    Raises:
        BadRecordError: it is none, or of another suite than its folder.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadRecordError(path, f"cannot be read: {error.strerror}") from error
    record = checked(path, content)
    if record.suite != path.parent.name:
        raise BadRecordError(path, f"it is of suite '{record.suite}' and stands in the folder of another")
    return Found(path, record, content)


def _told(found: Found) -> str:
    score = "none" if found.record.score is None else f"{found.record.score:g}"
    return f"that of {found.record.started} (score {score}, {found.path.parents[1]})"


def _bring(new: Found, out: Path, merged: Merged, warn: Callable[[str], None]) -> None:
    target = record_path(out, new.record.suite, new.record.key)
    there: Found | None = None
    if target.exists():
        try:
            there = _found(target)
        except BadRecordError as error:
            warn(f"{target}: {error.fault}. It is kept as {set_aside(target).name}.")
    if there is None:
        write_atomically(target, new.content)
        merged.copied += 1
        return
    if there.content == new.content:
        merged.already += 1
        return
    stays, goes = (there, new) if there.rank() < new.rank() else (new, there)
    if stays.record.status == goes.record.status == "ok":
        merged.twice += 1
        warn(
            f"{goes.path}: {cell_name(goes.record)} was run twice. {_told(stays)} stays; {_told(goes)} is left out: "
            "it began later."
        )
    if stays is new:
        write_atomically(target, new.content)
        merged.replaced += 1
    else:
        merged.left += 1
