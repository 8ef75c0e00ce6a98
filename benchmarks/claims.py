"""Who is running which cell: so that runs on one output folder share its cells, on one machine or several.

A claim is a file of a cell's key, made so that one alone can make it (O_EXCL), that says who holds it and is touched
again and again while it is held. One whose holder has ended, or that has not changed for STALE_SECONDS, is taken over.
How long is measured by the one who waits, on a clock that only runs forward: neither a clock that is set nor one that
differs between machines makes a claim look old.

On NFS this holds from version 3 on: files are made exclusively there, and opening one asks the server how it is. What
no file can give: a process that was stopped for longer than STALE_SECONDS, as when a laptop sleeps, goes on with a cell
that another may have taken over. Then both write its record, each of them whole, and the later one stays.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar
from uuid import uuid4

from benchmarks.owner import Owner
from benchmarks.storage import StorageError

RENEW_SECONDS = 15.0
STALE_SECONDS = 120.0
"""Longer than NFS may remember what a file was like (60 s), and long enough for several missed renewals."""
POLL_SECONDS = 2.0


class Keyed(Protocol):
    """What can be claimed."""

    @property
    def key(self) -> str:
        """What tells it from the others."""


K = TypeVar("K", bound=Keyed)


@dataclass(frozen=True)
class Holder:
    """Who holds a claim, as its file says.

    Args:
        token: of this claim alone.
        since: when it was made, by the holder's clock: for people alone.
    """

    host: str
    owner: str
    token: str
    since: str | None = None

    @classmethod
    def parse(cls, content: bytes) -> Holder | None:
        """Read a claim's file; None where it says nothing, as in the moment between its making and its writing."""
        try:
            facts = json.loads(content)
            since = facts.get("since")
            host, owner, token = (str(facts[name]) for name in ("host", "owner", "token"))
            return cls(host, owner, token, None if since is None else str(since))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    @property
    def process(self) -> int | None:
        """Its id on its host."""
        owner = Owner.parse(self.owner)
        return None if owner is None else owner.pid

    @property
    def is_gone(self) -> bool:
        """Whether the process has certainly ended."""
        owner = Owner.parse(self.owner)
        return owner is not None and owner.is_gone

    def __str__(self) -> str:
        return self.host if self.process is None else f"process {self.process} on {self.host}"


