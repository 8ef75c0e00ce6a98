"""A submission: records of a results folder and a manifest in one archive. Imports no torch.

`manifest.json` comes first, then `records/<suite>/<key>.json` in the order of their names. Records are as in the
results folder, but for what tells of the submitter's machine: no traceback, and reasons as plain text on one line.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from benchmarks.archive import MAX_FILE, MAX_FILES, Archive, ArchiveError, packed, strict_json, text_fault
from benchmarks.progress import one_line
from benchmarks.records import Record
from benchmarks.seal import SCHEMA_VERSION, opened, sealed

Model = TypeVar("Model", bound=BaseModel)

FORMAT: Literal["dqss-bench submission"] = "dqss-bench submission"
MANIFEST = "manifest.json"
SUITE = r"[a-z0-9][a-z0-9_-]{0,63}"
RECORD_NAME = re.compile(rf"records/({SUITE})/([0-9a-f]{{64}})\.json", re.ASCII)
NAMES = re.compile(rf"manifest\.json|{RECORD_NAME.pattern}", re.ASCII)
PACKED_BYTES = frozenset({"data", "image", "error"})
MAX_REASON = 500

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(max_length=80, pattern=r"^[^\W_][\w .,'&()+-]*$")]
Contact = Annotated[
    str,
    StringConstraints(max_length=200, pattern=r"^([\w.+-]+@[\w-]+(\.[\w-]+)+|https://[\w.-]+(/[\w.~/-]*)?)$"),
]
Program = Annotated[str, StringConstraints(max_length=40, pattern=r"^[0-9A-Za-z.+!-]+$")]


class ManifestPart(BaseModel):
    """What the manifest is made of: known keys alone, and no value of another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PackedFile(ManifestPart):
    """A record's file in the archive.

    Args:
        path: `records/<suite>/<key>.json`.
        sha256: of the whole file.
    """

    path: Annotated[str, StringConstraints(pattern=f"^{RECORD_NAME.pattern}$")]
    sha256: Sha256


class Manifest(ManifestPart):
    """What a submission says of itself.

    Args:
        schema_version: of its records.
        name: of the submitter, as the board shows it.
        contact: a mail address or an https address; None where none is given.
        program: the version of dqss-bench that packed it.
        files: all other files of the archive, in its order.
    """

    format: Literal["dqss-bench submission"] = FORMAT
    manifest_version: Literal[1] = 1
    schema_version: Literal[3] = 3
    name: Name
    contact: Contact | None = None
    program: Program
    files: list[PackedFile]


@dataclass(frozen=True)
class Submitter:
    """Who submits.

    Args:
        contact: a mail address or an https address; None for none.
    """

    name: str
    contact: str | None = None


class SubmissionError(ValueError):
    """Records that cannot be submitted, or a submitter who cannot be named so; the message says what to do."""


def pack(records: Sequence[Record], submitter: Submitter) -> bytes:
    """Return the archive of these records; the same records and submitter give the same bytes.

    Raises:
        SubmissionError: no records, too many, one too large, or a name or contact that is not allowed.
    """
    if not 0 < len(records) < MAX_FILES:
        raise SubmissionError(f"{len(records)} records cannot be submitted together. Give 1 to {MAX_FILES - 1}.")
    files = dict(sorted((path_of(record), file_of(record)) for record in records))
    for path, content in files.items():
        if len(content) > MAX_FILE:
            raise SubmissionError(f"{path}: {len(content)} bytes; at most {MAX_FILE} are allowed. Leave it out.")
    try:
        manifest = Manifest(
            name=submitter.name,
            contact=submitter.contact,
            program=program_version(),
            files=[PackedFile(path=path, sha256=sha256(content)) for path, content in files.items()],
        )
    except ValidationError as error:
        field = str(error.errors()[0]["loc"][0])
        allowed = {
            "name": "Give up to 80 letters, digits, spaces and . , ' & ( ) + -, a letter or digit first",
            "contact": "Give a mail address, or an address that begins with https://",
        }
        if field not in allowed:
            raise
        raise SubmissionError(f"--{field}: {getattr(submitter, field)!r} is not allowed. {allowed[field]}.") from error
    text = manifest.model_dump_json(indent=1) + "\n"
    return packed({MANIFEST: text.encode(), **files})


