"""What a submission is refused for, by name; what makes it good; and that nothing of it touches the disk."""

from __future__ import annotations

import json
import os
import resource
import time
from dataclasses import replace
from datetime import UTC, datetime

import numpy
import pytest

from benchmarks import submission_rerun
from benchmarks.archive import opened_archive, packed
from benchmarks.consistency import Claim, faults_between
from benchmarks.plausible import RANGES, faults_of
from benchmarks.records import LayerChoice, Outcomes
from benchmarks.submission import NAMES, Submitter, pack
from benchmarks.submission_check import check
from benchmarks.submission_report import Rerun
from benchmarks.suite import cells_of, load_suite, shipped_suites
from tests.benchmarks import submitted
from tests.benchmarks.submitted import HOSTILE, failed, record_of

NOW = datetime(2026, 6, 1, tzinfo=UTC)
GOOD = [
    record_of("uniform-minmax", None, calibration_loss=0.5),
    record_of("uniform-mse", None, calibration_loss=0.25),
    record_of("best-uniform", None, calibration_loss=0.25),
    record_of("dqss", 0),
    failed("dqss", 1),
]


@pytest.fixture(scope="module")
def archive():
    return pack(GOOD, Submitter("Jane Doe", "jane@example.org"))


@pytest.fixture(scope="module")
def files(archive, tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "good.zip"
    path.write_bytes(archive)
    with opened_archive(path, NAMES) as opened:
        return {name: opened.read(name) for name in opened.names}


def test_a_good_submission_is_self_reported(archive, tmp_path):
    path = tmp_path / "good.zip"
    path.write_bytes(archive)
    verdict = check(path, NOW)
    assert verdict.faults == ()
    assert (verdict.badge, verdict.name, verdict.records, verdict.ok) == ("self-reported", "Jane Doe", 5, 4)
    assert json.loads(verdict.to_json())["badge"] == "self-reported"


def test_the_corpus_is_of_at_least_forty():
    assert len(HOSTILE) >= 40


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_submission_is_refused_by_name_in_one_line_and_writes_nothing(name, files, tmp_path):
    make, words = HOSTILE[name]
    path = tmp_path / "hostile.zip"
    path.write_bytes(make(dict(files)))
    begin = time.process_time()
    verdict = check(path, NOW)
    # Bounds that the largest allowed file of one record stays far within, on any machine that runs the tests.
    assert time.process_time() - begin < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 3_000_000
    assert verdict.badge == "refused"
    assert words in verdict.faults[0]
    for fault in verdict.faults:
        assert fault.isprintable()
        assert len(fault) < 800
    assert [found.name for found in tmp_path.iterdir()] == ["hostile.zip"]


def test_a_hostile_submission_is_never_run(files, tmp_path):
    path = tmp_path / "hostile.zip"
    path.write_bytes(submitted.with_fields(dict(files), reason=submitted.SCRIPT))
    assert check(path, NOW, lambda claims: pytest.fail("it was run")).badge == "refused"


def test_the_form_is_judged_before_anything_is_read(tmp_path):
    path = tmp_path / "fifo"

    os.mkfifo(path)
    assert check_fault(path) == "not a regular file."


def check_fault(path):
    from benchmarks.archive import ArchiveError

    with pytest.raises(ArchiveError) as caught, opened_archive(path, NAMES):
        pass
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"score": 90.1}, "is not the mean of its outcomes, 90"),
        ({"outcomes": None}, "it is ok and has no outcomes"),
        ({"full_precision_score": 100.5}, "full_precision_score: 100.5 is not within 0 to 100 %"),
        ({"full_precision_score": 9.0}, "full_precision_score: 9 is below 10, which guessing has"),
        ({"search_seconds": 0.0}, "search_seconds: 0 is not above 0"),
        ({"search_seconds": -1.0}, "search_seconds: -1 is not above 0"),
        ({"evaluation_seconds": 0.0}, "evaluation_seconds: 0 is not above 0"),
        ({"size_bytes": submitted.SIZE_BYTES - 1}, f"{submitted.SIZE_BYTES} by the shapes of resnet8"),
        ({"bops": submitted.BOPS - 1}, "cannot be of resnet8 at W4A4"),
        ({"bops": 16}, "cannot be of resnet8 at W4A4"),
        ({"strategy": {}}, "strategy: no layers"),
        ({"ids": {"calibration": "0-63", "test": "0-10"}}, "10, of 11 test images"),
        ({"ids": {"test": "0-9"}}, "of the test or the calibration split"),
        ({"ids": {"test": "0-9", "calibration": [1, 1]}}, "ids.calibration: no ids, or one twice"),
        ({"ids": {"test": "0-9", "calibration": "0-1", "tset": "0-1"}}, "no split 'tset'"),
        ({"started": "2026-06-03T00:00:00+00:00"}, "is not yet"),
        ({"started": "yesterday"}, "is no time with its zone"),
        ({"started": "2026-01-01T00:00:00"}, "is no time with its zone"),
        ({"traceback": "File x"}, "traceback: it tells of"),
        ({"calibration_loss": -1.0}, "calibration_loss: -1 is below 0"),
        ({"measures": {"=1+1": 2.0}}, "'=1+1' is no name"),
        ({"protocol": "per-channel"}, "its protocol is not what its definition says"),
        ({"method": "uniform-mse"}, "its method is not what its definition says"),
    ],
)
def test_numbers_that_cannot_be_are_told(changes, words):
    record = record_of("dqss", 0)
    assert list(faults_of(record, NOW)) == []
    assert words in next(iter(faults_of(record.model_copy(update=changes), NOW)))


