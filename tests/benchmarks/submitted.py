"""Records as a run of a shipped suite makes them, and archives with one thing wrong, for the tests of submissions."""

from __future__ import annotations

import hashlib
import json
import stat
import struct
from collections.abc import Callable
from io import BytesIO
from typing import Any
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import numpy

from benchmarks.archive import packed
from benchmarks.checkpoints import find_checkpoint
from benchmarks.records import LayerChoice, MetricFacts, Outcomes, Record, key_of
from benchmarks.seal import opened, sealed

LAYERS = (
    "conv1",
    "layer1.0.conv1",
    "layer1.0.conv2",
    "layer2.0.conv1",
    "layer2.0.conv2",
    "layer3.0.conv1",
    "layer3.0.conv2",
    "fc",
)
# As a run recorded them for resnet8 at W4A4.
SIZE_BYTES, BOPS = 38_328, 146_323_456
HITS = [True] * 9 + [False]
Files = dict[str, bytes]


def record_of(
    method: str = "dqss", seed: int | None = 0, definition: dict[str, Any] | None = None, **changes: Any
) -> Record:
    """Return a good record of resnet8 at W4A4, with changes of its definition and of its fields."""
    uniform = method.startswith("uniform-")
    candidates = [method.removeprefix("uniform-")] if uniform else ["minmax", "mse"]
    quantizers = [{"name": name, "version": {"minmax": 1, "mse": 2}.get(name, 1)} for name in candidates]
    whole = {
        "suite_version": 1,
        "task": {"name": "fashion-mnist", "version": 1, "data": "d0"},
        "model": {"name": "resnet8", "version": 1, "checkpoint": find_checkpoint("resnet8", "fashion-mnist").sha256},
        "bits": "W4A4",
        "mode": "ptq",
        "protocol": {
            "first_last_bits": None,
            "weight": {"symmetric": True, "granularity": "per-tensor"},
            "activation": {"symmetric": False, "granularity": "per-tensor"},
            "tail": "last-layer",
        },
        "method": {"name": "uniform" if uniform else method, "version": 1, "options": {}},
        "quantizers": {"weight": quantizers, "activation": quantizers},
        "seed": seed,
        **(definition or {}),
    }
    fields: dict[str, Any] = {
        "key": key_of(whole),
        "definition": whole,
        "suite": "mine",
        "suite_version": 1,
        "task": "fashion-mnist",
        "model": "resnet8",
        "bits": "W4A4",
        "mode": "ptq",
        "protocol": "all-layers",
        "method": method,
        "seed": seed,
        "status": "ok",
        "metric": MetricFacts(name="top-1", unit="%", difference_unit="points"),
        "score": 90.0,
        "full_precision_score": 93.75,
        "calibration_loss": 0.25,
        "search_seconds": 1.5,
        "evaluation_seconds": 0.5,
        "calibration_seconds": 0.25,
        "forward_passes": 2048,
        "peak_memory_mb": 300.0,
        "size_bytes": SIZE_BYTES,
        "bops": BOPS,
        "strategy": {name: LayerChoice(weight=candidates[0], activation=candidates[0], bits="W4A4") for name in LAYERS},
        "outcomes": Outcomes.pack(numpy.array(HITS)),
        "ids": {"calibration": "0-63", "search-validation": [70, 65], "test": "0-9"},
        "started": "2026-01-01T00:00:00+00:00",
        "threads": 1,
        "versions": {"python": "3.11.7"},
        "hardware": {"processor": "Intel(R) Xeon(R) @ 2.10GHz"},
    }
    return Record(**(fields | changes))


def failed(method: str = "dqss", seed: int | None = 0, **changes: Any) -> Record:
    """Return a record of a cell that failed."""
    nothing = dict.fromkeys(
        ["score", "metric", "outcomes", "strategy", "size_bytes", "bops", "full_precision_score", "calibration_loss"]
    )
    return record_of(method, seed, **({"status": "failed", "reason": "out of memory", **nothing} | changes))