def path_of(record: Record) -> str:
    """Return the name of a record's file in an archive."""
    return f"records/{record.suite}/{record.key}.json"


def file_of(record: Record) -> bytes:
    """Return a record's file as it is submitted."""
    reason = record.reason
    if reason is not None:
        reason = one_line(reason.replace("<", "(").replace(">", ")"))[:MAX_REASON]
    submitted = record.model_copy(update={"traceback": None, "reason": reason})
    return sealed(submitted.model_dump_json(indent=1, exclude={"schema_version"}))


def program_version() -> str:
    """Return the version of the installed program; a source tree that is not installed has none."""
    try:
        return version("dqss-bench")
    except PackageNotFoundError:
        return "not-installed"


def sha256(content: bytes) -> str:
    """Return the SHA-256 in hex digits."""
    return hashlib.sha256(content).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def schema() -> str:
    """Return the JSON schema of the manifest and of a record, as `docs/submission.schema.json` has it."""
    found: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A submission to DQSS Bench",
        "description": "manifest.json, and each records/<suite>/<key>.json; docs/submissions.md says what else holds.",
        "manifest": Manifest.model_json_schema(),
        "record": record_schema(),
    }
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


def record_schema() -> dict[str, Any]:
    """Return the JSON schema of a record's file: the record, and the checksum of its first line."""
    found = Record.model_json_schema()
    checksum = {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "of all lines but the first"}
    found["properties"] = {**found["properties"], "sha256": checksum}
    found["properties"]["schema_version"] = {"const": SCHEMA_VERSION, "type": "integer"}
    found["required"] = ["schema_version", "sha256", *found["required"]]
    return found


def read_manifest(archive: Archive) -> Manifest:
    """Return the manifest of an archive that has all the files it lists and no others.

    Raises:
        ArchiveError: it is not there, not a manifest, or the archive has other files.
    """
    names = archive.names
    if names[:1] != [MANIFEST]:
        raise ArchiveError(None, f"its first file is not {MANIFEST}")
    manifest = _parsed(Manifest, MANIFEST, archive.read(MANIFEST))
    listed = [file.path for file in manifest.files]
    if listed != names[1:]:
        odd = next((name for name in names[1:] if name not in set(listed)), None)
        if odd is not None:
            raise ArchiveError(odd, f"is not listed in {MANIFEST}")
        raise ArchiveError(MANIFEST, "lists other files than the archive has, or in another order")
    if not listed:
        raise ArchiveError(MANIFEST, "lists no records")
    return manifest


def read_records(archive: Archive, manifest: Manifest) -> Iterator[Record | ArchiveError]:
    """Yield the records of an archive, and the fault of each file that is none.

    A record is what its file, its checksum and its name in the manifest say; whether its numbers can be is not asked.
    """
    for file in manifest.files:
        try:
            yield _record(file, archive.read(file.path))
        except ArchiveError as error:
            yield error


def _record(file: PackedFile, content: bytes) -> Record:
    if sha256(content) != file.sha256:
        raise ArchiveError(file.path, f"is not what {MANIFEST} lists: another SHA-256")
    try:
        _, body = opened(content)
    except ValueError as error:
        raise ArchiveError(file.path, f"not a record ({error})") from error
    record = _parsed(Record, file.path, b"{" + body)
    suite, key = file.path.removesuffix(".json").split("/")[1:]
    if (record.suite, record.key) != (suite, key):
        raise ArchiveError(file.path, "its path does not name its suite and its key")
    return record


def _parsed(model: type[Model], name: str, content: bytes) -> Model:
    try:
        fault = text_fault(strict_json(content), PACKED_BYTES)
        if fault is None:
            return model.model_validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        fault = f"{where}: {first['msg'].removeprefix('Value error, ').rstrip('.')}" if where else str(first["msg"])
    except ValueError as error:
        fault = f"not JSON ({error})"
    raise ArchiveError(name, one_line(fault)[:300])
