import json
import subprocess
import sys
from pathlib import Path

import pytest

import benchmarks.checkpoints
import benchmarks.datasets
from benchmarks.methods import METHODS, QAT_METHODS
from benchmarks.models import MODELS
from benchmarks.records import key_of
from benchmarks.suite import (
    Cell,
    Inventory,
    Lookup,
    SuiteError,
    cells_of,
    find_suite,
    load_suite,
    parse_only,
    parse_seeds,
    select,
    shipped_suites,
)
from benchmarks.tasks import TASKS
from dqss.candidates import BIAS_VERSION
from dqss.learned import LEARNED
from dqss.quantizers import QUANTIZERS
from dqss.reconstruction import RECONSTRUCTIONS
from dqss.registry import Entry
from dqss.spec import Protocol

TEXT = """\
suite: mine
version: 1
task: fashion-mnist
models: [resnet8, resnet20]
bits: [W8A8, W4A4]
protocol: all-layers
seeds: [0, 1]
ptq:
  quantizers: {weight: [minmax, mse], activation: [minmax, mse, kl]}
  methods: [uniform, best-uniform, random]
"""

QAT = """\
suite: trained
version: 1
task: fashion-mnist
models: [resnet8]
bits: [W2A2]
protocol: all-layers
seeds: [0, 1]
qat:
  quantizers: {weight: [lsq, dorefa], activation: [lsq, pact]}
  training: {epochs: 2, batch_size: 64}
  methods: [uniform: {network: 0.002}, dqss]
"""


@pytest.fixture(autouse=True)
def everything_is_here(monkeypatch):
    monkeypatch.setattr(Inventory, "data", lambda self, task: Lookup(f"data of {task}", None))
    monkeypatch.setattr(Inventory, "checkpoint", lambda self, model, task: Lookup(f"{model} for {task}", None))


@pytest.fixture
def cells(tmp_path):
    def build(text: str = TEXT, name: str = "suite.yaml", seeds: list[int] | None = None) -> list[Cell]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return cells_of(load_suite(path), seeds)

    return build


def keys_of(cells: list[Cell]) -> list[str]:
    return [cell.key for cell in cells]


def test_keys_of_records_that_are_out_there_stay_as_they_are(cells):
    """Taken before training came in: with the data and checkpoints above. A raised version changes them on purpose."""
    golden = {
        "resnet8 W8A8 uniform-mse None": "b5dcc0c6e700cd259fd982ee87aa2a1091b095389cc72dd88a0d8253918a2865",
        "resnet8 W4A4 random 1": "1496274f7ec4cee1398b81433197b610d172302cd251df02fd05fa040c8cf8cf",
        "resnet20 W4A4 best-uniform None": "e5cd6ff60749f821a1e610c4811adde30723f6662ff64e0578275b4a37925742",
    }
    found = {f"{c.model} {c.bits} {c.method} {c.seed}": c.key for c in cells()}
    assert {name: found[name] for name in golden} == golden


def test_a_training_cell_has_its_budget_and_the_versions_of_all_that_it_trains_with_in_its_key(cells, monkeypatch):
    before = cells(QAT)
    assert "training" not in cells()[0].definition
    cell = next(cell for cell in before if cell.method == "uniform-pact")
    assert (cell.mode, cell.search, cell.seed) == ("qat", "uniform", 0)
    assert cell.definition["training"] == {"epochs": 2, "batch_size": 64, "distillation": 0.0}
    assert cell.definition["method"] == {"name": "uniform-pact", "version": 2, "options": {"network": 0.002}}
    assert [entry["name"] for entry in cell.definition["quantizers"]["weight"]] == ["dorefa"]
    for old, new in (("epochs: 2", "epochs: 3"), ("size: 64", "size: 32"), ("size: 64", "size: 64, distillation: 0.5")):
        assert set(keys_of(before)).isdisjoint(keys_of(cells(QAT.replace(old, new))))
    usual = "size: 64, accumulation: 1, precision: no, zero: 0"
    assert keys_of(cells(QAT.replace("size: 64", usual))) == keys_of(before)
    for name, value in (("accumulation", 2), ("precision", "bf16"), ("zero", 2)):
        unusual = cells(QAT.replace("size: 64", f"size: 64, {name}: {value}"))
        assert {c.definition["training"][name] for c in unusual if c.mode == "qat"} == {value}
    for table, name, changed in (
        (LEARNED, "dorefa", {"uniform-pact", "uniform-dorefa", "dqss"}),
        (LEARNED, "pact", {"uniform-pact", "dqss"}),
        (QAT_METHODS, "dqss", {"dqss"}),
    ):
        with monkeypatch.context() as patch:
            patch.setitem(table.table, name, Entry(table.entry(name).location, table.entry(name).version + 1))
            pairs = zip(before, cells(QAT), strict=True)
            assert {old.method for old, new in pairs if old.key != new.key} == changed


