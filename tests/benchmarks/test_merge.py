import errno
import json
import os
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import cli, merge, storage
from benchmarks.markers import untracked
from benchmarks.merge import MergeError
from benchmarks.records import MetricFacts, Record, key_of, read_record, record_path, write_record
from benchmarks.storage import StorageError


def a_record(seed=0, status="ok", score=90.0, started="2030-01-02T03:04:05+00:00", suite="tiny"):
    definition = {"seed": seed}
    return Record(
        key=key_of(definition),
        definition=definition,
        suite=suite,
        suite_version=1,
        task="fashion-mnist",
        model="resnet8",
        bits="W4A4",
        mode="ptq",
        protocol="all-layers",
        method="dqss",
        seed=seed,
        status=status,
        reason=None if status == "ok" else "out of luck",
        metric=MetricFacts(name="top-1", unit="%", difference_unit="points") if status == "ok" else None,
        score=score if status == "ok" else None,
        started=started,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def folders(tmp_path):
    """Three shards of a suite, two records each, and one of another suite."""
    made = [tmp_path / f"shard-{number}" for number in range(3)]
    for number, folder in enumerate(made):
        for seed in (number, number + 3):
            write_record(folder, a_record(seed))
    write_record(made[2], a_record(0, suite="other"))
    return made


def test_shards_come_together_byte_for_byte_and_stay_as_they_are(folders, tmp_path):
    before = [contents(folder) for folder in folders]
    done = merge.merge(folders, tmp_path / "all", pytest.fail)
    assert (done.copied, done.already, done.replaced, done.left, done.twice, done.bad) == (7, 0, 0, 0, 0, 0)
    assert contents(tmp_path / "all") == {name: text for found in before for name, text in found.items()}
    assert [contents(folder) for folder in folders] == before


def test_the_same_merge_again_changes_nothing(folders, tmp_path):
    merge.merge(folders, tmp_path / "all", pytest.fail)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "all").rglob("*.json")}
    done = merge.merge(folders, tmp_path / "all", pytest.fail)
    assert (done.copied, done.already) == (0, 7)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "all").rglob("*.json")} == stamps


def test_one_cell_run_alike_in_two_folders_is_there_once(tmp_path):
    for name in ("a", "b"):
        write_record(tmp_path / name, a_record())
    done = merge.merge([tmp_path / "a", tmp_path / "b"], tmp_path / "all", pytest.fail)
    assert (done.copied, done.already, done.twice) == (1, 1, 0)


EARLY, LATE = "2030-01-01T00:00:00+00:00", "2030-01-02T00:00:00+00:00"


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (a_record(started=LATE), a_record(status="failed", started=EARLY)),
        (a_record(started=LATE), a_record(status="skipped", started=EARLY)),
        (a_record(status="failed", started=LATE), a_record(status="skipped", started=EARLY)),
        (a_record(started=EARLY, score=1.0), a_record(started=LATE, score=99.0)),
        (a_record(status="failed", started=EARLY), a_record(status="failed", started=LATE)),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("already", [False, True])
def test_of_two_records_of_a_cell_the_better_stays_wherever_it_is(better, worse, turned, already, tmp_path):
    first, second = (worse, better) if turned else (better, worse)
    out = tmp_path / "all"
    write_record(out if already else tmp_path / "a", first)
    write_record(tmp_path / "b", second)
    told = []
    done = merge.merge([tmp_path / "b"] if already else [tmp_path / "a", tmp_path / "b"], out, told.append)
    assert read_record(record_path(out, "tiny", better.key)) == better
    assert (done.replaced, done.left) == ((1, 0) if turned else (0, 1))
    both_good = better.status == worse.status == "ok"
    assert done.twice == len(told) == int(both_good)
    if both_good:
        assert f"that of {EARLY} (score 1, " in told[0]
        assert f"that of {LATE} (score 99, " in told[0]


CHANGES = st.tuples(
    st.integers(0, 1), st.sampled_from(["ok", "failed", "skipped"]), st.sampled_from([EARLY, LATE]), st.integers(1, 2)
)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(CHANGES, min_size=1, max_size=2), min_size=2, max_size=3))
def test_neither_the_order_of_the_folders_nor_merging_step_by_step_changes_the_end(tmp_path_factory, given_folders):
    place = tmp_path_factory.mktemp("orders")
    folders = [place / f"in-{number}" for number in range(len(given_folders))]
    for folder, records in zip(folders, given_folders, strict=True):
        for seed, status, started, score in records:
            write_record(folder, a_record(seed, status, float(score), started))
    ends = []
    for number, order in enumerate(permutations(folders)):
        whole, steps = place / f"whole-{number}", place / f"steps-{number}"
        merge.merge(order, whole, lambda text: None)
        for folder in order:
            merge.merge([folder], steps, lambda text: None)
        ends += [contents(whole), contents(steps)]
    assert all(end == ends[0] for end in ends)


