import tracemalloc
from dataclasses import asdict
from pathlib import Path

import numpy
import pytest

from benchmarks.records import (
    BadRecordError,
    LayerChoice,
    MetricFacts,
    Outcomes,
    Record,
    key_of,
    read_record,
    write_record,
)
from benchmarks.scan import Scan, look, scan, scan_all


def a_record(seed=0, suite="tiny", **changes):
    definition = {"seed": seed}
    fields = {
        "key": key_of(definition),
        "definition": definition,
        "suite": suite,
        "suite_version": 1,
        "task": "fashion-mnist",
        "model": "resnet8",
        "bits": "W4A4",
        "mode": "ptq",
        "protocol": "all-layers",
        "method": "dqss",
        "seed": seed,
        "status": "ok",
        "metric": MetricFacts(name="top-1", unit="%", difference_unit="points"),
        "score": 75.0,
        "search_seconds": 12.5,
        "evaluation_seconds": 0.25,
        "strategy": {"conv": LayerChoice(weight="mse", activation="kl", bits="W4A4")},
        "outcomes": Outcomes.pack(numpy.arange(10_000) % 4 > 0),
        "started": "2030-01-02T03:04:05+00:00",
    }
    return Record(**(fields | changes))


NOTHING = {"score": None, "metric": None, "outcomes": None, "strategy": None}


@pytest.mark.parametrize(
    "record",
    [
        a_record(),
        a_record(evaluation_seconds=None),
        a_record(search_seconds=None, evaluation_seconds=None),
        a_record(status="skipped", reason="no data. Get it.", search_seconds=None, **NOTHING),
        a_record(
            status="failed",
            reason='KeyError: "ü"\n "definition": {"seed": 7}\\',
            traceback='\n "definition": {',
            **NOTHING,
        ),
    ],
)
def test_a_record_in_brief_says_what_the_whole_record_says(record, tmp_path):
    path = write_record(tmp_path, record)
    assert read_record(path) == record
    brief = asdict(look(path))
    checksum, seconds = brief.pop("checksum"), brief.pop("seconds")
    assert brief == {name: getattr(record, name) for name in brief}
    searched = record.search_seconds
    assert seconds == (None if searched is None else searched + (record.evaluation_seconds or 0))
    write_record(tmp_path, record)
    assert look(path).checksum == checksum
    write_record(tmp_path, record.model_copy(update={"bops": 3}))
    assert look(path).checksum != checksum


def test_records_faults_and_parts_are_told_apart_and_the_rest_is_nobodys_business(tmp_path):
    paths = [write_record(tmp_path, a_record(seed)) for seed in range(4)]
    folder = tmp_path / "tiny"
    paths[1].write_bytes(paths[1].read_bytes()[:-1])
    paths[2].write_bytes(paths[3].read_bytes())
    part = folder / f"{paths[0].name}.0123456789ab-17-4711.part"
    # Of a marker, whose writer was killed too.
    other = folder / "tracked" / f"{paths[0].stem}.0123456789ab-17-4711.part"
    other.parent.mkdir()
    for path in (
        part,
        other,
        folder / "notes.json",
        folder / f"{paths[0].name}.bad",
        folder / "tracked" / paths[0].name,
    ):
        path.write_text("{}")
    found = scan(folder)
    assert set(found.briefs) == {paths[0].stem, paths[3].stem}
    assert {key: fault.fault for key, fault in found.faults.items()} == {
        paths[1].stem: "not a record (it does not end as a record does: the checksum does not fit)",
        paths[2].stem: "not a record (it is of another cell)",
    }
    assert found.parts == [part, other]
    assert isinstance(look(folder), BadRecordError)
    assert look(folder / "absent.json") is None


def test_all_suites_of_an_output_folder_are_read_and_one_that_is_not_there_is_empty(tmp_path):
    for suite in ("one", "two"):
        write_record(tmp_path, a_record(suite=suite))
    (tmp_path / "mlflow.db").write_text("")
    found = scan_all(tmp_path)
    assert {name: len(folder.briefs) for name, folder in found.items()} == {"one": 1, "two": 1}
    assert scan(tmp_path / "nowhere") == scan(tmp_path / "mlflow.db") == Scan()
    assert scan_all(tmp_path / "nowhere") == {}


def test_what_is_kept_of_a_record_does_not_grow_with_its_images(tmp_path: Path):
    for seed in range(200):
        write_record(tmp_path, a_record(seed))
    scan(tmp_path / "tiny")
    tracemalloc.start()
    found = scan(tmp_path / "tiny")
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.briefs) == 200
    # The packed outcomes alone are 1,668 characters.
    assert kept < 200 * 1000
    assert peak < kept + 100_000