def test_a_strategy_is_of_its_candidates_and_bits():
    def fault(**choice):
        changed = LayerChoice(**({"weight": "mse", "activation": "mse", "bits": "W4A4"} | choice))
        strategy = {**(record_of().strategy or {}), "conv1": changed}
        return next(iter(faults_of(record_of(strategy=strategy), NOW)), None)

    assert fault() is None
    assert fault(weight="kl") == "strategy.conv1: kl and mse are not among its candidates"
    assert fault(bits="W8A8") == "strategy.conv1: W8A8, where its definition has W4A4"


def test_outcomes_are_of_the_metrics_kind():
    floats = Outcomes.pack(numpy.array([90.0] * 10, dtype="f4"))
    assert next(iter(faults_of(record_of(outcomes=floats), NOW))).startswith("outcomes: float32, where")


def faults_of_all(*records):
    return faults_between(Claim.of(record) for record in records)


def test_records_that_fit_together_have_no_fault():
    assert faults_of_all(*GOOD) == []


@pytest.mark.parametrize(
    ("records", "words"),
    [
        # The best uniform pair is the one with the least loss on calibration data; mse is one of its candidates.
        ([record_of("uniform-mse", None, calibration_loss=0.2), GOOD[2]], "it was not chosen by it"),
        ([record_of("dqss", 0), record_of("dqss", 2)], "has the seeds 0, 2, and its board asks for 0 to 1"),
        ([record_of("dqss", 3)], "has the seeds 3, and its board asks for 0 to 0"),
        ([record_of("dqss", 0), record_of("random", 0), record_of("random", 1)], "dqss has the seeds 0, and"),
        (
            [
                record_of("dqss", 0, {"method": {"name": "dqss", "version": 1, "options": {"steps": steps}}})
                for steps in (1, 2)
            ],
            "Choose one of them on calibration or search-validation data",
        ),
        ([GOOD[0], record_of("dqss", 0, full_precision_score=93.0)], "of one checkpoint"),
        ([GOOD[0], record_of("dqss", 0, size_bytes=1)], "size_bytes or bops: not as in"),
        ([GOOD[0], record_of("dqss", 0, ids={"test": "10-19", "calibration": "0-1"})], "ids: not as in"),
        ([record_of("dqss", 0, {"suite_version": 99}, suite="classification", suite_version=99)], "version 99, and"),
    ],
)
def test_records_that_contradict_each_other_are_told(records, words):
    (fault, *_) = faults_of_all(*records)
    assert words in fault


