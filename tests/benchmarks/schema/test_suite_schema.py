from pathlib import Path

import pytest

from benchmarks.suite import Suite, SuiteError, load_suite
from dqss.quantizers import QUANTIZERS
from dqss.spec import Protocol, Scheme

RANGES = ", ".join(QUANTIZERS)
GOOD = """\
suite: mine
version: 1
task: fashion-mnist
models: [resnet8, resnet20]
bits:
  - W8A8
  - W4A4
protocol: all-layers
seeds: [0, 1]
ptq:
  quantizers:
    weight: [minmax, mse]
    activation: [mse, minmax, kl]
  methods:
    - uniform
    - dqss
"""

ALL_KEYS = "suite, version, task, models, bits, protocol, seeds, ptq, qat"
UNKNOWN = f"unknown key. Allowed: {', '.join(sorted(ALL_KEYS.split(', ')))}."
QUOTE_IT = (
    "looks like a number, a date or a sign of YAML, but cannot be read as one. Put it in quotes where it is a text."
)

# What is replaced in GOOD, by what, and the whole message after the file's name.
MALFORMED = {
    "unknown key": ("models:", "modles:", "4: modles: unknown key. Did you mean 'models'?"),
    "unknown key, like none": ("seeds:", "xyz:", f"9: xyz: {UNKNOWN}"),
    "unknown key below": ("weight:", "weihgt:", "12: ptq.quantizers.weihgt: unknown key. Did you mean 'weight'?"),
    "unknown mode": ("ptq:", "pqt: {}\nptq:", "10: pqt: unknown key. Did you mean 'qat'?"),
    "no mode": (
        GOOD[GOOD.index("ptq:") :],
        "",
        "1: it has neither ptq nor qat, which makes no cells. Add one of these keys.",
    ),
    "merge key": ("version: 1", "<<: {version: 1}", f"2: <<: {UNKNOWN}"),
    "missing key": ("seeds: [0, 1]\n", "", "1: seeds: the key is missing. Add it, for example `seeds: [0]`."),
    "missing key below": (
        "    weight: [minmax, mse]\n",
        "",
        "11: ptq.quantizers.weight: the key is missing. Add it, for example `weight: [minmax, mse]`.",
    ),
    "doubled key": ("bits:", "task: x\nbits:", "5: task: the key stands twice, first on line 3. Delete one."),
    "doubled key below": (
        "  methods:",
        "  quantizers: {}\n  methods:",
        "14: ptq.quantizers: the key stands twice, first on line 11. Delete one.",
    ),
    "a list as key": ("version: 1", "? [a]\n: b", "2: a list or a mapping stands as a key. Give a word."),
    "text for number": ("version: 1", "version: '1'", "2: version: found the text '1'. Give a whole number."),
    "fraction for number": ("version: 1", "version: 1.0", "2: version: found the number 1.0. Give a whole number."),
    "date for number": (
        "version: 1",
        "version: 2024-12-12",
        "2: version: found the date 2024-12-12. Give a whole number.",
    ),
    "no such date": ("version: 1", "version: 2024-99-99", f"2: version: 2024-99-99 {QUOTE_IT}"),
    "version 0": ("version: 1", "version: 0", "2: version: 0 is not allowed. Give 1 or more."),
    "bool for a name": (
        "suite: mine",
        "suite: no",
        "1: suite: found the truth value false. Give a name, in quotes where YAML reads something else.",
    ),
    "folder of another": (
        "suite: mine",
        "suite: site",
        "1: suite: 'site' is not a suite's name, which is also its folder's. "
        "Give up to 64 of a-z, 0-9, - and _, other than mlartifacts, site.",
    ),
    "path for a name": (
        "suite: mine",
        "suite: ../x",
        "1: suite: '../x' is not a suite's name, which is also its folder's. "
        "Give up to 64 of a-z, 0-9, - and _, other than mlartifacts, site.",
    ),
    "unknown task": (
        "fashion-mnist",
        "fashon-mnist",
        "3: task: no task 'fashon-mnist'. Did you mean 'fashion-mnist'? See `dqss-bench list tasks`.",
    ),
    "unknown model": (
        "resnet20]",
        "resnet9]",
        "4: models: no model 'resnet9'. Did you mean 'resnet8'? See `dqss-bench list models`.",
    ),
    "unknown model, like none": (
        "resnet20]",
        "x]",
        "4: models: no model 'x'. Allowed: edsr-small, efficientnet-lite0, espcn, fsrcnn, mobilenetv2-small, "
        "resnet20, resnet8, srresnet-small. See `dqss-bench list models`.",
    ),
    "two lines in a name": (
        "resnet20]",
        '"resnet20\\n"]',
        "4: models: no model 'resnet20\\n'. Did you mean 'resnet20'? See `dqss-bench list models`.",
    ),
    "doubled model": ("resnet20]", "resnet8]", "4: models: resnet8 stands twice. Delete one."),
    "name for a list": (
        "[resnet8, resnet20]",
        "resnet8",
        "4: models: found the text 'resnet8'. Give a list: [resnet8].",
    ),
    "number for a name": (
        "resnet20]",
        "8]",
        "4: models: found the number 8. Give a name, in quotes where YAML reads something else.",
    ),
    "sign of YAML for a name": ("resnet20]", "=]", f"4: models: = {QUOTE_IT}"),
    "bad bits": ("W4A4", "W4B8", "7: bits: 'W4B8' is not a bit-width. Write W<2-8>A<2-8>, for example W4A8."),
    "bits out of range": ("W4A4", "W9A4", "7: bits: 'W9A4' is not a bit-width. Write W<2-8>A<2-8>, for example W4A8."),
    "doubled bits": ("W4A4", "W8A8", "7: bits: W8A8 stands twice. Delete one."),
    "unknown protocol": (
        "all-layers",
        "all-layer",
        "8: protocol: no protocol 'all-layer'. Did you mean 'all-layers'? Or give a mapping.",
    ),
    "number for a protocol": (
        "all-layers",
        "3",
        "8: protocol: found the number 3. Give a name (all-layers, academic, super-resolution, per-channel), "
        "or a mapping with the keys first_last_bits, weight, activation, tail.",
    ),
    "protocol with bad bits": (
        "all-layers",
        "{first_last_bits: 9}",
        "8: protocol.first_last_bits: 9 is not allowed. Give 2 to 8, or null.",
    ),
    "protocol with an unknown tail": (
        "all-layers",
        "{first_last_bits: 8, tail: enlargin}",
        "8: protocol.tail: found the text 'enlargin'. Give 'last-layer' or 'enlarging'.",
    ),
    "protocol with a tail without bits": (
        "all-layers",
        "{tail: enlarging}",
        "8: protocol.tail: 'enlarging' says nothing without first_last_bits. Give these, or 'last-layer'.",
    ),
    "protocol with bool for bits": (
        "all-layers",
        "{first_last_bits: true}",
        "8: protocol.first_last_bits: found the truth value true. Give a whole number.",
    ),
    "protocol with unknown key": (
        "all-layers",
        "\n  weight:\n    simmetric: true",
        "10: protocol.weight.simmetric: unknown key. Did you mean 'symmetric'?",
    ),
    "protocol with number for bool": (
        "all-layers",
        "\n  weight:\n    symmetric: 1",
        "10: protocol.weight.symmetric: found the number 1. Give true or false.",
    ),
    "protocol with unknown granularity": (
        "all-layers",
        "{weight: {granularity: channel}}",
        "8: protocol.weight.granularity: found the text 'channel'. Give 'per-tensor' or 'per-channel'.",
    ),
    "activations per channel": (
        "all-layers",
        "\n  activation:\n    granularity: per-channel",
        "10: protocol.activation.granularity: 'per-channel' is not allowed. "
        "Give 'per-tensor': integer convolution sums over input channels before it scales.",
    ),
    "bool for a seed": ("[0, 1]", "[0, true]", "9: seeds: found the truth value true. Give a whole number."),
    "negative seed": ("[0, 1]", "[0, -1]", "9: seeds: -1 is not a seed. Give 0 to 4294967295."),
    "seed too large": ("[0, 1]", "[4294967296]", "9: seeds: 4294967296 is not a seed. Give 0 to 4294967295."),
    "seed beyond measure": (
        "[0, 1]",
        f"[{'9' * 5000}]",
        f"9: seeds: {'9' * 60}... {QUOTE_IT}",
    ),
    "seed beyond 64 bits": (
        "[0, 1]",
        "[0x8000000000000000]",
        "9: seeds: the number 0x8000000000000000 is too large. Give at most 18 digits.",
    ),
    "doubled seed": ("[0, 1]", "[0, 0]", "9: seeds: 0 stands twice. Delete one."),
    "one seed, no list": ("[0, 1]", "0", "9: seeds: found the number 0. Give a list."),
    "no seeds": ("[0, 1]", "[]", "9: seeds: the list is empty, which makes no cells. Give at least one entry."),
    "seeds forgotten": ("[0, 1]", "", "9: seeds: found nothing. Give a list."),
    "unknown quantizer": (
        "mse]",
        "kll]",
        "12: ptq.quantizers.weight: no quantizer 'kll'. Did you mean 'kl'? See `dqss-bench list quantizers`.",
    ),
    "unknown quantizer with a bias": (
        "mse]",
        "kll+bias]",
        "12: ptq.quantizers.weight: no quantizer 'kll+bias'. Did you mean 'kl+bias'? See `dqss-bench list quantizers`.",
    ),
    "reconstruction of activations": (
        "[mse, minmax, kl]",
        "[mse, adaround]",
        f"13: ptq.quantizers.activation: 'adaround' is for weights alone. Name it under weight, and here: {RANGES}.",
    ),
    "bias of activations": (
        "[mse, minmax, kl]",
        "[mse+bias]",
        f"13: ptq.quantizers.activation: 'mse+bias' is for weights alone. Name it under weight, and here: {RANGES}.",
    ),
    "uniform of a reconstruction that is no candidate": (
        "- uniform",
        "- uniform-adaround",
        "15: ptq.methods: 'uniform-adaround' needs 'adaround' among the weight quantizers. There: minmax, mse.",
    ),
    "list for quantizers": (
        "quantizers:\n    weight: [minmax, mse]\n    activation: [mse, minmax, kl]",
        "quantizers: [mse]",
        "11: ptq.quantizers: found a list. Give a mapping with the keys weight, activation.",
    ),
    "unknown method": (
        "- dqss",
        "- dqs",
        "16: ptq.methods: no method 'dqs'. Did you mean 'dqss'? See `dqss-bench list searches`.",
    ),
    "unknown uniform method": (
        "- dqss",
        "- uniform-mes",
        "16: ptq.methods: no method 'uniform-mes'. Did you mean 'uniform-mse'? See `dqss-bench list searches`.",
    ),
    "uniform twice in other words": (
        "- dqss",
        "- uniform-mse",
        "16: ptq.methods: 'uniform-mse' would run twice. 'uniform' holds it too. Delete one.",
    ),
    "method twice with other options": (
        "- dqss",
        "- dqss\n    - dqss: {steps: 3}",
        "17: ptq.methods: 'dqss' would run twice. Delete one.",
    ),
    "uniform of one list only": (
        "- uniform",
        "- uniform-kl",
        "15: ptq.methods: 'uniform-kl' needs 'kl' among the weight and the activation quantizers. "
        "In both lists: minmax, mse.",
    ),
    "uniform without a shared quantizer": (
        "[mse, minmax, kl]",
        "[kl]",
        "15: ptq.methods: 'uniform' makes no cell: no quantizer is in both lists. Add one to both, or delete this.",
    ),
    "number for a method": (
        "- dqss",
        "- 3",
        "16: ptq.methods: found the number 3. Give a name, or one name with options: {dqss: {steps: 200}}.",
    ),
    "options that slipped left": (
        "- dqss",
        "- dqss:\n      steps: 2",
        "16: ptq.methods: found a mapping of 2 keys. Give a name, or one name with options: {dqss: {steps: 200}}.",
    ),
    "colon without options": (
        "- dqss",
        "- dqss:",
        "16: ptq.methods.dqss: found nothing. Give a mapping of options, or the name without a colon.",
    ),
    "unknown option": (
        "- dqss",
        "- random:\n        imges: 3",
        "17: ptq.methods.random.imges: no such option of 'random'. Did you mean 'images'?",
    ),
    "option of a method without any": (
        "- dqss",
        "- best-uniform: {images: 8}",
        "16: ptq.methods.best-uniform.images: no such option of 'best-uniform'. It has none.",
    ),
    "option of the wrong type": (
        "- dqss",
        "- random:\n        images: true",
        "17: ptq.methods.random.images: found the truth value true. Give a whole number.",
    ),
    "option that the search refuses": (
        "- dqss",
        "- random:\n        images: 0",
        "17: ptq.methods.random.images: 0 is not allowed. Give at least 1.",
    ),
    "not a mapping": (GOOD, "- a\n- b\n", f"1: found a list. Give a mapping with the keys {ALL_KEYS}."),
    "only a text": (GOOD, "# why\nhello\n", f"2: found the text 'hello'. Give a mapping with the keys {ALL_KEYS}."),
    "an empty document": (GOOD, "---\n", f"2: found nothing. Give a mapping with the keys {ALL_KEYS}."),
}


