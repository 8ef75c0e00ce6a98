import math
from dataclasses import replace

import numpy
import pytest
import torch
from torch.nn import functional as F

from benchmarks.cell import Context, run_cell
from benchmarks.cell_qat import fine_tuning, steps_of, trained
from benchmarks.launch import Processes
from benchmarks.meter import Meter
from benchmarks.parallel import Sharing
from benchmarks.progress import NullProgress
from benchmarks.schedule import run_cells
from benchmarks.suite import Budget, cells_of, load_suite
from benchmarks.tasks import TASKS, fashion_mnist
from benchmarks.tasks.base import Split
from dqss.search.base import no_report

SUITE = """\
suite: tiny
version: 1
task: fashion-mnist
models: [resnet8]
bits: [W2A2]
protocol: academic
seeds: [3]
qat:
  quantizers: {weight: [lsq, dorefa], activation: [lsq, pact]}
  training: {epochs: 1, batch_size: 32}
  methods: [uniform-lsq, uniform-pact, dqss: {warm_up: 0.0, search: 0.5, start: best-uniform}]
"""
MEASURED = {"started", "calibration_seconds", "search_seconds", "evaluation_seconds", "peak_memory_mb"}
ALONE = Processes(0, 1, 0)
FINE_TUNING, STEPS = 200, 6


@pytest.fixture(scope="module")
def small():
    """128 images to calibrate, 200 to train, 64 to validate and 200 to test on."""
    whole = fashion_mnist.FashionMnist.data
    counts = {Split.TEST: 200, Split.VALIDATION: 64, Split.FINE_TUNING: FINE_TUNING}
    ids = fashion_mnist.FashionMnist.ids

    def data(task, split):
        images, labels = whole(task, split)
        return images[: counts.get(split)], labels[: counts.get(split)]

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DQSS_CHECKPOINTS", raising=False)
        patch.setattr(fashion_mnist.FashionMnist, "data", data)
        patch.setattr(fashion_mnist.FashionMnist, "ids", lambda task, split: ids(task, split)[: counts.get(split)])
        patch.setattr(fashion_mnist, "CALIBRATION_SIZE", 128)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    path = tmp_path_factory.mktemp("suite") / "tiny.yaml"
    path.write_text(SUITE)
    return {cell.method: cell for cell in cells_of(load_suite(path))}


@pytest.fixture(scope="module")
def records(small, cells):
    context = Context(Sharing(ALONE))
    return {name: run_cell(cell, context, no_report) for name, cell in cells.items()}


def test_the_record_says_what_was_trained_and_for_how_long(records, cells):
    calibrated = Context(Sharing(ALONE)).subject(cells["dqss"], no_report).calibrated
    for name, cell in cells.items():
        record = records[name]
        assert (record.key, record.definition, record.status) == (cell.key, cell.definition, "ok")
        assert (record.mode, record.method, record.seed) == ("qat", name, 3)
        assert record.definition["training"] == {"epochs": 1, "batch_size": 32, "distillation": 0.0}
        # 200 images are six full batches of 32; forward, and backward as two. Before them the ranges are found.
        start, _ = calibrated.start("W2A2", "best-uniform", 3, no_report)
        assert record.forward_passes == start.forward_passes + STEPS * 32 * 3
        assert {layer: (c.weight, c.activation) for layer, c in record.start.items()} == {
            layer: (c.weight, c.activation) for layer, c in start.strategy.layers.items()
        }
        assert set(record.curves) == {"loss", "entropy"}
        assert len(record.curves["loss"]) == len(record.curves["entropy"]) == STEPS
        assert record.search_seconds > 0
        assert (record.calibration_loss, record.relaxed_loss) == (None, None)
        assert record.outcomes.count == 200
        assert record.score == pytest.approx(100 * record.outcomes.unpack().mean())
        # Of 64 images: a multiple of 100 / 64.
        assert record.validation_score * 64 / 100 == pytest.approx(round(record.validation_score * 64 / 100))
        assert record.size_bytes > 0
        assert record.bops > 0


def test_ids_of_the_images_that_it_learned_from_are_in_the_record_and_apart_from_validation_and_test(records):
    ids = records["dqss"].ids
    assert set(ids) == {"train", "fine-tuning", "calibration", "search-validation", "test"}
    assert len(ids["fine-tuning"]) == FINE_TUNING
    assert not set(ids["fine-tuning"]) & set(ids["search-validation"])


def test_strategies_name_the_algorithms_that_did_the_work(records):
    for name, pair in (("uniform-lsq", ("lsq", "lsq")), ("uniform-pact", ("dorefa", "pact"))):
        strategy = records[name].strategy
        assert {(choice.weight, choice.activation) for choice in strategy.values()} == {pair}
        assert [choice.bits for choice in strategy.values()][:2] == ["W8A8", "W2A2"]
        assert all(facts.alpha_weight is None for facts in records[name].layers.values())
    for name, choice in records["dqss"].strategy.items():
        facts = records["dqss"].layers[name]
        assert choice.weight == ("lsq", "dorefa")[int(numpy.argmax(facts.alpha_weight))]
        assert choice.activation == ("lsq", "pact")[int(numpy.argmax(facts.alpha_activation))]
        assert facts.entropy_weight == pytest.approx(torch.special.entr(torch.tensor(facts.alpha_weight)).sum().item())


