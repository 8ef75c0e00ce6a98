import copy
import math
from dataclasses import dataclass, replace
from itertools import product
from statistics import median_low

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from dqss.calibrate import TensorSummary, calibrate
from dqss.functional import fake_quantize
from dqss.graph import prepare
from dqss.layers import LearnedLayer
from dqss.learned import LEARNED
from dqss.learned.base import Learned, LearnedQuantizer, with_gradient_of
from dqss.optimizer import optimizer_of
from dqss.qat import ALGORITHMS, train_qat
from dqss.ranges import find_start
from dqss.registry import Entry, UnknownNameError
from dqss.schedule import Rates, Schedule
from dqss.search.base import no_report
from dqss.search.dqss import discretize, softmax_at
from dqss.spec import PROTOCOLS, Bits, Protocol, QuantSpec, Scheme
from dqss.strategy import Strategy
from dqss.supernet import Supernet, activation_algorithms, supernet_of, weight_algorithms
from dqss.training import Trainee, first

KINDS = {
    "conv": (nn.Conv2d(3, 4, 3, stride=2, padding=1), (2, 3, 6, 6)),
    "depthwise": (nn.Conv2d(3, 3, 3, groups=3), (2, 3, 6, 6)),
    "transposed": (nn.ConvTranspose1d(3, 4, 3), (2, 3, 6)),
    "linear": (nn.Linear(3, 4), (2, 3)),
}
SHORT = Schedule(steps=10)
FEW = {"weight_quantizers": ["lsq", "dorefa", "dsq"], "activation_quantizers": ["lsq-plus", "ste-minmax"]}
EVEN = (math.log(3) + math.log(2)) / 2


@pytest.fixture
def training(tiny):
    """The full-precision network's own outputs as targets."""
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(4, 8, 2, 5, 5, generator=generator)
    with torch.no_grad():
        examples = [(x, copy.deepcopy(tiny).eval()(x)) for x in inputs]
    return lambda epoch: examples


def outputs(model, batches):
    with torch.no_grad():
        return torch.cat([model(batch) for batch in batches])


def candidates_for(kind):
    """A layer with three candidates for its weight and two for its inputs, in double precision, and inputs."""
    layer, shape = KINDS[kind]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    weight, seen = TensorSummary(), TensorSummary()
    weight.update(layer.weight)
    seen.update(x)
    w, a = QuantSpec(3, symmetric=True), QuantSpec(3, symmetric=False)
    weights = [LEARNED.create(name).for_weight(layer.weight, weight, w) for name in ("lsq", "dorefa", "dsq")]
    activations = [LEARNED.create(name).for_activation(seen, a) for name in ("lsq-plus", "pact")]
    made = LearnedLayer(copy.deepcopy(layer), weights, activations).double()
    return made, x.double().requires_grad_()


def with_gradients(output, sources):
    grads = torch.autograd.grad((output * output.detach().cos()).sum(), sources, retain_graph=True)
    return [output.detach(), *grads]


@pytest.mark.parametrize("kind", KINDS)
def test_a_mixture_and_its_gradients_are_those_of_the_sum_over_all_pairs(kind):
    made, x = candidates_for(kind)
    # Of logits: each pair of the sum has the bias, so its gradient to mixing weights that need not sum to 1 is another.
    logits = [torch.tensor(values, dtype=torch.float64, requires_grad=True) for values in ([0.5, 0.3, -1.2], [0.4, 0])]
    p, q = (part.softmax(0) for part in logits)
    expected = 0
    for (i, weight), (j, activation) in product(
        enumerate(made.weight_quantizers), enumerate(made.activation_quantizers)
    ):
        parameters = {"weight": weight(made.layer.weight)}
        expected = expected + p[i] * q[j] * functional_call(made.layer, parameters, (activation(x),))
    made.mix(p, q)
    sources = [*logits, x, *made.parameters()]
    found, wanted = with_gradients(made(x), sources), with_gradients(expected, sources)
    # Alpha, inputs, latent weight, bias and each of the five quantizers' own parameters.
    assert len(sources) == 3 + 2 + (1 + 1 + 2) + (2 + 1)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    assert all(gradient.abs().max() > 0 for gradient in wanted[:6])


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_begins_with_even_odds_and_once_derived_runs_its_pair_alone(kind):
    made, x = candidates_for(kind)
    begun = made(x)
    made.mix(torch.full((3,), 1 / 3), torch.full((2,), 1 / 2))
    assert torch.allclose(begun, made(x))
    weight, activation = made.weight_quantizers[2], made.activation_quantizers[1]
    expected = functional_call(made.layer, {"weight": weight(made.layer.weight)}, (activation(x),))
    parameters = set(made.parameters())
    made.derive(2, 1)
    assert made(x).equal(expected)
    assert list(made.quantizers()) == [weight, activation]
    # What wraps the layer for training holds the others' parameters too.
    assert set(made.parameters()) == parameters
    made.settle()
    assert made(x).equal(expected)
    assert set(made.parameters()) == {*made.layer.parameters(), *weight.parameters(), *activation.parameters()}


