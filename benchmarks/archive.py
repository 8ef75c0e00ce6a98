"""Zip files from strangers: read within bounds, nothing unpacked, nothing taken on trust. Imports no torch.

An archive is as `submit pack` writes it and in no other form: one file after another without gaps, comments or extra
fields, then the directory. So two readers cannot see different files in it, and none overlap.
"""

from __future__ import annotations

import json
import re
import stat
import struct
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

MAX_ARCHIVE = 256 * 2**20
MAX_FILES = 20_000
MAX_UNPACKED = 512 * 2**20
MAX_FILE = 4 * 2**20
"""Bytes; a record of a long training has about a hundred thousand."""
MAX_TEXT = 2_000
"""Characters of any text in a record but packed bytes."""

END_OF_DIRECTORY = struct.Struct("<4s4H2LH")
DIRECTORY_ENTRY_BYTES = 46
LONGEST_NAME = 200
LOCAL_HEADER = struct.Struct("<4s5H3L2H")
ZIP64_LOCATOR_BYTES = 20
ENCRYPTED = 1
BROKEN = (BadZipFile, ValueError, NotImplementedError, RuntimeError, EOFError, OverflowError, struct.error, zlib.error)
EARLIEST = (1980, 1, 1, 0, 0, 0)


class ArchiveError(ValueError):
    """An archive, or a file in it, that is refused.

    Args:
        name: of the file in the archive; None for the archive as a whole.
        fault: one sentence without its full stop.
    """

    def __init__(self, name: str | None, fault: str) -> None:
        super().__init__(f"{shown(name)}: {fault}." if name is not None else f"{fault}.")
        self.name = name
        self.fault = fault


def shown(text: str, length: int = 120) -> str:
    r"""Return a stranger's text for a message: printable ASCII on one line, and not long.

    >>> shown("a\x1b[31m"), shown("x" * 200, 5)
    ('a\\x1b[31m', 'xxxxx...')
    """
    escaped = text[: length + 1].encode("unicode_escape").decode()
    return escaped if len(text) <= length and len(escaped) <= 2 * length else f"{escaped[:length]}..."


def packed(files: Mapping[str, bytes]) -> bytes:
    """Return an archive of these files, in their order; the same files give the same bytes."""
    content = BytesIO()
    with ZipFile(content, "w") as archive:
        for name, data in files.items():
            info = ZipInfo(name, EARLIEST)
            info.create_system, info.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, data, ZIP_DEFLATED, compresslevel=9)
    return content.getvalue()


class Archive:
    """An archive that has passed: its files by name, each read whole and never larger than allowed."""

    def __init__(self, archive: ZipFile, infos: Sequence[ZipInfo]) -> None:
        self._archive = archive
        self._infos = {info.filename: info for info in infos}

    @property
    def names(self) -> list[str]:
        """The files, in the order of the archive."""
        return list(self._infos)

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            ArchiveError: it cannot be unpacked, or is not what its checksum says.
        """
        try:
            with self._archive.open(self._infos[name]) as file:
                content = file.read(MAX_FILE + 1)
        except BROKEN as error:
            raise ArchiveError(name, f"cannot be unpacked ({shown(str(error))})") from error
        if len(content) != self._infos[name].file_size:
            raise ArchiveError(name, "is not as long as it says")
        return content


@contextmanager
def opened_archive(path: Path, allowed: re.Pattern[str]) -> Iterator[Archive]:
    """Open an archive whose files all have allowed names.

    Args:
        path: a regular file.
        allowed: what the whole of a name has to be.

    Raises:
        ArchiveError: not an archive of this form; the message names the file in it.
        OSError: it cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ArchiveError(None, "not a regular file")
    with path.open("rb") as file:
        directory = _directory_of(file, path.stat().st_size)
        try:
            with ZipFile(file) as archive:
                infos = archive.infolist()
                _check(file, infos, directory, allowed)
                yield Archive(archive, infos)
        except ArchiveError:
            raise
        except BROKEN as error:
            raise ArchiveError(None, f"not a zip file that can be read ({shown(str(error))})") from error


def _directory_of(file: BinaryIO, size: int) -> int:
    """Return where the directory begins; what is allowed of it is checked before anything of its length is read."""
    if size > MAX_ARCHIVE:
        raise ArchiveError(None, f"{size} bytes; at most {MAX_ARCHIVE} are allowed")
    if size < END_OF_DIRECTORY.size:
        raise ArchiveError(None, "not a zip file")
    file.seek(size - END_OF_DIRECTORY.size)
    end = END_OF_DIRECTORY.unpack(file.read(END_OF_DIRECTORY.size))
    mark, disk, first_disk, here, files, length, start, comment = end
    if mark != b"PK\5\6":
        raise ArchiveError(None, "not a zip file, or one with a comment or more after its end")
    if disk or first_disk or here != files or comment:
        raise ArchiveError(None, "a zip file in several parts or with a comment")
    if files > MAX_FILES:
        raise ArchiveError(None, f"{files} files; at most {MAX_FILES} are allowed")
    if length > files * (DIRECTORY_ENTRY_BYTES + LONGEST_NAME) or start + length + END_OF_DIRECTORY.size != size:
        raise ArchiveError(None, "its directory is not where, or not as long as, it says")
    file.seek(max(0, size - END_OF_DIRECTORY.size - ZIP64_LOCATOR_BYTES))
    if file.read(4) == b"PK\6\7":
        raise ArchiveError(None, "a zip file of the 64-bit kind")
    file.seek(0)
    return int(start)


