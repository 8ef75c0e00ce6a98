import pytest

from benchmarks.suite import cells_of, load_suite, shipped_suites
from dqss.quantizers import QUANTIZERS

METHODS = [*(f"uniform-{quantizer}" for quantizer in QUANTIZERS), "best-uniform", "random", "dqss"]


def test_the_shipped_suites():
    assert list(shipped_suites()) == ["adaround", "classification", "imagenet_fidelity", "quickstart"]


@pytest.mark.parametrize("name", shipped_suites())
def test_a_shipped_suite_is_sound_and_bears_its_file_name(name):
    suite = load_suite(shipped_suites()[name])
    assert suite.suite == name
    assert suite.protocol.name == "all-layers"
    assert suite.seeds == (0,)


@pytest.mark.parametrize(
    ("name", "models", "bits"),
    [
        ("classification", ["resnet8", "resnet20", "mobilenetv2-small"], ["W8A8", "W4A8", "W4A4"]),
        ("quickstart", ["resnet8"], ["W4A4"]),
    ],
)
def test_a_shipped_suite_compares_its_methods_in_every_place(name, models, bits):
    cells = cells_of(load_suite(shipped_suites()[name]))
    expected = [(model, width, method) for model in models for width in bits for method in METHODS]
    assert [(cell.model, cell.bits, cell.method) for cell in cells] == expected


def test_the_suite_on_photographs_asks_what_uniform_kl_and_dqss_do_to_a_real_network():
    cells = cells_of(load_suite(shipped_suites()["imagenet_fidelity"]))
    places = {(cell.task, cell.model, cell.bits) for cell in cells}
    assert places == {("imagenet-fidelity", "efficientnet-lite0", "W8A8")}
    assert {"uniform-kl", "best-uniform", "dqss"} <= {cell.method for cell in cells}
