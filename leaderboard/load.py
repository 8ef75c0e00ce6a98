"""Records as the board counts them: one per cell, each checked; what cannot be trusted is listed with its fault.

Of every file only the beginning is read to tell which belong together; they are read whole board by board.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from benchmarks.records import BadRecordError, Record, read_record
from benchmarks.scan import ENDING, KEY_LENGTH, REST
from benchmarks.seal import FIRST_LINE
from dqss.spec import Bits
from leaderboard.badges import Origin, Origins

if TYPE_CHECKING:
    from leaderboard.accepted import Submission

# Bytes of a file in which its definition ends, as a rule; else it is read whole.
BEGINNING = 16_384
END_OF_DEFINITION = b"\n },\n"
# Files that a process reads before it tells.
CHUNK = 500
# Parts of a definition that are not in its key, in the hash of the subject and in that of the variant.
LEFT_OUT: tuple[tuple[str, ...], ...] = ((), ("method", "quantizers", "seed"), ("seed",))

_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode

Mapped = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]
"""What gives the results of a function in order, as `map` does."""


@dataclass(frozen=True)
class Loaded:
    """What of a results folder does not count, and what the public board has of others.

    Args:
        faults: one sentence per file that is no record, its path relative to the results folder.
        superseded: number of records left out because their cell was run later under another definition.
        submissions: those that were read, in the order in which they were added.
    """

    faults: tuple[str, ...]
    superseded: int
    submissions: tuple[Submission, ...] = ()


class BoardName(NamedTuple):
    """What the records of one board have in common."""

    suite: str
    task: str
    mode: str
    protocol: str
    model: str
    bits: str


class ComparisonName(NamedTuple):
    """What the records of one comparison have in common.

    Args:
        fixed: the hash of all that the protocol fixes: two may have one name, and are never ranked together.
    """

    suite: str
    task: str
    mode: str
    protocol: str
    fixed: str


class Fault(NamedTuple):
    """Why a file does not count; `file` is as of Entry."""

    file: tuple[str, str]
    words: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A record as far as it tells what it belongs to.

    Args:
        file: its folder and name under the results folder.
        subject: the hash of what it has in common with all it may be compared with: data, checkpoint, protocol.
        variant: the hash of all that fixes it but the seed.
        protocol: the hash of its protocol.
        started: empty as long as nothing depends on it.
        origin: where the record is from; None in somebody's own results folder.
        whole: the record itself where it is in no file of the results folder.
    """

    file: tuple[str, str]
    board: BoardName
    suite_version: int
    method: str
    seed: int | None
    key: str
    subject: str
    variant: str
    protocol: str
    started: str = ""
    origin: Origin | None = None
    whole: Record | None = field(default=None, compare=False)

    @classmethod
    def of(cls, record: Record, file: tuple[str, str] = ("", "")) -> Entry:
        """Return the entry of a record."""
        _, subject, variant, protocol = _hashes(record.definition)
        which = (record.method, record.seed, record.key)
        return cls(file, board_of(record), record.suite_version, *which, subject, variant, protocol, record.started)

    @property
    def comparison(self) -> ComparisonName:
        return ComparisonName(*self.board[:4], self.protocol)


@dataclass(frozen=True)
class Index:
    """What a results folder holds, as far as the beginnings of files tell, or the public board.

    Args:
        entries: those that belong together, one per cell, in the order of suite, model, bits, method and seed.
        faults: of files that are no records.
        superseded: number of files left out because their cell was run later under another definition.
        submissions: those that were read, in the order in which they were added.
    """

    entries: tuple[Entry, ...]
    faults: tuple[Fault, ...]
    superseded: int
    submissions: tuple[Submission, ...] = ()


def index_of(results: Path, mapped: Mapped = map) -> Index:
    """Return what there is under a results folder; a bad file becomes a fault, never an exception.

    Args:
        results: records lie in it as `<suite>/<key>.json`.
        mapped: may read files in several processes.
    """
    found, faults = _apart(mapped(partial(_entries, results), _chunks(list(_files(results)))))
    entries, copies = _once(found)
    certain, doubtful = _doubtful(entries)
    dated, more = _apart(mapped(partial(_dated, results), _chunks(doubtful)))
    newest = _newest(certain + dated)
    return Index(newest, tuple(faults + copies + more), len(certain) + len(dated) - len(newest))


def fewer_files_than(results: Path, few: int) -> bool:
    """Return whether a results folder has fewer files than this that may be records."""
    return len(list(islice(_files(results), few))) < few


