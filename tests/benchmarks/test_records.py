import json
import math
import re

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from benchmarks.records import (
    BadRecordError,
    LayerChoice,
    LayerFacts,
    MetricFacts,
    Outcomes,
    Record,
    contradiction,
    entropy,
    iterate_records,
    key_of,
    read_record,
    record_path,
    write_record,
)
from benchmarks.scan import look
from benchmarks.seal import sealed

TOP_1 = MetricFacts(name="top-1", unit="%", difference_unit="points")
DEFINITION = {"method": "dqss", "bits": "W4A4", "options": {"steps": 3}}


def a_record(**changes):
    definition = changes.pop("definition", DEFINITION)
    fields = {
        "key": key_of(definition),
        "definition": definition,
        "suite": "tiny",
        "suite_version": 1,
        "task": "fashion-mnist",
        "model": "resnet8",
        "bits": "W4A4",
        "mode": "ptq",
        "protocol": "all-layers",
        "method": "dqss",
        "seed": 0,
        "status": "ok",
        "metric": TOP_1,
        "score": 90.0,
        "started": "2030-01-02T03:04:05+00:00",
    }
    return Record(**(fields | changes))


def whole_record():
    return a_record(
        score=200 / 3,
        relaxed_loss=5e-324,
        forward_passes=2**40,
        strategy={"layers.0": LayerChoice(weight="mse", activation="kl", bits="W4A4")},
        layers={"layers.0": LayerFacts(weight_sqnr_db=None, activation_sqnr_db=17.25, alpha_weight=[0.1, 0.9])},
        curves={"loss": [0.1 + 0.2, 1e-30]},
        outcomes=Outcomes.pack(numpy.array([True, False, True])),
        ids={"calibration": [59_999, 0]},
        hardware={"processor": "Prozessor mit Ümlaut ✓"},
    )


def test_a_record_comes_back_from_its_file_as_it_was(tmp_path):
    record = whole_record()
    path = write_record(tmp_path, record)
    assert path == tmp_path / "tiny" / f"{record.key}.json" == record_path(tmp_path, "tiny", record.key)
    assert read_record(path) == record
    assert list(iterate_records(tmp_path)) == [record]