def test_a_task_that_trains_nothing_says_so_in_every_training_cell(cells):
    text = QAT.replace("fashion-mnist", "imagenet-fidelity").replace("[resnet8]", "[efficientnet-lite0]")
    reasons = {cell.skip_reason for cell in cells(text)}
    assert len(reasons) == 1
    assert "trains nothing" in str(reasons.pop())
    assert {cell.skip_reason for cell in cells(QAT)} == {None}


def test_cells_come_by_model_then_bits_then_method_then_seed(cells):
    methods = ["uniform-minmax None", "uniform-mse None", "best-uniform None", "random 0", "random 1"]
    expected = [f"{m} {b} {r}" for m in ("resnet8", "resnet20") for b in ("W8A8", "W4A4") for r in methods]
    assert [f"{c.model} {c.bits} {c.method} {c.seed}" for c in cells()] == expected
    assert len(set(keys_of(cells()))) == len(expected)


def test_given_seeds_replace_those_of_the_suite_and_leave_deterministic_cells_alone(cells):
    built = cells(seeds=[7])
    assert {c.seed for c in built if c.method == "random"} == {7}
    assert [c.key for c in built if c.seed is None] == [c.key for c in cells() if c.seed is None]


def test_a_uniform_cell_has_its_quantizer_as_only_candidate(cells):
    cell = next(c for c in cells() if c.method == "uniform-mse")
    assert cell.search == "uniform"
    assert cell.weight_quantizers == cell.activation_quantizers == ("mse",)
    named = cells(TEXT.replace("[uniform, best-uniform, random]", "[uniform-mse]"))
    assert named[0].key == cell.key


def test_a_uniform_cell_of_a_quantizer_for_weights_alone_chooses_among_the_activations(cells):
    text = TEXT.replace("weight: [minmax, mse]", "weight: [minmax, adaround, mse+bias]")
    built = cells(text.replace("[uniform, best-uniform, random]", "[uniform-adaround, uniform-mse+bias]"))[:2]
    for cell, weight in zip(built, ("adaround", "mse+bias"), strict=True):
        assert (cell.search, cell.seed, cell.weight_quantizers) == ("uniform", None, (weight,))
        assert cell.activation_quantizers == ("minmax", "mse", "kl")


@pytest.mark.parametrize(
    ("where", "changed"),
    [("reconstruction", {"adaround", "adaround+bias"}), ("bias", {"adaround+bias", "mse+bias"}), ("mse", {"mse+bias"})],
)
def test_a_weight_candidates_key_has_the_versions_of_all_that_it_is_made_of(where, changed, cells, monkeypatch):
    names = ["minmax", "adaround", "adaround+bias", "mse+bias"]
    methods = ", ".join(f"uniform-{name}" for name in names)
    text = TEXT.replace("[minmax, mse]", f"[{', '.join(names)}]").replace(
        "[uniform, best-uniform, random]", f"[{methods}]"
    )
    text = text.replace("activation: [minmax, mse, kl]", "activation: [minmax]")
    before = keys_of(cells(text))[:4]
    match where:
        case "reconstruction":
            entry = RECONSTRUCTIONS.entry("adaround")
            monkeypatch.setitem(RECONSTRUCTIONS.table, "adaround", Entry(entry.location, entry.version + 1))
        case "bias":
            monkeypatch.setattr("dqss.candidates.BIAS_VERSION", BIAS_VERSION + 1)
        case "mse":
            entry = QUANTIZERS.entry("mse")
            monkeypatch.setitem(QUANTIZERS.table, "mse", Entry(entry.location, entry.version + 1))
    after = keys_of(cells(text))[:4]
    assert {name for name, old, new in zip(names, before, after, strict=True) if old != new} == changed


