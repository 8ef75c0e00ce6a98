from pathlib import Path

import pytest

from benchmarks.suite import Suite, SuiteError, cells_of, load_suite

GOOD = """\
suite: mine
version: 1
task: fashion-mnist
models: [resnet8]
bits: [W4A4, W2A2]
protocol: all-layers
seeds: [0, 1]
qat:
  quantizers:
    weight: [lsq, sawb, dorefa]
    activation: [lsq, pact, dorefa]
  training: {epochs: 2, batch_size: 64}
  methods:
    - uniform
    - dqss
"""

# What is replaced in GOOD, by what, and the whole message after the file's name.
MALFORMED = {
    "unknown key": ("  training:", "  trainning:", "12: qat.trainning: unknown key. Did you mean 'training'?"),
    "missing budget": (
        "  training: {epochs: 2, batch_size: 64}\n",
        "",
        "8: qat.training: the key is missing. Add it, for example `training: {epochs: 2, batch_size: 64}`.",
    ),
    "missing batch size": (
        ", batch_size: 64",
        "",
        "12: qat.training.batch_size: the key is missing. Add it, for example `batch_size: 64`.",
    ),
    "no epoch": ("epochs: 2", "epochs: 0", "12: qat.training.epochs: 0 is not allowed. Give 1 or more."),
    "too much distillation": (
        "batch_size: 64",
        "batch_size: 64, distillation: 1.5",
        "12: qat.training.distillation: 1.5 is not allowed. Give a number between 0 and 1.",
    ),
    "no part": (
        "batch_size: 64",
        "batch_size: 64, accumulation: 0",
        "12: qat.training.accumulation: 0 is not allowed. Give 1 or more.",
    ),
    "parts that are not equal": (
        "batch_size: 64",
        "batch_size: 64, accumulation: 3",
        "12: qat.training.accumulation: 3 is not allowed, since a batch of 64 cannot be cut into as many equal parts. "
        "Give a divisor.",
    ),
    "unknown precision": (
        "batch_size: 64",
        "batch_size: 64, precision: bf61",
        "12: qat.training.precision: 'bf61' is not allowed. Did you mean 'bf16'?",
    ),
    "a stage of ZeRO that there is none of": (
        "batch_size: 64",
        "batch_size: 64, zero: 3",
        "12: qat.training.zero: 3 is not allowed. Give 0 (none), 1 or 2.",
    ),
    "ZeRO in lower precision": (
        "batch_size: 64",
        "batch_size: 64, precision: bf16, zero: 1",
        "12: qat.training.precision: 'bf16' is not allowed with zero 1. Write 'no'.",
    ),
    "a range for a learned quantizer": (
        "[lsq, sawb, dorefa]",
        "[lsqq]",
        "10: qat.quantizers.weight: no learned quantizer 'lsqq'. Did you mean 'lsq'? "
        "See `dqss-bench list learned-quantizers`.",
    ),
    "levels that integers cannot hold": (
        "[lsq, pact, dorefa]",
        "[lsq, apot]",
        "11: qat.quantizers.activation: 'apot' has levels that are not evenly spaced: integers cannot hold them, and "
        "every protocol here is of models to deploy. Delete it.",
    ),
    "unknown method": (
        "- dqss",
        "- dqs",
        "15: qat.methods: no training method 'dqs'. Did you mean 'dqss'? See `dqss-bench list training-methods`.",
    ),
    "a method of the other mode": (
        "- dqss",
        "- random",
        "15: qat.methods: no training method 'random'. Allowed: dqss, uniform, uniform-apot, uniform-dorefa, "
        "uniform-dsq, uniform-ewgs, uniform-lsq, uniform-lsq-plus, uniform-pact, uniform-sawb, uniform-ste-minmax. "
        "See `dqss-bench list training-methods`.",
    ),
    "a uniform strategy whose levels integers cannot hold": (
        "- uniform",
        "- uniform-apot",
        "14: qat.methods: 'apot' has levels that are not evenly spaced: integers cannot hold them, and "
        "every protocol here is of models to deploy. Delete it.",
    ),
    "bits that no cell has": (
        "- dqss",
        "- dqss: {W3A3: {network: 0.1}}",
        "15: qat.methods.dqss.W3A3: no cell of training has these bits. Allowed: W2A2, W4A4.",
    ),
    "unknown option at some bits": (
        "- dqss",
        "- dqss:\n        W2A2:\n          alhpa: 0.1",
        "17: qat.methods.dqss.W2A2.alhpa: no such option of 'dqss'. Did you mean 'alpha'?",
    ),
    "bits without options": (
        "- dqss",
        "- dqss: {W2A2: 0.1}",
        "15: qat.methods.dqss.W2A2: found the number 0.1. Give a mapping of options: {network: 0.01}.",
    ),
    "options that clash at some bits": (
        "- dqss",
        "- dqss: {warm_up: 0.5, W2A2: {search: 0.6}}",
        "15: qat.methods.dqss.W2A2.search: 0.6 is not allowed. Give a number above 0 that is, with warm_up (0.5), "
        "at most 1.",
    ),
    "twice": ("- dqss", "- dqss\n    - dqss: {alpha: 0.1}", "16: qat.methods: 'dqss' would run twice. Delete one."),
    "unknown option": (
        "- dqss",
        "- dqss:\n        alhpa: 0.1",
        "16: qat.methods.dqss.alhpa: no such option of 'dqss'. Did you mean 'alpha'?",
    ),
    "option of the other method": (
        "- uniform",
        "- uniform: {warm_up: 0.1}",
        "14: qat.methods.uniform.warm_up: no such option of 'uniform'. Allowed: network, quantizers, rise, start.",
    ),
    "rate of the wrong type": (
        "- dqss",
        "- dqss: {network: fast}",
        "15: qat.methods.dqss.network: found the text 'fast'. Give a number.",
    ),
    "rate that YAML reads as a text": (
        "- dqss",
        "- dqss: {network: 1e-5}",
        "15: qat.methods.dqss.network: found the text '1e-5', since YAML reads no such power of ten. Write 0.00001.",
    ),
    "uniform for nothing": (
        "- uniform\n",
        "- uniform-lsq\n    - uniform\n    - uniform-sawb\n    - uniform-dorefa\n    - uniform-pact\n",
        "15: qat.methods: 'uniform' makes no cell: each of its algorithms is named beside it. Delete it.",
    ),
    "rate of nothing": (
        "- uniform",
        "- uniform-lsq: {network: 0}",
        "14: qat.methods.uniform-lsq.network: 0.0 is not allowed. Give a number above 0.",
    ),
    "schedule without a search": (
        "- dqss",
        "- dqss: {warm_up: 0.5, search: 0.6}",
        "15: qat.methods.dqss.search: 0.6 is not allowed. Give a number above 0 that is, with warm_up (0.5), "
        "at most 1.",
    ),
    "nothing to begin from": (
        "- dqss",
        "- dqss: {then: begin}",
        "15: qat.methods.dqss.then: 'begin' is not allowed. Allowed: go-on, restart.",
    ),
    "no step left to restart for": (
        "- dqss",
        "- dqss: {warm_up: 0.5, search: 0.5, then: restart}",
        "15: qat.methods.dqss.then: 'restart' is not allowed where warm_up (0.5) and search (0.5) take all "
        "steps. Leave some, or write 'go-on'.",
    ),
    "affine weights": (
        "all-layers",
        "{weight: {symmetric: false}}",
        "8: qat: the weights of protocol 'custom-e1c34cf0' are affine, and no learned quantizer is made for that. "
        "Name a protocol with symmetric weights, or leave qat out.",
    ),
    "a list": (
        GOOD[GOOD.index("qat:") :],
        "qat: [lsq]",
        "8: qat: found a list. Give a mapping with the keys quantizers, training, methods, bits.",
    ),
}