def load(folder: Path, text: str) -> Suite:
    path = folder / "suite.yaml"
    path.write_text(text, encoding="utf-8")
    return load_suite(path)


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_suite_ends_in_one_message(case, tmp_path):
    old, new, message = MALFORMED[case]
    assert GOOD.count(old) >= 1
    with pytest.raises(SuiteError) as caught:
        load(tmp_path, GOOD.replace(old, new, 1))
    assert str(caught.value) == f"{tmp_path / 'suite.yaml'}:{message}"


def test_the_first_of_several_faults_is_told(tmp_path):
    text = GOOD.replace("[0, 1]", "[x]").replace("W8A8", "W1A8").replace("- dqss", "- dqs")
    with pytest.raises(SuiteError, match=r"suite\.yaml:6: bits: 'W1A8'"):
        load(tmp_path, text)


def test_a_good_suite_holds_what_its_file_says(tmp_path):
    suite = load(tmp_path, GOOD.replace("- dqss", "- random: {images: 3}"))
    assert suite.path == tmp_path / "suite.yaml"
    assert (suite.suite, suite.version, suite.task) == ("mine", 1, "fashion-mnist")
    assert (suite.models, suite.bits, suite.seeds) == (("resnet8", "resnet20"), ("W8A8", "W4A4"), (0, 1))
    assert suite.protocol[0].name == "all-layers"
    assert [(m.name, m.options) for m in suite.ptq.methods] == [("uniform", {}), ("random", {"images": 3})]