def test_the_definition_of_a_cell(cells):
    cell = cells(TEXT.replace("random]", "random: {images: 5}]"))[4]
    assert cell.definition == {
        "suite_version": 1,
        "task": {
            "name": "fashion-mnist",
            "version": TASKS.entry("fashion-mnist").version,
            "data": "data of fashion-mnist",
        },
        "model": {
            "name": "resnet8",
            "version": MODELS.entry("resnet8").version,
            "checkpoint": "resnet8 for fashion-mnist",
        },
        "bits": "W8A8",
        "mode": "ptq",
        "protocol": {
            "first_last_bits": None,
            "weight": {"symmetric": True, "granularity": "per-tensor"},
            "activation": {"symmetric": False, "granularity": "per-tensor"},
            "tail": "last-layer",
        },
        "method": {"name": "random", "version": METHODS.entry("random").version, "options": {"images": 5}},
        "quantizers": {
            "weight": [{"name": name, "version": QUANTIZERS.entry(name).version} for name in ("minmax", "mse")],
            "activation": [{"name": n, "version": QUANTIZERS.entry(n).version} for n in ("minmax", "mse", "kl")],
        },
        "seed": 1,
    }
    assert json.loads(json.dumps(cell.definition)) == cell.definition
    assert cell.key == key_of(cell.definition)
    assert cell.protocol_definition == Protocol()


def test_the_key_of_a_definition_never_changes():
    definition = {"bits": "W4A8", "method": {"options": {"rate": 0.5}, "name": "dqss"}, "seed": None, "data": "\u00e9"}
    # sha256sum of {"bits":"W4A8","data":"\u00e9","method":{"name":"dqss","options":{"rate":0.5}},"seed":null}
    assert key_of(definition) == "bf1df3761e762b0dd8f488a8850bb426b8b05176c320129d79593b7816774658"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version: 1", "version: 2"),
        ("all-layers", "academic"),
        ("all-layers", "{weight: {granularity: per-channel}}"),
        ("[resnet8, resnet20]", "[mobilenetv2-small]"),
        ("[W8A8, W4A4]", "[W4A8]"),
    ],
)
def test_what_matters_to_all_cells_changes_every_key(old, new, cells):
    assert set(keys_of(cells())).isdisjoint(keys_of(cells(TEXT.replace(old, new))))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("seeds: [0, 1]", "seeds: [2]"),
        ("random]", "random: {images: 7}]"),
        ("weight: [minmax, mse]", "weight: [mse, minmax]"),
        ("activation: [minmax, mse, kl]", "activation: [minmax, mse]"),
    ],
)
def test_what_matters_to_searches_changes_their_keys_and_no_uniform_one(old, new, cells):
    before, after = cells(), cells(TEXT.replace(old, new))
    searched = [{c.key for c in some if c.method == "random"} for some in (before, after)]
    uniform = [{c.key for c in some if c.search == "uniform"} for some in (before, after)]
    assert searched[0].isdisjoint(searched[1])
    assert uniform[0] == uniform[1]


