import copy

import pytest
import torch
from torch import nn

from dqss.calibrate import calibrate
from dqss.candidates import weight_candidate
from dqss.functional import fake_quantize
from dqss.graph import prepare
from dqss.ptq import apply_strategy, pose, protocol_of, quantize, quantize_ptq
from dqss.quantizers import QUANTIZERS
from dqss.registry import UnknownNameError
from dqss.search.base import no_report
from dqss.search.dqss import Dqss
from dqss.search.random import Random
from dqss.spec import PROTOCOLS, Bits, Protocol, Scheme
from dqss.strategy import Choice, Strategy

QUICK = Random(images=40)
RANGES = ("minmax", "percentile")
CHEAP = {"weight_quantizers": RANGES, "activation_quantizers": RANGES}


def mixed_strategy(bits: str, protocol: Protocol = PROTOCOLS["all-layers"]) -> Strategy:
    own = Bits.parse(bits)
    choices = {
        "stem": Choice("mse", "kl", own),
        "depthwise": Choice("kl", "minmax", own),
        "head": Choice("minmax", "mse", own),
    }
    return Strategy(choices, own, protocol)


def outputs(model, batches):
    with torch.no_grad():
        return torch.cat([model(batch) for batch in batches])


def test_a_quantized_model_equals_one_quantized_by_hand(tiny, batches):
    strategy = mixed_strategy("W4A4")
    prepared = prepare(tiny, strategy.protocol, strategy.bits)
    calibration = calibrate(prepared, batches, no_report)
    quantized = quantize(prepared, calibration, strategy)

    by_hand = copy.deepcopy(prepared.model)
    for name, choice in strategy.layers.items():
        layer, specs = by_hand.get_submodule(name), prepared.specs[name]
        weight = QUANTIZERS.create(choice.weight).qparams(calibration.weights[name], specs.weight)
        activation = QUANTIZERS.create(choice.activation).qparams(calibration.activations[name], specs.activation)
        layer.weight.data = fake_quantize(layer.weight.data, weight)
        layer.register_forward_pre_hook(lambda module, args, grid=activation: (fake_quantize(args[0], grid),))
    assert outputs(quantized, batches).equal(outputs(by_hand, batches))


def test_quantizing_twice_gives_the_same_and_leaves_the_prepared_model(tiny, batches):
    strategy = mixed_strategy("W2A2")
    prepared = prepare(tiny, strategy.protocol, strategy.bits)
    calibration = calibrate(prepared, batches, no_report)
    first = outputs(quantize(prepared, calibration, strategy), batches)
    assert outputs(quantize(prepared, calibration, strategy), batches).equal(first)
    assert outputs(prepared.model, batches).equal(torch.cat(calibration.targets))


