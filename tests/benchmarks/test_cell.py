from dataclasses import replace
from importlib.metadata import version

import numpy
import pytest
import torch

from benchmarks.cell import Context, identity, now, run_cell
from benchmarks.checkpoints import find_checkpoint
from benchmarks.datasets import embedded_digest
from benchmarks.launch import Processes
from benchmarks.parallel import Sharing
from benchmarks.suite import cells_of, load_suite
from benchmarks.tasks import TASKS, fashion_mnist
from benchmarks.tasks.base import Split
from dqss.calibrate import calibrate
from dqss.graph import prepare
from dqss.matching import output_loss
from dqss.ptq import quantize
from dqss.reconstruction import RECONSTRUCTIONS
from dqss.reconstruction.adaround import AdaRound
from dqss.search.base import no_report
from dqss.spec import Bits
from dqss.strategy import Choice, Strategy

SUITE = """\
suite: tiny
version: 1
task: fashion-mnist
models: [resnet8]
bits: [W4A4, W4A8]
protocol: academic
seeds: [3]
ptq:
  quantizers: {weight: [minmax, mse], activation: [percentile, mse]}
  methods: [uniform, best-uniform, random: {images: 100}, dqss: {steps: 3}]
"""
MEASURED = {"started", "calibration_seconds", "search_seconds", "evaluation_seconds", "peak_memory_mb"}
QUICK = {"iterations": 5}
ALONE = Processes(0, 1, 0)


@pytest.fixture(scope="module")
def small():
    """128 calibration and 200 test images."""
    whole = fashion_mnist.FashionMnist.data

    def data(task, split):
        images, labels = whole(task, split)
        return (images[:200], labels[:200]) if split is Split.TEST else (images, labels)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DQSS_CHECKPOINTS", raising=False)
        patch.setattr(fashion_mnist.FashionMnist, "data", data)
        patch.setattr(fashion_mnist, "CALIBRATION_SIZE", 128)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    path = tmp_path_factory.mktemp("suite") / "tiny.yaml"
    path.write_text(SUITE)
    return {(cell.method, cell.bits): cell for cell in cells_of(load_suite(path))}


@pytest.fixture(scope="module")
def records(small, cells):
    """All cells in one context, in the suite's order."""
    context = Context(Sharing(ALONE))
    return {name: run_cell(cell, context, no_report) for name, cell in cells.items()}


def test_the_record_says_which_cell_it_is_of(records, cells):
    for name, cell in cells.items():
        record = records[name]
        assert (record.key, record.definition, record.status) == (cell.key, cell.definition, "ok")
        assert (record.method, record.bits, record.seed) == (cell.method, cell.bits, cell.seed)
        assert (record.suite, record.protocol, record.mode, record.processes) == ("tiny", "academic", "ptq", 1)
        assert record.definition["model"]["checkpoint"] == find_checkpoint("resnet8", "fashion-mnist").sha256
        assert record.definition["task"]["data"] == embedded_digest("fashion-mnist")
        assert record.versions["torch"] == torch.__version__
        # It computes the steps of trainings that several processes share.
        assert record.versions["accelerate"] == version("accelerate")
        assert record.threads == 1


@pytest.mark.parametrize("name", [("dqss", "W4A4"), ("random", "W4A8"), ("best-uniform", "W4A4")])
def test_the_score_and_the_loss_are_those_of_the_strategy_in_the_record(name, records, cells):
    """Measured anew from the record, by the library alone."""
    cell, record = cells[name], records[name]
    task = TASKS.create("fashion-mnist")
    context = Context(Sharing(ALONE))
    network = context.subject(cell, no_report).calibrated.prepared.model
    assert task.evaluate(network, Split.TEST, no_report).primary == record.full_precision_score

    batches = task.inputs(Split.CALIBRATION).split(64)
    prepared = prepare(network, cell.protocol_definition, Bits.parse(cell.bits))
    calibration = calibrate(prepared, batches, no_report)
    choices = {
        layer: Choice(choice.weight, choice.activation, Bits.parse(choice.bits))
        for layer, choice in record.strategy.items()
    }
    model = quantize(prepared, calibration, Strategy(choices, prepared.bits, prepared.protocol))
    images, labels = task.data(Split.TEST)
    with torch.no_grad():
        hits = model(task.preprocess(images)).argmax(1) == labels
        losses = [
            output_loss("kl", network(batches[0]))(model(batch), network(batch)).item() * len(batch)
            for batch in batches
        ]
    assert record.score == pytest.approx(100 * hits.double().mean().item(), abs=0.51)
    assert record.outcomes.count == 200
    assert 100 * record.outcomes.unpack().mean() == pytest.approx(record.score)
    assert numpy.count_nonzero(record.outcomes.unpack() != hits.numpy()) <= 1
    assert record.calibration_loss == pytest.approx(sum(losses) / 128, rel=1e-3)


def test_the_best_uniform_pair_is_the_best_of_its_curve(records):
    for bits in ("W4A4", "W4A8"):
        record = records["best-uniform", bits]
        assert len(record.curves["loss"]) == 2 * 2
        assert record.calibration_loss == min(record.curves["loss"])
        inner = list(record.strategy.values())
        assert len({(choice.weight, choice.activation) for choice in inner}) == 1


def test_first_and_last_layer_have_the_protocols_bits(records):
    for (_, bits), record in records.items():
        given = [choice.bits for choice in record.strategy.values()]
        assert given == ["W8A8", *[bits] * (len(given) - 2), "W8A8"]