def test_a_transposed_layer_takes_an_output_size():
    made, x = candidates_for("transposed")
    assert made(x, output_size=[8]).shape == (2, 4, 8)


@pytest.mark.parametrize("relaxation", ["softmax", "gumbel"])
def test_the_result_runs_the_pair_that_its_strategy_names(tiny, batches, training, relaxation):
    schedule = Schedule(steps=12, relaxation=relaxation)
    result = train_qat(tiny, training, F.mse_loss, batches, schedule, bits="W3A4", protocol="academic", **FEW)
    by_hand = copy.deepcopy(prepare(tiny, PROTOCOLS["academic"], Bits(3, 4)).model)
    assert list(result.strategy.layers) == ["stem", "depthwise", "head"]
    assert [str(choice.bits) for choice in result.strategy.layers.values()] == ["W8A8", "W3A4", "W8A8"]
    for name, choice in result.strategy.layers.items():
        trained, plain = result.model.get_submodule(name), by_hand.get_submodule(name)
        (weight,), (activation,) = trained.weight_quantizers, trained.activation_quantizers
        assert (weight.spec.bits, activation.spec.bits) == (choice.bits.weight, choice.bits.activation)
        made = LEARNED.create(choice.weight).for_weight(*summarised(plain.weight), weight.spec)
        assert type(weight) is type(made)
        made = LEARNED.create(choice.activation).for_activation(summarised(plain.weight)[1], activation.spec)
        assert type(activation) is type(made)
        plain.weight.data = fake_quantize(weight.transformed(trained.layer.weight), weight.qparams())
        plain.bias.data = trained.layer.bias.data
        grid = activation.qparams()
        plain.register_forward_pre_hook(lambda module, args, grid=grid: fake_quantize(args[0], grid))
    assert torch.allclose(outputs(result.model, batches), outputs(by_hand, batches), rtol=1e-5, atol=1e-6)
    assert not any(module.training for module in result.model.modules())
    assert not any(parameter.requires_grad for parameter in result.model.parameters())
    assert Strategy.from_json(result.strategy.to_json()) == result.strategy


def summarised(weight: Tensor) -> tuple[Tensor, TensorSummary]:
    summary = TensorSummary()
    summary.update(weight)
    return weight, summary


def test_the_callers_model_and_batches_stay_as_they_were(tiny, batches, training):
    before, inputs, examples = copy.deepcopy(tiny.state_dict()), copy.deepcopy(batches), copy.deepcopy(training(0))
    train_qat(tiny, training, F.mse_loss, batches, SHORT, **FEW)
    assert all(before[name].equal(tensor) for name, tensor in tiny.state_dict().items())
    assert tiny.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in tiny.parameters())
    assert all(old.equal(new) for old, new in zip(inputs, batches, strict=True))
    assert all(x.equal(a) and y.equal(b) for (x, y), (a, b) in zip(examples, training(0), strict=True))


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tiny, batches, training):
    schedule = Schedule(steps=10, relaxation="gumbel")
    one, again, other = (
        train_qat(tiny, training, F.mse_loss, batches, schedule, bits="W2A2", seed=seed, **FEW) for seed in (3, 3, 4)
    )
    assert one.strategy == again.strategy
    assert one.report == again.report
    states = one.model.state_dict(), again.model.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(tensor.equal(states[1][name]) for name, tensor in states[0].items())
    assert one.report.curves["loss"] != other.report.curves["loss"]


