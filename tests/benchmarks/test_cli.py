import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import leaderboard.build
from benchmarks import cli, datasets, doctor, launch, listing, runner, schedule, tracking
from benchmarks.launch import Processes
from benchmarks.parallel import Sharing
from benchmarks.records import MetricFacts, Record, key_of, write_record
from benchmarks.suite import Cell, SuiteError, cells_of, load_suite
from dqss.spec import Protocol

HEAVY = {"torch", "mlflow", "pandas", "accelerate", "optuna"}
SUITE = """\
suite: tiny
version: 1
task: fashion-mnist
models: [resnet8]
bits: [W4A4]
protocol: all-layers
seeds: [0]
ptq:
  quantizers: {weight: [minmax, mse], activation: [minmax, mse]}
  methods: [uniform, best-uniform, dqss]
"""


def record_of(cell, score=90.0, status="ok", reason=None):
    # The tests' cells are told apart by their names; hashing the real files would only cost time.
    definition = {"method": cell.method, "bits": cell.bits, "seed": cell.seed}
    return Record(
        key=key_of(definition),
        definition=definition,
        suite=cell.suite,
        suite_version=1,
        task=cell.task,
        model=cell.model,
        bits=cell.bits,
        mode="ptq",
        protocol="all-layers",
        method=cell.method,
        seed=cell.seed,
        status=status,
        reason=reason,
        metric=MetricFacts(name="top-1", unit="%", difference_unit="points"),
        score=score if status == "ok" else None,
        search_seconds=1.0,
        started="2024-01-01T00:00:00Z",
    )


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(SUITE)
    return str(path)


@pytest.fixture
def stage(monkeypatch, tmp_path):
    """Stand-ins for what `run` calls: every cell ends well, the board is one file."""
    made = SimpleNamespace(calls=[], outcome={}, out=tmp_path / "out")

    def run_cells(cells, out, progress, *, runner_of, **options):
        ran_by = runner_of(Sharing(Processes(0, 1, 0), options["parallel"]), out)
        made.calls.append(SimpleNamespace(cells=cells, out=out, log=ran_by.log, timeout=ran_by.timeout, **options))
        max_cells = options["max_cells"]
        progress.start(len(cells), 0, None)
        records = []
        for cell in cells[:max_cells]:
            outcome = made.outcome.get(cell.method, 90.0)
            if isinstance(outcome, BaseException):
                raise outcome
            done = isinstance(outcome, float)
            record = record_of(cell, outcome) if done else record_of(cell, status="failed", reason=outcome)
            progress.cell_finished(record)
            records.append(record)
        return records

    def child(sharing, out, log, timeout):
        return SimpleNamespace(log=log, timeout=timeout)

    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr(schedule, "run_cells", run_cells)
    monkeypatch.setattr(runner, "Child", child)
    monkeypatch.setattr(tracking, "store_location", lambda out: f"sqlite:///{out}/mlflow.db")
    monkeypatch.setattr(tracking, "ui_command", lambda out: f"mlflow ui for {out}")
    monkeypatch.setattr(leaderboard.build, "build_site", lambda results, site: site / "index.html")
    return made


def test_shards_run_all_cells_of_the_suite_once(suite, stage):
    parts = []
    for index in (1, 2, 3):
        assert cli.main(["run", suite, "--out", str(stage.out), "--shard", f"{index}/3"]) == 0
        parts.append([cell.method for cell in stage.calls[-1].cells])
    assert [len(part) for part in parts] == [2, 1, 1]
    assert sorted(method for part in parts for method in part) == [
        "best-uniform",
        "dqss",
        "uniform-minmax",
        "uniform-mse",
    ]


def test_a_shard_without_cells_is_told_of(suite, stage, capsys):
    assert cli.main(["run", suite, "--out", str(stage.out), "--shard", "5/5"]) == 2
    assert "--shard: only 4 cells for 5 parts. Make fewer parts." in capsys.readouterr().err


