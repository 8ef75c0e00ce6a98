import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from torch.distributed import HashStore

import benchmarks.cell
from benchmarks import claims, cli, dealing, launch, runner, schedule
from benchmarks.cell import identity, now
from benchmarks.launch import Processes
from benchmarks.markers import digest_of, mark
from benchmarks.parallel import Sharing
from benchmarks.pool import Job
from benchmarks.records import MetricFacts, Record, iterate_records, read_record, record_path, write_record
from benchmarks.schedule import plan, run_cells
from benchmarks.seal import sealed
from benchmarks.shared_pool import agreed
from benchmarks.suite import Budget, Cell, Inventory, Lookup, cells_of, load_suite
from dqss.spec import Protocol

HERE = Inventory(
    {
        ("fashion-mnist",): Lookup("d" * 64, None),
        ("resnet8", "fashion-mnist"): Lookup("a" * 64, None),
        ("resnet20", "fashion-mnist"): Lookup("b" * 64, None),
        ("mobilenetv2-small", "fashion-mnist"): Lookup(None, "no checkpoint. Train one."),
    }
)
ALONE = Processes(0, 1, 0)


def cell(method="uniform-mse", model="resnet8", bits="W4A4", seed=None, inventory=HERE) -> Cell:
    return Cell(
        suite="tiny",
        suite_version=1,
        task="fashion-mnist",
        model=model,
        bits=bits,
        mode="ptq",
        protocol="all-layers",
        protocol_definition=Protocol(),
        method=method,
        options={},
        weight_quantizers=("mse",),
        activation_quantizers=("mse",),
        seed=seed,
        inventory=inventory,
    )


def ok(of: Cell, search_seconds=1.0, evaluation_seconds=0.5, processes=ALONE) -> Record:
    return Record(
        **identity(of, now(), Sharing(processes)),
        status="ok",
        metric=MetricFacts(name="top-1", unit="%", difference_unit="points"),
        score=90.0,
        search_seconds=search_seconds,
        evaluation_seconds=evaluation_seconds,
    )


def failed(of: Cell, reason="OSError: away") -> Record:
    return Record(**identity(of, now(), Sharing(ALONE)), status="failed", reason=reason, traceback="...")


SKIPPED = cell(model="mobilenetv2-small")
FOUR = [cell("uniform-mse"), cell("best-uniform"), cell("random", seed=0), cell("random", seed=1)]


class Events:
    """A Progress that keeps what it is told."""

    def __init__(self):
        self.told = []

    def start(self, total, done, expected_seconds):
        self.told.append(("start", total, done, expected_seconds))

    def cell_started(self, cell):
        self.told.append(("started", cell.key))

    def stage(self, name, done, total):
        self.told.append(("stage", name, done, total))

    def cell_finished(self, record):
        assert read_record(record_path(self.out, record.suite, record.key)) == record
        self.told.append(("finished", record.key, record.status))

    def warn(self, message):
        self.told.append(("warn", message))

    def stop(self):
        self.told.append(("stop",))

    def of(self, kind):
        return [each[1:] for each in self.told if each[0] == kind]


class Bench:
    """Cells that end as they are told to, in place of the real ones, and a tracker that only takes notes."""

    def __init__(self, out: Path):
        self.out = out
        self.ran: list[str] = []
        self.outcome: dict[str, BaseException] = {}
        self.tracked: list[str] = []
        self.closed: list[bool] = []
        self.events = Events()

    def run_cell(self, cell, context, report):
        self.ran.append(cell.key)
        report("search", 1, 1)
        if cell.key in self.outcome:
            raise self.outcome[cell.key]
        return ok(cell, processes=context.sharing.processes)

    def tracker(self, out, warn):
        assert out == self.out
        return self

    def start(self, suite, parameters):
        assert suite == "tiny"
        self.parameters = parameters

    def log(self, record):
        assert record_path(self.out, record.suite, record.key).is_file()
        self.tracked.append(record.key)

    def close(self, wait):
        self.closed.append(wait)

    def run(self, cells, fail_fast=False, max_cells=None):
        self.ran, self.tracked, self.closed, self.events = [], [], [], Events()
        self.events.out = self.out
        return run_cells(cells, self.out, self.events, fail_fast=fail_fast, max_cells=max_cells)

    def files(self):
        """Return what writing a record again would change."""
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (self.out / "tiny").glob("*.json")}