def test_the_key_is_the_hash_of_the_canonical_json():
    # printf '%s' '{"a":[1,null],"b":"\u00fc"}' | sha256sum
    expected = "e0cdee824cd756c78168d7aaabd92cc983a178a444bffd8597b2c61b51f4b1ce"
    assert key_of({"b": "ü", "a": [1, None]}) == key_of({"a": [1, None], "b": "ü"})
    assert key_of({"b": "ü", "a": [1, None]}) == expected
    assert key_of({"a": 1}) != key_of({"a": 1.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        key_of({"a": float("nan")})


def test_a_number_that_is_none_is_not_recorded():
    with pytest.raises(ValueError, match="finite number"):
        a_record(score=float("nan"))


def resealed(text):
    """Return a file's content with the checksum of what it has been changed to."""
    return sealed("{\n" + text.partition("\n")[2].removesuffix("\n")).decode()


def cut(text):
    return text[: len(text) // 2]


def of_another_cell(text):
    return text.replace('"steps": 3', '"steps": 4')


def of_another_schema(text):
    return text.replace('"schema_version": 3', '"schema_version": 99')


def flipped(text):
    """Return the text with one bit of one letter changed, where JSON stays JSON."""
    return text.replace('"model": "resnet8"', '"model": "sesnet8"')


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (cut, "not a record (it does not end as a record does: the checksum does not fit)"),
        (lambda text: text[:-1], "not a record (it does not end as a record does: the checksum does not fit)"),
        (lambda text: text[:50], "not a record (it does not begin as a record does)"),
        (lambda _: "", "not a record (it is empty)"),
        (lambda text: "\0" * len(text), "not a record (it is empty)"),
        (lambda _: "[]", "not a record (it does not begin as a record does)"),
        (lambda _: '{"note": "mine"}', "not a record (it does not begin as a record does)"),
        (flipped, "not a record (its content is not what was written: the checksum does not fit)"),
        (lambda text: text + " ", "not a record (it does not end as a record does"),
        (lambda text: text.replace('"sha256": "', '"sha256": "0'), "not a record (it does not begin as a record does)"),
        (of_another_schema, "not a record (schema version 99, this program reads 3)"),
        (lambda _: '{\n "schema_version": 2,\n "key": 1\n}\n', "not a record (schema version 2, this program reads 3)"),
    ],
)
def test_a_file_that_is_not_what_was_written_is_named_with_its_fault(change, fault, tmp_path):
    path = write_record(tmp_path, whole_record())
    changed = change(path.read_text(encoding="utf-8"))
    assert changed != path.read_text(encoding="utf-8")
    path.write_text(changed, encoding="utf-8")
    with pytest.raises(BadRecordError, match=re.escape(f"{path}: {fault}")) as caught:
        read_record(path)
    assert str(look(path)) == str(caught.value)
    assert str(caught.value).endswith("The next run sets it aside and runs its cell again.")
    assert "\n" not in str(caught.value)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_no_cut_and_no_flipped_bit_goes_unseen(tmp_path_factory, data):
    path = write_record(tmp_path_factory.getbasetemp() / "one", whole_record())
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1), "where")
    if data.draw(st.booleans(), "cut"):
        del content[at:]
    else:
        content[at] ^= 1 << data.draw(st.integers(0, 7), "bit")
    path.write_bytes(content)
    with pytest.raises(BadRecordError):
        read_record(path)
    assert isinstance(look(path), BadRecordError)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda text: text.replace('"model"', '"modell"'), "not a record (model: Field required)"),
        (lambda text: text.replace('"steps": 3', '"steps": NaN'), "not a record (definition: Out of range float"),
        (
            lambda text: text.replace('"score": 66.6', '"score": 99.6'),
            "its score 99.6667 is not the mean of its outcomes",
        ),
        (lambda text: text.replace('"status": "ok"', '"status": "failed"'), "it is failed and yet has a score"),
        (of_another_cell, "its key does not fit its content"),
        (lambda text: text.replace('"bits": "W4A4",\n "mode"', '"bits": "W8A8",\n "mode"'), "its bits is not what its"),
    ],
)
def test_a_file_that_cannot_be_trusted_is_named_with_its_fault(change, fault, tmp_path):
    path = write_record(tmp_path, whole_record())
    changed = change(path.read_text(encoding="utf-8"))
    assert changed != path.read_text(encoding="utf-8")
    path.write_text(resealed(changed), encoding="utf-8")
    with pytest.raises(BadRecordError, match=re.escape(f"{path}: {fault}")) as caught:
        read_record(path)
    assert str(caught.value).endswith("The next run sets it aside and runs its cell again.")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("suite_version", 2),
        ("task", "kmnist"),
        ("model", "resnet20"),
        ("bits", "W8A8"),
        ("mode", "qat"),
        ("method", "dqss"),
        ("method", "uniform-kl"),
        ("method", "uniform"),
        ("seed", 3),
    ],
)
def test_a_field_that_tells_otherwise_than_the_definition_is_found(field, value):
    definition = {
        "suite_version": 1,
        "task": {"name": "fashion-mnist"},
        "model": {"name": "resnet8"},
        "bits": "W4A4",
        "mode": "ptq",
        "method": {"name": "uniform"},
        "quantizers": {"weight": [{"name": "mse"}]},
        "seed": 0,
    }
    record = a_record(definition=definition, method="uniform-mse")
    assert contradiction(record) is None
    assert contradiction(record.model_copy(update={field: value})) == field


def test_bytes_that_are_no_text_are_a_bad_record(tmp_path):
    path = write_record(tmp_path, a_record())
    path.write_bytes(b"\xff\x00\xfe")
    with pytest.raises(BadRecordError, match="not a record"):
        read_record(path)


def test_a_file_that_cannot_be_read_is_a_fault_that_does_not_hide_the_others(tmp_path):
    path = write_record(tmp_path, a_record())
    folder = path.with_name(f"{'0' * 64}.json")
    folder.mkdir()
    fault, record = iterate_records(tmp_path)
    assert (
        str(fault) == f"{folder}: cannot be read: Is a directory. The next run sets it aside and runs its cell again."
    )
    assert record == a_record()


