import pytest
import torch

import dqss
from dqss.calibrate import TensorSummary, calibrate
from dqss.functional import fake_quantize
from dqss.graph import prepare
from dqss.learned import LEARNED
from dqss.quantizers import QUANTIZERS
from dqss.ranges import STARTS, find_start
from dqss.registry import UnknownNameError
from dqss.search.base import no_report
from dqss.spec import PROTOCOLS, Bits, QuantSpec
from dqss.supernet import activation_algorithms, supernet_of, weight_algorithms

# Those whose ranges come of the tensor itself, by their papers.
OF_THE_TENSOR = {
    "for_weight": {"lsq-plus", "sawb", "dorefa", "ste-minmax", "apot"},
    "for_activation": {"ste-minmax", "apot"},
}


@pytest.fixture
def calibrated(tiny, batches):
    prepared = prepare(tiny, PROTOCOLS["all-layers"], Bits.parse("W3A3"), batches)
    return prepared, calibrate(prepared, batches, no_report)


@pytest.mark.parametrize("search", STARTS)
def test_training_begins_where_the_post_training_search_of_the_seed_ends(tiny, batches, calibrated, search):
    start = find_start(*calibrated, batches, search, 2, None, no_report)
    found = dqss.quantize_ptq(tiny, batches, bits="W3A3", search=search, seed=2)
    assert start.strategy == found.strategy
    assert start.forward_passes == found.report.forward_passes > 0
    pairs = {(choice.weight, choice.activation) for choice in start.strategy.layers.values()}
    assert search == "dqss" or len(pairs) == 1


def test_each_layer_begins_at_the_ranges_of_its_own_algorithms(tiny, batches, calibrated):
    prepared, calibration = calibrated
    start = find_start(*calibrated, batches, "dqss", 0, None, no_report).strategy
    supernet = supernet_of(
        prepared, calibration, start, weight_algorithms(["lsq"]), activation_algorithms(["lsq-plus"])
    )
    quantized = dqss.apply_strategy(tiny, start, batches)
    for name, layer in supernet.layers.items():
        (weight,), (activation,) = layer.weight_quantizers, layer.activation_quantizers
        assert weight(layer.layer.weight).equal(quantized.get_submodule(name).weight)
        grid = QUANTIZERS.create(start.layers[name].activation).qparams(
            calibration.activations[name], prepared.specs[name].activation
        )
        x = torch.linspace(-3, 3, 50).expand(2, -1)
        torch.testing.assert_close(activation(x), fake_quantize(x, grid))


@pytest.mark.parametrize("name", list(LEARNED))
@pytest.mark.parametrize("form", OF_THE_TENSOR)
def test_an_algorithm_begins_at_the_ranges_it_is_given_or_keeps_those_of_its_paper(name, form):
    x = torch.randn(4, 100, generator=torch.Generator().manual_seed(0)).abs()
    summary, spec = TensorSummary(), QuantSpec(3, symmetric=form == "for_weight")
    summary.update(x)

    def begun(ranges):
        algorithm = LEARNED.create(name).beginning_at(QUANTIZERS.create(ranges))
        try:
            made = (
                algorithm.for_weight(x, summary, spec)
                if form == "for_weight"
                else algorithm.for_activation(summary, spec)
            )
        except NotImplementedError:
            pytest.skip("has no such form")
        return made(x)

    assert begun("minmax").equal(begun("percentile")) == (name in OF_THE_TENSOR[form])


def test_what_training_cannot_begin_with_is_named(tiny, batches, calibrated):
    with pytest.raises(UnknownNameError, match=r"start: 'ds' is not allowed\. Did you mean 'dqss'\?"):
        find_start(*calibrated, batches, "ds", 0, None, no_report)