@pytest.fixture
def bench(tmp_path, monkeypatch) -> Bench:
    made = Bench(tmp_path / "out")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(benchmarks.cell, "run_cell", made.run_cell)
    monkeypatch.setattr(schedule, "Tracker", made.tracker)
    return made


def keys(cells):
    return [each.key for each in cells]


def test_a_plan_says_what_would_be_done_with_each_cell(tmp_path):
    done, broken, new = FOUR[:3]
    write_record(tmp_path, ok(done, 2.0, 1.0))
    write_record(tmp_path, failed(broken))
    planned = plan([done, SKIPPED, broken, new], tmp_path)
    assert [(row.state, row.reason, row.expected_seconds) for row in planned.rows] == [
        ("done", None, None),
        ("skipped", "no checkpoint. Train one.", None),
        ("failed", "OSError: away", 3.0),
        ("to do", None, 3.0),
    ]
    assert planned.expected_seconds == 6.0


def test_without_measurements_the_time_is_unknown(tmp_path):
    planned = plan(FOUR, tmp_path)
    assert {row.state for row in planned.rows} == {"to do"}
    assert planned.expected_seconds is None


def test_where_all_is_done_no_time_is_expected(tmp_path):
    for each in FOUR:
        write_record(tmp_path, ok(each))
    assert plan(FOUR, tmp_path).expected_seconds == 0


def test_the_expected_time_is_the_median_of_the_nearest_measured_cells(tmp_path):
    def measured(method, model, bits, *seconds):
        for seed, each in enumerate(seconds):
            write_record(tmp_path, ok(cell(method, model, bits, seed), each - 0.5, 0.5))

    measured("random", "resnet8", "W4A4", 2.0, 4.0, 12.0)
    measured("random", "resnet8", "W8A8", 40.0)
    measured("random", "resnet20", "W8A8", 100.0, 200.0)
    measured("dqss", "resnet8", "W8A8", 1000.0)
    write_record(tmp_path, failed(cell("random", seed=9)))

    def expected(method, model, bits):
        return plan([cell(method, model, bits, seed=7)], tmp_path).rows[0].expected_seconds

    assert expected("random", "resnet8", "W4A4") == 4
    # The same model and method at any bits: 2, 4, 12, 40.
    assert expected("random", "resnet8", "W2A2") == 8
    # The same method on any model: 2, 4, 12, 40, 100, 200.
    assert expected("random", "mobilenetv2-small", "W4A4") is None
    here = replace(
        cell("random", "mobilenetv2-small", seed=7),
        inventory=Inventory(
            {("fashion-mnist",): Lookup("d" * 64, None), ("mobilenetv2-small", "fashion-mnist"): Lookup("c" * 64, None)}
        ),
    )
    assert plan([here], tmp_path).rows[0].expected_seconds == 26
    # Any cell: 2, 4, 12, 40, 100, 200, 1000.
    assert expected("best-uniform", "resnet20", "W4A4") == 40


def test_the_expected_time_of_a_mode_says_nothing_of_the_other(tmp_path):
    write_record(tmp_path, ok(cell("dqss", seed=0), 1.5, 0.5))
    training = replace(cell("dqss", seed=0), mode="qat", **LEARNED)
    assert plan([training], tmp_path).expected_seconds is None
    write_record(tmp_path, ok(replace(training, seed=1), 100.0, 0.5))
    assert plan([training], tmp_path).expected_seconds == 100.5
    assert plan([cell("random", seed=1)], tmp_path).expected_seconds == 2.0