def test_no_randomness_is_taken_from_or_left_in_torchs_own(tiny, batches, training):
    before = torch.get_rng_state()
    train_qat(tiny, training, F.mse_loss, batches, SHORT, **FEW)
    assert torch.get_rng_state().equal(before)


def test_a_caller_who_switched_gradients_off_gets_the_same(tiny, batches, training):
    expected = train_qat(tiny, training, F.mse_loss, batches, SHORT, **FEW)
    with torch.no_grad():
        result = train_qat(tiny, training, F.mse_loss, batches, SHORT, **FEW)
        assert not torch.is_grad_enabled()
    assert result.report == expected.report


@pytest.mark.parametrize("relaxation", ["softmax", "gumbel"])
def test_alpha_stands_in_warm_up_moves_in_search_and_is_discrete_after(tiny, batches, training, relaxation):
    schedule = Schedule(steps=20, warm_up=0.25, search=0.5, relaxation=relaxation)
    report = train_qat(tiny, training, F.mse_loss, batches, schedule, bits="W2A2", **FEW).report
    entropy = report.curves["entropy"]
    assert entropy[:5] == pytest.approx([EVEN] * 5, abs=1e-6)
    assert all(0 <= value < EVEN - 1e-4 for value in entropy[5:15])
    assert entropy[5] > entropy[14]
    assert entropy[15:] == [0] * 5
    # Weights and quantizers move from the first step on.
    assert min(report.curves["loss"][4:]) < report.curves["loss"][0]


def test_without_training_on_the_strategy_is_derived_all_the_same(tiny, batches, training):
    schedule = Schedule(steps=8, warm_up=0.0, search=1.0, cold=1.0)
    result = train_qat(tiny, training, F.mse_loss, batches, schedule, **FEW)
    assert 0 not in result.report.curves["entropy"]
    assert all(len(result.model.get_submodule(name).weight_quantizers) == 1 for name in result.strategy.layers)


def test_the_strategy_is_the_argmax_of_alpha(tiny, batches, training):
    result = train_qat(tiny, training, F.mse_loss, batches, SHORT, bits="W2A2", **FEW)
    weights, activations = result.report.candidates
    assert result.report.candidates == (tuple(FEW["weight_quantizers"]), tuple(FEW["activation_quantizers"]))
    for name, choice in result.strategy.layers.items():
        weight, activation = result.report.alpha[name]
        assert sum(weight) == pytest.approx(1)
        assert choice.weight == weights[weight.index(max(weight))]
        assert choice.activation == activations[activation.index(max(activation))]


class Coarse(LearnedQuantizer):
    """Three levels whatever the bits: 0, and the largest magnitude seen with either sign."""

    def __init__(self, summary: TensorSummary, spec: QuantSpec) -> None:
        super().__init__(spec)
        self.reach = summary.reach

    def quantized(self, x: Tensor, features: int) -> Tensor:
        return with_gradient_of(x, (x.detach() / self.reach).round().clamp(-1, 1) * self.reach)


