"""Packing a submission: the same bytes for the same records, nothing of the machine, a schema that holds."""

from __future__ import annotations

import hashlib
import json
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest

from benchmarks import cli
from benchmarks.records import write_record
from benchmarks.seal import SCHEMA_VERSION
from benchmarks.submission import SubmissionError, Submitter, pack, schema
from benchmarks.submission_report import read_report
from tests.benchmarks.submitted import failed, record_of

ROOT = Path(__file__).parents[2]
RECORDS = [record_of("uniform-minmax", None), record_of("dqss", 0), failed("dqss", 1, traceback="File '/home/jane'")]
JANE = Submitter("Jane Doe")


def test_the_same_records_give_the_same_bytes_in_any_order():
    assert pack(RECORDS, JANE) == pack(RECORDS[::-1], JANE)
    assert pack(RECORDS, JANE) != pack(RECORDS, Submitter("Joan Doe"))


def test_another_reader_finds_every_file_under_the_hash_of_the_manifest():
    with ZipFile(BytesIO(pack(RECORDS, JANE))) as archive:
        assert archive.testzip() is None
        manifest = json.loads(archive.read("manifest.json"))
        assert manifest["schema_version"] == SCHEMA_VERSION
        listed = {file["path"]: file["sha256"] for file in manifest["files"]}
        assert archive.namelist() == ["manifest.json", *sorted(listed)]
        for path, sha256 in listed.items():
            assert hashlib.sha256(archive.read(path)).hexdigest() == sha256
        assert sorted(listed) == sorted(f"records/mine/{record.key}.json" for record in RECORDS)
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_nothing_of_the_machine_travels_and_reasons_are_plain():
    record = failed(reason="TypeError: <class 'int'>\n  at x", traceback="File '/home/jane/x.py'")
    with ZipFile(BytesIO(pack([record], JANE))) as archive:
        (name,) = [name for name in archive.namelist() if name != "manifest.json"]
        content = json.loads(archive.read(name))
    assert content["traceback"] is None
    assert content["reason"] == "TypeError: (class 'int') at x"


@pytest.mark.parametrize("name", ["", " ", "<b>", "=1", "a\nb", "a" * 81, 'x"y'])
def test_a_name_that_no_board_shows_is_refused(name):
    with pytest.raises(SubmissionError, match=r"--name: .* is not allowed\. Give up to 80 letters"):
        pack(RECORDS, Submitter(name))


@pytest.mark.parametrize("contact", ["jane", "javascript:alert(1)", "http://x.org", "https://x.org/?q", "a@b.org\n"])
def test_a_contact_is_a_mail_address_or_https(contact):
    with pytest.raises(SubmissionError, match=r"--contact: .* is not allowed\. Give a mail address"):
        pack(RECORDS, Submitter("Jane", contact))


def test_no_records_are_no_submission():
    with pytest.raises(SubmissionError, match="0 records cannot be submitted"):
        pack([], JANE)


def test_the_schema_in_the_docs_is_the_programs(capsys):
    assert (ROOT / "docs" / "submission.schema.json").read_text() == schema()
    assert cli.main(["submit", "schema"]) == 0
    assert capsys.readouterr().out == schema()


def test_a_packed_file_has_the_keys_of_the_schema():
    told = json.loads(schema())
    with ZipFile(BytesIO(pack(RECORDS, JANE))) as archive:
        for name in archive.namelist():
            part = told["manifest" if name == "manifest.json" else "record"]
            content = json.loads(archive.read(name))
            assert set(part["required"]) <= content.keys() <= part["properties"].keys()


def test_pack_then_check_on_the_command_line(tmp_path, capsys):
    for record in RECORDS:
        write_record(tmp_path / "results", record)
    out = tmp_path / "mine.zip"
    assert cli.main(["submit", "pack", str(tmp_path / "results"), "-o", str(out), "--name", "Jane Doe"]) == 0
    assert "3 records" in capsys.readouterr().out
    assert cli.main(["submit", "check", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: self-reported, 3 good records, 2 of them with a score.\n"
    assert cli.main(["submit", "check", str(out), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["badge"] == "self-reported"
    report = tmp_path / "mine.check.json"
    assert cli.main(["submit", "check", str(out), "--report", str(report)]) == 0
    verdict = read_report(report)
    assert (verdict.badge, verdict.sha256) == ("self-reported", hashlib.sha256(out.read_bytes()).hexdigest())
    assert capsys.readouterr().out.startswith(f"{out}: self-reported")
    out.write_bytes(out.read_bytes()[:-1])
    assert cli.main(["submit", "check", str(out)]) == 1
    assert "not a zip file" in capsys.readouterr().out
    assert cli.main(["submit", "check", str(tmp_path / "none.zip")]) == 2
    assert cli.main(["submit", "check", str(out), "--rerun", "0"]) == 2
    assert cli.main(["submit", "pack", str(tmp_path / "results"), "-o", str(out), "--name", "<b>"]) == 2


def test_a_damaged_record_is_not_left_out_in_silence(tmp_path, capsys):
    path = write_record(tmp_path / "results", RECORDS[0])
    path.write_text("{}")
    out = tmp_path / "mine.zip"
    assert cli.main(["submit", "pack", str(tmp_path / "results"), "-o", str(out), "--name", "Jane Doe"]) == 1
    assert path.name in capsys.readouterr().err
    assert not out.exists()
