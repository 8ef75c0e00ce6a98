import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dqss.graph import Prepared, UntraceableError, prepare, with_layers
from dqss.inputs import call
from dqss.spec import PROTOCOLS, Bits, Protocol, QuantSpec, Scheme

ALL_LAYERS = PROTOCOLS["all-layers"]


def module(forward: Callable[..., object], **parts: nn.Module) -> nn.Module:
    """Return a module made of named parts and a function that runs them; of a class of its own, for torch.fx."""
    made = type("Module", (nn.Module,), {"forward": forward})()
    for name, part in parts.items():
        made.add_module(name, part)
    return made


def lively(model: nn.Module) -> nn.Module:
    """Give every batch normalisation statistics and parameters that are not those of a fresh one."""
    generator = torch.Generator().manual_seed(0)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            for name, tensor in [*part.named_parameters(), *part.named_buffers()]:
                if tensor.is_floating_point():
                    tensor.data.uniform_(0.5, 2, generator=generator)
                    tensor.data.mul_(-1 if name == "running_mean" else 1)
    return model


def prepared_of(model: nn.Module, bits: str = "W4A4", protocol: Protocol = ALL_LAYERS) -> Prepared:
    return prepare(model, protocol, Bits.parse(bits))


def norms(prepared: Prepared) -> list[str]:
    return [
        name for name, module in prepared.model.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]


def assert_same_outputs(prepared: Prepared, model: nn.Module, *inputs: Tensor) -> None:
    expected = model.eval()(*inputs)
    assert torch.allclose(prepared.model(*inputs), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


def images(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(7))


FOLDED = {
    "conv1d": (nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6), (2, 4, 9)),
    "conv2d": (nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6), (2, 4, 9, 9)),
    "without scale and shift": (nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, affine=False), (2, 4, 9, 9)),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), (2, 4, 9, 9)),
    "depthwise": (nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4), (2, 4, 9, 9)),
    "conv3d": (nn.Conv3d(2, 3, 2), nn.BatchNorm3d(3), (2, 2, 4, 4, 4)),
    "transposed 1d": (nn.ConvTranspose1d(4, 6, 3), nn.BatchNorm1d(6), (2, 4, 5)),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, stride=2), nn.BatchNorm2d(6), (2, 4, 5, 5)),
    "grouped transposed": (nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False), nn.BatchNorm2d(6), (2, 4, 5, 5)),
    "depthwise transposed": (nn.ConvTranspose2d(4, 4, 3, groups=4), nn.BatchNorm2d(4), (2, 4, 5, 5)),
    "linear": (nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), (5, 4)),
    "linear without scale and shift": (nn.Linear(4, 6), nn.BatchNorm1d(6, affine=False), (5, 4)),
}


@pytest.mark.parametrize("kind", FOLDED)
def test_batch_normalisation_is_folded_and_outputs_stay(kind):
    layer, norm, shape = FOLDED[kind]
    model = lively(nn.Sequential(layer, norm, nn.ReLU()))
    prepared = prepared_of(model)
    assert norms(prepared) == []
    assert [type(found) for found in prepared.layers.values()] == [type(layer)]
    assert prepared.layers["0"].weight.shape == layer.weight.shape
    assert prepared.layers["0"].weight.is_contiguous()
    assert_same_outputs(prepared, model, images(*shape))


def twice(self, x):
    return self.norm(self.layer(x)) + self.layer(x + 1)


def norm_twice(self, x):
    return self.norm(self.layer(x)) + self.norm(self.other(x))


def seen_elsewhere(self, x):
    y = self.layer(x)
    return self.norm(y) + y


def weight_seen_elsewhere(self, x):
    return self.norm(self.layer(x)) + self.layer.weight.mean()


