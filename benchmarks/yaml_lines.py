"""YAML as plain data, with the line of every key and entry, from files that nobody vouches for.

Plain means: mappings with words for keys, lists, texts, numbers, truth values, dates, nothing. Anchors, aliases and
tags are refused: a file that fits on a page needs none, and with them a small file can be endless, or run code.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
YAML_TAG = "tag:yaml.org,2002:"
"""What PyYAML makes of the `!!` that stands in a file."""

Location = tuple[str | int, ...]
"""Keys and list positions from the root to a value."""


class DocumentError(ValueError):
    """What is wrong with a file.

    Args:
        what: the fault and what is allowed, in one line.
        line: where, from 1; None where no line is to blame.
        location: the key that is to blame.
    """

    def __init__(self, what: str, line: int | None = None, location: Location = ()) -> None:
        super().__init__(what)
        self.what = what
        self.line = line
        self.location = location


@dataclass(frozen=True)
class Document:
    """A file's content.

    Args:
        value: plain data.
        lines: location -> line, from 1, on which its key or its list entry begins.
    """

    value: Any
    lines: dict[Location, int]

    def line(self, location: Location) -> int:
        """Return the line of a location, or of the nearest one around it where it is not in the file."""
        while location not in self.lines:
            location = location[:-1]
        return self.lines[location]


def clip(text: str, length: int = 60) -> str:
    r"""Return a text that is fit for one line of a message: short, with escapes for what cannot be printed.

    >>> clip("resnet8")
    'resnet8'
    >>> clip("two\nlines")
    'two\\nlines'
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: length + 1])
    return shown if len(shown) <= length else f"{shown[:length]}..."


def read_document(path: Path) -> Document:
    """Read a file that holds one YAML document.

    Raises:
        DocumentError: no such file, not readable, too large, not UTF-8, not YAML, not one document, or not plain data.
    """
    loader = _PlainLoader(_read_text(path))
    try:
        root = loader.get_node() if loader.check_node() else None
        if root is None:
            raise DocumentError("the file is empty.")
        if loader.check_node():
            raise DocumentError("a second document begins here. Keep one to a file.", loader.next_line())
        lines: dict[Location, int] = {(): root.start_mark.line + 1}
        return Document(_plain(loader, root, (), lines), lines)
    except yaml.MarkedYAMLError as error:
        raise DocumentError(
            f"not YAML: {clip(str(error.problem), 100)}. Check quotes, brackets, colons and indentation.",
            _line_to_blame(error),
        ) from error


def _line_to_blame(error: yaml.MarkedYAMLError) -> int | None:
    """Return the line where it went wrong, which of a key without a colon and of an open quote is where it begins."""
    begun = error.context in ("while scanning a simple key", "while scanning a quoted scalar")
    mark = error.context_mark if begun and error.context_mark else error.problem_mark
    return mark.line + 1 if mark else None


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise DocumentError("no such file.") from error
    except IsADirectoryError as error:
        raise DocumentError("this is a folder. Give a file.") from error
    except (OSError, ValueError) as error:
        raise DocumentError(f"cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    if len(content) > MAX_BYTES:
        raise DocumentError(f"larger than {MAX_BYTES:,} bytes. Split it.")
    try:
        text = content.decode()
        yaml.reader.Reader(text)
    except UnicodeDecodeError as error:
        raise DocumentError(
            "not UTF-8 text. Save it in that encoding.", content.count(b"\n", 0, error.start) + 1
        ) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise DocumentError(
            f"the character U+{ord(text[error.position]):04X} is not allowed. Delete it.", line
        ) from error
    return text


class _PlainLoader(yaml.SafeLoader):
    """PyYAML's safe loader, which stops at depth, anchors, aliases and tags before it follows them."""

    depth = 0

    def next_event(self) -> Any:
        return self.peek_event()  # type: ignore[no-untyped-call]

    def next_line(self) -> int:
        return int(self.next_event().start_mark.line) + 1

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.next_event()
        line = self.next_line()
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise DocumentError("anchors and aliases (& and *) are not allowed. Write the value out.", line)
        if event.tag is not None:
            written = event.tag.replace(YAML_TAG, "!!", 1)
            raise DocumentError(f"the tag '{clip(written)}' is not allowed. Write a plain value.", line)
        if self.depth == MAX_DEPTH:
            raise DocumentError(f"nested more than {MAX_DEPTH} deep. Check the brackets.", line)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _plain(loader: _PlainLoader, node: yaml.Node, location: Location, lines: dict[Location, int]) -> Any:
    """Return the node's value, and enter the lines of all below it."""
    if isinstance(node, yaml.SequenceNode):
        values = []
        for i, entry in enumerate(node.value):
            lines[(*location, i)] = entry.start_mark.line + 1
            values.append(_plain(loader, entry, (*location, i), lines))
        return values
    if isinstance(node, yaml.MappingNode):
        mapping = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise DocumentError("a list or a mapping stands as a key. Give a word.", line, location)
            here = (*location, key.value)
            if here in lines:
                raise DocumentError(f"the key stands twice, first on line {lines[here]}. Delete one.", line, here)
            lines[here] = line
            mapping[key.value] = _plain(loader, value, here, lines)
        return mapping
    return _scalar(loader, node, location)


def _scalar(loader: _PlainLoader, node: yaml.Node, location: Location) -> Any:
    line = node.start_mark.line + 1
    try:
        value = loader.construct_object(node)
    except (ValueError, OverflowError, yaml.constructor.ConstructorError) as error:
        raise DocumentError(
            f"{clip(node.value)} looks like a number, a date or a sign of YAML, but cannot be read as one. "
            "Put it in quotes where it is a text.",
            line,
            location,
        ) from error
    if isinstance(value, int) and value.bit_length() > 63:
        raise DocumentError(f"the number {clip(node.value)} is too large. Give at most 18 digits.", line, location)
    return value
