"""What makes a record's file tell by itself whether it is whole: its first line has the SHA-256 of all the others.

The file is JSON as a whole, `{"schema_version": 3, "sha256": "...",` and then one key per line or more.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

SCHEMA_VERSION = 3
FIRST_LINE = re.compile(rb'\{"schema_version": %d, "sha256": "([0-9a-f]{64})",\n' % SCHEMA_VERSION)
SOME_VERSION = re.compile(rb'\{\s*"schema_version": ([0-9]{1,9}),')
LONGEST_FIRST_LINE = 200
END = b"\n}\n"


class BrokenSealError(ValueError):
    """Content that is not what was sealed; the message says how."""


def sealed(text: str) -> bytes:
    """Return the content of a file.

    Args:
        text: a JSON object over several lines, without the keys of the first one.
    """
    body = text.removeprefix("{\n").encode() + b"\n"
    return b'{"schema_version": %d, "sha256": "%s",\n%s' % (
        SCHEMA_VERSION,
        hashlib.sha256(body).hexdigest().encode(),
        body,
    )


def opened(content: bytes) -> tuple[str, bytes]:
    """Return the checksum of a file's content, and the text of the JSON object that was sealed, less its first brace.

    Raises:
        BrokenSealError: of another schema, truncated, changed, or of another program.
    """
    first = FIRST_LINE.match(content)
    if first is None:
        raise BrokenSealError(_first_line_fault(content))
    body = content[first.end() :]
    checksum = hashlib.sha256(body).hexdigest()
    if first[1].decode() != checksum:
        fault = "its content is not what was written" if body.endswith(END) else "it does not end as a record does"
        raise BrokenSealError(f"{fault}: the checksum does not fit")
    return checksum, body


def checksum_of(path: Path) -> str:
    """Return the checksum that a file's first line names; of a file without one a hash of all of it."""
    with path.open("rb") as file:
        begin = file.readline(LONGEST_FIRST_LINE)
        first = FIRST_LINE.match(begin)
        return first[1].decode() if first else hashlib.sha256(begin + file.read()).hexdigest()


def _first_line_fault(content: bytes) -> str:
    if not content.strip(b"\0"):
        return "it is empty"
    version = SOME_VERSION.match(content)
    if version is not None and int(version[1]) != SCHEMA_VERSION:
        return f"schema version {version[1].decode()}, this program reads {SCHEMA_VERSION}"
    return "it does not begin as a record does"