KEPT = {
    "its layer is called twice": (twice, nn.BatchNorm2d(3)),
    "it is called twice": (norm_twice, nn.BatchNorm2d(3)),
    "its input goes elsewhere too": (seen_elsewhere, nn.BatchNorm2d(3)),
    "its layer's weight is used elsewhere too": (weight_seen_elsewhere, nn.BatchNorm2d(3)),
    "it follows another function": (lambda self, x: self.norm(F.relu(self.layer(x))), nn.BatchNorm2d(3)),
    "it uses the batch's statistics": (
        lambda self, x: self.norm(self.layer(x)),
        nn.BatchNorm2d(3, track_running_stats=False),
    ),
}


@pytest.mark.parametrize("reason", KEPT)
def test_batch_normalisation_stays_where(reason):
    forward, norm = KEPT[reason]
    model = lively(module(forward, layer=nn.Conv2d(3, 3, 1), other=nn.Conv2d(3, 3, 1), norm=norm))
    prepared = prepared_of(model)
    assert norms(prepared) == ["norm"]
    assert_same_outputs(prepared, model, images(2, 3, 4, 4))


def test_a_normalisation_of_another_axis_than_the_linear_layers_stays():
    model = lively(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(3)))
    prepared = prepared_of(model)
    assert norms(prepared) == ["1"]
    assert_same_outputs(prepared, model, images(2, 3, 4))


def test_two_normalisations_in_a_row_are_both_folded():
    model = lively(nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)))
    prepared = prepared_of(model)
    assert norms(prepared) == []
    assert_same_outputs(prepared, model, images(2, 2, 4, 4))


def test_a_shared_block_called_twice_is_right(tiny):
    block = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    model = lively(module(lambda self, x: self.block(self.block(x)), block=block))
    prepared = prepared_of(model)
    assert list(prepared.layers) == ["block.0"]
    assert_same_outputs(prepared, model, images(2, 3, 4, 4))


def test_two_modules_with_one_weight_are_folded_apart():
    first, second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
    second.weight = first.weight
    model = lively(nn.Sequential(first, nn.BatchNorm2d(3), second))
    assert_same_outputs(prepared_of(model), model, images(2, 3, 4, 4))


def test_preparation_keeps_the_outputs_of_a_whole_network(tiny, batches):
    assert_same_outputs(prepared_of(tiny), tiny, batches[0])


def test_preparation_leaves_the_callers_model_as_it_was(tiny, batches):
    tiny.head.weight.requires_grad_(False)
    tiny.stem_norm.eval()
    before = copy.deepcopy(tiny.state_dict())
    flags = {name: part.training for name, part in tiny.named_modules()}
    wanted = {name: parameter.requires_grad for name, parameter in tiny.named_parameters()}
    prepared_of(tiny)
    assert all(before[name].equal(tensor) for name, tensor in tiny.state_dict().items())
    assert {name: part.training for name, part in tiny.named_modules()} == flags
    assert {name: parameter.requires_grad for name, parameter in tiny.named_parameters()} == wanted
    assert tiny.training


def test_the_prepared_copy_is_in_eval_mode_and_asks_for_no_gradients(tiny):
    prepared = prepared_of(tiny)
    assert not any(part.training for part in prepared.model.modules())
    assert not any(parameter.requires_grad for parameter in prepared.model.parameters())
    mine = {parameter.data_ptr() for parameter in tiny.parameters()}
    assert not mine & {parameter.data_ptr() for parameter in prepared.model.parameters()}


def test_layers_come_in_the_order_in_which_they_first_run():
    model = module(
        lambda self, x: self.last(self.first(x) + self.second(self.first(x))),
        last=nn.Linear(2, 2),
        second=nn.Linear(2, 2),
        first=nn.Linear(2, 2),
        never=nn.Linear(2, 2),
    )
    assert list(prepared_of(model).layers) == ["first", "second", "last"]


def test_a_layer_under_two_names_is_one_layer():
    shared = nn.Linear(2, 2)
    model = module(lambda self, x: self.b(F.relu(self.a(x))), a=shared, b=shared)
    prepared = prepared_of(model)
    assert list(prepared.layers) == ["a"]
    assert_same_outputs(prepared, model, images(3, 2))


