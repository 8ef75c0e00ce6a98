import csv
import io
import json

import numpy
import pytest

from benchmarks.records import MetricFacts, Outcomes, Record, key_of, write_record
from benchmarks.results import NoRecordsError, compare, in_reading_order, load, to_csv, to_json
from benchmarks.seal import sealed
from dqss.registry import UnknownNameError

REQUIRED = {
    *("key", "suite", "task", "model", "bits", "mode", "protocol", "method", "seed", "status", "reason", "score"),
    *("full_precision_score", "calibration_loss", "search_seconds", "forward_passes", "peak_memory_mb", "strategy"),
}


def make_record(method, seed=None, score=None, *, status="ok", options=None, bits="W4A4", model="resnet8", **others):
    definition = {"model": model, "bits": bits, "method": {"name": method, "options": options or {}}, "seed": seed}
    definition["suite"] = others.get("suite", "demo")
    facts = {
        "suite": "demo",
        "suite_version": 1,
        "task": "fashion-mnist",
        "mode": "ptq",
        "protocol": "all-layers",
        "metric": MetricFacts(name="top-1", unit="%", difference_unit="points"),
        "full_precision_score": 93.0 if status == "ok" else None,
        "started": "2024-01-01T00:00:00Z",
    }
    return Record(
        **(facts | others),
        key=key_of(definition),
        definition=definition,
        model=model,
        bits=bits,
        method=method,
        seed=seed,
        score=score,
        status=status,
    )


def lines_of(records):
    (comparison,) = compare(records)
    return {line.label: line for line in comparison.lines}


def test_json_has_the_names_that_scripts_rely_on_and_plain_values():
    strategy = {"conv1": {"weight": "mse", "activation": "kl", "bits": "W4A4"}}
    records = [make_record("dqss", 0, 91.5, strategy=strategy), make_record("random", 1, status="failed", reason="no")]
    first, second = json.loads(to_json(records))
    assert set(first) >= REQUIRED
    assert (first["score"], first["seed"], first["strategy"]) == (91.5, 0, strategy)
    assert (second["status"], second["reason"], second["score"], second["strategy"]) == ("failed", "no", None, None)


def test_json_of_nothing_is_an_empty_list():
    assert json.loads(to_json([])) == []


def test_csv_reads_back_with_commas_and_line_breaks_in_a_reason():
    records = [make_record("random", 0, status="failed", reason='a, "b"\nc'), make_record("uniform-kl", None, 80.25)]
    first, second = csv.DictReader(io.StringIO(to_csv(records)))
    assert first["reason"] == 'a, "b"\nc'
    assert (second["seed"], second["score"], second["strategy"]) == ("", "80.25", "")


def test_the_gain_is_the_mean_over_seeds_minus_the_best_uniform_pair():
    records = [
        make_record("best-uniform", None, 90.0, search_seconds=2.0),
        make_record("uniform-kl", None, 90.5),
        make_record("dqss", 0, 91.0, search_seconds=4.0),
        make_record("dqss", 1, 92.0, search_seconds=8.0),
    ]
    lines = lines_of(records)
    assert (lines["dqss"].score, lines["dqss"].gain, lines["dqss"].seconds, lines["dqss"].seeds) == (91.5, 1.5, 6.0, 2)
    assert lines["uniform-kl"].gain == 0.5
    assert lines["best-uniform"].gain is None
    assert compare(records)[0].full_precision == (93.0, 93.0)


def test_the_share_closed_is_the_gain_over_the_gap_of_the_best_uniform_pair():
    records = [make_record("best-uniform", None, 90.0), make_record("dqss", 0, 91.5), make_record("random", 0, 87.0)]
    lines = lines_of(records)
    # Full precision is 93.
    assert (lines["dqss"].closed, lines["random"].closed, lines["best-uniform"].closed) == (50.0, -100.0, None)
    nothing_to_close = [make_record("best-uniform", None, 92.95), make_record("dqss", 0, 93.0)]
    assert lines_of(nothing_to_close)["dqss"].closed is None
    assert lines_of([make_record("dqss", 0, 91.5)])["dqss"].closed is None