def run_python(*arguments, **options):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, **options)


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["run"],
        ["plan"],
        ["status"],
        ["validate"],
        ["list"],
        ["results"],
        ["merge"],
        ["leaderboard"],
        ["leaderboard", "build"],
        ["data"],
        ["data", "list"],
        ["data", "fetch"],
        ["pretrain"],
        ["regret"],
        ["doctor"],
        ["sync"],
    ],
)
def test_every_help_shows_an_example_that_starts_with_the_command(command, capsys):
    assert cli.main([*command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"example:\n  {' '.join(['dqss-bench', *command])}" in shown


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["rnu"], "dqss-bench: no command 'rnu'. Did you mean 'run'? See `dqss-bench --help`."),
        (["data", "fecth", "x"], "dqss-bench data: no command 'fecth'. Did you mean 'fetch'?"),
        (["--verson"], "dqss-bench: no option '--verson'. Did you mean '--version'?"),
        (["run", "quickstart", "--seed", "0"], "dqss-bench run: no option '--seed'. Did you mean '--seeds'?"),
        (["run", "quickstart", "--out=x", "--onyl=a=b"], "no option '--onyl'. Did you mean '--only'?"),
        (["run", "quickstart", "more"], "'more' is one argument too many."),
        (["run"], "SUITE"),
        (["run", "quickstart", "--max-cells", "0"], "--max-cells: '0' is not a whole number from 1."),
        (["leaderboard", "serve", "--port", "-1"], "--port: '-1' is not a whole number from 0."),
        (
            ["run", "quickstart", "--shard", "3/2"],
            "--shard: '3/2' is not a part of the cells. Write i/n with i from 1 to n",
        ),
        (["run", "quickstart", "--seeds", "0,x"], "'x' is not a seed"),
        (["run", "quickstart", "--only", "method"], "'method' is not key=value"),
        (["run", "quickstart", "--only", "method=dqqs"], "Did you mean 'dqss'?"),
        (["run", "quickstar"], "Did you mean 'quickstart'?"),
        (["list", "quantizer"], "Did you mean 'quantizers'?"),
        (["results", "--format", "jsn"], "Did you mean 'json'?"),
        (["pretrain", "resnet9", "--task", "fashion-mnist"], "no model 'resnet9'. Did you mean 'resnet8'?"),
        (["data", "fetch", "fashon-mnist"], "Did you mean 'fashion-mnist'?"),
    ],
)
def test_bad_usage_is_one_line_with_the_nearest_name_and_exit_2(given, message, capsys):
    assert cli.main(given) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert err.startswith("dqss-bench")


@pytest.mark.parametrize("given", [[], ["data"], ["leaderboard"]])
def test_a_command_that_stops_halfway_gets_its_help_and_exit_2(given, capsys):
    assert cli.main(given) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "commands:" in err


def test_run_passes_its_options_on(stage, suite, monkeypatch, tmp_path):
    only = ["--only", "model=resnet8,method=dqss", "--only", "bits=W4A4"]
    out = ["--out", str(tmp_path / "deep" / "out")]
    others = [
        "--seeds",
        "3,4",
        "--max-cells",
        "5",
        "--fail-fast",
        "--parallel",
        "data",
        "--timeout",
        "60",
        "--retries",
        "2",
    ]
    assert cli.main(["run", suite, *out, *only, *others]) == 0
    (call,) = stage.calls
    assert [(cell.method, cell.seed) for cell in call.cells] == [("dqss", 3), ("dqss", 4)]
    assert (call.out, call.fail_fast, call.max_cells, call.parallel) == (tmp_path / "deep" / "out", True, 5, "data")
    assert (call.timeout, call.retries) == (60, 2)
    assert call.log.parent == tmp_path / "deep" / "out" / "tiny" / "logs"