def relisted(files: Files) -> Files:
    """Return the files with a manifest that lists them as they are."""
    manifest = json.loads(files["manifest.json"])
    manifest["files"] = [
        {"path": name, "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in files.items()
        if name != "manifest.json"
    ]
    return {**files, "manifest.json": json.dumps(manifest).encode()}


def with_record(files: Files, change: Callable[[bytes], bytes]) -> bytes:
    """Return the archive with its first record's text changed, and all checksums made to fit."""
    name = next(name for name in files if name.startswith("records/"))
    _, body = opened(files[name])
    changed = change(b"{\n" + body).removeprefix(b"{\n").rstrip(b"\n") + b"\n"
    # As `sealed` writes it, but for bytes that are no text.
    first = sealed("").partition(b"\n")[0].replace(hashlib.sha256(b"\n").hexdigest().encode(), b"%s")
    return packed(relisted({**files, name: first % hashlib.sha256(changed).hexdigest().encode() + b"\n" + changed}))


def with_fields(files: Files, **fields: Any) -> bytes:
    """Return the archive with fields of its first record changed."""
    return with_record(files, lambda text: json.dumps(json.loads(text) | fields, indent=1).encode())


def with_manifest(files: Files, **fields: Any) -> bytes:
    """Return the archive with fields of its manifest changed."""
    return packed({**files, "manifest.json": json.dumps(json.loads(files["manifest.json"]) | fields).encode()})


def zipped(entries: list[tuple[ZipInfo | str, bytes]], comment: bytes = b"") -> bytes:
    """Return what Python's own writer makes of these entries."""
    content = BytesIO()
    with ZipFile(content, "w") as archive:
        for name, data in entries:
            info = name if isinstance(name, ZipInfo) else ZipInfo(name)
            archive.writestr(info, data)
        archive.comment = comment
    return content.getvalue()


def with_entry(files: Files, name: str, data: bytes = b"x", mode: int = stat.S_IFREG | 0o644) -> bytes:
    """Return the archive with one file more."""
    info = ZipInfo(name)
    info.external_attr = mode << 16
    return zipped([*files.items(), (info, data)])


def compressed(files: Files, method: int) -> bytes:
    """Return the archive with another compression."""
    entries: list[tuple[ZipInfo | str, bytes]] = []
    for name, data in files.items():
        info = ZipInfo(name)
        info.compress_type = method
        entries.append((info, data))
    return zipped(entries)


def patched(content: bytes, old: bytes, new: bytes) -> bytes:
    """Return the bytes with each `old` replaced; it has to be there."""
    assert old in content
    return content.replace(old, new)


def flagged(content: bytes, flags: int) -> bytes:
    """Return the archive with flags set on every file, here and in the directory."""
    changed = bytearray(content)
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = content.find(mark)
        while at >= 0:
            struct.pack_into("<H", changed, at + offset, flags)
            at = content.find(mark, at + 4)
    return bytes(changed)


def declared(content: bytes, size: int) -> bytes:
    """Return the archive whose first file says it has another size."""
    changed = bytearray(content)
    struct.pack_into("<L", changed, content.find(b"PK\3\4") + 22, size)
    struct.pack_into("<L", changed, content.find(b"PK\1\2") + 24, size)
    return bytes(changed)


def overlapping(content: bytes) -> bytes:
    """Return the archive whose last file lies where its first one does."""
    changed = bytearray(content)
    struct.pack_into("<L", changed, content.rfind(b"PK\1\2") + 42, 0)
    return bytes(changed)


def counted(content: bytes, files: int) -> bytes:
    """Return the archive whose end says it has so many files."""
    changed = bytearray(content)
    struct.pack_into("<HH", changed, len(content) - 14, files, files)
    return bytes(changed)


def bomb() -> bytes:
    """Return a record of 64 MiB of zeros in 64 KiB."""
    info = ZipInfo(f"records/mine/{'0' * 64}.json")
    info.compress_type = ZIP_DEFLATED
    return zipped([(info, bytes(64 * 2**20))])


def many_bombs() -> bytes:
    """Return 160 records of 4 MiB: each is allowed, all together are not."""
    entries: list[tuple[ZipInfo | str, bytes]] = []
    zeros = bytes(4 * 2**20)
    for number in range(160):
        info = ZipInfo(f"records/mine/{number:064x}.json")
        info.compress_type = ZIP_DEFLATED
        entries.append((info, zeros))
    return zipped(entries)


SCRIPT = "<script>alert(1)</script>"
LINK = stat.S_IFLNK | 0o777
RECORD = f"records/mine/{'0' * 64}.json"

HOSTILE: dict[str, tuple[Callable[[Files], bytes], str]] = {
    # Names.
    "absolute path": (lambda f: with_entry(f, "/etc/passwd"), "/etc/passwd: a name that no file"),
    "parent folder": (lambda f: with_entry(f, "records/../../x.json"), "a name that no file"),
    "parent folder of Windows": (lambda f: with_entry(f, "records\\..\\x.json"), "a name that no file"),
    "drive letter": (lambda f: with_entry(f, "C:/x.json"), "C:/x.json: a name that no file"),
    "NUL in a name": (
        lambda f: patched(with_entry(f, RECORD + "#.exe"), b".json#.exe", b".json\0.exe"),
        r".json\x00.exe: a name that no file",
    ),
    "line end in a name": (lambda f: with_entry(f, RECORD + "\n"), r"\n: a name that no file"),
    "terminal codes in a name": (lambda f: with_entry(f, "\x1b[2J.json"), r"\x1b[2J.json: a name that no file"),
    "long name": (lambda f: with_entry(f, "a" * 60_000), "directory is not where, or not as long as"),
    "letters that look alike": (lambda f: with_entry(f, RECORD.replace("mine", "m\u0456ne")), "a name that no file"),
    "markup in a name": (lambda f: with_entry(f, f"records/{SCRIPT}/x.json"), "a name that no file"),
    "folder": (lambda f: with_entry(f, "records/mine/", b"", stat.S_IFDIR | 0o755), "a name that no file"),
    "symbolic link": (lambda f: with_entry(f, RECORD, b"/etc/passwd", LINK), "a link, a folder or a device"),
    "device": (lambda f: with_entry(f, RECORD, b"", stat.S_IFCHR | 0o644), "a link, a folder or a device"),
    "nested zip": (lambda f: with_entry(f, "inner.zip", packed(f)), "inner.zip: a name that no file"),
    "nested zip under a record's name": (lambda f: packed(relisted({**f, RECORD: packed(f)})), "not a record ("),
    # The archive.
    "no zip": (lambda f: b"hello, this is text and no zip", "not a zip file"),
    "empty": (lambda f: b"", "not a zip file"),
    "zip of nothing": (lambda f: zipped([]), "its first file is not manifest.json"),
    "cut": (lambda f: packed(f)[:-40], "not a zip file"),
    "damaged": (lambda f: damaged(packed(f)), "cannot be unpacked"),
    "comment": (lambda f: zipped([*f.items()], b"<script>"), "not a zip file, or one with a comment"),
    "something before it": (lambda f: b"MZ" + packed(f), "its directory is not where"),
    "something behind it": (lambda f: packed(f) + b"#!/bin/sh", "not a zip file, or one with a comment or more"),
    "file twice": (lambda f: doubled(f), "stands twice"),
    "encrypted": (lambda f: flagged(packed(f), 1), "encrypted"),
    "sizes after the data": (lambda f: flagged(packed(f), 8), "has flags, extra fields"),
    "other compression": (lambda f: compressed(f, ZIP_BZIP2), "compressed by method 12"),
    "two directories' names": (lambda f: renamed(packed(f)), "its own header does not say what the directory says"),
    "overlapping files": (lambda f: overlapping(packed(f)), "does not lie right behind the file before it"),
    "bomb": (lambda f: bomb(), "67108864 bytes when unpacked; at most 4194304 are allowed"),
    "many bombs": (lambda f: many_bombs(), "671088640 bytes when unpacked; at most 536870912 are allowed"),
    "bomb that says it is small": (lambda f: declared(bomb(), 10), "its first file is not manifest.json"),
    "manifest longer than it says": (lambda f: declared(packed(f), 10), "cannot be unpacked"),
    "many files": (lambda f: counted(packed(f), 65_000), "65000 files; at most 20000 are allowed"),
    "wrong count of files": (lambda f: counted(packed(f), 1), "directory is not where, or not as long as"),
    "64-bit archive": (lambda f: locator(packed(f)), "directory is not where"),
    # The manifest.
    "manifest last": (lambda f: packed(dict(reversed(f.items()))), "its first file is not manifest.json"),
    "markup in the submitter's name": (lambda f: with_manifest(f, name=SCRIPT), "manifest.json: name: '<script>"),
    "attribute in the submitter's name": (lambda f: with_manifest(f, name='x" onload="y'), "manifest.json: name: "),
    "formula in the submitter's name": (lambda f: with_manifest(f, name="=HYPERLINK(1)"), "manifest.json: name: "),
    "text that runs backwards": (lambda f: with_manifest(f, name="a\u202eb"), "manifest.json: name: "),
    "script for a contact": (lambda f: with_manifest(f, contact="javascript:alert(1)"), "manifest.json: contact: "),
    "other key in the manifest": (lambda f: with_manifest(f, __proto__={}), "manifest.json: __proto__: "),
    "number for a name": (lambda f: with_manifest(f, name=1), "manifest.json: name: "),
    "other schema": (lambda f: with_manifest(f, schema_version=4), "manifest.json: schema_version: "),
    "manifest that is a list": (lambda f: packed({**f, "manifest.json": b"[]"}), "manifest.json: "),
    "manifest in another encoding": (
        lambda f: packed({**f, "manifest.json": b"\xff\xfe{}"}),
        "manifest.json: not JSON",
    ),
    "file that is not listed": (lambda f: packed({**f, RECORD: b"{}"}), "is not listed in manifest.json"),
    "file that is not there": (lambda f: packed({"manifest.json": f["manifest.json"]}), "lists other files"),
    "other content than listed": (lambda f: packed({n: c + b" " for n, c in f.items()}), "another SHA-256"),
    # A record's text.
    "deep JSON": (lambda f: with_fields_text(f, b"[" * 100_000 + b"]" * 100_000), "nested too deep"),
    "deep objects": (lambda f: with_fields_text(f, b'{"a":' * 50_000 + b"1" + b"}" * 50_000), "nested too deep"),
    "huge whole number": (lambda f: with_fields_text(f, b"9" * 1_000_000), "not JSON"),
    "NaN": (lambda f: with_fields_text(f, b"NaN"), "NaN is not allowed"),
    "infinity": (lambda f: with_fields_text(f, b"-Infinity"), "-Infinity is not allowed"),
    "number beyond range": (lambda f: with_fields_text(f, b"1e999"), "1e999 is out of range"),
    "key twice": (lambda f: with_fields_text(f, b'{"a": 1, "a": 2}'), "'a' stands twice"),
    "many entries": (lambda f: with_fields_text(f, b"[" + b"0," * 1_500_000 + b"0]"), "curves"),
    "half a surrogate": (lambda f: with_fields_text(f, b'"\\ud800"'), "no plain text"),
    "not UTF-8": (lambda f: with_fields_text(f, b'"\xff"'), "not JSON"),
    "truncated record": (lambda f: with_record(f, lambda text: text[:500]), "not JSON"),
    # A record's fields.
    "text for a number": (lambda f: with_fields(f, score="90.0"), "score: "),
    "truth value for a number": (lambda f: with_fields(f, seed=True), "seed: "),
    "list for a text": (lambda f: with_fields(f, model=["resnet8"]), "model: "),
    "other key": (lambda f: with_fields(f, badge="verified"), "badge: "),
    "key that is not the definition's": (lambda f: with_fields(f, definition={}), "definition.suite_version"),
    "suite that is not its folder's": (lambda f: with_fields(f, suite="other"), "does not name its suite"),
    "folder for a suite": (lambda f: with_fields(f, suite="../../etc"), "does not name its suite"),
    **{
        f"markup in {name}": (lambda f, name=name: with_fields(f, **{name: SCRIPT}), "is no plain text")
        for name in ("suite", "task", "model", "bits", "protocol", "method", "reason", "traceback", "started")
    },
    **{
        f"markup among {name}": (lambda f, name=name: with_fields(f, **{name: {SCRIPT: 1}}), "is no plain text")
        for name in ("measures", "curves", "versions", "hardware", "ids", "strategy", "layers", "definition")
    },
    "markup in a caption": (
        lambda f: with_fields(
            f, pictures={"caption": "<img src=x onerror=y>", "references": {}, "output": {"image": ""}}
        ),
        "caption: '<img src=x onerror=y>' is no plain text",
    ),
    "picture that is none": (
        lambda f: with_fields(f, pictures={"caption": "c", "references": {}, "output": {"image": "PHN2Zz4="}}),
        "pictures.output.image: not a PNG file",
    ),
    "terminal codes in a reason": (lambda f: with_fields(f, reason="\x1b]0;x\x07"), "is no plain text"),
    "long text": (lambda f: with_fields(f, reason="a" * 100_000), "or too long"),
    "formula for a processor": (lambda f: with_fields(f, hardware={"processor": "=cmd|x"}), "'=cmd|x' is no name"),
    "outcomes of another size": (
        lambda f: with_fields(f, outcomes={"kind": "bits", "count": 10**12, "data": "gA=="}),
        "its outcomes cannot be unpacked",
    ),
    "ids beyond counting": (
        lambda f: with_fields(f, ids={"test": f"0-{'9' * 999}", "calibration": "0-1"}),
        "ids.test: no ids",
    ),
}


def with_fields_text(files: Files, value: bytes) -> bytes:
    """Return the archive with this text in the place of the first record's curves."""
    return with_record(files, lambda text: text.replace(b'"curves": {}', b'"curves": ' + value))


def damaged(content: bytes) -> bytes:
    changed = bytearray(content)
    changed[60] ^= 0xFF
    return bytes(changed)


def doubled(files: Files) -> bytes:
    """Return the archive with its first record twice; zipfile would warn of it."""
    content = with_entry(files, RECORD, b"x")
    first = next(name for name in files if name != "manifest.json")
    return patched(content, RECORD.encode(), first.encode())


def renamed(content: bytes) -> bytes:
    """Return the archive whose manifest is called otherwise where its data begins."""
    at = content.find(b"manifest.json")
    return content[:at] + b"manifest.jsoN" + content[at + 13 :]


def locator(content: bytes) -> bytes:
    """Return the archive with what points to a directory of 64 bits before its end."""
    return content[:-22] + b"PK\6\7" + bytes(16) + content[-22:]


assert ZIP_STORED == 0