@dataclass(frozen=True)
class Useless(Learned):
    def for_weight(self, weight: Tensor, summary: TensorSummary, spec: QuantSpec) -> LearnedQuantizer:
        return Coarse(summary, spec)

    def for_activation(self, summary: TensorSummary, spec: QuantSpec) -> LearnedQuantizer:
        return Coarse(summary, spec)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_harmful_candidate_is_avoided_in_every_layer(monkeypatch, seed):
    monkeypatch.setitem(LEARNED.table, "useless", Entry(f"{__name__}:Useless"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Conv2d(2, 8, 3, bias=False), nn.ReLU(), nn.Conv2d(8, 8, 3, bias=False), nn.Flatten()]
        network = nn.Sequential(*layers, nn.Linear(72, 4, bias=False))
        inputs = torch.randn(8, 16, 2, 7, 7)
        with torch.no_grad():
            exact = network(inputs.flatten(0, 1)).unflatten(0, (8, 16))
    examples = list(zip(inputs, exact / exact.std(), strict=True))
    with torch.no_grad():
        network[-1].weight /= exact.std()
    # Before the good one, so that a tie would go to it.
    names = ["useless", "lsq"]
    given = network, lambda epoch: examples, F.mse_loss, list(inputs), Schedule(steps=100), "W8A8"
    result = train_qat(*given, weight_quantizers=names, activation_quantizers=names)
    assert {(choice.weight, choice.activation) for choice in result.strategy.layers.values()} == {("lsq", "lsq")}
    harmed = train_qat(*given, **pair("useless", "useless"))
    ends = [sum(run.report.curves["loss"][-8:]) for run in (result, harmed)]
    assert ends[0] < 0.1 * ends[1]


def pair(weight, activation):
    return {"search": "uniform", "weight_quantizers": [weight], "activation_quantizers": [activation]}


@pytest.mark.parametrize("options", [FEW, pair("lsq", "lsq")])
def test_a_search_and_a_uniform_run_take_as_many_batches_as_they_have_steps(tiny, batches, training, options):
    epochs, drawn, reports = [], [], []

    def counted(epoch):
        epochs.append(epoch)
        for example in training(epoch):
            drawn.append(epoch)
            yield example

    result = train_qat(
        tiny, counted, F.mse_loss, batches, SHORT, report=lambda *stage: reports.append(stage), **options
    )
    assert (epochs, drawn) == ([0, 1, 2], [0] * 4 + [1] * 4 + [2] * 2)
    assert result.report.steps == len(result.report.curves["loss"]) == len(result.report.curves["entropy"]) == 10
    assert [stage for stage in reports if stage[0] == "training"] == [("training", step, 10) for step in range(1, 11)]


def test_a_uniform_run_has_nothing_to_search(tiny, batches, training):
    report = train_qat(tiny, training, F.mse_loss, batches, SHORT, **pair("lsq", "pact")).report
    assert report.alpha is None
    assert report.curves["entropy"] == [0] * 10
    assert report.candidates == (("lsq",), ("pact",))
    assert report.seconds > 0


def test_the_first_steps_are_those_of_adam_with_rates_as_parts_of_magnitudes(batches):
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(27, 2))
    target = torch.randn(4, 2, generator=torch.Generator().manual_seed(3))
    schedule, rates = Schedule(steps=2, rise=0), Rates(network=0.02, quantizers=0.003)
    result = train_qat(
        network, lambda epoch: [(batches[0], target)], F.mse_loss, batches, schedule, rates=rates, **pair("lsq", "lsq")
    )
    # One step of rate 0, so that the quantizers are as they begin.
    still = Rates(network=1e-30, quantizers=1e-30)
    begun = train_qat(
        network,
        lambda epoch: [(batches[0], target)],
        F.mse_loss,
        batches,
        Schedule(steps=1),
        rates=still,
        **pair("lsq", "lsq"),
    ).model.requires_grad_()
    rates_by_name = {
        name: (0.02 if ".layer." in name else 0.003)
        * (median_low(row.abs().mean().item() for row in parameter) if parameter.ndim > 1 else parameter.abs().mean())
        for name, parameter in begun.state_dict().items()
    }
    means, squares = ({name: torch.zeros_like(p) for name, p in begun.named_parameters()} for _ in range(2))
    for step, decay in enumerate((1, 0.5), start=1):
        loss = F.mse_loss(begun(batches[0]), target)
        assert loss.item() == pytest.approx(result.report.curves["loss"][step - 1], rel=1e-5)
        begun.zero_grad()
        loss.backward()
        with torch.no_grad():
            for name, parameter in begun.named_parameters():
                means[name] = 0.9 * means[name] + 0.1 * parameter.grad
                squares[name] = 0.999 * squares[name] + 0.001 * parameter.grad**2
                root = (squares[name] / (1 - 0.999**step)).sqrt() + 1e-8
                parameter -= rates_by_name[name] * decay * means[name] / (1 - 0.9**step) / root
    for name, parameter in result.model.named_parameters():
        torch.testing.assert_close(parameter, begun.get_parameter(name).detach(), rtol=1e-4, atol=1e-6)