def test_every_cell_is_run_written_tracked_and_told_in_order(bench):
    records = bench.run(FOUR)
    assert bench.ran == bench.tracked == [record.key for record in records] == keys(FOUR)
    assert [(record.status, record.score) for record in iterate_records(bench.out)] == [("ok", 90.0)] * 4
    assert bench.events.told[0] == ("start", 4, 0, None)
    assert bench.events.told[-1] == ("stop",)
    assert bench.events.of("started") == [(key,) for key in keys(FOUR)]
    assert bench.events.of("finished") == [(key, "ok") for key in keys(FOUR)]
    assert bench.events.of("stage") == [("search", 1, 1)] * 4
    assert bench.parameters == {"suite": "tiny", "cells": "4", "processes": "1"}
    assert bench.closed == [True]


def test_a_second_run_does_nothing(bench):
    first = bench.run([*FOUR, SKIPPED])
    files = bench.files()
    assert bench.run([*FOUR, SKIPPED]) == first
    assert (bench.ran, bench.tracked, bench.files()) == ([], [], files)
    assert bench.events.told == [("start", 5, 5, 0), ("stop",)]


def test_so_many_cells_and_no_more(bench):
    assert len(bench.run(FOUR, max_cells=3)) == 3
    assert bench.ran == keys(FOUR[:3])
    bench.run(FOUR, max_cells=3)
    assert bench.ran == keys(FOUR[3:])
    assert bench.events.told[0][:3] == ("start", 4, 3)


def test_a_failing_cell_is_recorded_and_the_run_goes_on(bench):
    bench.outcome = {FOUR[1].key: RuntimeError("no luck")}
    records = bench.run(FOUR)
    assert bench.ran == bench.tracked == keys(FOUR)
    assert [record.status for record in records] == ["ok", "failed", "ok", "ok"]
    assert records[1].reason == "RuntimeError: no luck"
    assert records[1].traceback.startswith("Traceback")
    assert "in run_cell" in records[1].traceback
    assert records[1].score is None
    assert bench.closed == [True]


def test_a_failed_cell_alone_is_tried_again(bench):
    bench.outcome = {FOUR[1].key: RuntimeError("no luck")}
    bench.run(FOUR)
    bench.outcome = {}
    records = bench.run(FOUR)
    assert bench.ran == bench.tracked == [FOUR[1].key]
    assert [record.status for record in records] == ["ok"] * 4


def test_fail_fast_ends_after_the_first_failure(bench):
    bench.outcome = {FOUR[1].key: RuntimeError("no luck")}
    records = bench.run(FOUR, fail_fast=True)
    assert bench.ran == keys(FOUR[:2])
    assert [record.status for record in records] == ["ok", "failed"]
    assert bench.closed == [True]


def test_a_skip_is_recorded_once_with_its_reason(bench):
    records = bench.run([SKIPPED, FOUR[0]])
    assert [(record.status, record.reason) for record in records] == [
        ("skipped", "no checkpoint. Train one."),
        ("ok", None),
    ]
    files = bench.files()
    bench.run([SKIPPED, FOUR[0], FOUR[1]], max_cells=1)
    assert bench.ran == bench.tracked == [FOUR[1].key]
    assert files.items() <= bench.files().items()


def test_a_skip_for_another_reason_is_recorded_anew(bench):
    bench.run([SKIPPED])
    known = HERE.known | {("mobilenetv2-small", "fashion-mnist"): Lookup(None, "it has changed.")}
    records = bench.run([replace(SKIPPED, inventory=Inventory(known))])
    assert [record.reason for record in records] == ["it has changed."]


def test_what_was_missing_and_came_is_run(bench):
    bench.run([SKIPPED])
    known = HERE.known | {("mobilenetv2-small", "fashion-mnist"): Lookup("c" * 64, None)}
    came = replace(SKIPPED, inventory=Inventory(known))
    assert [record.status for record in bench.run([came])] == ["ok"]
    assert came.key != SKIPPED.key


