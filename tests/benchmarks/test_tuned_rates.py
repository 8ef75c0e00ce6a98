from dataclasses import replace
from statistics import median

import pytest
import torch

from benchmarks import cli
from benchmarks.cell import Context, run_cell
from benchmarks.launch import Processes
from benchmarks.parallel import Sharing
from benchmarks.suite import cells_of, load_suite
from benchmarks.tasks import fashion_mnist
from benchmarks.tasks.base import Split
from benchmarks.tuned_rates import Bench, Tuned, rates_of, snippet, tune
from benchmarks.tuning import Trialled
from dqss.schedule import Rates
from dqss.search.base import no_report

SUITE = """\
suite: tiny
version: 1
task: fashion-mnist
models: [resnet8]
bits: [W3A3, W2A2]
protocol: all-layers
seeds: [0]
qat:
  quantizers: {weight: [lsq, dorefa], activation: [lsq]}
  training: {epochs: 1, batch_size: 32}
  methods: [uniform-lsq: {network: 0.002}, dqss: {warm_up: 0.0, search: 0.5, start: best-uniform}]
"""
CPU = torch.device("cpu")


@pytest.fixture
def small(monkeypatch):
    """64 images to calibrate, 100 to train and 64 to validate on; a test image is an error."""
    whole, ids = fashion_mnist.FashionMnist.data, fashion_mnist.FashionMnist.ids
    counts = {Split.VALIDATION: 64, Split.FINE_TUNING: 100}

    def data(task, split):
        assert split is not Split.TEST
        images, labels = whole(task, split)
        return images[: counts.get(split)], labels[: counts.get(split)]

    monkeypatch.delenv("DQSS_CHECKPOINTS", raising=False)
    monkeypatch.setattr(fashion_mnist.FashionMnist, "data", data)
    monkeypatch.setattr(fashion_mnist.FashionMnist, "ids", lambda task, split: ids(task, split)[: counts.get(split)])
    monkeypatch.setattr(fashion_mnist, "CALIBRATION_SIZE", 64)


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(SUITE)
    return path


@pytest.fixture
def cells(suite):
    return cells_of(load_suite(suite))


@pytest.fixture
def scored(monkeypatch):
    """Trainings that never happen: the score falls with the distance of the network's rate from 0.005."""
    asked = []

    def score(bench, cell):
        asked.append((cell.method, cell.bits, dict(cell.options)))
        return 90.0 - 1000 * abs(cell.options.get("network", Rates().network) - 0.005)

    monkeypatch.setattr(Bench, "score", score)
    return asked


def test_a_trial_is_the_mean_of_the_validation_scores_of_its_cells_and_no_test_image_is_looked_at(
    small, suite, tmp_path, monkeypatch
):
    cells = [cell for cell in cells_of(load_suite(suite), [0, 1]) if cell.bits == "W2A2"]
    (lsq, dqss) = tune(cells, tmp_path / "out", 1, CPU, no_report)
    assert lsq.trials[0].values == {"network": 0.002, "quantizers": Rates().quantizers}
    assert set(dqss.trials[0].values) == {"network", "quantizers", "alpha"}
    # As a run of the suite measures it, which evaluates the test images too.
    untested = fashion_mnist.FashionMnist.data
    monkeypatch.setattr(
        fashion_mnist.FashionMnist,
        "data",
        lambda task, split: untested(task, Split.VALIDATION if split is Split.TEST else split),
    )
    context = Context(Sharing(Processes(0, 1, 0)))
    for tuned in (lsq, dqss):
        measured = [run_cell(c, context, no_report).validation_score for c in cells if c.method == tuned.method]
        assert tuned.best.score == pytest.approx(sum(measured) / 2)


def test_every_method_has_the_same_trials_and_begins_with_its_rates_as_they_are(scored, cells, tmp_path):
    tuned = tune(cells, tmp_path, 4, CPU, no_report)
    assert [(one.bits, one.method, len(one.trials)) for one in tuned] == [
        (bits, method, 4) for bits in ("W3A3", "W2A2") for method in ("uniform-lsq", "dqss")
    ]
    assert len(scored) == 2 * 4 * 2
    assert scored[0] == ("uniform-lsq", "W3A3", {"network": 0.002, "quantizers": Rates().quantizers})
    # What is not a rate stays as the suite has it.
    assert all(options["search"] == 0.5 for method, _, options in scored if method == "dqss")
    rates = [trial.values for one in tuned for trial in one.trials]
    assert all(0.001 <= each["network"] <= 0.1 and 0.001 <= each["quantizers"] <= 0.1 for each in rates)