def test_under_all_layers_every_layer_is_at_the_cells_bits(tiny):
    prepared = prepared_of(tiny, "W2A5")
    assert [str(specs.bits) for specs in prepared.specs.values()] == ["W2A5"] * 3
    assert prepared.specs["depthwise"].weight == QuantSpec(2, symmetric=True)
    assert prepared.specs["depthwise"].activation == QuantSpec(5, symmetric=False)


def test_under_academic_the_first_and_last_layer_are_at_eight_bits(tiny):
    prepared = prepared_of(tiny, "W2A3", PROTOCOLS["academic"])
    assert {name: str(specs.bits) for name, specs in prepared.specs.items()} == {
        "stem": "W8A8",
        "depthwise": "W2A3",
        "head": "W8A8",
    }


def test_a_model_of_one_layer_has_it_as_first_and_last():
    prepared = prepared_of(nn.Sequential(nn.Linear(2, 2)), "W2A2", PROTOCOLS["academic"])
    assert str(prepared.specs["0"].bits) == "W8A8"


def test_per_channel_weights_have_a_scale_per_output_channel():
    protocol = Protocol(weight=Scheme(symmetric=True, granularity="per-channel"))
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.ConvTranspose2d(3, 5, 1), nn.Flatten(), nn.Linear(5, 2))
    prepared = prepared_of(model, protocol=protocol)
    assert [specs.weight.channel_axis for specs in prepared.specs.values()] == [0, 1, 0]
    assert [specs.activation.channel_axis for specs in prepared.specs.values()] == [None] * 3


def test_a_prepared_model_can_be_taken_at_other_bits(tiny):
    prepared = prepared_of(tiny, "W4A4", PROTOCOLS["academic"])
    other = prepared.at(Bits(2, 8))
    assert [str(specs.bits) for specs in other.specs.values()] == ["W8A8", "W2A8", "W8A8"]
    assert other.bits == Bits(2, 8)
    assert [str(specs.bits) for specs in prepared.specs.values()] == ["W8A8", "W4A4", "W8A8"]
    assert other.model is prepared.model


def test_a_model_with_several_inputs_is_prepared():
    model = module(lambda self, x, y: self.a(x) * torch.relu(self.b(y)), a=nn.Linear(2, 3), b=nn.Linear(4, 3))
    prepared = prepared_of(model)
    assert list(prepared.layers) == ["a", "b"]
    assert_same_outputs(prepared, model, images(5, 2), images(5, 4))


def test_control_flow_that_depends_on_data_is_an_error_that_says_so():
    model = module(lambda self, x: self.a(x) if x.sum() > 0 else x, a=nn.Linear(2, 2)).train()
    with pytest.raises(
        UntraceableError, match=r"torch.fx cannot trace Module \(.*\). Move data-dependent control flow"
    ):
        prepared_of(model)
    assert model.training


def test_a_model_without_layers_is_an_error():
    with pytest.raises(
        ValueError, match=r"Sequential calls no convolution or linear layer\. There is nothing to quantize"
    ):
        prepared_of(nn.Sequential(nn.ReLU()))


def test_replacing_layers_leaves_the_prepared_model_as_it_was(tiny, batches):
    prepared = prepared_of(tiny)
    expected = prepared.model(batches[0])

    def spoiled(name: str, layer: nn.Module) -> nn.Module:
        layer.weight.data.zero_()
        return nn.Sequential(layer)

    replaced = with_layers(prepared, spoiled)
    assert isinstance(replaced.stem, nn.Sequential)
    assert not replaced(batches[0]).equal(expected)
    assert prepared.model(batches[0]).equal(expected)


def test_a_batch_is_one_tensor_or_the_positional_inputs():
    assert call(nn.Identity(), torch.ones(2)).tolist() == [1, 1]
    assert call(module(lambda self, x, y: x - y), (torch.ones(1), torch.ones(1))).tolist() == [0]
    assert call(module(lambda self, x, y: x - y), [torch.ones(1), torch.ones(1)]).tolist() == [0]