def _check(file: BinaryIO, infos: Sequence[ZipInfo], directory: int, allowed: re.Pattern[str]) -> None:
    seen: set[str] = set()
    for info in infos:
        # zipfile cuts names at NUL; the directory's own is the one to judge.
        name = info.orig_filename
        if not allowed.fullmatch(name):
            raise ArchiveError(name, "a name that no file of a submission has")
        if name in seen:
            raise ArchiveError(name, "stands twice")
        seen.add(name)
        if (fault := _fault_of(info)) is not None:
            raise ArchiveError(name, fault)
    if (total := sum(info.file_size for info in infos)) > MAX_UNPACKED:
        raise ArchiveError(None, f"{total} bytes when unpacked; at most {MAX_UNPACKED} are allowed")
    place = 0
    for info in infos:
        if info.header_offset != place:
            raise ArchiveError(info.filename, "does not lie right behind the file before it")
        place = _end_of(file, info)
    if place != directory:
        raise ArchiveError(None, "there is something between its last file and its directory")


def _fault_of(info: ZipInfo) -> str | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "a link, a folder or a device, not a regular file"
    if info.flag_bits & ENCRYPTED:
        return "encrypted"
    if info.flag_bits or info.extra or info.comment:
        return "has flags, extra fields or a comment"
    if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        return f"compressed by method {info.compress_type}; stored and deflated are allowed"
    if info.file_size > MAX_FILE:
        return f"{info.file_size} bytes when unpacked; at most {MAX_FILE} are allowed"
    return None


def _end_of(file: BinaryIO, info: ZipInfo) -> int:
    """Return where a file's data ends by its own header, which has to say what the directory says."""
    file.seek(info.header_offset)
    header = file.read(LOCAL_HEADER.size)
    if len(header) < LOCAL_HEADER.size:
        raise ArchiveError(info.filename, "lies outside of the archive")
    mark, _, flags, method, _, _, checksum, packed_size, size, name_length, extra_length = LOCAL_HEADER.unpack(header)
    told = (mark, flags, method, checksum, packed_size, size, extra_length)
    expected = (b"PK\3\4", 0, info.compress_type, info.CRC, info.compress_size, info.file_size, 0)
    if told != expected or file.read(name_length) != info.filename.encode():
        raise ArchiveError(info.filename, "its own header does not say what the directory says")
    return int(info.header_offset + LOCAL_HEADER.size + name_length + info.compress_size)


def strict_json(content: bytes) -> Any:
    """Return what a JSON file says, where every reader sees the same in it.

    Raises:
        ValueError: not JSON, a key twice in one object, NaN, an infinity, a number that is none, or too deep.
    """

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            counts = Counter(name for name, _ in pairs)
            raise ValueError(f"the key '{shown(max(counts, key=counts.__getitem__), 40)}' stands twice in one object")
        return found

    def number(text: str) -> float:
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise ValueError(f"{shown(text, 40)} is out of range")
        return value

    def constant(text: str) -> float:
        raise ValueError(f"{text} is not allowed in JSON")

    try:
        return json.loads(content.decode(), object_pairs_hook=distinct, parse_constant=constant, parse_float=number)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def text_fault(value: Any, packed_bytes: frozenset[str]) -> str | None:
    """Return why some text in a JSON value cannot be shown to people, or None. Keys are texts too.

    Text is printable, on one line, not long, and without `<` and `>`: no page, terminal or table takes it for more.

    Args:
        value: any JSON value.
        packed_bytes: keys whose texts are base64, and may be long.
    """
    todo: list[tuple[str, Any]] = [("the whole", value)]
    while todo:
        # Of the way to a text only its last key is kept: whole ways could be longer than the file.
        where, item = todo.pop()
        match item:
            case str():
                if (len(item) > MAX_TEXT and where not in packed_bytes) or not _is_plain(item):
                    return f"{shown(where)}: '{shown(item, 60)}' is no plain text on one line, or too long"
            case dict():
                for key, inner in item.items():
                    if len(key) > LONGEST_NAME or not _is_plain(key):
                        return f"{shown(where)}: the key '{shown(key, 60)}' is no plain text, or too long"
                    todo.append((key, inner))
            case list():
                todo += [(where, inner) for inner in item if isinstance(inner, str | list | dict)]
    return None


def _is_plain(text: str) -> bool:
    return text.isprintable() and "<" not in text and ">" not in text