def load(folder: Path, text: str) -> Suite:
    path = folder / "suite.yaml"
    path.write_text(text, encoding="utf-8")
    return load_suite(path)


def methods_of(suite: Suite) -> dict[str, dict[str, float]]:
    return {cell.method: cell.options for cell in cells_of(suite)}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_suite_ends_in_one_message(case, tmp_path):
    old, new, message = MALFORMED[case]
    assert GOOD.count(old) >= 1
    with pytest.raises(SuiteError) as caught:
        load(tmp_path, GOOD.replace(old, new, 1))
    assert str(caught.value) == f"{tmp_path / 'suite.yaml'}:{message}"


def test_uniform_unfolds_to_the_algorithms_of_either_list_with_who_stands_in_for_what_they_lack(tmp_path):
    candidates = {
        cell.method: (cell.weight_quantizers, cell.activation_quantizers) for cell in cells_of(load(tmp_path, GOOD))
    }
    assert candidates == {
        "uniform-lsq": (("lsq",), ("lsq",)),
        "uniform-sawb": (("sawb",), ("pact",)),
        "uniform-dorefa": (("dorefa",), ("dorefa",)),
        "uniform-pact": (("dorefa",), ("pact",)),
        "dqss": (("lsq", "sawb", "dorefa"), ("lsq", "pact", "dorefa")),
    }