def test_a_bad_record_is_told_and_kept_and_its_cell_runs_again(bench):
    bench.run(FOUR)
    bad = record_path(bench.out, "tiny", FOUR[2].key)
    half = bad.read_text()[:300]
    for kept in (".bad", ".bad-2"):
        bad.write_text(half)
        planned = plan(FOUR, bench.out).rows
        assert [row.state for row in planned] == ["done", "done", "to do", "done"]
        fault = "not a record (it does not end as a record does: the checksum does not fit)"
        assert planned[2].reason == f"its record was {fault}"
        records = bench.run(FOUR)
        assert bench.ran == [FOUR[2].key]
        ((message,),) = bench.events.of("warn")
        assert message == f"{bad}: {fault}. It is kept as {bad.name}{kept}, and its cell runs again."
        assert bad.with_name(bad.name + kept).read_text() == half
        assert [record.status for record in records] == ["ok"] * 4
    bench.run(FOUR)
    assert bench.ran == bench.events.of("warn") == []


def test_a_whole_file_that_is_no_record_after_all_is_kept_and_its_cell_runs_next_time(bench):
    """What the checksum cannot tell: a program that writes nonsense, or somebody who makes a checksum to an edit."""
    bench.run(FOUR)
    bad = record_path(bench.out, "tiny", FOUR[2].key)
    edited = bad.read_text().replace('"metric": {', '"metrics": {')
    bad.write_bytes(sealed("{\n" + edited.partition("\n")[2].removesuffix("\n")))
    assert len(bench.run(FOUR)) == 3
    ((message,),) = bench.events.of("warn")
    assert message.startswith(f"{bad}: not a record (")
    assert len(bench.run(FOUR)) == 4
    assert bench.ran == [FOUR[2].key]


def test_a_bad_record_of_a_cell_that_cannot_run_is_kept_and_the_skip_recorded(bench):
    bad = record_path(bench.out, "tiny", SKIPPED.key)
    bad.parent.mkdir(parents=True)
    bad.write_text("half")
    assert [record.status for record in bench.run([SKIPPED])] == ["skipped"]
    assert bad.with_name(f"{bad.name}.bad").read_text() == "half"


def test_parts_of_killed_runs_are_deleted_and_nothing_else(bench):
    bench.run(FOUR[:1])
    program = "from benchmarks.owner import Owner; print(Owner.of_this_process())"
    root = Path(benchmarks.__file__).parents[1]
    owner = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True).stdout.strip()
    (bench.out / "tiny" / f"{FOUR[1].key}.json.{owner}.part").write_text("half")
    (bench.out / "tiny" / "notes.part").write_text("mine")
    bench.run(FOUR[:1])
    assert sorted(path.name for path in (bench.out / "tiny").iterdir()) == sorted([f"{FOUR[0].key}.json", "notes.part"])