def test_a_loss_is_a_negative_gain():
    assert lines_of([make_record("best-uniform", None, 90.0), make_record("dqss", 0, 89.0)])["dqss"].gain == -1.0


def test_without_best_uniform_no_gain_is_claimed():
    assert lines_of([make_record("uniform-kl", None, 80.0), make_record("dqss", 0, 89.0)])["dqss"].gain is None
    failed = make_record("best-uniform", status="failed", reason="no")
    assert lines_of([failed, make_record("dqss", 0, 89.0)])["dqss"].gain is None


def test_full_precision_scores_that_differ_are_not_averaged():
    records = [make_record("dqss", 0, 91.0), make_record("dqss", 1, 91.0, full_precision_score=92.5)]
    assert compare(records)[0].full_precision == (92.5, 93.0)


def test_an_edited_score_is_neither_listed_nor_compared(tmp_path):
    outcomes = Outcomes.pack(numpy.array([True, True, True, False]))
    path = write_record(tmp_path, make_record("dqss", 0, 75.0, outcomes=outcomes))
    assert [record.score for record in load(tmp_path)[0]] == [75.0]
    changed = path.read_text().replace('"score": 75.0', '"score": 99.0')
    path.write_bytes(sealed("{\n" + changed.partition("\n")[2].removesuffix("\n")))
    records, faults = load(tmp_path)
    assert records == []
    assert "its score 99 is not the mean of its outcomes, 75." in faults[0]


def test_a_seed_that_failed_is_named_and_not_in_the_mean():
    lines = lines_of([make_record("dqss", 0, 91.0), make_record("dqss", 1, status="failed", reason="too hot")])
    assert (lines["dqss"].score, lines["dqss"].seeds, lines["dqss"].status) == (91.0, 1, "failed")
    assert lines["dqss"].faults == ("failed at seed 1: too hot",)


def test_the_same_method_with_other_options_is_another_line():
    records = [make_record("dqss", 0, 91.0), make_record("dqss", 0, 92.0, options={"steps": 9})]
    lines = lines_of(records)
    assert sorted(line.score for line in lines.values()) == [91.0, 92.0]
    assert all(name.startswith("dqss (") for name in lines)


def test_two_variants_of_the_bar_are_no_bar():
    bars = [make_record("best-uniform", None, 90.0), make_record("best-uniform", None, 91.0, options={"x": 1})]
    assert lines_of([*bars, make_record("dqss", 0, 92.0)])["dqss"].gain is None


def test_comparisons_never_cross_bits_protocols_or_suites():
    records = [make_record("best-uniform", None, 90.0)]
    records += [make_record("dqss", 0, 91.0, bits="W8A8"), make_record("dqss", 1, 91.0, protocol="academic")]
    records += [make_record("dqss", 2, 91.0, suite="other"), make_record("dqss", 3, 91.0, suite_version=2)]
    found = compare(records)
    assert len(found) == 5
    assert all(line.gain is None for comparison in found for line in comparison.lines)


def test_reading_order_has_wide_bits_first_and_dqss_last_whatever_the_input_order():
    names = ["uniform-minmax", "uniform-kl", "uniform-adaround-x", "uniform-zz", "best-uniform", "random"]
    names += ["a-search-from-elsewhere", "no-search", "dqss-a-variant", "dqss-other", "dqss"]
    wanted = [(bits, name) for bits in ("W8A8", "W4A8", "W4A4") for name in names]
    records = [make_record(name, None, 90.0, bits=bits) for bits, name in reversed(wanted)]
    assert [(record.bits, record.method) for record in in_reading_order(records)] == wanted