def test_uniform_unfolds_to_the_shared_quantizers_in_the_order_of_the_weights(tmp_path):
    unfolded = load(tmp_path, GOOD).ptq.unfolded()
    assert [method.name for method in unfolded] == ["uniform-minmax", "uniform-mse", "dqss"]


def test_weight_quantizers_may_be_for_weights_alone_and_uniform_leaves_them_out(tmp_path):
    text = GOOD.replace("weight: [minmax, mse]", "weight: [minmax, adaround, mse+bias]").replace(
        "- dqss", "- uniform-adaround\n    - uniform-mse+bias"
    )
    suite = load(tmp_path, text)
    assert suite.ptq.quantizers.weight == ("minmax", "adaround", "mse+bias")
    assert [(method.name, method.search) for method in suite.ptq.unfolded()] == [
        ("uniform-minmax", "uniform"),
        ("uniform-adaround", "uniform"),
        ("uniform-mse+bias", "uniform"),
    ]


def test_an_inline_protocol_takes_what_it_leaves_out_from_the_default(tmp_path):
    text = GOOD.replace("all-layers", "{first_last_bits: 6, weight: {granularity: per-channel}}")
    protocol = load(tmp_path, text).protocol[0]
    default = Protocol()
    assert protocol.definition == Protocol(6, Scheme(default.weight.symmetric, "per-channel"), default.activation)
    assert protocol.name.startswith("custom-")
    assert len(protocol.name) == len("custom-") + 8


def test_an_inline_protocol_that_equals_a_named_one_bears_its_name(tmp_path):
    assert load(tmp_path, GOOD.replace("all-layers", "{first_last_bits: 8}")).protocol[0].name == "academic"


def test_options_are_kept_as_their_types_say_so_that_1_and_1_point_0_are_one_cell(tmp_path):
    suites = [load(tmp_path, GOOD.replace("- dqss", f"- dqss: {{learning_rate: {rate}}}")) for rate in ("1", "1.0")]
    assert {repr(suite.ptq.methods[1].options) for suite in suites} == {"{'learning_rate': 1.0}"}


@pytest.mark.parametrize("value", [".nan", ".inf"])
def test_an_option_must_be_finite(value, tmp_path):
    with pytest.raises(SuiteError, match=r"dqss\.learning_rate: found the number (nan|inf)\. Give a finite number\."):
        load(tmp_path, GOOD.replace("- dqss", f"- dqss: {{learning_rate: {value}}}"))