def test_the_best_trial_is_the_one_with_the_highest_score_and_learning_goes_towards_it(scored, cells, tmp_path):
    tuned = tune([cells[0]], tmp_path, 25, CPU, no_report)[0]
    scores = [trial.score for trial in tuned.trials]
    assert tuned.best.score == max(scores) > 89.5
    assert tuned.options == tuned.best.values
    assert abs(tuned.best.values["network"] - 0.005) < 0.0005
    assert median(scores[-10:]) > median(scores[:10])


def test_a_repeat_goes_on_where_an_earlier_one_was_killed(scored, cells, tmp_path, monkeypatch):
    unbroken = tune(cells[:1], tmp_path / "unbroken", 8, CPU, no_report)
    score, calls = Bench.score, []

    def killed(bench, cell):
        calls.append(cell)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return score(bench, cell)

    with monkeypatch.context() as patch:
        patch.setattr(Bench, "score", killed)
        with pytest.raises(KeyboardInterrupt):
            tune(cells[:1], tmp_path / "broken", 8, CPU, no_report)
    scored.clear()
    assert tune(cells[:1], tmp_path / "broken", 8, CPU, no_report) == unbroken
    assert len(scored) == 8 - 3
    scored.clear()
    assert tune(cells[:1], tmp_path / "broken", 8, CPU, no_report) == unbroken
    assert scored == []


def test_trials_under_another_budget_are_others(scored, cells, tmp_path):
    tune(cells[:1], tmp_path, 2, CPU, no_report)
    scored.clear()
    longer = replace(cells[0], budget=replace(cells[0].budget, epochs=2))
    tune([longer], tmp_path, 2, CPU, no_report)
    assert len(scored) == 2


def test_rates_that_nothing_beats_stay_as_they_are(cells, tmp_path, monkeypatch):
    monkeypatch.setattr(Bench, "score", lambda bench, cell: 50.0)
    tuned = tune(cells, tmp_path, 3, CPU, no_report)
    assert [one.options for one in tuned] == 2 * [
        {"network": 0.002},
        {"warm_up": 0.0, "search": 0.5, "start": "best-uniform"},
    ]


def test_a_loss_that_is_not_finite_is_the_worst_score_and_other_faults_are_told(small, cells, monkeypatch):
    bench = Bench(CPU)
    monkeypatch.setattr(
        fashion_mnist.FashionMnist, "training_loss", lambda task, outputs, targets: outputs.sum() * float("nan")
    )
    assert bench.score(cells[0]) == 0.0
    with pytest.raises(ValueError, match="batch_size: 128 is more than"):
        bench.score(replace(cells[0], budget=replace(cells[0].budget, batch_size=128)))


def test_methods_have_the_rates_that_they_have_options_for(cells):
    assert rates_of(cells[0]) == {"network": 0.002, "quantizers": Rates().quantizers}
    searched = next(cell for cell in cells if cell.method == "dqss")
    assert rates_of(searched) == {"network": Rates().network, "quantizers": Rates().quantizers, "alpha": Rates().alpha}


def test_the_lines_for_the_suite_are_read_as_what_was_found(suite):
    trials = [Trialled({"network": 0.001}, 1.0)]
    found = {
        ("uniform-lsq", "W3A3"): {"network": 0.00123, "quantizers": 0.1},
        ("dqss", "W3A3"): {"search": 0.5},
        ("uniform-lsq", "W2A2"): {"network": 0.00005, "quantizers": 0.0000123},
        ("dqss", "W2A2"): {},
    }
    before = SUITE[: SUITE.index("  methods:")]
    suite.write_text(f"{before}{snippet([Tuned(*place, options, trials) for place, options in found.items()])}\n")
    assert {(cell.method, cell.bits): cell.options for cell in cells_of(load_suite(suite))} == found


def test_the_command_prints_scores_and_lines_for_the_suite(scored, suite, tmp_path, capsys):
    out = tmp_path / "out"
    assert (
        cli.main(["tune", str(suite), "--trials", "2", "--only", "method=uniform-lsq,bits=W2A2", "--out", str(out)])
        == 0
    )
    printed = capsys.readouterr().out
    assert "Mean score on search-validation over resnet8 W2A2; 2 trials of each method and bit-width." in printed
    assert "    - uniform-lsq:\n        W2A2: {network: " in printed
    assert len(list((out / "tiny" / "tuning").glob("uniform-lsq-*.journal"))) == 1


def test_a_suite_without_training_has_nothing_to_tune(capsys):
    assert cli.main(["tune", "classification"]) == 2
    assert "no cell of mode qat is chosen" in capsys.readouterr().err


def test_what_one_process_cannot_train_is_not_tuned(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("benchmarks.engine._installed", lambda name: True)
    path = tmp_path / "zero.yaml"
    path.write_text(SUITE.replace("batch_size: 32}", "batch_size: 32, zero: 2}"))
    assert cli.main(["tune", str(path), "--out", str(tmp_path / "out")]) == 2
    assert "qat: training: zero: 2 is not allowed in 1 process." in capsys.readouterr().err