def test_candidates_that_others_stand_in_for_are_named_as_these_and_once(tmp_path):
    text = GOOD.replace("[lsq, sawb, dorefa]", "[pact, dorefa, lsq]").replace("[lsq, pact, dorefa]", "[sawb, pact]")
    searched = next(cell for cell in cells_of(load(tmp_path, text)) if cell.method == "dqss")
    assert (searched.weight_quantizers, searched.activation_quantizers) == (("dorefa", "lsq"), ("pact",))


def test_options_of_uniform_are_for_all_that_are_not_named_apart(tmp_path):
    text = GOOD.replace("- uniform", "- uniform: {network: 0.002}\n    - uniform-lsq: {quantizers: 0.1}")
    assert methods_of(load(tmp_path, text)) == {
        "uniform-sawb": {"network": 0.002},
        "uniform-dorefa": {"network": 0.002},
        "uniform-pact": {"network": 0.002},
        "uniform-lsq": {"quantizers": 0.1},
        "dqss": {},
    }


def test_bits_of_training_may_be_others_than_those_of_the_suite(tmp_path):
    ptq = "ptq:\n  quantizers: {weight: [mse], activation: [mse]}\n  methods: [uniform]\nqat:\n  bits: [W3A3]\n"
    cells = cells_of(load(tmp_path, GOOD.replace("qat:\n", ptq).replace("- uniform\n    - dqss", "- dqss")))
    assert [(cell.mode, cell.bits, cell.method, cell.seed) for cell in cells] == [
        ("ptq", "W4A4", "uniform-mse", None),
        ("ptq", "W2A2", "uniform-mse", None),
        ("qat", "W3A3", "dqss", 0),
        ("qat", "W3A3", "dqss", 1),
    ]


def test_every_method_of_training_has_seeds(tmp_path):
    assert {cell.seed for cell in cells_of(load(tmp_path, GOOD)) if cell.method == "uniform-lsq"} == {0, 1}


def test_a_uniform_strategy_need_not_be_among_the_candidates(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD.replace("- uniform", "- uniform-ewgs"))
    pairs = {cell.method: (cell.weight_quantizers, cell.activation_quantizers) for cell in cells_of(load_suite(path))}
    assert pairs == {
        "uniform-ewgs": (("ewgs",), ("ewgs",)),
        "dqss": (("lsq", "sawb", "dorefa"), ("lsq", "pact", "dorefa")),
    }
