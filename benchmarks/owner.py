"""Which process made a file, told so that others can find out whether it is gone. Imports no torch.

A process id alone says little: other machines, containers and later processes have the same ones. So a process is its
place (machine, boot, process namespace), its id there, and when it was born, in ticks since the boot, which no change
of the clock moves.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

TEXT = re.compile(r"([0-9a-f]{12})-([0-9]{1,10})-([0-9]{1,20})")


@dataclass(frozen=True)
class Owner:
    """A process.

    Args:
        place: a hash of where it runs, equal for the processes that see each other.
        pid: its id there.
        born: when it began, in a unit of its place.
    """

    place: str
    pid: int
    born: int

    @classmethod
    def of_this_process(cls) -> Owner:
        """Return what others know this process by."""
        return cls(_place(), os.getpid(), _born(os.getpid()) or 0)

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """Return the process that a text stands for, None where it stands for none.

        >>> str(Owner.parse("0123456789ab-17-4711"))
        '0123456789ab-17-4711'
        """
        found = TEXT.fullmatch(text)
        return None if found is None else cls(found[1], int(found[2]), int(found[3]))

    def __str__(self) -> str:
        return f"{self.place}-{self.pid}-{self.born}"

    @property
    def is_gone(self) -> bool:
        """Whether it has certainly ended; of a process elsewhere nothing is certain."""
        return self.place == _place() and _born(self.pid) != self.born


@cache
def _place() -> str:
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _born(pid: int) -> int | None:
    """Return when a process here began; None where there is none, or only what its parent has not yet buried."""
    try:
        # Behind the name, which may hold anything, in brackets: the state first, the birth as the twentieth.
        facts = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return None if facts[0] in (b"Z", b"X") else int(facts[19])
    except FileNotFoundError:
        if os.path.exists("/proc/self/stat"):
            return None
    except ProcessLookupError:
        return None
    try:
        return int(psutil.Process(pid).create_time())
    except psutil.Error:
        return None