def test_facts_of_the_layers_follow_the_strategy(records):
    for record in records.values():
        assert list(record.layers) == list(record.strategy)
        assert all(facts.weight_sqnr_db > 0 and facts.activation_sqnr_db > 0 for facts in record.layers.values())
        searched = record.method == "dqss"
        assert all((facts.alpha_weight is not None) == searched for facts in record.layers.values())
        assert (record.relaxed_loss is not None) == searched
        for facts in record.layers.values() if searched else ():
            for alpha, nats in (
                (facts.alpha_weight, facts.entropy_weight),
                (facts.alpha_activation, facts.entropy_activation),
            ):
                assert nats == pytest.approx(torch.special.entr(torch.tensor(alpha)).sum().item(), abs=1e-6)
    assert set(records["dqss", "W4A4"].curves) == {"loss", "entropy", "refined"}


def test_more_bits_take_more_room_and_work(records):
    four, eight = records["dqss", "W4A4"], records["dqss", "W4A8"]
    assert four.bops < eight.bops < 2 * four.bops + 1
    assert four.size_bytes <= eight.size_bytes


def test_ids_are_those_of_every_split(records):
    task = TASKS.create("fashion-mnist")
    for record in records.values():
        assert set(record.ids) == {"train", "calibration", "search-validation", "test"}
        assert record.ids["calibration"] == task.ids(Split.CALIBRATION)
        assert len(record.ids["calibration"]) == 128
        assert (record.ids["train"], record.ids["test"]) == ("0-59999", "0-9999")


@pytest.mark.parametrize("name", [("dqss", "W4A4"), ("random", "W4A4")])
def test_a_cell_gives_the_same_whatever_ran_before_it(name, small, cells, records):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12345)
        alone = run_cell(cells[name], Context(Sharing(ALONE)), no_report)
    assert alone.model_dump(exclude=MEASURED) == records[name].model_dump(exclude=MEASURED)


@pytest.fixture(scope="module")
def adaround_cells(tmp_path_factory):
    text = SUITE.replace("weight: [minmax, mse]", "weight: [minmax, adaround, adaround+bias]")
    text = text.replace("W4A4, W4A8", "W3A4, W4A4").replace(
        "[uniform, best-uniform, random: {images: 100}, dqss: {steps: 3}]", "[uniform-adaround, random: {images: 100}]"
    )
    path = tmp_path_factory.mktemp("suite") / "adaround.yaml"
    path.write_text(text)
    return {(cell.method, cell.bits): cell for cell in cells_of(load_suite(path))}


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setitem(RECONSTRUCTIONS.table, "adaround", replace(RECONSTRUCTIONS.entry("adaround"), options=QUICK))


def test_reconstructions_are_made_once_and_count_in_each_cell_that_has_them(small, adaround_cells, quick, monkeypatch):
    made = []
    quantized = AdaRound.quantized
    monkeypatch.setattr(AdaRound, "quantized", lambda *args: made.append(args) or quantized(*args))
    context, stages = Context(Sharing(ALONE)), []
    found = {
        name: run_cell(cell, context, lambda *stage: stages.append(stage)) for name, cell in adaround_cells.items()
    }
    layers = len(found["random", "W4A4"].layers)
    assert ("reconstruction", layers, layers) in stages
    # The first and the last layer have 8 bits at both bit-widths, so theirs serve both.
    assert len(made) == 2 * layers - 2
    for bits in ("W3A4", "W4A4"):
        alone, searched = found["uniform-adaround", bits], found["random", bits]
        assert alone.reconstruction_seconds == searched.reconstruction_seconds > 0
        assert all(record.search_seconds > record.reconstruction_seconds for record in (alone, searched))
        # One pass for the second moments, then one loss per activation candidate, of which the second may end early.
        assert 128 + 128 < alone.forward_passes <= 128 + 2 * 128
        assert {choice.weight for choice in alone.strategy.values()} == {"adaround"}
        assert len({choice.activation for choice in alone.strategy.values()}) == 1


def test_a_cell_without_reconstructions_has_no_cost_of_them(records):
    assert all(record.reconstruction_seconds is None for record in records.values())


def test_its_stages_are_told(small, cells):
    stages = []
    run_cell(cells["dqss", "W4A4"], Context(Sharing(ALONE)), lambda *stage: stages.append(stage))
    names = list(dict.fromkeys(name for name, _, _ in stages))
    assert names == ["full-precision evaluation", "calibration", "search", "refinement", "evaluation"]
    for name in names:
        last = [stage for stage in stages if stage[0] == name][-1]
        assert last[1] == last[2] > 0


def test_one_model_is_loaded_and_calibrated_once(small, cells):
    context = Context(Sharing(ALONE))
    first = context.subject(cells["dqss", "W4A4"], no_report)
    assert context.subject(cells["random", "W4A8"], no_report) is first
    assert first.calibrated.seconds > 0


def test_times_are_utc_in_iso_8601():
    from datetime import datetime, timedelta

    assert datetime.fromisoformat(now()).utcoffset() == timedelta(0)


def test_a_cell_that_ran_nowhere_has_an_identity_too(cells):
    known = identity(cells["dqss", "W4A4"], "2030-01-01T00:00:00+00:00", Sharing(Processes(1, 2, 1)))
    assert (known["processes"], known["method"]) == (2, "dqss")
    assert set(known["hardware"]) == {"processor", "cores", "memory_gb", "system", "device"}
    assert all(known["hardware"].values())