def test_of_several_outputs_the_first_counts():
    assert call(module(lambda self, x: (x, x + 1)), torch.zeros(1)).tolist() == [0]


def test_an_output_that_is_no_tensor_is_an_error():
    with pytest.raises(ValueError, match=r"its output is a dict\. Wrap it so that it returns a tensor"):
        call(module(lambda self, x: {"logits": x}), torch.zeros(1))


class ChangesInPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(x)
        x.add_(self.one(x))
        return self.two(x)


def test_a_change_in_place_whose_result_nobody_reads_stays():
    model, x = ChangesInPlace().eval(), torch.randn(4, 3)
    prepared = prepare(model, PROTOCOLS["all-layers"], Bits(4, 4))
    assert torch.allclose(prepared.model(x), model(x))
    assert list(prepared.layers) == ["one", "two"]


def conv(in_channels, channels):
    return nn.Conv2d(in_channels, channels, 3, padding=1)


class Shuffling(nn.Module):
    """Enlarges by a function between its layers."""

    def __init__(self, shuffle):
        super().__init__()
        self.head, self.body, self.up, self.last = conv(1, 4), conv(4, 4), conv(4, 16), conv(4, 1)
        self.shuffle = shuffle

    def forward(self, x):
        return self.last(self.shuffle(self.up(self.body(self.head(x)))))


@pytest.mark.parametrize(
    "shuffle",
    [nn.PixelShuffle(2), lambda x: F.pixel_shuffle(x, 2), lambda x: torch.pixel_shuffle(x, 2)],
    ids=["module", "function", "torch"],
)
def test_the_tail_begins_with_the_layer_before_the_first_pixel_shuffle(shuffle):
    prepared = prepare(Shuffling(shuffle).eval(), PROTOCOLS["super-resolution"], Bits.parse("W4A4"))
    assert bits_of(prepared) == {"head": "W8A8", "body": "W4A4", "up": "W8A8", "last": "W8A8"}
    ends_alone = prepare(Shuffling(shuffle).eval(), PROTOCOLS["academic"], Bits.parse("W4A4"))
    assert bits_of(ends_alone) == {"head": "W8A8", "body": "W4A4", "up": "W4A4", "last": "W8A8"}


def test_the_tail_begins_with_the_first_transposed_convolution_that_enlarges():
    same_size, twice = nn.ConvTranspose2d(4, 4, 3, padding=1), nn.ConvTranspose2d(4, 4, 4, 2, 1)
    model = nn.Sequential(conv(1, 4), same_size, twice, conv(4, 4), conv(4, 1)).eval()
    prepared = prepare(model, PROTOCOLS["super-resolution"], Bits.parse("W4A4"))
    assert list(bits_of(prepared).values()) == ["W8A8", "W4A4", "W8A8", "W8A8", "W8A8"]


def test_a_network_that_does_not_enlarge_has_its_last_layer_as_tail():
    prepared = prepare(
        nn.Sequential(conv(1, 4), conv(4, 4), conv(4, 1)).eval(), PROTOCOLS["super-resolution"], Bits(4, 4)
    )
    assert list(bits_of(prepared).values()) == ["W8A8", "W4A4", "W8A8"]


def test_the_tail_of_a_model_that_cannot_be_traced_is_asked_for_in_vain():
    class Untraceable(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = conv(1, 1)

        def forward(self, x):
            return self.conv(x) if x.sum() > 0 else self.conv(-x)

    with pytest.raises(ValueError, match="protocol: the tail 'enlarging' cannot be told"):
        prepare(Untraceable().eval(), PROTOCOLS["super-resolution"], Bits(4, 4), [torch.ones(1, 1, 4, 4)])


def bits_of(prepared):
    return {name: str(specs.bits) for name, specs in prepared.specs.items()}