def test_an_offset_that_begins_at_zero_moves_as_fast_as_the_step_beside_it():
    layer, seen = nn.Linear(3, 2), TensorSummary()
    seen.update(torch.rand(8, 3))
    made = LEARNED.create("lsq-plus").for_activation(seen, QuantSpec(2, symmetric=False))
    supernet = LearnedLayer(layer, [Coarse(summarised(layer.weight)[1], QuantSpec(2, symmetric=True))], [made])
    groups = optimizer_of(Supernet(supernet, {"layer": supernet}), Rates(network=0.5, quantizers=0.01)).param_groups
    rates = {parameter: group["lr"] for group in groups for parameter in group["params"]}
    assert made.offset.item() == 0
    assert rates == {
        layer.weight: pytest.approx(0.5 * min(row.abs().mean().item() for row in layer.weight)),
        layer.bias: pytest.approx(0.5 * layer.bias.abs().mean().item()),
        made.step: pytest.approx(0.01 * made.step.item()),
        made.offset: pytest.approx(0.01 * made.step.item()),
    }


def test_an_algorithm_without_the_form_gives_way_to_its_partner_and_the_strategy_says_so(tiny, batches, training):
    result = train_qat(tiny, training, F.mse_loss, batches, SHORT, **pair("pact", "sawb"))
    assert {(choice.weight, choice.activation) for choice in result.strategy.layers.values()} == {("dorefa", "pact")}
    result = train_qat(
        tiny,
        training,
        F.mse_loss,
        batches,
        SHORT,
        weight_quantizers=["pact", "dorefa", "lsq"],
        activation_quantizers=["lsq", "sawb", "pact"],
    )
    assert result.report.candidates == (("dorefa", "lsq"), ("lsq", "pact"))


def test_the_default_candidates_are_all_that_can_be_deployed():
    assert set(ALGORITHMS) == {name for name in LEARNED if LEARNED.load(name).uniform}


@pytest.mark.parametrize("name", ["ste-minmax", "sawb"])
def test_ranges_of_weights_are_those_that_the_last_step_left(tiny, batches, training, name):
    result = train_qat(tiny, training, F.mse_loss, batches, SHORT, **pair(name, "lsq"))
    trained = result.model.get_submodule("stem")
    (quantizer,) = trained.weight_quantizers
    grid, latent = quantizer.qparams(), trained.layer.weight
    assert fake_quantize(latent, grid).equal(quantizer(latent))


def test_what_an_algorithm_holds_constant_stays(tiny, batches, training):
    options = pair("dorefa", "dorefa")
    clips = [
        train_qat(tiny, training, F.mse_loss, batches, Schedule(steps=steps), **options)
        .model.get_submodule("stem")
        .activation_quantizers[0]
        .alpha
        for steps in (1, 10)
    ]
    assert clips[0].equal(clips[1])


def test_normalisation_is_folded_and_what_cannot_be_keeps_its_statistics(batches):
    network = nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten())
    network.append(nn.Linear(36, 2))
    examples = [(batch, torch.ones(len(batch), 2)) for batch in batches]
    result = train_qat(network, lambda epoch: examples, F.mse_loss, batches, SHORT, **pair("lsq", "lsq"))
    (norm,) = (module for module in result.model.modules() if isinstance(module, nn.BatchNorm2d))
    assert norm.running_mean.equal(network[0].running_mean)
    assert norm.running_var.equal(network[0].running_var)
    assert not norm.weight.equal(network[0].weight)


def test_distillation_alone_is_the_distance_to_full_precision(tiny, batches, training):
    def ignored(output, target):
        return output.sum() * 0

    options = {"bits": "W2A2", **pair("lsq", "lsq")}
    schedule = Schedule(steps=24)
    curve = train_qat(tiny, training, ignored, batches, schedule, distillation=1.0, **options).report.curves["loss"]
    x, exact = training(0)[0]
    still = train_qat(tiny, training, ignored, batches, Schedule(steps=1), **options).model
    target = exact.softmax(1)
    divergence = (target * (target.log() - still(x).log_softmax(1))).sum(1).mean()
    assert curve[0] == pytest.approx(divergence.item(), rel=1e-4)
    assert sum(curve[-4:]) < 0.8 * sum(curve[:4])
    half = train_qat(tiny, training, ignored, batches, schedule, distillation=0.5, **options).report.curves["loss"]
    assert half[0] == pytest.approx(curve[0] / 2)