def test_the_first_step_has_the_loss_of_the_first_batch_of_the_seed(records, cells):
    """Worked out from the first batch of epoch 0, with weights and inputs quantized as they begin, by hand for LSQ."""
    task = TASKS.create("fashion-mnist")
    cell = cells["uniform-lsq"]
    context = Context(Sharing(ALONE))
    calibrated = context.subject(cell, no_report).calibrated
    inputs, targets = next(iter(fine_tuning(task, cell.budget, 3, torch.device("cpu"))(0)))
    from dqss.supernet import activation_algorithms, supernet_of, weight_algorithms

    supernet = supernet_of(
        calibrated.at("W2A2"),
        calibrated.calibration,
        calibrated.start("W2A2", "best-uniform", 3, no_report)[0].strategy,
        weight_algorithms(["lsq"]),
        activation_algorithms(["lsq"]),
    )
    with torch.no_grad():
        loss = F.cross_entropy(supernet.model.eval()(inputs), targets, label_smoothing=0.05)
    assert records["uniform-lsq"].curves["loss"][0] == pytest.approx(loss.item(), rel=1e-4)


def test_every_method_of_a_seed_sees_the_same_batches_and_another_seed_others(small):
    task, budget = TASKS.create("fashion-mnist"), Budget(1, 32, 0.0)
    first, again, other = (
        [targets.tolist() for _, targets in fine_tuning(task, budget, seed, torch.device("cpu"))(0)]
        for seed in (0, 0, 1)
    )
    assert first == again != other
    assert len(first) == steps_of(task, budget) == STEPS


def test_a_cell_gives_the_same_whatever_ran_before_it(small, cells, records):
    alone = run_cell(cells["dqss"], Context(Sharing(ALONE)), no_report)
    assert alone.model_dump(exclude=MEASURED) == records["dqss"].model_dump(exclude=MEASURED)


def test_distillation_asks_the_full_precision_model_about_every_image(small, cells, records):
    cell = replace(cells["uniform-lsq"], budget=Budget(1, 32, 1.0))
    record = run_cell(cell, Context(Sharing(ALONE)), no_report)
    assert record.forward_passes - records["uniform-lsq"].forward_passes == STEPS * 32
    # Divergence from a model that is right most of the time, not cross-entropy with smoothed labels.
    assert record.curves["loss"] != pytest.approx(
        run_cell(cells["uniform-lsq"], Context(Sharing(ALONE)), no_report).curves["loss"]
    )


def test_a_loss_that_is_not_finite_fails_its_cell_and_the_suite_goes_on(small, cells, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    loss, calls = fashion_mnist.FashionMnist.training_loss, []

    def broken_once(task, outputs, targets):
        calls.append(len(outputs))
        return loss(task, outputs, targets) * (math.nan if len(calls) == 3 else 1.0)

    monkeypatch.setattr(fashion_mnist.FashionMnist, "training_loss", broken_once)
    found = run_cells(
        [cells["uniform-lsq"], cells["uniform-pact"]], tmp_path, NullProgress(), fail_fast=False, max_cells=None
    )
    assert [record.status for record in found] == ["failed", "ok"]
    assert f"loss: nan in step 3 of {STEPS}" in found[0].reason
    assert "Lower the rates" in found[0].reason
    assert math.isfinite(found[1].score)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (Budget(1, 201, 0.0), r"batch_size: 201 is more than the 200 fine-tuning images of fashion-mnist"),
        (Budget(1, 200, 0.0), r"steps: 1 is not allowed, since search \(0\.5\) of them is no whole step"),
    ],
)
def test_a_budget_without_a_step_for_alpha_is_refused(budget, message, small, cells):
    calibrated = Context(Sharing(ALONE)).subject(cells["dqss"], no_report).calibrated
    with pytest.raises(ValueError, match=message):
        trained(replace(cells["dqss"], budget=budget), calibrated, no_report)


def test_a_budget_that_cannot_be_is_refused_before_ranges_are_searched(small, cells):
    context = Context(Sharing(ALONE))
    with pytest.raises(ValueError, match=r"steps: 1 is not allowed"):
        run_cell(replace(cells["dqss"], budget=Budget(1, 200, 0.0)), context, no_report)
    assert context.subject(cells["dqss"], no_report).calibrated.starts == {}


def test_what_finding_the_ranges_took_counts_in_every_cell_that_begins_with_them(small, cells):
    context = Context(Sharing(ALONE))
    calibrated = context.subject(cells["uniform-lsq"], no_report).calibrated
    start, _ = calibrated.start("W2A2", "best-uniform", 3, no_report)
    finding = Meter()
    finding.seconds, finding.peak_memory_mb = 5000.0, 1e9
    calibrated.starts["W2A2", "best-uniform", None] = start, finding
    for name in ("uniform-lsq", "uniform-pact"):
        record = run_cell(cells[name], context, no_report)
        assert 5000 < record.search_seconds < 5600
        assert record.peak_memory_mb == 1e9


def test_a_cell_that_trains_nothing_has_no_budget(cells):
    from benchmarks.cell_qat import budget_of

    with pytest.raises(ValueError, match=r"trains nothing\. Give one of 'qat'"):
        budget_of(replace(cells["dqss"], mode="ptq", budget=None))
