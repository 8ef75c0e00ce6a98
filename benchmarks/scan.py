"""What a run that goes on needs to know of the records that are there, read in one pass. Imports no torch.

Each file is read whole, since its checksum is over all of it, and understood only as far as `definition`: what a
record says beyond that is checked where results are read. One file at a time is in memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from sys import intern
from typing import Any

from benchmarks.markers import MARKERS
from benchmarks.records import BadRecordError, Status
from benchmarks.seal import BrokenSealError, opened
from benchmarks.storage import PART

REST = b'\n "definition": {'
KEY_LENGTH = 64
ENDING = ".json"


@dataclass(frozen=True, slots=True)
class Brief:
    """A record in brief.

    Args:
        checksum: of its file; another one is another record.
        seconds: of search and evaluation; None where the cell did not get so far.
    """

    key: str
    checksum: str
    status: Status
    reason: str | None
    mode: str
    task: str
    model: str
    bits: str
    method: str
    seconds: float | None


@dataclass(frozen=True)
class Scan:
    """What is in the folder of a suite.

    Args:
        briefs: key -> record.
        faults: key -> why the file is none.
        parts: files that were being written when the folder was read, or when their writers were killed.
    """

    briefs: dict[str, Brief] = field(default_factory=dict)
    faults: dict[str, BadRecordError] = field(default_factory=dict)
    parts: list[Path] = field(default_factory=list)


def look(path: Path) -> Brief | BadRecordError | None:
    """Return the record of one file in brief, its fault, or None where there is no such file."""
    try:
        return _brief(str(path), path.stem)
    except FileNotFoundError:
        return None
    except OSError as error:
        return BadRecordError(path, f"cannot be read: {error.strerror}")
    except (ValueError, KeyError, TypeError) as error:
        fault = str(error) if isinstance(error, BrokenSealError) else "it does not say which cell it is of"
        return BadRecordError(path, f"not a record ({fault})")


class Memory:
    """What files said when they were last read, which holds until they change."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[int, int, int], Brief | BadRecordError | None]] = {}

    def look(self, path: Path) -> Brief | BadRecordError | None:
        """Return what `look` does, without reading the file where it is as it was."""
        name = str(path)
        try:
            facts = os.stat(name)
        except OSError:
            self._known.pop(name, None)
            return look(path)
        # Before it is read: what is written in between is seen next time.
        state = facts.st_ino, facts.st_mtime_ns, facts.st_size
        known = self._known.get(name)
        if known is None or known[0] != state:
            known = self._known[name] = state, look(path)
        return known[1]


def scan(folder: Path, memory: Memory | None = None) -> Scan:
    """Read what is in the folder of a suite; one that is not there holds nothing.

    Args:
        memory: of earlier scans; only what has changed since is read.
    """
    look_at = look if memory is None else memory.look
    found = Scan()
    for name in _names(folder):
        if name.endswith(PART):
            found.parts.append(folder / name)
        elif len(name) == KEY_LENGTH + len(ENDING) and name.endswith(ENDING):
            key = name.removesuffix(ENDING)
            match look_at(folder / name):
                case Brief() as brief:
                    found.briefs[key] = brief
                case BadRecordError() as fault:
                    found.faults[key] = fault
    found.parts.extend(folder / MARKERS / name for name in _names(folder / MARKERS) if name.endswith(PART))
    return found


def scan_all(out: Path, memory: Memory | None = None) -> dict[str, Scan]:
    """Return suite -> what is in its folder, of all folders under the output folder."""
    return {name: scan(out / name, memory) for name in _names(out) if (out / name).is_dir()}


def _names(folder: Path) -> Iterator[str]:
    try:
        yield from os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return


def _brief(path: str, key: str) -> Brief:
    with open(path, "rb", buffering=0) as file:
        checksum, body = opened(file.read())
    head: dict[str, Any] = json.loads(b"{%s}" % body[: body.index(REST)].rstrip(b","))
    if head["key"] != key:
        raise BrokenSealError("it is of another cell")
    searched, evaluated = head["search_seconds"], head["evaluation_seconds"]
    return Brief(
        key=key,
        checksum=checksum,
        status=head["status"],
        reason=head["reason"],
        mode=intern(head["mode"]),
        task=intern(head["task"]),
        model=intern(head["model"]),
        bits=intern(head["bits"]),
        method=intern(head["method"]),
        seconds=None if searched is None else searched + (evaluated or 0),
    )