def test_a_model_that_cannot_be_traced_is_trained_too(batches):
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 3)

        def forward(self, x):
            return self.conv(x).mean((2, 3)) if x.sum() > -1e9 else x

    examples = [(batch, torch.ones(len(batch), 3)) for batch in batches]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = Branching()
    result = train_qat(network, lambda epoch: examples, F.mse_loss, batches, Schedule(steps=30), **FEW)
    assert "cannot trace Branching" in result.report.notes[0]
    epochs = torch.tensor(result.report.curves["loss"]).view(10, 3).mean(1)
    assert epochs[-1] < epochs[0]


AFFINE = Protocol(weight=Scheme(symmetric=False, granularity="per-tensor"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"search": "dqs"}, r"search: 'dqs' is not allowed\. Did you mean 'dqss'\?"),
        ({"search": "uniform"}, r"search: 'uniform' is not allowed with 7 weight quantizers and 7 activation quant"),
        ({"weight_quantizers": ["lsk"]}, r"no learned quantizer 'lsk'\. Did you mean 'lsq'\?"),
        ({"activation_quantizers": ["mse"]}, r"no learned quantizer 'mse'"),
        ({"weight_quantizers": []}, r"quantizers: empty\. Name at least one"),
        (
            {"schedule": Schedule(10, warm_up=0.1, search=0.01)},
            r"steps: 10 is not allowed, since search \(0\.01\) of them is no",
        ),
        ({"distillation": 1.5}, r"distillation: 1\.5 is not allowed\. Give a number between 0 and 1\."),
        ({"distillation": math.nan}, r"distillation: nan is not allowed\."),
        ({"training_batches": [1]}, r"training_batches: a list is not allowed\. Give a function from the epoch"),
        ({"training_batches": lambda epoch: [torch.ones(2)]}, r"batch 1 of epoch 0 is a Tensor\. Give pairs"),
        ({"protocol": AFFINE}, r"protocol: affine weights are not allowed in training"),
        ({"protocol": "al-layers"}, r"no protocol 'al-layers'\. Did you mean 'all-layers'\?"),
        ({"bits": "W9A4"}, r"'W9A4' is not a bit-width"),
        ({"calibration_batches": []}, r"calibration_batches: empty"),
        ({"loss": lambda output, target: output}, r"loss: its value is a tensor of shape \(8, 3\)\. Give a function"),
        ({"loss": lambda output, target: 1.0}, r"loss: its value is a float\. Give a function"),
        ({"loss": lambda output, target: output.sum() * math.nan}, r"loss: nan in step 1 of 10\. Lower the rates"),
    ],
)
def test_what_cannot_be_is_named_with_what_is_allowed(tiny, batches, training, options, message):
    given = {"training_batches": training, "loss": F.mse_loss, "calibration_batches": batches, "schedule": SHORT}
    with pytest.raises(ValueError, match=message):
        train_qat(tiny, **(given | options))


def test_a_wrong_name_is_an_unknown_name(tiny, batches, training):
    with pytest.raises(UnknownNameError):
        train_qat(tiny, training, F.mse_loss, batches, SHORT, search="dqs")