@pytest.mark.parametrize("granularity", ["per-tensor", "per-channel"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_weights_at_eight_bits_are_near_full_precision_under_every_scheme(tiny, batches, granularity, symmetric):
    protocol = Protocol(weight=Scheme(symmetric, granularity), activation=Scheme(symmetric, "per-tensor"))
    quantized = apply_strategy(tiny, mixed_strategy("W8A8", protocol), batches)
    expected = outputs(tiny.eval(), batches)
    assert (outputs(quantized, batches) - expected).norm() < 0.1 * expected.norm()


@pytest.mark.parametrize("search", ["best-uniform", Dqss(steps=5)])
def test_the_result_is_its_strategy_applied_bit_for_bit(tiny, batches, search):
    result = quantize_ptq(tiny, batches, bits="W3A4", search=search, protocol="academic")
    replayed = apply_strategy(tiny, Strategy.from_json(result.strategy.to_json()), batches)
    assert outputs(result.model, batches).equal(outputs(replayed, batches))
    assert result.strategy.protocol == PROTOCOLS["academic"]
    assert str(result.strategy.bits) == "W3A4"
    assert result.strategy.layers["head"].bits == Bits(8, 8)


@pytest.mark.parametrize("search", [QUICK, Dqss(steps=5), "uniform"])
def test_weight_candidates_that_are_more_than_a_range_replay_bit_for_bit(tiny, batches, search):
    names = ("adaround", "mse+bias", "adaround+bias")
    result = quantize_ptq(tiny, batches, bits="W3A4", search=search, weight_quantizers=names)
    assert {choice.weight for choice in result.strategy.layers.values()} <= set(names)
    replayed = apply_strategy(tiny, Strategy.from_json(result.strategy.to_json()), batches)
    assert outputs(result.model, batches).equal(outputs(replayed, batches))


def test_the_search_runs_the_model_that_it_returns(tiny, batches):
    prepared = prepare(tiny, PROTOCOLS["all-layers"], Bits(3, 4))
    calibration = calibrate(prepared, batches, no_report)
    weights = {name: weight_candidate(name) for name in ("kl", "mse+bias", "adaround")}
    problem = pose(prepared, calibration, batches, weights, {"mse": QUANTIZERS.create("mse")}, None)
    picks = ((1, 0), (2, 0), (0, 0))
    problem.loss(picks)
    model = quantize(prepared, calibration, problem.strategy(picks))
    assert outputs(problem.model, batches).equal(outputs(model, batches))


def test_a_strategy_with_a_weight_quantizer_for_activations_is_refused(tiny, batches):
    strategy = mixed_strategy("W4A4")
    choices = strategy.layers | {"stem": Choice("mse", "adaround", strategy.bits)}
    with pytest.raises(UnknownNameError, match="'adaround' is for weights alone"):
        apply_strategy(tiny, Strategy(choices, strategy.bits, strategy.protocol), batches)


def test_the_callers_model_and_batches_stay_as_they_were(tiny, batches):
    before, inputs = copy.deepcopy(tiny.state_dict()), copy.deepcopy(batches)
    quantize_ptq(tiny, batches, search=Dqss(steps=3), **CHEAP)
    assert all(before[name].equal(tensor) for name, tensor in tiny.state_dict().items())
    assert tiny.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in tiny.parameters())
    assert all(old.equal(new) for old, new in zip(inputs, batches, strict=True))


@pytest.mark.parametrize("search", [QUICK, Dqss(steps=5)])
def test_the_same_seed_gives_the_same_result(tiny, batches, search):
    first, second = (quantize_ptq(tiny, batches, bits="W2A2", search=search, seed=3, **CHEAP) for _ in range(2))
    assert first.strategy == second.strategy
    assert first.report == second.report
    assert outputs(first.model, batches).equal(outputs(second.model, batches))


def test_another_seed_searches_elsewhere(tiny, batches):
    first, second = [quantize_ptq(tiny, batches, search=QUICK, seed=seed, **CHEAP).report for seed in (0, 1)]
    assert first.found.curves != second.found.curves


def test_batches_may_come_from_a_generator(tiny, batches):
    result = quantize_ptq(tiny, (batch for batch in batches), search=QUICK, **CHEAP)
    assert result.report == quantize_ptq(tiny, batches, search=QUICK, **CHEAP).report


def test_a_model_with_several_inputs_takes_sequences_of_them():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(2, 3), nn.Linear(4, 3)

        def forward(self, x, y):
            return self.a(x) + self.b(y)

    generator = torch.Generator().manual_seed(0)
    batches = [(torch.randn(5, 2, generator=generator), torch.randn(5, 4, generator=generator)) for _ in range(2)]
    result = quantize_ptq(Sum(), batches, search=QUICK, **CHEAP)
    assert result.model(*batches[0]).shape == (5, 3)
    assert 40 <= result.report.forward_passes < 40 + 10


def test_only_the_named_quantizers_are_candidates(tiny, batches):
    result = quantize_ptq(tiny, batches, search=QUICK, weight_quantizers=["mse"], activation_quantizers=["kl"])
    assert {(choice.weight, choice.activation) for choice in result.strategy.layers.values()} == {("mse", "kl")}


def test_it_works_where_the_caller_has_switched_gradients_off(tiny, batches):
    expected = quantize_ptq(tiny, batches, **CHEAP)
    with torch.no_grad():
        assert quantize_ptq(tiny, batches, **CHEAP).strategy == expected.strategy


def test_one_tensor_in_the_place_of_batches_is_refused(tiny, batches):
    with pytest.raises(ValueError, match=r"calibration_batches: one tensor is not allowed\. Give a list of batches"):
        quantize_ptq(tiny, batches[0])


def test_the_loss_asked_for_is_the_one_reported(tiny, batches):
    result = quantize_ptq(tiny, batches, search="uniform", loss="mse", **CHEAP)
    expected, found = outputs(tiny.eval(), batches), outputs(result.model, batches)
    parts = [
        ((e - f).square().mean() / e.square().mean()).item() * len(e)
        for e, f in zip(expected.split([4, 4, 2]), found.split([4, 4, 2]), strict=True)
    ]
    assert result.report.found.calibration_loss == pytest.approx(sum(parts) / 10, rel=1e-4)


def test_progress_is_reported(tiny, batches):
    stages = []
    quantize_ptq(tiny, batches, search=QUICK, **CHEAP, report=lambda *stage: stages.append(stage))
    assert stages[:3] == [("calibration", done, 3) for done in (1, 2, 3)]
    # How much of the budget of images is spent never falls.
    searched = stages[3:]
    assert {(name, total) for name, _, total in searched} == {("search", 40)}
    assert [done for _, done, _ in searched] == sorted(done for _, done, _ in searched)
    assert searched[-1][1] == 40


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"search": "dqs"}, UnknownNameError, "no search 'dqs'. Did you mean 'dqss'"),
        ({"weight_quantizers": ["minmax", "ms"]}, UnknownNameError, "no quantizer 'ms'. Did you mean 'mse'"),
        ({"weight_quantizers": ["ms+bias"]}, UnknownNameError, r"no quantizer 'ms\+bias'. Did you mean 'mse'"),
        ({"activation_quantizers": ["ms"]}, UnknownNameError, "no quantizer 'ms'. Did you mean 'mse'"),
        ({"activation_quantizers": ["adaround"]}, UnknownNameError, "'adaround' is for weights alone. .* minmax"),
        ({"activation_quantizers": ["kl+bias"]}, UnknownNameError, r"'kl\+bias' is for weights alone"),
        ({"protocol": "academy"}, UnknownNameError, "no protocol 'academy'. Did you mean 'academic'"),
        ({"loss": "mze"}, UnknownNameError, "no output loss 'mze'. Did you mean 'mse'"),
        ({"bits": "W4B4"}, ValueError, "'W4B4' is not a bit-width"),
        ({"weight_quantizers": []}, ValueError, "quantizers: empty"),
        ({"activation_quantizers": []}, ValueError, "quantizers: empty"),
        ({"calibration_batches": []}, ValueError, "calibration_batches: empty"),
        ({"model": nn.ReLU()}, ValueError, "There is nothing to quantize"),
    ],
)
def test_a_wrong_argument_is_an_error_that_says_which(tiny, batches, arguments, kind, message):
    with pytest.raises(kind, match=message):
        quantize_ptq(**{"model": tiny, "calibration_batches": batches, "search": QUICK} | arguments)