def read_whole(results: Path, entries: Iterable[Entry]) -> tuple[list[Record], list[Fault]]:
    """Return the records of some entries, checked, and the faults of those that are none."""
    records: list[Record] = []
    faults: list[Fault] = []
    for entry in entries:
        if entry.whole is not None:
            records.append(entry.whole)
            continue
        match _read(results, entry.file):
            case Fault() as fault:
                faults.append(fault)
            case record if (board_of(record), record.method, record.seed) == (entry.board, entry.method, entry.seed):
                records.append(record)
            case _:
                words = "its beginning tells otherwise than the rest, or it changed while the board was built"
                faults.append(Fault(entry.file, f"{'/'.join(entry.file)}: {words}. It does not count."))
    return records, faults


def origins_of(entries: Iterable[Entry]) -> Origins:
    """Return the origins of some entries; empty for those of somebody's own results folder."""
    return {(entry.board.suite, entry.key): entry.origin for entry in entries if entry.origin is not None}


def in_order(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return entries in the order of suite, task, mode, protocol (name, hash), model, bits, method and seed."""
    return tuple(sorted(entries, key=_place))


def belonging(records: Sequence[Record]) -> list[Record]:
    """Return those of these records that belong together, one per cell."""
    entries = [Entry.of(record, ("", str(i))) for i, record in enumerate(records)]
    return [records[int(entry.file[1])] for entry in _newest(entries)]


def board_of(record: Record) -> BoardName:
    """Return the name of the board that a record is on."""
    return BoardName(record.suite, record.task, record.mode, record.protocol, record.model, record.bits)


def comparison_of(record: Record) -> ComparisonName:
    """Return the name of the comparison that a record is in."""
    *_, protocol = _hashes(record.definition)
    return ComparisonName(*board_of(record)[:4], protocol)


def protocols_of(comparisons: Iterable[ComparisonName]) -> dict[ComparisonName, str]:
    """Return what pages call the protocol of each comparison: by its name, and its hash where others share that.

    >>> names = [ComparisonName("demo", "photos-x2", "ptq", "mine", fixed) for fixed in ("0123ab", "4567cd")]
    >>> list(protocols_of(names).values()), list(protocols_of(names[:1]).values())
    (['mine (0123)', 'mine (4567)'], ['mine'])
    """
    found = set(comparisons)
    shared = Counter(name[:4] for name in found)
    return {
        name: name.protocol if shared[name[:4]] == 1 else f"{name.protocol} ({name.fixed[:4]})"
        for name in sorted(found)
    }


def candidates_of(record: Record, kind: Literal["weight", "activation"]) -> list[str]:
    """Return the names of a cell's candidates in the order of its alpha; empty where its definition tells none."""
    match record.definition.get("quantizers"):
        case {**kinds}:
            listed = kinds.get(kind)
        case _:
            return []
    entries = listed if isinstance(listed, list) else []
    return [str(entry["name"]) for entry in entries if isinstance(entry, dict) and "name" in entry]


def _files(results: Path) -> Iterator[tuple[str, str]]:
    for folder in sorted(entry.name for entry in os.scandir(results) if entry.is_dir()):
        for name in sorted(os.listdir(results / folder)):
            if len(name) == KEY_LENGTH + len(ENDING) and name.endswith(ENDING):
                yield folder, name


def _entries(results: Path, files: Sequence[tuple[str, str]]) -> list[Entry | Fault]:
    return [_entry(results, file) for file in files]


def _entry(results: Path, file: tuple[str, str]) -> Entry | Fault:
    """Return what a file tells of itself; what its beginning does not tell as a record would, reading it whole does."""
    try:
        with open(results.joinpath(*file), "rb", buffering=0) as opened:
            begin = opened.read(BEGINNING)
        first, end = FIRST_LINE.match(begin), begin.find(END_OF_DEFINITION, max(begin.find(REST), 0))
        if first is not None and end >= 0:
            return _understood(file, json.loads(b"{%s\n }}" % begin[first.end() : end]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    record = _read(results, file)
    return record if isinstance(record, Fault) else Entry.of(record, file)


def _understood(file: tuple[str, str], head: dict[str, Any]) -> Entry:
    """Return the entry of a record's first fields.

    Raises:
        ValueError, KeyError, TypeError: they are not those of a record.
    """
    names = [head[name] for name in BoardName._fields]
    version, method, seed, key = (head[name] for name in ("suite_version", "method", "seed", "key"))
    texts, numbers = (*names, method, key), (version, *(() if seed is None else (seed,)))
    if not all(type(text) is str for text in texts) or not all(type(number) is int for number in numbers):
        raise TypeError("not the fields of a record")
    sealed, subject, variant, protocol = _hashes(head["definition"])
    if not sealed == key == file[1].removesuffix(ENDING) or _as_written(names[-1]) != names[-1]:
        raise ValueError("not the name of a record")
    return Entry(file, BoardName(*names), version, method, seed, key, subject, variant, protocol)


@lru_cache(maxsize=256)
def _as_written(bits: str) -> str:
    return str(Bits.parse(bits))


def _read(results: Path, file: tuple[str, str]) -> Record | Fault:
    try:
        return read_record(results.joinpath(*file))
    except BadRecordError as error:
        # The same records give the same page wherever they lie.
        return Fault(file, str(error).replace(f"{results}{os.sep}", ""))


def _once(entries: Iterable[Entry]) -> tuple[list[Entry], list[Fault]]:
    """Return one entry of each record, and the faults of its copies: the file in its suite's own folder counts."""
    kept: dict[tuple[str, str], Entry] = {}
    copies: list[Fault] = []
    for entry in sorted(entries, key=lambda entry: (entry.file[0] != entry.board.suite, entry.file)):
        first = kept.setdefault((entry.board.suite, entry.key), entry)
        if first is not entry:
            words = f"the same record as {'/'.join(first.file)}. It counts once."
            copies.append(Fault(entry.file, f"{'/'.join(entry.file)}: {words}"))
    return list(kept.values()), copies


def _doubtful(entries: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Return the entries that belong together for sure, and those with several definitions to choose from.

    Of these it must be known when they were started, and a file that is no record must not decide which others count.
    """
    choices: dict[tuple[str, ...], set[object]] = {}
    for entry in entries:
        choices.setdefault((entry.board.suite,), set()).add(entry.suite_version)
        choices.setdefault(entry.board, set()).add(entry.subject)
        choices.setdefault((*entry.board, entry.method), set()).add(entry.variant)
    many = {names for names, found in choices.items() if len(found) > 1}
    certain: list[Entry] = []
    doubtful: list[Entry] = []
    for entry in entries:
        concerned = {(entry.board.suite,), entry.board, (*entry.board, entry.method)}
        (doubtful if concerned & many else certain).append(entry)
    return certain, doubtful


def _dated(results: Path, entries: Sequence[Entry]) -> list[Entry | Fault]:
    """Return the entries with the time they were started, or their faults; the files are read whole."""
    found: list[Entry | Fault] = []
    for entry in entries:
        records, faults = read_whole(results, [entry])
        found += [replace(entry, started=record.started) for record in records]
        found += faults
    return found


def _chunks(items: Sequence[Any]) -> list[Sequence[Any]]:
    return [items[i : i + CHUNK] for i in range(0, len(items), CHUNK)]


def _apart(chunks: Iterable[Iterable[Entry | Fault]]) -> tuple[list[Entry], list[Fault]]:
    entries: list[Entry] = []
    faults: list[Fault] = []
    for one in chain.from_iterable(chunks):
        if isinstance(one, Entry):
            entries.append(one)
        else:
            faults.append(one)
    return entries, faults


def _newest(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Return the entries that belong together: of what was run under several definitions, the one run last."""
    ordered = sorted(entries, key=lambda entry: (entry.started, entry.key))
    version: dict[str, int] = {}
    for entry in ordered:
        suite = entry.board.suite
        version[suite] = max(entry.suite_version, version.get(suite, entry.suite_version))
    ordered = [entry for entry in ordered if entry.suite_version == version[entry.board.suite]]
    subject = {entry.board: entry.subject for entry in ordered}
    ordered = [entry for entry in ordered if entry.subject == subject[entry.board]]
    # A mean over seeds of different options would mean nothing.
    variant = {(entry.board, entry.method): entry.variant for entry in ordered}
    ordered = [entry for entry in ordered if entry.variant == variant[entry.board, entry.method]]
    return in_order(ordered)


def _place(entry: Entry) -> tuple[Any, ...]:
    return *entry.comparison, *entry.board[4:], entry.method, -1 if entry.seed is None else entry.seed, entry.key


def _hashes(definition: dict[str, Any]) -> tuple[str, str, str, str]:
    """Return the key of a definition, and the hashes `subject`, `variant` and `protocol` of an entry."""
    # As `key_of` has it, each part written once.
    parts = {name: f"{_canonical(name)}:{_canonical(definition[name])}" for name in sorted(definition)}
    written = [",".join(part for name, part in parts.items() if name not in left_out) for left_out in LEFT_OUT]
    whole, subject, variant = (hashlib.sha256(b"{%s}" % text.encode()).hexdigest() for text in written)
    return whole, subject, variant, _hash(parts.get("protocol", ""))


@lru_cache(maxsize=256)
def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