def test_a_restart_trains_the_derived_strategy_from_the_beginning(tiny, batches):
    """All that is left of the search is the strategy: the rest is a uniform training of as many steps."""
    generator = torch.Generator().manual_seed(2)
    examples = [(torch.randn(8, 2, 5, 5, generator=generator), torch.ones(8, 3)) for _ in range(12)]
    # Candidates that take the same pair in every layer, so that a uniform run has the strategy.
    names = {"weight_quantizers": ["lsq"], "activation_quantizers": ["lsq", "pact"], "seed": 3}
    schedule = Schedule(steps=12, warm_up=0.1, search=0.4, rise=0, then="restart")
    assert schedule.end == 6
    result = train_qat(tiny, lambda epoch: examples, F.mse_loss, batches, schedule, bits="W2A2", **names)
    picked = {choice.activation for choice in result.strategy.layers.values()}
    gone_on = train_qat(
        tiny, lambda epoch: examples, F.mse_loss, batches, replace(schedule, then="go-on"), bits="W2A2", **names
    )
    assert result.report.curves["loss"][:6] == gone_on.report.curves["loss"][:6]
    assert result.report.alpha == gone_on.report.alpha
    assert result.report.curves["loss"][6] != gone_on.report.curves["loss"][6]
    # Which pair each layer takes is the search's matter; the network of layers of one pair each is made by hand.
    prepared = prepare(tiny, PROTOCOLS["all-layers"], Bits.parse("W2A2"), batches)
    supernet = supernet_of(
        prepared,
        calibrate(prepared, batches, no_report),
        result.report.start,
        weight_algorithms(["lsq"]),
        activation_algorithms(["lsq", "pact"]),
    )
    for name, layer in supernet.layers.items():
        layer.derive(0, ["lsq", "pact"].index(result.strategy.layers[name].activation))
    assert picked <= {"lsq", "pact"}
    optimizer, losses = optimizer_of(supernet, Rates()), []
    highest = [group["lr"] for group in optimizer.param_groups]
    for layer in supernet.layers.values():
        layer.train()
    for step, (inputs, targets) in enumerate(examples[6:]):
        for group, rate in zip(optimizer.param_groups, highest, strict=True):
            group["lr"] = rate * (1 + math.cos(math.pi * step / 6)) / 2
        loss = F.mse_loss(supernet.model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert result.report.curves["loss"][6:] == losses


def test_a_candidate_whose_share_became_negligible_does_not_come_back(tiny, batches):
    prepared = prepare(tiny, PROTOCOLS["all-layers"], Bits.parse("W2A2"), batches)
    calibration = calibrate(prepared, batches, no_report)
    start = find_start(prepared, calibration, batches, "best-uniform", 0, None, no_report).strategy
    names = ["lsq", "dsq", "ewgs"]
    trainee = Trainee(supernet_of(prepared, calibration, start, weight_algorithms(names), activation_algorithms(names)))
    with torch.no_grad():
        # Shares of the first layer's weight candidates: 0.9985, 0.0006 and 0.0009; of the second's, a third each.
        trainee.alpha_weight[0] = torch.tensor([0.9985, 0.0006, 0.0009]).log()
    trainee.drop(softmax_at(trainee.alpha, 1.0))
    with torch.no_grad():
        trainee.alpha_weight[0, 1:] = 9.0
    mixing = trainee.alpha.weight.softmax(1)
    assert mixing[0].tolist() == [1, 0, 0]
    assert mixing[1].tolist() == pytest.approx([1 / 3] * 3)
    assert trainee.alpha.activation.equal(torch.zeros_like(trainee.alpha_activation))
    assert discretize(trainee.alpha)[0][0] == 0
    mixing[:, 1].sum().backward()
    assert trainee.alpha_weight.grad[0].tolist() == [0, 0, 0]
    assert trainee.alpha_weight.grad[1, 1].item() == pytest.approx(1 / 3 * 2 / 3)


def test_shares_at_the_end_of_the_search_are_none_or_not_negligible(tiny, batches, training):
    report = train_qat(
        tiny,
        training,
        F.mse_loss,
        batches,
        Schedule(12, warm_up=0.0, search=1.0, cold=0.2),
        bits="W2A2",
        start="best-uniform",
        weight_quantizers=["lsq", "dsq", "ewgs"],
        activation_quantizers=["lsq", "pact"],
        rates=Rates(alpha=0.2),
    ).report
    shares = [share for pair in report.alpha.values() for kind in pair for share in kind]
    assert all(share == 0 or share >= 0.001 for share in shares)
    assert 0 in shares


def test_a_uniform_strategy_has_nothing_to_restart_for(tiny, batches, training):
    runs = [
        train_qat(tiny, training, F.mse_loss, batches, Schedule(10, then=then), **pair("lsq", "lsq")).report.curves
        for then in ("go-on", "restart")
    ]
    assert runs[0] == runs[1]


def test_an_iterator_that_is_used_up_is_told():
    held = iter([(torch.ones(1), torch.ones(1))])
    with pytest.raises(ValueError, match=r"training_batches: epoch 1 has no batches\. .* is used up by the first"):
        list(first(2, lambda epoch: held))