def test_a_strategy_of_another_model_is_refused(tiny, batches):
    strategy = mixed_strategy("W4A4")
    choices = {"body" if name == "depthwise" else name: choice for name, choice in strategy.layers.items()}
    with pytest.raises(ValueError, match=r"its layers are not the model's \(differing: body, depthwise\)"):
        apply_strategy(tiny, Strategy(choices, strategy.bits, strategy.protocol), batches)


def test_a_protocol_is_given_by_name_or_as_it_is():
    assert protocol_of("academic") == PROTOCOLS["academic"]
    custom = Protocol(first_last_bits=6)
    assert protocol_of(custom) is custom


def test_one_problem_serves_many_searches(tiny, batches):
    prepared = prepare(tiny, PROTOCOLS["all-layers"], Bits(3, 3))
    calibration = calibrate(prepared, batches, no_report)
    quantizers = {name: QUANTIZERS.create(name) for name in RANGES}
    problem = pose(prepared, calibration, batches, quantizers, quantizers, None)
    alone = QUICK.search(problem.fresh(5), no_report)
    Dqss(steps=5).search(problem.fresh(0), no_report)
    shared = problem.fresh(5)
    assert QUICK.search(shared, no_report) == alone
    assert 40 <= shared.cost.forward_passes < 40 + 10
    assert problem.cost.forward_passes == 0
