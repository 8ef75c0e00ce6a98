import pytest
import torch
from torch import nn

from dqss.cost import bit_operations, size_bytes
from dqss.graph import prepare
from dqss.spec import PROTOCOLS, Bits, Protocol, Scheme


def prepared_of(model: nn.Module, bits: str = "W4A8", protocol: Protocol = PROTOCOLS["all-layers"]):
    return prepare(model, protocol, Bits.parse(bits))


def test_the_size_of_a_small_network_by_hand():
    # Weights 3*2*3*3 = 54 at 4 bits, 27 bytes, and 3*5 = 15 at 4 bits, 7.5, so 8; each layer has a float32 weight scale
    # and an activation scale with its zero_point, 4 + 5 bytes; 3 + 5 biases stay float32.
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5))
    assert size_bytes(prepared_of(model)) == (27 + 9 + 12) + (8 + 9 + 20)


def test_the_first_and_last_layer_of_a_protocol_count_at_their_own_bits():
    model = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    assert size_bytes(prepared_of(model, "W2A2", PROTOCOLS["academic"])) == 8 + 4 + 8 + 3 * 9 + 4 * 10
    assert (
        bit_operations(prepared_of(model, "W2A2", PROTOCOLS["academic"]), torch.zeros(1, 2)) == 8 * 64 + 16 * 4 + 8 * 64
    )


def test_per_channel_weights_carry_a_scale_per_output_channel():
    protocol = Protocol(weight=Scheme(symmetric=True, granularity="per-channel"))
    model = nn.Sequential(nn.Conv2d(2, 3, 1, bias=False), nn.ConvTranspose2d(3, 5, 1, bias=False))
    assert size_bytes(prepared_of(model, "W8A8", protocol)) == (6 + 3 * 4 + 5) + (15 + 5 * 4 + 5)


def test_affine_weights_carry_a_zero_point():
    protocol = Protocol(weight=Scheme(symmetric=False, granularity="per-tensor"))
    assert size_bytes(prepared_of(nn.Sequential(nn.Linear(2, 2, bias=False)), "W8A8", protocol)) == 4 + 5 + 5


def test_what_is_not_quantized_counts_in_full():
    model = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4, bias=False))
    assert size_bytes(prepared_of(model, "W8A8")) == 2 * 4 * 4 + 16 + 9


@pytest.mark.parametrize(
    ("layer", "shape", "multiplications"),
    [
        # Outputs 4 x 4, each of 2 * 3 * 3 products, for 3 channels.
        (nn.Conv2d(2, 3, 3), (1, 2, 6, 6), 16 * 18 * 3),
        (nn.Conv2d(2, 3, 3, stride=2, padding=1), (1, 2, 6, 6), 9 * 18 * 3),
        # Each output channel sees half of the 4 input channels.
        (nn.Conv2d(4, 6, 3, groups=2), (1, 4, 6, 6), 16 * 18 * 6),
        (nn.Conv2d(4, 4, 3, groups=4), (1, 4, 6, 6), 16 * 9 * 4),
        (nn.Conv1d(2, 3, 3, dilation=2), (1, 2, 10), 6 * 6 * 3),
        # Each of 5 x 5 inputs is spread over 3 * 3 places of 3 channels, from 2 channels.
        (nn.ConvTranspose2d(2, 3, 3, stride=2), (1, 2, 5, 5), 25 * 9 * 2 * 3),
        (nn.ConvTranspose2d(4, 6, 3, groups=2), (1, 4, 5, 5), 25 * 9 * 4 * 3),
        (nn.Linear(4, 5), (1, 4), 20),
        (nn.Linear(4, 5), (1, 7, 4), 7 * 20),
    ],
)
def test_the_operations_of_a_layer_by_hand(layer, shape, multiplications):
    prepared = prepared_of(nn.Sequential(layer), "W4A8")
    assert bit_operations(prepared, torch.zeros(shape)) == multiplications * 4 * 8
    assert bit_operations(prepared, torch.zeros(3, *shape[1:])) == multiplications * 4 * 8


def test_a_layer_called_twice_works_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x):
            return self.layer(self.layer(x))

    prepared = prepared_of(Twice(), "W2A2")
    assert bit_operations(prepared, torch.zeros(2, 3)) == 2 * 9 * 4
    assert size_bytes(prepared) == 3 + 9 + 12


def test_counting_leaves_no_hook_behind():
    prepared = prepared_of(nn.Sequential(nn.Linear(3, 3)))
    bit_operations(prepared, torch.zeros(1, 3))
    with pytest.raises(RuntimeError):
        bit_operations(prepared, torch.zeros(1, 2))
    assert not any(layer._forward_hooks for layer in prepared.layers.values())


def test_layers_that_share_a_weight_keep_a_quantized_one_each_and_an_embedding_its_own():
    embedding, first, second = nn.Embedding(4, 4), nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    first.weight = second.weight = embedding.weight
    # 16 weights at 4 bits twice, two grids each (4 + 5 bytes), and 16 float32 of the embedding.
    assert size_bytes(prepared_of(nn.Sequential(embedding, first, second))) == 2 * (8 + 9) + 16 * 4


def test_a_transposed_layer_called_by_keyword_is_counted():
    class Up(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose1d(2, 3, 2, stride=2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.up(input=x, output_size=[8])

    # 4 positions, each 2 * 3 * 2 products.
    assert bit_operations(prepared_of(Up()), torch.zeros(5, 2, 4)) == 4 * 12 * 4 * 8