def test_load_reads_one_suite_and_reports_a_broken_file(tmp_path):
    write_record(tmp_path, make_record("dqss", 0, 91.0))
    write_record(tmp_path, make_record("random", 0, 90.0, suite="other"))
    broken = tmp_path / "demo" / f"{'0' * 64}.json"
    broken.write_text("{")
    records, faults = load(tmp_path, "demo")
    assert [record.method for record in records] == ["dqss"]
    assert len(faults) == 1
    assert str(broken) in faults[0]


def test_an_unknown_suite_is_answered_with_those_that_are_there(tmp_path):
    write_record(tmp_path, make_record("dqss", 0, 91.0, suite="classification"))
    with pytest.raises(UnknownNameError, match=r"'clasification'.*Did you mean 'classification'"):
        load(tmp_path, "clasification")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UnknownNameError, match="no records at all"):
        load(empty, "classification")


def test_a_missing_folder_is_an_error_and_an_empty_one_is_not(tmp_path):
    with pytest.raises(NoRecordsError, match="no folder"):
        load(tmp_path / "nowhere")
    assert load(tmp_path) == ([], [])


def test_the_bar_of_training_is_the_uniform_method_with_the_best_mean_on_validation():
    trained = [
        make_record("uniform-lsq", seed, score, mode="qat", validation_score=validation)
        for seed, score, validation in ((0, 90.0, 70.0), (1, 88.0, 90.0))
    ]
    trained += [
        make_record("uniform-dsq", seed, 91.0, mode="qat", validation_score=validation)
        for seed, validation in ((0, 85.0), (1, 74.0))
    ]
    trained += [make_record("dqss", seed, 92.0, mode="qat", validation_score=99.0) for seed in (0, 1)]
    (comparison,) = compare(trained)
    assert comparison.bar == "uniform-lsq"
    assert {line.method: line.gain for line in comparison.lines} == {
        "uniform-lsq": None,
        "uniform-dsq": 2.0,
        "dqss": 3.0,
    }


@pytest.mark.parametrize("lost", [[], [make_record("uniform-lsq", 1, mode="qat", status="failed", reason="loss: nan")]])
def test_a_uniform_method_without_all_seeds_is_not_the_bar_of_training(lost):
    lucky = make_record("uniform-lsq", 0, 90.0, mode="qat", validation_score=95.0)
    whole = [make_record("uniform-dsq", seed, 88.0, mode="qat", validation_score=90.0) for seed in (0, 1)]
    dqss = [make_record("dqss", seed, 92.0, mode="qat", validation_score=9.0) for seed in (0, 1)]
    (comparison,) = compare([lucky, *lost, *whole, *dqss])
    assert comparison.bar == "uniform-dsq"
    assert {line.method: line.gain for line in comparison.lines} == {
        "uniform-lsq": 2.0,
        "uniform-dsq": None,
        "dqss": 4.0,
    }
    assert compare([lucky, *lost, *dqss])[0].bar is None


def test_without_a_uniform_method_that_ended_well_training_has_no_bar():
    failed = make_record("uniform-lsq", 0, mode="qat", status="failed", reason="loss: nan")
    (comparison,) = compare([failed, make_record("dqss", 0, 92.0, mode="qat", validation_score=9.0)])
    assert comparison.bar is None
    assert [line.gain for line in comparison.lines] == [None, None]


def test_variants_of_a_uniform_method_leave_training_without_gains():
    variants = [
        make_record("uniform-lsq", 0, 90.0, mode="qat", validation_score=80.0, options={"network": rate})
        for rate in (0.001, 0.002)
    ]
    others = [make_record(m, 0, 92.0, mode="qat", validation_score=70.0) for m in ("uniform-dsq", "dqss")]
    (comparison,) = compare([*variants, *others])
    assert {line.gain for line in comparison.lines} == {None}


def test_modes_are_never_compared():
    records = [make_record("best-uniform", None, 90.0), make_record("dqss", 0, 91.0)]
    trained = [make_record("dqss", 1, 92.0, mode="qat", validation_score=9.0)]
    assert [(c.mode, len(c.lines)) for c in compare([*records, *trained])] == [("ptq", 2), ("qat", 1)]