class Claim:
    """The right to run a cell, until it is released; within `with` a thread of its own renews it."""

    def __init__(self, path: Path, content: bytes) -> None:
        self._path = path
        self._content = content
        self._released = threading.Event()

    @property
    def is_held(self) -> bool:
        """Whether nobody has taken it over."""
        found = _read(self._path)
        return found is not None and found.content == self._content

    def renew(self) -> None:
        """Say that the holder is still there. What hinders that once, as a server that is away, may be over soon."""
        with suppress(OSError):
            if self.is_held:
                os.utime(self._path)

    def release(self) -> None:
        """Give the cell back."""
        self._released.set()
        with suppress(OSError):
            if self.is_held:
                self._path.unlink()

    def _keep(self) -> None:
        while not self._released.wait(RENEW_SECONDS):
            self.renew()

    def __enter__(self) -> Self:
        threading.Thread(target=self._keep, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Claims:
    """The claims of the cells of one suite.

    Args:
        folder: where their files are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen: dict[str, tuple[_Found, float]] = {}

    def claim(self, key: str) -> Claim | None:
        """Return the claim of a cell, or None while somebody else holds it.

        Raises:
            StorageError: the folder cannot be written.
        """
        path = self.folder / key
        claim = self._make(path)
        if claim is None and (stale := self._stale(path)) is not None:
            self._remove(path, stale)
            claim = self._make(path)
        return claim

    def holder(self, key: str) -> Holder | None:
        """Return who holds the claim of a cell, None where nobody does or it cannot be told."""
        found = _read(self.folder / key)
        return None if found is None else Holder.parse(found.content)

    def held(self) -> dict[str, tuple[Holder, float]]:
        """Return key -> who holds its claim, and when the claim was last renewed, by the clock of the file system."""
        held = {}
        with suppress(FileNotFoundError):
            for path in self.folder.iterdir():
                found = _read(path)
                holder = None if found is None else Holder.parse(found.content)
                if found is not None and holder is not None:
                    held[path.name] = holder, found.touched / 1e9
        return held

    def close(self) -> None:
        """Delete what processes that have ended left behind, and the folder where nothing is claimed."""
        with suppress(OSError):
            for path in list(self.folder.iterdir()):
                found = _read(path)
                holder = None if found is None else Holder.parse(found.content)
                if found is not None and holder is not None and holder.is_gone:
                    self._remove(path, found)
            self.folder.rmdir()

    def _make(self, path: Path) -> Claim | None:
        """Make the file, or return None where there is one."""
        since = datetime.now(UTC).isoformat(timespec="seconds")
        holder = Holder(socket.gethostname(), str(Owner.of_this_process()), uuid4().hex, since)
        content = (json.dumps(asdict(holder)) + "\n").encode()
        try:
            file = self._open(path)
            if file is None:
                return None
            try:
                with file:
                    file.write(content)
            except OSError:
                # It is this one's own: nobody else could make it.
                path.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise StorageError(self.folder, error) from error
        return Claim(path, content)

    def _open(self, path: Path) -> FileIO | None:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            return path.open("xb", buffering=0)
        except FileExistsError:
            return None
        except FileNotFoundError:
            # A run that has just ended deleted the folder in between.
            return self._open(path)

    def _stale(self, path: Path) -> _Found | None:
        """Return what is in the file where its holder has ended, or has not been seen to renew it for long."""
        found = _read(path)
        if found is None:
            return None
        holder = Holder.parse(found.content)
        if holder is not None and holder.is_gone:
            return found
        now = time.monotonic()
        before = self._seen.get(path.name)
        if before is None or found != before[0]:
            self._seen[path.name] = found, now
            return None
        return found if now - before[1] > STALE_SECONDS else None

    def _remove(self, path: Path, stale: _Found) -> None:
        """Delete a stale claim, and not one that somebody else has put in its place a moment ago."""
        self._seen.pop(path.name, None)
        away = path.with_name(f"{path.name}.{uuid4().hex}")
        with suppress(OSError):
            path.rename(away)
            moved = _read(away)
            if moved is not None and moved.content != stale.content:
                with suppress(OSError):
                    os.link(away, path)
            away.unlink()


def in_turn(
    cells: Sequence[K],
    claims: Claims | None,
    is_left: Callable[[K], bool],
    agree: Callable[[str], str],
    waiting: Callable[[Sequence[K]], None],
) -> Iterator[K]:
    """Yield the cells that are left, each while it is claimed; those that others run are come back to at the end.

    Args:
        claims: None in a process that follows another one.
        is_left: whether a cell is still to be run, asked once it is claimed.
        agree: given what this process says of a cell, returns what the one says that leads.
        waiting: called once, with the cells that others run, where there is nothing else to do.
    """
    left, told = list(cells), False
    while left:
        others = []
        for cell in left:
            claim = None if claims is None else claims.claim(cell.key)
            with claim or nullcontext():
                # What a process that follows says is heard by nobody.
                taken = claims is not None and claim is None
                match agree("claimed" if taken else "left" if claim is None or is_left(cell) else "done"):
                    case "claimed":
                        others.append(cell)
                    case "left":
                        yield cell
        if len(others) == len(left):
            if not told:
                waiting(others)
                told = True
            time.sleep(POLL_SECONDS)
        left = others


@dataclass(frozen=True)
class _Found:
    content: bytes
    touched: int


def _read(path: Path) -> _Found | None:
    """Return what is in a file now: opening it, unlike asking for its time alone, gets past what NFS remembers."""
    try:
        with path.open("rb") as file:
            return _Found(file.read(), os.fstat(file.fileno()).st_mtime_ns)
    except OSError:
        return None
