"""Files that are whole or not there, whatever happens while they are written. Imports no torch."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path

from benchmarks.owner import Owner

PART = ".part"
WHAT_TO_DO = {
    errno.ENOSPC: "Free some space on that disk, or name another folder",
    errno.EDQUOT: "Your quota there is used up: delete something of yours, or name another folder",
    errno.EFBIG: "Raise the limit on the size of files (ulimit -f), or name another folder",
    errno.EROFS: "It is mounted read-only: mount it for writing, or name another folder",
    errno.EACCES: "Allow yourself to write there, or name another folder",
    errno.EPERM: "Allow yourself to write there, or name another folder",
}


class StorageError(OSError):
    """A file that could not be written; the message names the folder and says what to do. Nothing half-written is left.

    Args:
        folder: where it should have been.
        error: what the system said.
    """

    def __init__(self, folder: Path, error: OSError) -> None:
        advice = WHAT_TO_DO.get(error.errno or 0, "Mend that, or name another folder")
        super().__init__(
            f"cannot write to the folder '{folder}': {error.strerror or error}. {advice}; what was finished before is "
            "whole, and the same command goes on from there."
        )


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old or the new content whole.

    Raises:
        StorageError: it cannot be written; nothing of it is left.
    """
    _write(path, content, os.fsync)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file that can be made again: a reader sees it whole; a machine that loses power may lose it.

    It does not wait for the disk, which for many small files takes longer than all else.

    Raises:
        StorageError: it cannot be written; nothing of it is left.
    """
    _write(path, content, lambda file: None)


def _write(path: Path, content: str | bytes, settle: Callable[[int], None]) -> None:
    part = path.with_name(f"{path.name}.{Owner.of_this_process()}{PART}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                settle(file.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StorageError(path.parent, error) from error


def delete_orphans(parts: Iterable[Path]) -> None:
    """Delete the parts of files whose writers were killed; those of other machines are left to a run there."""
    for part in parts:
        owner = Owner.parse(part.name.removesuffix(PART).rpartition(".")[2])
        if owner is not None and owner.is_gone:
            part.unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Rename a file, beside itself, to a name that is free, `<name>.bad` or `<name>.bad-2` and so on; return it.

    Raises:
        FileNotFoundError: it is not there any more.
        StorageError: the folder cannot be written.
    """
    for number in count(1):
        free = path.with_name(f"{path.name}.bad{'' if number == 1 else f'-{number}'}")
        if not os.path.lexists(free):
            break
    try:
        path.rename(free)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(path.parent, error) from error
    return free