def test_bad_records_are_named_and_left_out_and_the_rest_is_merged(folders, tmp_path, capsys):
    cut = record_path(folders[0], "tiny", a_record(0).key)
    cut.write_bytes(cut.read_bytes()[:-40])
    strange = folders[1] / "elsewhere"
    strange.mkdir()
    astray = strange / f"{a_record(1).key}.json"
    astray.write_bytes(record_path(folders[1], "tiny", a_record(1).key).read_bytes())
    command = ["merge", *map(str, folders), "-o", str(tmp_path / "all")]
    assert cli.main(command) == 1
    shown = capsys.readouterr()
    assert f"{cut}: not a record (it does not end as a record does: the checksum does not fit). It is left out." in (
        shown.err
    )
    assert f"{astray}: it is of suite 'tiny' and stands in the folder of another. It is left out." in shown.err
    assert f"{tmp_path / 'all'}: 6 new, 0 there already" in shown.out
    assert "2 bad and left out" in shown.out
    assert not record_path(tmp_path / "all", "tiny", a_record(0).key).exists()
    assert cut.exists()


def test_a_bad_record_that_is_there_already_gives_way_and_is_kept_beside(folders, tmp_path):
    target = record_path(tmp_path / "all", "tiny", a_record(0).key)
    target.parent.mkdir(parents=True)
    target.write_text("{}")
    told = []
    merge.merge(folders, tmp_path / "all", told.append)
    assert read_record(target) == a_record(0)
    assert target.with_name(f"{target.name}.bad").read_text() == "{}"
    assert told == [f"{target}: not a record (it does not begin as a record does). It is kept as {target.name}.bad."]


def test_a_merge_that_the_disk_ends_leaves_whole_records_and_the_next_one_does_the_rest(folders, tmp_path, monkeypatch):
    replace, done = Path.replace, []

    def full(self, target):
        if len(done) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done.append(target)
        return replace(self, target)

    monkeypatch.setattr(storage.Path, "replace", full)
    with pytest.raises(StorageError, match="No space left on device"):
        merge.merge(folders, tmp_path / "all", pytest.fail)
    monkeypatch.undo()
    left = [path for path in (tmp_path / "all").rglob("*") if path.is_file()]
    assert len(left) == 3
    assert all(isinstance(read_record(path), Record) for path in left)
    assert merge.merge(folders, tmp_path / "all", pytest.fail).copied == 4


def test_the_next_run_logs_what_was_merged(folders, tmp_path):
    out = tmp_path / "all"
    merge.merge(folders, out, pytest.fail)
    assert sorted(untracked(out, "tiny")) == sorted((out / "tiny").glob("*.json"))


def test_folders_that_cannot_be_merged_are_refused_and_nothing_is_written(folders, tmp_path):
    one = folders[0]
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(one)
    before = contents(tmp_path)
    for chosen, out, fault in [
        ([tmp_path / "none"], tmp_path / "all", "no folder '.*none'"),
        ([tmp_path / "empty"], tmp_path / "all", "no records in '.*empty'. Name the output folder of a run"),
        ([one / "tiny"], tmp_path / "all", "It is the folder of one suite: name '.*shard-0'"),
        ([one], one, "is the folder to merge into. Leave it out"),
        ([tmp_path / "link"], one, "is the folder to merge into. Leave it out"),
        ([one], one / "all", "'.*all' is inside '.*shard-0'"),
        ([one], tmp_path, "'.*shard-0' is inside"),
        ([one, tmp_path / "link"], tmp_path / "all", "is named more than once"),
        ([folders[1], tmp_path / "none"], tmp_path / "all", "no folder"),
    ]:
        with pytest.raises(MergeError, match=fault):
            merge.merge(chosen, out, pytest.fail)
    assert contents(tmp_path) == before


def test_the_command_counts_what_it_did_and_tells_of_bad_usage_in_a_line(folders, tmp_path, capsys):
    out = tmp_path / "all"
    assert cli.main(["merge", *map(str, folders), "--out", str(out)]) == 0
    shown = capsys.readouterr()
    assert f"{out}: 7 new, 0 there already, 0 times the better" in shown.out
    assert f"dqss-bench sync --out {out}" in shown.out
    assert cli.main(["merge", str(out), "--out", str(out)]) == 2
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert shown.err.startswith("dqss-bench: ")
    assert cli.main(["merge"]) == 2
    assert json.loads(record_path(out, "tiny", a_record(0).key).read_text())["seed"] == 0