def test_a_fault_is_told_without_the_words_of_the_library_that_found_it(tmp_path):
    path = write_record(tmp_path, whole_record())
    changed = path.read_text(encoding="utf-8").replace('"bits": "W4A4",\n "mode"', '"bits": "W1A4",\n "mode"')
    path.write_text(resealed(changed), encoding="utf-8")
    with pytest.raises(BadRecordError) as caught:
        read_record(path)
    assert str(caught.value) == (
        f"{path}: not a record (bits: 'W1A4' is not a bit-width. Write W<2-8>A<2-8>, for example W4A8). "
        "The next run sets it aside and runs its cell again."
    )


def test_a_file_under_the_name_of_another_cell_is_a_bad_record(tmp_path):
    path = write_record(tmp_path, a_record())
    moved = path.rename(path.with_name(f"{'0' * 64}.json"))
    with pytest.raises(BadRecordError, match="its key does not fit"):
        read_record(moved)


def test_records_are_read_in_the_order_of_their_paths_and_faults_stand_between_them(tmp_path):
    some = [a_record(definition={"cell": number}, suite=suite) for number in range(4) for suite in ("a", "b")]
    paths = sorted(write_record(tmp_path, record) for record in some)
    bad = paths[2]
    bad.write_text("{}")
    (tmp_path / "a" / "notes.json").write_text("{}")
    paths[0].with_name(f"{paths[0].name}.123.part").write_text("half")
    found = list(iterate_records(tmp_path))
    assert [str(record_path(tmp_path, each.suite, each.key)) for each in found if isinstance(each, Record)] == [
        str(path) for path in paths if path != bad
    ]
    assert isinstance(found[2], BadRecordError)
    assert str(bad) in str(found[2])
    assert {record.suite for record in iterate_records(tmp_path, "b")} == {"b"}
    assert list(iterate_records(tmp_path / "nowhere")) == []


@given(arrays.arrays(numpy.bool_, st.integers(0, 70)))
def test_truth_values_come_back_as_they_were(values):
    packed = Outcomes.pack(values)
    assert (packed.kind, packed.count) == ("bits", len(values))
    assert packed.unpack().dtype == numpy.bool_
    assert packed.unpack().tolist() == values.tolist()


@given(arrays.arrays(numpy.float32, st.integers(0, 20)))
def test_numbers_come_back_bit_for_bit(values):
    packed = Outcomes.pack(values)
    assert (packed.kind, packed.count) == ("float32", len(values))
    assert packed.unpack().tobytes() == values.tobytes()


def test_outcomes_are_packed_as_the_record_says():
    # 1010 0000 and 1000 0000: the first image in the highest bit.
    packed = Outcomes.pack(numpy.array([True, False, True, False, False, False, False, False, True]))
    assert (packed.kind, packed.count, packed.data) == ("bits", 9, "oIA=")
    # 1.0 as little-endian float32 is 00 00 80 3f.
    assert Outcomes.pack(numpy.array([1.0])).data == "AACAPw=="


@pytest.mark.parametrize(
    ("kind", "count", "data"),
    [("bits", 9, "oA=="), ("bits", 8, "oIA="), ("float32", 2, "AACAPw=="), ("float32", 1, "not base64!")],
)
def test_outcomes_of_another_size_are_refused(kind, count, data):
    with pytest.raises(ValueError, match=r"outcomes: \d bytes are not|Only base64|Non-base64|padding"):
        Outcomes(kind=kind, count=count, data=data).unpack()


def test_a_record_is_written_as_json_that_other_programs_read(tmp_path):
    content = json.loads(write_record(tmp_path, whole_record()).read_text(encoding="utf-8"))
    assert content["strategy"] == {"layers.0": {"weight": "mse", "activation": "kl", "bits": "W4A4"}}
    assert content["score"] == 200 / 3


@pytest.mark.parametrize(
    ("shares", "nats"),
    [([1.0, 0.0, 0.0], 0.0), ([0.25] * 4, 2 * math.log(2)), ([0.5, 0.25, 0.25], 1.5 * math.log(2)), (None, None)],
)
def test_entropy_is_that_worked_out_by_hand(shares, nats):
    assert entropy(shares) == pytest.approx(nats)