def test_two_runs_on_one_folder_share_the_cells(bench, monkeypatch):
    """Two threads stand for two runs that know nothing of each other; each cell waits until both have begun one."""
    both = threading.Barrier(2, timeout=60)
    other = Bench(bench.out)
    run_by = threading.local()
    first_cells = iter([True, True])

    def run_cell(cell, context, report):
        run_by.bench.ran.append(cell.key)
        if next(first_cells, False):
            both.wait()
        return ok(cell)

    monkeypatch.setattr(benchmarks.cell, "run_cell", run_cell)
    monkeypatch.setattr(claims, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(dealing, "ASK_SECONDS", 0.01)
    records = {}

    def run(one):
        run_by.bench = one
        records[one] = one.run(FOUR)

    threads = [threading.Thread(target=run, args=(one,)) for one in (bench, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(bench.ran + other.ran) == sorted(keys(FOUR))
    assert bench.ran
    assert other.ran
    for one in (bench, other):
        assert [record.key for record in records[one]] == keys(FOUR)
        # Each is told of all cells, its own and the other's.
        assert sorted(key for key, _ in one.events.of("finished")) == sorted(keys(FOUR))
        assert one.events.of("started") == [(key,) for key in one.ran]
    assert not (bench.out / "tiny" / "claims").exists()


def test_a_cell_that_another_run_ended_meanwhile_is_not_run_even_where_it_failed(bench, monkeypatch):
    def run_cell(cell, context, report):
        write_record(bench.out, failed(FOUR[1]))
        return bench.run_cell(cell, context, report)

    monkeypatch.setattr(benchmarks.cell, "run_cell", run_cell)
    assert [record.status for record in bench.run(FOUR[:2])] == ["ok", "failed"]
    assert bench.ran == keys(FOUR[:1])


def test_a_run_waits_for_what_another_one_has_begun(bench, monkeypatch):
    claim = claims.Claims(bench.out / "tiny" / "claims").claim(FOUR[1].key)

    def sleep(_):
        write_record(bench.out, ok(FOUR[1]))
        claim.release()

    monkeypatch.setattr(dealing, "sleep", sleep)
    monkeypatch.setattr(dealing, "ASK_SECONDS", 0.01)
    assert len(bench.run(FOUR)) == 4
    assert bench.ran == keys([FOUR[0], *FOUR[2:]])
    ((message,),) = bench.events.of("warn")
    assert message.startswith(f"resnet8 W4A4 best-uniform: another run has begun it (process {os.getpid()} on ")


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interruption_passes_through_and_finished_work_stays(bench, interruption):
    bench.outcome = {FOUR[2].key: interruption()}
    with pytest.raises(interruption):
        bench.run(FOUR)
    assert [record.key for record in iterate_records(bench.out)] == sorted(keys(FOUR[:2]))
    # Tracking is not waited for.
    assert bench.closed == [False]
    assert bench.events.told[-1] == ("stop",)
    bench.outcome = {}
    assert len(bench.run(FOUR)) == 4
    assert bench.ran == keys(FOUR[2:])


def test_a_folder_that_cannot_be_written_ends_the_run(bench):
    bench.out.mkdir()
    (bench.out / "tiny").write_text("a file where the folder should be")
    with pytest.raises(OSError, match="tiny"):
        bench.run(FOUR)
    assert bench.closed == [False]
    assert bench.events.told[-1] == ("stop",)


def test_no_cells_are_no_work(bench):
    assert bench.run([]) == []
    assert bench.closed == []
    assert bench.events.told == [("start", 0, 0, 0), ("stop",)]


def test_processes_share_the_cells_and_the_first_one_tracks_all(bench, monkeypatch):
    """Two threads stand for two processes that meet."""
    barrier = threading.Barrier(2, timeout=60)

    shared = launch.RunStore(HashStore())

    class Together(Processes):
        def meet(self):
            barrier.wait()

        def store(self):
            return shared

    rank = threading.local()
    monkeypatch.setattr(launch, "join", lambda: Together(rank.number, 2, rank.number))
    other = Bench(bench.out)
    cells = [*FOUR, SKIPPED]

    def second():
        rank.number = 1
        other.run(cells)

    rank.number = 0
    thread = threading.Thread(target=second)
    thread.start()
    records = bench.run(cells)
    thread.join()
    assert sorted(record.key for record in records) == sorted(keys(cells))
    assert {record.processes for record in records} == {2}
    # One of the fakes stands in for run_cell in both.
    assert sorted(bench.ran) == sorted(keys(FOUR))
    assert sorted(bench.tracked) == sorted(keys(cells))
    assert (other.tracked, other.closed) == ([], [])
    assert sum(len(each.events.of("finished")) for each in (bench, other)) == 5


def test_a_process_that_begins_late_takes_what_is_left_of_what_the_others_planned(bench, monkeypatch):
    """As one that replaces a lost one does; the lost one had not yet said that a cell was done."""
    shared = launch.RunStore(HashStore())
    agreed(shared, [Job(cell.key) for cell in FOUR])
    write_record(bench.out, ok(FOUR[0]))
    before = bench.files()

    class Late(Processes):
        def store(self):
            return shared

    monkeypatch.setattr(launch, "join", lambda: Late(1, 2, 1))
    assert len(bench.run(FOUR)) == 4
    assert bench.ran == keys(FOUR[1:])
    assert before.items() <= bench.files().items()


LEARNED = {"weight_quantizers": ("lsq",), "activation_quantizers": ("lsq",), "budget": Budget(2, 64, 0.0)}
TRAINED = [replace(cell("dqss", seed=seed), mode="qat", **LEARNED) for seed in (0, 1)]


class Pair:
    """Two threads that stand for two processes of a run by `--parallel data`, on the same output folder."""

    def __init__(self, first: Bench, monkeypatch):
        self.benches = first, Bench(first.out)
        self.outcome: dict[tuple[int, str], Exception] = {}
        self.errors: dict[int, Exception] = {}
        self.ran = [], []
        barrier, words, self.rank = threading.Barrier(2, timeout=60), {}, threading.local()

        shared = launch.RunStore(HashStore())

        class Together(Processes):
            def gather(self):
                pass

            def store(self):
                return shared

            def meet(self):
                barrier.wait()

            def tell(self, word):
                words[self.rank] = word
                barrier.wait()
                told = [words[0], words[1]]
                barrier.wait()
                return told

        def run_cell(cell, context, report):
            rank = context.sharing.processes.rank
            self.ran[rank].append(cell.key)
            if (rank, cell.key) in self.outcome:
                raise self.outcome[rank, cell.key]
            return replaced(ok(cell), context.sharing.told(cell))

        monkeypatch.setattr(launch, "join", lambda: Together(self.rank.number, 2, self.rank.number))
        monkeypatch.setattr(benchmarks.cell, "run_cell", run_cell)

    def run(self, *cells, fail_fast=False):
        """Run the cells that are named for each process in both of them."""
        cells = cells * 2 if len(cells) == 1 else cells

        def one(rank):
            self.rank.number = rank
            bench = self.benches[rank]
            bench.events.out = bench.out
            try:
                run_cells(cells[rank], bench.out, bench.events, fail_fast=fail_fast, max_cells=None, parallel="data")
            except launch.LaunchError as error:
                self.errors[rank] = error

        threads = [threading.Thread(target=one, args=(rank,)) for rank in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = {record.key: record for record in iterate_records(self.benches[0].out)}
        return [found.get(cell.key) for cell in cells[0]]


def replaced(record, parallel):
    return record.model_copy(update={"parallel": parallel, "processes": 2})


@pytest.fixture
def pair(bench, monkeypatch):
    return Pair(bench, monkeypatch)


def test_processes_train_together_what_trains_and_deal_out_the_rest(pair):
    records = pair.run([*TRAINED, *FOUR])
    assert sorted(pair.ran[0][:-2] + pair.ran[1][:-2]) == sorted(keys(FOUR))
    assert pair.ran[0][-2:] == pair.ran[1][-2:] == keys(TRAINED)
    assert [(record.status, record.parallel) for record in records] == [("ok", "data")] * 2 + [("ok", "cells")] * 4
    # The first alone writes, tells and tracks what both have trained; it tracks what the other ran too.
    assert [key for key, _ in pair.benches[0].events.of("finished")] == pair.ran[0]
    assert [key for key, _ in pair.benches[1].events.of("finished")] == pair.ran[1][:-2]
    assert sorted(pair.benches[0].tracked) == sorted(keys([*TRAINED, *FOUR]))
    assert not pair.errors


def test_a_cell_that_fails_in_one_process_fails_in_both_and_they_go_on(pair):
    pair.outcome[1, TRAINED[0].key] = RuntimeError("no memory")
    records = pair.run(TRAINED)
    assert [(record.status, record.reason) for record in records] == [
        ("failed", "process 1: RuntimeError: no memory"),
        ("ok", None),
    ]
    assert pair.ran == (keys(TRAINED), keys(TRAINED))


def test_a_failure_in_one_process_ends_a_run_that_fails_fast_in_both(pair):
    pair.outcome[1, TRAINED[0].key] = RuntimeError("no memory")
    assert pair.run(TRAINED, fail_fast=True)[1] is None
    assert pair.ran == (keys(TRAINED[:1]), keys(TRAINED[:1]))


def test_a_failure_in_the_share_of_one_process_ends_a_run_that_fails_fast_before_the_others_train(pair):
    for rank in (0, 1):
        pair.outcome[rank, FOUR[1].key] = RuntimeError("no memory")
    pair.run([*FOUR[:2], *TRAINED], fail_fast=True)
    assert sorted(pair.ran[0] + pair.ran[1]) == sorted(keys(FOUR[:2]))
    assert not pair.errors


def test_processes_that_see_other_records_are_told_so(pair):
    pair.run(TRAINED, TRAINED[:1])
    assert pair.ran == ([], [])
    for rank in (0, 1):
        assert "a folder that all machines share" in str(pair.errors[rank])


@pytest.mark.parametrize("error", [launch.LaunchError("waited"), launch.GoneError("gone")])
def test_a_process_that_failed_alone_says_why_and_one_that_was_left_alone_does_not(bench, monkeypatch, error):
    class Lone(Processes):
        def meet(self):
            pass

        def store(self):
            return launch.RunStore(HashStore())

        def tell(self, word):
            if word.startswith("RuntimeError"):
                raise error
            return [word, word]

    monkeypatch.setattr(launch, "join", lambda: Lone(1, 2, 1))
    bench.outcome = {TRAINED[0].key: RuntimeError("no memory")}
    bench.events.out = bench.out
    with pytest.raises(type(error)):
        run_cells(TRAINED, bench.out, bench.events, fail_fast=False, max_cells=None, parallel="data")
    found = [(record.status, record.reason, record.parallel) for record in iterate_records(bench.out)]
    assert found == ([] if str(error) == "gone" else [("failed", "RuntimeError: no memory", "data")])
    assert bench.ran == keys(TRAINED[:1])


SUITE = """\
suite: tiny
version: 1
task: fashion-mnist
models: [resnet8]
bits: [W4A4]
protocol: all-layers
seeds: [0]
ptq:
  quantizers: {weight: [mse], activation: [mse]}
  methods: [uniform, random]
"""


@pytest.fixture
def suite(tmp_path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(SUITE)
    return path


def test_the_command_line_says_by_its_exit_code_that_cells_failed(bench, suite, capsys, monkeypatch):
    # The runner of the command line has a process of its own, which the fake does not reach.
    monkeypatch.setattr(runner, "Child", lambda sharing, out, log, timeout: runner.Inline(sharing, out))
    first, second = cells_of(load_suite(suite))
    bench.outcome = {first.key: RuntimeError("no luck")}
    command = ["run", str(suite), "--out", str(bench.out)]
    bench.events.out = bench.out
    assert cli.main(command) == 1
    shown = capsys.readouterr().out
    assert "failed: RuntimeError: no luck" in shown
    assert "Cells that failed: 1." in shown
    assert bench.ran == [first.key, second.key]
    bench.outcome = {}
    assert cli.main(command) == 0
    assert bench.ran == [first.key, second.key, first.key]


def test_a_second_run_imports_neither_torch_nor_mlflow(suite, tmp_path):
    out = tmp_path / "out"
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    environment["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", environment["MLFLOW_TRACKING_URI"])
        for each in cells_of(load_suite(suite)):
            path = write_record(out, ok(each))
            mark(path, out, "run", digest_of(path))
    before = {path: path.stat().st_mtime_ns for path in (out / "tiny").glob("*.json")}
    program = (
        "import json, sys\n"
        "from benchmarks.cli import main\n"
        "code = main(sys.argv[1:])\n"
        "print(json.dumps([code, sorted({'torch', 'mlflow', 'accelerate', 'optuna'} & set(sys.modules))]))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, "run", str(suite), "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
        env=environment | {"PYTHONPATH": str(Path(benchmarks.__file__).parents[1])},
    )
    assert ended.stderr == ""
    assert json.loads(ended.stdout.splitlines()[-1]) == [0, []]
    assert "2 cells, 2 done already" in ended.stdout
    assert {path: path.stat().st_mtime_ns for path in (out / "tiny").glob("*.json")} == before