@pytest.mark.parametrize(
    ("table", "name", "changed"),
    [
        (TASKS, "fashion-mnist", lambda cell: True),
        (MODELS, "resnet8", lambda cell: cell.model == "resnet8"),
        (METHODS, "random", lambda cell: cell.method == "random"),
        (QUANTIZERS, "mse", lambda cell: cell.method != "uniform-minmax"),
    ],
    ids=["task", "model", "search", "quantizer"],
)
def test_a_raised_version_changes_the_keys_of_the_cells_that_use_it(table, name, changed, cells, monkeypatch):
    before = cells()
    old_keys = keys_of(before)
    monkeypatch.setitem(table.table, name, Entry(table.entry(name).location, table.entry(name).version + 1))
    assert [old != new for old, new in zip(old_keys, keys_of(cells()), strict=True)] == [changed(c) for c in before]


@pytest.mark.parametrize("what", ["data", "checkpoint"])
def test_other_data_or_weights_change_every_key(what, cells, monkeypatch):
    before = keys_of(cells())
    monkeypatch.setattr(Inventory, what, lambda self, *names: Lookup("other", None))
    assert set(before).isdisjoint(keys_of(cells()))


def test_neither_place_nor_name_nor_layout_of_the_file_changes_a_key(cells):
    relaid = """\
# other order, other style, other words for the same
ptq:
    methods:
    - 'uniform'
    - best-uniform
    - "random"
    quantizers:
        activation: [minmax,
                     mse, kl]
        weight: [minmax, mse]
seeds: [0x0, 1]
protocol: {first_last_bits: null, activation: {symmetric: no}}
bits: ["W8A8", W4A4]
models:
- resnet8
- resnet20
task: fashion-mnist
version: 1
suite: theirs
"""
    assert keys_of(cells()) == keys_of(cells(relaid, name="elsewhere/other.yml"))


def test_ten_thousand_cells_look_up_each_thing_once(tmp_path, monkeypatch):
    monkeypatch.undo()
    asked = []

    def digest(task):
        asked.append(task)
        return "d"

    def checkpoint(model, task):
        asked.append(model)
        return benchmarks.checkpoints.Checkpoint(Path("weights"), "c", {})

    monkeypatch.setattr(benchmarks.datasets, "check_embedded", lambda task: None)
    monkeypatch.setattr(benchmarks.datasets, "embedded_digest", digest)
    monkeypatch.setattr(benchmarks.checkpoints, "find_checkpoint", checkpoint)
    (tmp_path / "suite.yaml").write_text(TEXT.replace("[0, 1]", str(list(range(2500)))))
    built = cells_of(load_suite(tmp_path / "suite.yaml"))
    assert len(set(keys_of(built))) == len(built) > 10_000
    assert [cell for cell in built if cell.skip_reason] == []
    assert sorted(asked) == ["fashion-mnist", "resnet20", "resnet8"]


def test_a_cell_without_data_or_checkpoint_says_so_and_has_another_key(cells, monkeypatch):
    whole = cells()[0]
    assert whole.skip_reason is None
    assert whole.definition["model"]["checkpoint"] is not None
    monkeypatch.undo()

    def no_checkpoint(model, task):
        raise benchmarks.checkpoints.MissingCheckpointError(f"train {model}")

    def no_data(task):
        raise benchmarks.datasets.MissingDataError(f"fetch {task}")

    monkeypatch.setattr(benchmarks.checkpoints, "find_checkpoint", no_checkpoint)
    monkeypatch.setattr(benchmarks.datasets, "check_embedded", lambda task: None)
    monkeypatch.setattr(benchmarks.datasets, "embedded_digest", lambda task: "d")
    without_weights = cells()[0]
    assert without_weights.skip_reason == "train resnet8"
    assert without_weights.definition["model"]["checkpoint"] is None
    monkeypatch.setattr(benchmarks.datasets, "check_embedded", no_data)
    without_data = cells()[0]
    assert without_data.skip_reason == "fetch fashion-mnist"
    assert without_data.definition["task"]["data"] is None
    assert len({whole.key, without_weights.key, without_data.key}) == 3


