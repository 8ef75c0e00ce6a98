import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from benchmarks import console, progress
from benchmarks.records import MetricFacts, Record, key_of
from benchmarks.results import compare

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


def make_record(
    method,
    seed=None,
    score=None,
    *,
    status="ok",
    bits="W4A4",
    reason=None,
    full_precision=93.14,
    mode="ptq",
    validation=None,
):
    definition = {"bits": bits, "method": {"name": method}, "seed": seed}
    return Record(
        key=key_of(definition),
        definition=definition,
        suite="demo",
        suite_version=1,
        task="fashion-mnist",
        model="resnet8",
        bits=bits,
        mode=mode,
        protocol="all-layers",
        method=method,
        seed=seed,
        status=status,
        reason=reason,
        metric=MetricFacts(name="top-1", unit="%", difference_unit="points") if status == "ok" else None,
        score=score,
        validation_score=validation,
        full_precision_score=full_precision if status == "ok" else None,
        search_seconds=3.21 if status == "ok" else None,
        started="2024-01-01T00:00:00Z",
    )


@pytest.fixture
def terminal(monkeypatch):
    """Standard output as a terminal of 80 columns that can redraw."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    made = Terminal()
    # Between the phases of a test pytest puts its own stream back into sys.
    monkeypatch.setattr(console, "sys", SimpleNamespace(stdout=made))
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_INTERACTIVE", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    return made


def test_without_a_terminal_a_run_is_plain_lines(capsys):
    shown = console.progress()
    shown.start(3, 1, 75.0)
    assert capsys.readouterr().out == "3 cells, 1 done already; about 1 min 15 s to go\n"
    shown.cell_started(
        SimpleNamespace(model="resnet8", bits="W4A4", method="dqss", mode="ptq", seed=0, protocol="all-layers")
    )
    shown.stage("search", 1, 10)
    shown.cell_finished(make_record("dqss", 0, 91.234))
    shown.cell_finished(make_record("random", 1, status="failed", reason="RuntimeError:\n\x1b[31mred"))
    shown.warn("the server\nis away")
    shown.stop()
    out, err = capsys.readouterr()
    first, second = out.splitlines()
    assert first.split() == ["[2/3]", "resnet8", "W4A4", "dqss", "seed", "0", "91.23", "%", "3.2", "s"]
    assert second.split(" failed: ")[1] == "RuntimeError: [31mred"
    assert not CONTROL.search(out)
    assert err == "dqss-bench: the server is away\n"


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_that_cannot_redraw_gets_plain_lines(terminal, monkeypatch, term):
    monkeypatch.setenv("TERM", term)
    assert isinstance(console.progress(), progress.PlainProgress)


def test_a_forced_colour_does_not_make_a_pipe_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    console.print_comparisons(compare([make_record("best-uniform", None, 90.0), make_record("dqss", 0, 91.5)]))
    assert "\x1b" not in capsys.readouterr().out


def test_a_terminal_shows_both_bars_the_time_left_and_finished_cells(terminal):
    clock = SimpleNamespace(now=100.0)
    out = Console(file=terminal, force_terminal=True, width=80, height=24, markup=False, highlight=False)
    shown = console.LiveProgress(out, clock=lambda: clock.now)
    shown.start(4, 1, 90.0)
    shown.cell_started(
        SimpleNamespace(model="resnet8", bits="W4A4", method="dqss", mode="ptq", seed=0, protocol="all-layers")
    )
    shown.stage("search", 30, 200)
    clock.now = 130.0
    shown.cell_finished(make_record("dqss", 0, 91.234))
    shown.stop()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert "4 cells, 1 done already; about 1 min 30 s to go" in text
    assert "resnet8 W4A4 dqss seed 0: search" in text
    assert "30/200" in text
    assert re.search(r"dqss +seed 0 +91\.23 % +3\.2 s", text)
    # One of three cells took 30 s, and 90 s were expected for all three.
    assert re.search(r"2/4 +1 min 0 s left", text)


def test_no_color_takes_the_colours_only(terminal, monkeypatch):
    records = [make_record("best-uniform", None, 90.0), make_record("dqss", 0, 91.5)]
    console.print_comparisons(compare(records))
    assert "\x1b[1;32m" in terminal.getvalue()
    terminal.truncate(0)
    monkeypatch.setenv("NO_COLOR", "1")
    console.print_comparisons(compare(records))
    assert "+1.50" in terminal.getvalue()
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", terminal.getvalue())


def test_a_finished_run_draws_no_bar(terminal):
    shown = console.progress()
    assert isinstance(shown, console.LiveProgress)
    shown.start(4, 4, None)
    shown.stop()
    assert terminal.getvalue().strip() == "4 cells, 4 done already"


def test_the_comparison_names_every_method_its_gain_and_why_one_is_missing(capsys):
    records = [
        make_record("uniform-kl", None, status="failed", reason="boom [bold]\n\x1b[31m"),
        make_record("best-uniform", None, 90.0),
        make_record("dqss", 0, 88.0),
        make_record("dqss", 1, 89.0),
        make_record("dqss", 0, 92.5, bits="W8A8"),
        make_record("best-uniform", None, 92.0, bits="W8A8"),
    ]
    console.print_comparisons(compare(records))
    out = capsys.readouterr().out
    rows = {line.split("  ")[0].strip(): line.split() for line in out.splitlines()}
    assert "demo: resnet8 on fashion-mnist, PTQ, all-layers, top-1 in %, mean of 2 seeds" in out
    assert rows["full precision"] == ["full", "precision", "93.14", "93.14"]
    assert rows["best-uniform"] == ["best-uniform", "92.00", "3.2", "90.00", "3.2"]
    assert rows["dqss"] == ["dqss", "92.50", "+0.50", "3.2", "88.50", "-1.50", "3.2"]
    assert rows["uniform-kl"] == ["uniform-kl", "-", "failed", "[1]"]
    assert "[1] failed: boom [bold] [31m" in out
    assert not CONTROL.search(out)


def test_a_gain_that_rounds_to_nothing_has_no_sign(capsys):
    records = [make_record("best-uniform", None, 90.0), make_record("dqss", 0, 89.997)]
    console.print_comparisons(compare(records))
    (row,) = (line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("dqss "))
    assert row == ["dqss", "90.00", "0.00", "3.2"]


def test_a_narrow_terminal_gets_several_tables_and_no_cut_number(terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    bits = ["W8A8", "W4A8", "W4A4", "W2A2"]
    records = [make_record("uniform-percentile", None, 90.0 + i, bits=b) for i, b in enumerate(bits)]
    console.print_comparisons(compare(records))
    text = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())
    assert re.findall(r"9\d\.00", text) == ["90.00", "91.00", "92.00", "93.00"]
    assert text.count("uniform-percentile") > 1
    assert "…" not in text


@pytest.mark.parametrize(("columns", "tables"), [("80", [3, 2]), ("100", [3, 2]), ("160", [5])])
def test_five_bit_widths_fold_into_even_tables(terminal, monkeypatch, columns, tables):
    monkeypatch.setenv("COLUMNS", columns)
    names = ["uniform-percentile", "best-uniform", "coordinate-descent", "dqss"]
    bits = ["W8A8", "W6A6", "W4A8", "W4A4", "W3A3"]
    console.print_comparisons(compare([make_record(name, None, 90.0, bits=b) for name in names for b in bits]))
    lines = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue()).splitlines()
    assert [line.count("gain") for line in lines if line.lstrip().startswith("W")] == tables
    assert max(len(line.rstrip()) for line in lines if "dqss's gain" not in line) <= int(columns)


def test_a_file_gets_tables_of_a_hundred_columns_at_most(capsys):
    bits = ["W8A8", "W6A6", "W4A8", "W4A4", "W3A3"]
    console.print_comparisons(compare([make_record("coordinate-descent", None, 90.0, bits=b) for b in bits]))
    assert max(len(line.rstrip()) for line in capsys.readouterr().out.splitlines()) <= 100


def test_below_dqss_is_the_share_of_the_gap_closed_where_there_is_one(capsys):
    records = [make_record("best-uniform", None, 92.14), make_record("dqss", 0, 92.64)]
    records += [make_record("best-uniform", None, 93.1, bits="W8A8"), make_record("dqss", 0, 93.14, bits="W8A8")]
    console.print_comparisons(compare(records))
    lines = capsys.readouterr().out.splitlines()
    below = next(i for i, line in enumerate(lines) if line.startswith("dqss ")) + 1
    # At W4A4 half of the one point to 93.14; at W8A8 there is hardly a gap.
    assert lines[below].split() == ["gap", "closed", "50", "%"]


def test_a_method_that_the_first_bit_width_lacks_still_stands_above_dqss(capsys):
    records = [make_record("dqss", 0, 91.0, bits=bits) for bits in ("W8A8", "W4A4")] + [make_record("tpe", 0, 90.0)]
    console.print_comparisons(compare(records))
    firsts = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line[:4] in ("tpe ", "dqss")]
    assert firsts == ["tpe", "dqss"]


def test_texts_in_a_table_are_shown_as_they_are(capsys):
    console.print_table(["name", "n>"], [["[red]x[/red] :smile:", "1"]])
    assert "[red]x[/red] :smile:" in capsys.readouterr().out


def test_a_long_work_without_a_terminal_is_a_line_per_tenth(capsys):
    with console.reporting() as report:
        for done in range(1, 201):
            report(f"step {done}", done, 200)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "step 1: 1 of 200"
    assert lines[-1] == "step 200: 200 of 200"
    assert len(lines) == 11


def test_a_long_work_of_unknown_length_is_shown(capsys):
    with console.reporting() as report:
        report("fetch", 0, 0)
    assert capsys.readouterr().out == "fetch: 0 of 0\n"


def test_null_progress_says_nothing(capsys):
    shown = progress.NullProgress()
    shown.start(1, 0, None)
    shown.warn("x")
    shown.cell_finished(make_record("dqss", 0, 91.0))
    shown.stop()
    assert capsys.readouterr() == ("", "")


def test_full_precision_scores_that_differ_are_both_shown(capsys):
    records = [make_record("dqss", 0, 91.0), make_record("dqss", 1, 91.0, full_precision=92.5)]
    console.print_comparisons(compare(records))
    line = next(line for line in capsys.readouterr().out.splitlines() if "full precision" in line)
    assert line.split() == ["full", "precision", "92.50", "to", "93.14"]


def test_the_bar_of_training_is_marked_at_each_bit_width_and_explained(capsys):
    scores = {("uniform-lsq", "W4A4"): (90.0, 80.0), ("uniform-dsq", "W4A4"): (91.0, 70.0)}
    scores |= {("uniform-lsq", "W2A2"): (60.0, 50.0), ("uniform-dsq", "W2A2"): (70.0, 60.0)}
    scores |= {("dqss", bits): (92.5, 90.0) for bits in ("W4A4", "W2A2")}
    records = [
        make_record(method, 0, score, bits=bits, mode="qat", validation=validation)
        for (method, bits), (score, validation) in scores.items()
    ]
    console.print_comparisons(compare(records))
    printed = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in printed.splitlines() if line.split()}
    assert rows["uniform-lsq"] == ["90.00", "bar", "3.2", "60.00", "-10.00", "3.2"]
    assert rows["uniform-dsq"] == ["91.00", "+1.00", "3.2", "70.00", "bar", "3.2"]
    assert rows["dqss"] == ["92.50", "+2.50", "3.2", "92.50", "+22.50", "3.2"]
    assert "QAT gain: over the bar, the uniform algorithm with the best score on search-validation images" in printed
    assert "best-uniform" not in printed