def test_run_writes_to_results_unless_told(stage, suite, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", suite]) == 0
    (call,) = stage.calls
    assert (call.out, call.parallel, call.timeout, call.retries) == (Path("results"), "cells", None, None)


def test_run_ends_with_the_table_and_where_everything_is(stage, suite, capsys):
    stage.outcome = {"best-uniform": 90.0, "dqss": 89.25}
    assert cli.main(["run", suite, "--out", str(stage.out)]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0] == "4 cells, 0 done already"
    (dqss,) = (line.split() for line in lines if line.startswith("dqss"))
    assert dqss == ["dqss", "89.25", "-0.75", "1.0"]
    assert f"records  {stage.out}" in lines
    assert f"MLflow   sqlite:///{stage.out}/mlflow.db" in lines
    assert f"site     {stage.out / 'site' / 'index.html'}" in lines
    assert (stage.out / "site" / "index.html").resolve().as_uri() in out
    assert "\x1b" not in out


def test_a_failed_cell_is_exit_1_and_its_reason_is_shown(stage, suite, capsys):
    stage.outcome = {"dqss": "RuntimeError: boom"}
    assert cli.main(["run", suite, "--out", str(stage.out)]) == 1
    out = capsys.readouterr().out
    assert "failed: RuntimeError: boom" in out
    assert "Cells that failed: 1." in out


def test_cells_left_by_max_cells_are_named_with_the_command_that_goes_on(stage, suite, capsys):
    command = ["run", suite, "--out", str(stage.out), "--max-cells", "1"]
    assert cli.main(command) == 0
    assert f"Cells still to do: 3. `dqss-bench {' '.join(command)}` goes on" in capsys.readouterr().out


def test_ctrl_c_ends_with_one_line_and_130(stage, suite, capsys):
    stage.outcome = {"best-uniform": KeyboardInterrupt()}
    assert cli.main(["run", suite, "--out", str(stage.out)]) == 130
    out, err = capsys.readouterr()
    last = out.splitlines()[-1]
    assert last.startswith("Stopped.")
    assert f"`dqss-bench run {suite} --out {stage.out}` goes on where this run was." in last
    assert err == ""


def test_a_board_that_cannot_be_made_is_a_warning(stage, suite, capsys, monkeypatch):
    def build_site(results, site):
        raise leaderboard.build.BoardError("no record can be read")

    monkeypatch.setattr(leaderboard.build, "build_site", build_site)
    assert cli.main(["run", suite, "--out", str(stage.out)]) == 0
    assert capsys.readouterr().err == "dqss-bench: the leaderboard page was not made: no record can be read\n"
    assert cli.main(["leaderboard", "build", "--results", str(stage.out)]) == 2
    assert capsys.readouterr().err == "dqss-bench: no record can be read\n"


def test_an_output_folder_that_is_a_file_is_exit_2_before_any_work(stage, suite, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert cli.main(["run", suite, "--out", str(out)]) == 2
        err = capsys.readouterr().err
        assert str(out) in err
        assert "--out" in err
        assert err.count("\n") == 1
    assert stage.calls == []


def test_a_full_disk_is_one_line_and_exit_2(stage, suite, capsys):
    stage.outcome = {"dqss": OSError(28, "No space left on device", "x.json")}
    assert cli.main(["run", suite, "--out", str(stage.out)]) == 2
    assert capsys.readouterr().err == "dqss-bench: x.json: No space left on device.\n"


def test_a_fault_of_the_program_keeps_its_traceback(stage, suite):
    stage.outcome = {"dqss": ZeroDivisionError()}
    with pytest.raises(ZeroDivisionError):
        cli.main(["run", suite, "--out", str(stage.out)])


def test_processes_but_the_first_say_nothing(stage, suite, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert cli.main(["run", suite, "--out", str(stage.out)]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("words", "most"), [((), launch.MOST_REPLACED), (("--parallel", "data"), 0)])
def test_of_processes_that_train_together_none_is_replaced(stage, suite, monkeypatch, words, most):
    """It could not join the others' group again, and would wait for it."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    started = []
    monkeypatch.setattr(
        launch, "start", lambda count, words, most_replaced: started.append((count, most_replaced)) or 0
    )
    assert cli.main(["run", suite, "--out", str(stage.out), "--processes", "2", *words]) == 0
    assert started == [(2, most)]


def test_a_launcher_and_the_option_must_agree_on_the_number_of_processes(stage, suite, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli.main(["run", suite, "--out", str(stage.out), "--processes", "4"]) == 2
    assert "--processes: 4 is not allowed where a launcher has started 2 (WORLD_SIZE)." in capsys.readouterr().err
    assert cli.main(["run", suite, "--out", str(stage.out), "--processes", "2"]) == 0


def test_a_broken_suite_is_one_message_and_exit_2(capsys, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(SUITE.replace("resnet8", "resnet9"))
    for command in ("run", "plan", "validate"):
        assert cli.main([command, str(path)]) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"dqss-bench: {path}:4: ")
        assert "Did you mean 'resnet8'?" in err
        assert err.count("\n") == 1


def cell(method, seed=None):
    return Cell("tiny", 1, "t", "m", "W4A4", "ptq", "all-layers", Protocol(), method, {}, ("mse",), ("mse",), seed)


def test_plan_shows_states_reasons_and_the_expected_time(suite, capsys, monkeypatch, tmp_path):
    rows = [
        schedule.PlanRow(cell("uniform-mse"), "done", None, None),
        schedule.PlanRow(cell("random", 1), "skipped", "no checkpoint of m", None),
        schedule.PlanRow(cell("random", 2), "skipped", "no checkpoint of m", None),
        schedule.PlanRow(cell("dqss", 0), "to do", None, 75.0),
    ]
    monkeypatch.setattr(schedule, "plan", lambda cells, out: schedule.Plan(rows, 75.0))
    assert cli.main(["plan", suite, "--out", str(tmp_path / "never")]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["m", "W4A4", "random", "1", "skipped", "no", "checkpoint", "of", "m"] in lines
    assert ["m", "W4A4", "random", "2", "skipped", "as", "above"] in lines
    assert ["m", "W4A4", "dqss", "0", "to", "do", "1", "min", "15", "s"] in lines
    assert " ".join(lines[-1]) == "4 cells: 1 done, 1 to do, 2 skipped, 0 failed. Expected time: 1 min 15 s."
    assert not (tmp_path / "never").exists()


def test_plan_tells_how_long_several_processes_would_take(suite, capsys, monkeypatch, tmp_path):
    rows = [
        schedule.PlanRow(cell("uniform-mse"), "done", None, 500.0),
        schedule.PlanRow(cell("random", 1), "failed", "OSError: away", 75.0),
        schedule.PlanRow(cell("random", 2), "to do", None, 20.0),
        schedule.PlanRow(cell("random", 3), "to do", None, 30.0),
        schedule.PlanRow(cell("dqss", 0), "to do", None, 40.0),
    ]
    for expected, told in ((165.0, "1 min 55 s"), (None, "unknown before the first run")):
        planned = schedule.Plan(rows, expected)
        monkeypatch.setattr(schedule, "plan", lambda cells, out, planned=planned: planned)
        assert cli.main(["plan", suite, "--workers", "2", "--out", str(tmp_path / "never")]) == 0
        # 40 | 30 + 20, then the one that failed before on the first that is free: 40 + 75 | 50.
        last = capsys.readouterr().out.splitlines()[-1]
        assert last == f"By 2 processes, each with cells of its own, longest first: {told}."


def test_one_cell_is_counted_as_one(suite, capsys, tmp_path):
    assert cli.main(["plan", suite, "--only", "method=dqss", "--out", str(tmp_path / "never")]) == 0
    assert "\n1 cell: 0 done, 1 to do" in capsys.readouterr().out


def test_a_site_that_cannot_be_written_is_told_with_the_option_that_names_another(suite, capsys, tmp_path):
    write_record(tmp_path / "out", record_of(cells_of(load_suite(Path(suite)))[0]))
    site = tmp_path / "file"
    site.write_text("mine")
    assert cli.main(["leaderboard", "build", "--results", str(tmp_path / "out"), "--site", str(site)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"dqss-bench: cannot write the site to '{site}': ")
    assert err.endswith(". Name another folder with --site.\n")


@pytest.mark.parametrize("site", ["site", "out/site"])
def test_results_that_cannot_be_read_are_not_said_to_be_a_site_that_cannot_be_written(
    tmp_path, capsys, monkeypatch, site
):
    folder = tmp_path / "out" / "demo"
    folder.mkdir(parents=True)
    real = os.listdir

    def refusing(path):
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "listdir", refusing)
    arguments = ["leaderboard", "build", "--results", str(tmp_path / "out"), "--site", str(tmp_path / site)]
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err == f"dqss-bench: cannot read '{folder}' among the results: Permission denied.\n"


def test_validate_counts_the_cells_and_names_what_it_resolved(suite, capsys):
    assert cli.main(["validate", suite]) == 0
    out = capsys.readouterr().out
    assert f"{suite}: good, 4 cells." in out
    assert "uniform-minmax, uniform-mse, best-uniform, dqss" in out


def test_validate_refuses_a_suite_whose_files_are_missing(suite, capsys, monkeypatch):
    def check_embedded(name):
        raise datasets.MissingDataError(f"the images of {name} are not here.")

    monkeypatch.setattr(datasets, "check_embedded", check_embedded)
    assert cli.main(["validate", suite]) == 2
    assert "4 of 4 cells cannot run. the images of fashion-mnist are not here." in capsys.readouterr().err


@pytest.mark.parametrize("kind", listing.KINDS)
def test_list_says_what_each_name_is(kind, capsys):
    assert cli.main(["list", kind, "--format", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed
    assert all(line["name"] and line["description"].endswith((".", "?")) for line in listed)
    assert cli.main(["list", kind]) == 0
    table = capsys.readouterr().out
    assert all(line["name"] in table for line in listed)


def test_list_tells_apart_models_that_share_a_file(capsys):
    cli.main(["list", "models", "--format", "json"])
    texts = {line["name"]: line["description"] for line in json.loads(capsys.readouterr().out)}
    assert texts["resnet8"] != texts["resnet20"]


def test_results_prints_json_and_nothing_else_on_standard_output(capsys, tmp_path):
    record = record_of(cell("dqss", 0), 91.5)
    write_record(tmp_path, record)
    (tmp_path / "tiny" / f"{'0' * 64}.json").write_text("{")
    assert cli.main(["results", "--out", str(tmp_path), "--format", "json"]) == 0
    out, err = capsys.readouterr()
    assert [(row["key"], row["score"]) for row in json.loads(out)] == [(record.key, 91.5)]
    assert "0000.json" in err


def test_results_in_table_and_csv(capsys, tmp_path):
    write_record(tmp_path, record_of(cell("dqss", 0), 91.5))
    write_record(tmp_path, record_of(cell("best-uniform"), 90.0))
    assert cli.main(["results", "--out", str(tmp_path), "--suite", "tiny"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["tiny", "m", "W4A4", "dqss", "0", "ok", "91.50", "1.0"] in lines
    assert ["dqss", "91.50", "+1.50", "1.0"] in lines
    assert cli.main(["results", "--out", str(tmp_path), "--format", "csv"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.startswith("key,suite,")
    assert len(rows) == 2


def test_results_of_an_unknown_suite_names_those_there(capsys, tmp_path):
    write_record(tmp_path, record_of(cell("dqss", 0)))
    assert cli.main(["results", "--out", str(tmp_path), "--suite", "other"]) == 2
    assert "no records of suite 'other'" in (err := capsys.readouterr().err)
    assert "Allowed: tiny." in err


def test_results_of_an_empty_folder_is_an_empty_list(capsys, tmp_path):
    assert cli.main(["results", "--out", str(tmp_path), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_the_site_goes_below_the_records_unless_told(capsys, monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(leaderboard.build, "build_site", lambda *given: calls.append(given) or given[1] / "index.html")
    assert cli.main(["leaderboard", "build", "--results", str(tmp_path)]) == 0
    assert cli.main(["leaderboard", "build", "--results", str(tmp_path), "--site", str(tmp_path / "s")]) == 0
    assert calls == [(tmp_path, tmp_path / "site"), (tmp_path, tmp_path / "s")]
    assert str(tmp_path / "s" / "index.html") in capsys.readouterr().out


def test_without_a_folder_of_results_the_board_is_the_official_one(capsys, monkeypatch, tmp_path):
    calls = []
    monkeypatch.chdir(tmp_path)

    def build_site(results: Path, site: Path, *, submissions: Path) -> Path:
        calls.append((results, site, submissions))
        return site / "index.html"

    monkeypatch.setattr(leaderboard.build, "build_site", build_site)
    monkeypatch.setattr(leaderboard.build, "OFFICIAL", tmp_path / "official")
    assert cli.main(["leaderboard", "build"]) == 2
    assert "there are no official results" in capsys.readouterr().err
    (tmp_path / "official").mkdir()
    (tmp_path / "results").mkdir()
    assert cli.main(["leaderboard", "build"]) == 0
    assert calls == [(tmp_path / "official", Path("site"), leaderboard.build.SUBMISSIONS)]
    # Whoever expected their own runs is told how to see them.
    assert "`--results results`" in capsys.readouterr().out


def test_doctor_says_how_to_mend_and_ends_with_1(capsys, monkeypatch):
    checks = [doctor.Check("python", True, "3.11.7"), doctor.Check("torch", False, "not here", "Install torch.")]
    monkeypatch.setattr(doctor, "examine", lambda out: checks)
    assert cli.main(["doctor"]) == 1
    assert "mend: Install torch." in capsys.readouterr().out
    monkeypatch.setattr(doctor, "examine", lambda out: checks[:1])
    assert cli.main(["doctor"]) == 0


@pytest.mark.parametrize(("failed", "reason", "code"), [(0, None, 0), (2, "the server is away", 1)])
def test_sync_tells_what_it_did(failed, reason, code, stage, capsys, monkeypatch, tmp_path):
    write_record(tmp_path, record_of(cell("dqss", 0)))
    monkeypatch.setattr(tracking, "sync", lambda out, suite, report: tracking.SyncResult(3, 1, failed, reason))
    assert cli.main(["sync", "--out", str(tmp_path)]) == code
    out, err = capsys.readouterr()
    assert f"logged 3, already there 1, failed {failed}" in out
    assert err == (f"dqss-bench: {reason}\n" if reason else "")


def test_data_fetch_says_where_the_files_are(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(datasets, "fetch", lambda name, dest, report: dest)
    assert cli.main(["data", "fetch", "fashion-mnist", "--dest", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith(f"fashion-mnist is in {tmp_path}\n")


def test_a_fetch_that_fails_is_exit_2(capsys, monkeypatch):
    def fetch(name, dest, report):
        raise datasets.FetchError("every source failed.")

    monkeypatch.setattr(datasets, "fetch", fetch)
    assert cli.main(["data", "fetch", "fashion-mnist"]) == 2
    assert capsys.readouterr().err == "dqss-bench: every source failed.\n"


def test_data_list_names_every_data_set(capsys):
    assert cli.main(["data", "list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in datasets.DATASETS)


def test_an_interrupt_anywhere_else_is_130(capsys, monkeypatch):
    def load_suite(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("benchmarks.suite.load_suite", load_suite)
    assert cli.main(["validate", "quickstart"]) == 130
    assert capsys.readouterr().err == "dqss-bench: interrupted.\n"


def test_a_message_over_several_lines_becomes_one(capsys, monkeypatch):
    def load_suite(path):
        raise SuiteError("a\n  b")

    monkeypatch.setattr("benchmarks.suite.load_suite", load_suite)
    assert cli.main(["validate", "quickstart"]) == 2
    assert capsys.readouterr().err == "dqss-bench: a b\n"


@pytest.mark.parametrize(
    "given",
    [
        ["--help"],
        ["run", "--help"],
        ["validate", "quickstart"],
        ["plan", "quickstart"],
        ["list", "models"],
        ["results"],
    ],
)
def test_what_must_answer_at_once_imports_nothing_heavy(given, tmp_path):
    program = f"import sys; from benchmarks.cli import main; main({given!r}); print(*sys.modules, file=sys.stderr)"
    root = str(Path(cli.__file__).parents[1])
    done = run_python("-c", program, cwd=tmp_path, env={**os.environ, "PYTHONPATH": root})
    loaded = set(done.stderr.splitlines()[-1].split())
    assert "benchmarks.cli" in loaded
    assert not loaded & HEAVY
    if "--help" in given:
        assert not loaded & {"pydantic", "numpy", "rich"}


def test_python_m_benchmarks_is_the_same_program(tmp_path):
    root = str(Path(cli.__file__).parents[1])
    done = run_python("-m", "benchmarks", "rnu", cwd=tmp_path, env={**os.environ, "PYTHONPATH": root})
    assert done.returncode == 2
    assert done.stderr.startswith("dqss-bench: no command 'rnu'.")


@pytest.mark.parametrize("given", [["list", "models"], ["list", "models", "--format", "json"]])
def test_a_reader_that_goes_away_is_no_traceback(given, tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    root = str(Path(cli.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *given],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert done.returncode == 141
    assert done.stderr == ""