def test_ranges_are_those_of_the_tasks():
    from benchmarks.tasks import TASKS

    assert RANGES.keys() == set(TASKS)
    for name, expected in RANGES.items():
        task = TASKS.load(name)
        metric = task.metric
        assert (metric.name, metric.unit, metric.difference_unit) == tuple(expected.metric.model_dump().values())
        if classes := getattr(task, "classes", None):
            assert expected.chance == 100 / classes


def a_claim(**changes):
    return replace(Claim.of(record_of("dqss", 0)), **changes)


@pytest.mark.parametrize(
    ("again", "words"),
    [
        (record_of("dqss", 0), None),
        (record_of("dqss", 0, score=90.4), None),
        (record_of("dqss", 0, score=89.4), "its score 90 is 89.4 here, more than 0.5 % apart"),
        (record_of("dqss", 0, full_precision_score=93.0), "full precision 93.75 is 93 here"),
        (record_of("dqss", 0, bops=1), "its bops is not what it is here"),
        (record_of("dqss", 0, ids={}), "its ids is not what it is here"),
        (failed("dqss", 0), "did not end well here: out of memory"),
    ],
)
def test_a_cell_that_was_run_again_agrees_within_the_tolerance(again, words):
    assert submission_rerun.compared(a_claim(), again).fault == words


def test_scores_of_another_strategy_may_lie_further_apart():
    strategy = {**(record_of().strategy or {}), "conv1": LayerChoice(weight="mse", activation="mse", bits="W4A4")}
    assert submission_rerun.compared(a_claim(), record_of(score=88.0, strategy=strategy)).fault is None
    assert submission_rerun.compared(a_claim(), record_of(score=87.0, strategy=strategy)).disagrees


@pytest.mark.parametrize(
    ("reruns", "badge"),
    [
        ([], "self-reported"),
        ([Rerun("k", 90.0, 90.0, 0.5, None)], "verified"),
        ([Rerun("k", 90.0, 90.0, 0.5, None), Rerun("l", 90.0, None, 0.0, "cannot run here: x")], "self-reported"),
        ([Rerun("k", 90.0, 80.0, 0.5, "apart"), Rerun("l", 90.0, 90.0, 0.5, None)], "refused"),
    ],
)
def test_a_badge_is_verified_only_where_every_cell_agrees(reruns, badge, archive, tmp_path):
    path = tmp_path / "good.zip"
    path.write_bytes(archive)
    assert check(path, NOW, lambda claims: reruns).badge == badge


def test_only_cells_of_shipped_suites_are_run():
    def run(cell):
        pytest.fail("it was run")

    (rerun,) = submission_rerun.run_again([a_claim()], run)
    assert rerun.fault == "cannot run here: no shipped suite has this cell"
    (rerun,) = submission_rerun.run_again([a_claim(suite="quickstart")], run)
    assert rerun.fault == "cannot run here: no shipped suite has this cell"


def test_a_cell_of_a_shipped_suite_is_found_by_its_key_and_run():
    suite = load_suite(shipped_suites()["quickstart"])
    cell = next(cell for cell in cells_of(suite, [1]) if cell.method == "dqss" and cell.mode == "ptq")
    claim = a_claim(suite=cell.suite, key=cell.key, seed=cell.seed)
    (rerun,) = submission_rerun.run_again([claim], lambda found: record_of("dqss", 0) if found == cell else None)
    assert rerun.fault is None


def test_the_sample_is_the_same_for_the_same_seed_and_order_does_not_matter():
    claims = [a_claim(key=f"{number:064x}") for number in range(20)]
    first = submission_rerun.sample(claims, 3, "s")
    assert submission_rerun.sample(claims[::-1], 3, "s") == first
    assert len({claim.key for claim in first}) == 3
    assert submission_rerun.sample(claims, 3, "t") != first
    assert len(submission_rerun.sample(claims, 50, "s")) == 20


def test_packed_names_are_read_back_in_their_order(tmp_path):
    path = tmp_path / "some.zip"
    names = ["manifest.json", f"records/b/{'1' * 64}.json", f"records/a/{'0' * 64}.json"]
    path.write_bytes(packed(dict.fromkeys(names, b"x")))
    with opened_archive(path, NAMES) as archive:
        assert archive.names == names