def test_only_picks_cells_that_fit_every_key(cells):
    chosen = select(cells(), parse_only("model=resnet8, bits=W4A4,method=uniform,method=random,seed=none,seed=1"))
    assert [(c.model, c.bits, c.method, c.seed) for c in chosen] == [
        ("resnet8", "W4A4", "uniform-minmax", None),
        ("resnet8", "W4A4", "uniform-mse", None),
        ("resnet8", "W4A4", "random", 1),
    ]
    assert select(cells(), {"method": ["uniform-mse"], "mode": ["ptq"], "protocol": ["all-layers"]}) == [
        c for c in cells() if c.method == "uniform-mse"
    ]
    assert select(cells(), {}) == cells()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model=resnet9", "--only: no cell has model=resnet9. Did you mean 'resnet8'?"),
        ("bits=W2A2,model=resnet8", "--only: no cell has bits=W2A2. Allowed: W4A4, W8A8."),
        ("seed=5", "--only: no cell has seed=5. Allowed: 0, 1, none."),
        (
            "method=x",
            "--only: no cell has method=x. Allowed: best-uniform, random, uniform, uniform-minmax, uniform-mse.",
        ),
        ("method=uniform,seed=1", "--only: no cell has all of method=uniform, seed=1. Leave one out."),
        ("modell=resnet8", "--only: unknown key 'modell'. Did you mean 'model'?"),
        ("task=x", "--only: unknown key 'task'. Allowed: bits, method, mode, model, protocol, seed."),
        ("", "--only: '' is not key=value. Keys: model, bits, method, mode, seed, protocol."),
        ("model=", "--only: 'model=' is not key=value. Keys: model, bits, method, mode, seed, protocol."),
        (
            "model=resnet8,resnet20",
            "--only: 'resnet20' is not key=value. For an alternative write model=resnet20. "
            "Keys: model, bits, method, mode, seed, protocol.",
        ),
    ],
)
def test_a_choice_that_cannot_be_ends_in_one_message(text, message, cells):
    with pytest.raises(SuiteError) as caught:
        select(cells(), parse_only(text))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--seeds: '' is not a seed. Give 0 to 4294967295, for example 0,1,2."),
        ("0,-1", "--seeds: '-1' is not a seed. Give 0 to 4294967295, for example 0,1,2."),
        ("0-3", "--seeds: '0-3' is not a seed. Give 0 to 4294967295, for example 0,1,2."),
        ("4294967296", "--seeds: '4294967296' is not a seed. Give 0 to 4294967295, for example 0,1,2."),
        ("1,01", "--seeds: 1 stands twice. Delete one."),
    ],
)
def test_seeds_that_are_none_end_in_one_message(text, message):
    with pytest.raises(SuiteError) as caught:
        parse_seeds(text)
    assert str(caught.value) == message


def test_a_shipped_suite_is_found_by_its_name_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_suite(find_suite("classification")).suite == "classification"


def test_a_file_is_found_by_its_path_even_with_the_name_of_a_shipped_suite(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("classification").write_text(TEXT)
    assert load_suite(find_suite("./classification")).suite == "mine"
    assert find_suite("classification") == shipped_suites()["classification"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("clasification", "Did you mean 'classification'?"),
        ("suites/quikstart.yaml", "Did you mean 'quickstart'?"),
        ("", f"Allowed: {', '.join(shipped_suites())}."),
        ("a\0b", f"Allowed: {', '.join(shipped_suites())}."),
        ("x" * 5000, f"Allowed: {', '.join(shipped_suites())}."),
    ],
)
def test_a_suite_that_is_nowhere_ends_in_one_message(name, hint):
    with pytest.raises(SuiteError, match="neither a file nor a shipped suite") as caught:
        find_suite(name)
    assert hint in str(caught.value)
    assert len(str(caught.value)) < 700


def test_a_suite_is_validated_and_its_keys_known_without_torch():
    program = (
        "import sys; from benchmarks.suite import *; cells = cells_of(load_suite(find_suite('classification')));"
        "known = [(cell.key, cell.skip_reason) for cell in cells]; sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True)
