"""Small models as users bring them, each with its inputs and what is expected of its quantization."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from dqss.inputs import Batch


@dataclass(frozen=True)
class Specimen:
    """A model's maker, one batch of its inputs, the layers to be quantized, and words of the notes ('' for none)."""

    make: Callable[[], nn.Module]
    batch: Callable[[torch.Generator], Batch]
    layers: list[str]
    notes: str = ""


def images(*shape: int) -> Callable[[torch.Generator], Tensor]:
    return lambda generator: torch.randn(shape, generator=generator)


class Residual(nn.Module):
    """Grouped, depthwise and dilated convolutions, a residual add, a concatenation, BN before and after, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.BatchNorm2d(4)
        self.grouped = nn.Conv2d(4, 8, 3, padding=1, groups=2, bias=False)
        self.after = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8, padding_mode="reflect")
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.after(self.grouped(self.before(x))))
        x = torch.cat([x, x + self.depthwise(x)], dim=1)
        return self.head(F.dropout(self.dropout(x.mean((2, 3))), training=self.training))


class UNet(nn.Module):
    """Down and up again: transposed convolutions, one told its output's size."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.deeper = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, groups=2)
        self.last = nn.ConvTranspose2d(6, 3, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        down = F.relu(self.down(x))
        return self.last(down + self.up(F.relu(self.deeper(down))), output_size=x.shape[2:])


class Twice(nn.Module):
    """One block used twice, under two names, and called by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 6)
        self.b = self.a
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(input=F.relu(self.b(F.relu(self.a(x)))))


class Functional(nn.Module):
    """Layers as functions with parameters, one weight worked out from parameters, and one from the input."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 3, 3, 3) / 5)
        self.bias = nn.Parameter(torch.randn(6))
        self.norm = nn.BatchNorm2d(6)
        self.gain = nn.Parameter(torch.rand(6, 1, 1, 1) + 0.5)
        self.deep = nn.Parameter(torch.randn(6, 6, 1, 1) / 3)
        self.head = nn.Parameter(torch.randn(4, 6))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(F.conv2d(x, self.weight, self.bias, padding=1)))
        standard = self.deep - self.deep.mean((1, 2, 3), keepdim=True)
        x = F.relu(F.conv2d(x, standard * self.gain, stride=(2, 2)))
        logits = F.linear(x.mean((2, 3)), weight=self.head)
        return logits + F.linear(x.mean((2, 3)), self.head * torch.sigmoid(x.mean()))


class SamePadding(nn.Conv2d):
    """A convolution that pads by its input's size, as TensorFlow's."""

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(F.pad(input, (0, input.shape[3] % 2, 0, 1)), self.weight, self.bias, self.stride)


class Block(nn.Module):
    """A vision transformer's block: attention by hand with scaled_dot_product_attention."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.qkv = nn.Linear(8, 24)
        self.proj = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, n, 3, 2, 4).permute(2, 0, 3, 1, 4)
        return x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, 8))


class CrossAttention(nn.Module):
    """nn.MultiheadAttention between two sequences given by name, with a padding mask and weights asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, kdim=6, vdim=6, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, query: Tensor, memory: Tensor, padding: Tensor, scale: float = 1.0) -> Tensor:
        if scale != 1.0:
            query = query * scale
        mixed, weights = self.attention(query, memory, memory, key_padding_mask=padding)
        return self.head(mixed.mean(1)) + weights.mean()


def cross_inputs(generator: torch.Generator) -> Batch:
    padding = torch.zeros(4, 7, dtype=torch.bool)
    padding[:, 5:] = True
    return {
        "query": torch.randn(4, 5, 8, generator=generator),
        "padding": padding,
        "memory": torch.randn(4, 7, 6, generator=generator),
    }


class Encoder(nn.Module):
    """nn.TransformerEncoder, which has fused kernels of its own."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=12, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x).mean(1))


class Branching(nn.Module):
    """Control flow that depends on the data, which torch.fx cannot follow; one branch is never taken."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.never = nn.Linear(6, 6)
        self.head = self.alias = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x))).mean((2, 3))
        if x.abs().max() > 1e6:
            x = self.never(x)
        return self.alias(x) if bool((x.sum() > 0).item()) else self.head(x)


class Recurrent(nn.Module):
    """An embedding and an LSTM, which stay in full precision."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.lstm = nn.LSTM(6, 8, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.lstm(self.embedding(tokens))[0][:, -1])


class TwoInputs(nn.Module):
    """Two inputs by position and one switch that control flow depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Conv2d(1, 4, 3)
        self.facts = nn.Linear(5, 4)

    def forward(self, image: Tensor, facts: Tensor, features: bool = False) -> Tensor:
        found = self.image(image).mean((2, 3)) * torch.sigmoid(self.facts(facts))
        if features:
            return found
        return found.unsqueeze(2)


def sequence() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 6, 3), nn.BatchNorm1d(6), nn.ReLU(), nn.ConvTranspose1d(6, 4, 2, stride=2), nn.Conv1d(4, 3, 1)
    )


def parametrized() -> nn.Module:
    old_style = nn.utils.weight_norm(nn.Conv2d(6, 6, 1))
    return nn.Sequential(
        parametrizations.weight_norm(nn.Conv2d(3, 6, 3)),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        parametrizations.spectral_norm(nn.Conv2d(6, 6, 3)),
        old_style,
        nn.Flatten(),
        nn.Linear(96, 4),
    )


def mlp_of(dtype: torch.dtype) -> Specimen:
    def make() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 5)).to(dtype)

    return Specimen(make, lambda generator: images(6, 3, 6, 6)(generator).to(dtype), ["0", "3"])


ENCODER_LAYERS = [
    f"encoder.layers.{layer}.{part}"
    for layer in (0, 1)
    for part in ("self_attn.q", "self_attn.k", "self_attn.v", "self_attn.out_proj", "linear1", "linear2")
]

ZOO = {
    "residual": Specimen(Residual, images(6, 4, 8, 8), ["grouped", "depthwise", "head"]),
    "u-net": Specimen(UNet, images(4, 3, 9, 9), ["down", "deeper", "up", "last"]),
    "conv1d": Specimen(sequence, images(4, 2, 9), ["0", "3", "4"]),
    "conv3d": Specimen(
        lambda: nn.Sequential(nn.Conv3d(2, 4, 2), nn.BatchNorm3d(4), nn.ConvTranspose3d(4, 2, 2)),
        images(3, 2, 4, 4, 4),
        ["0", "2"],
    ),
    "twice": Specimen(Twice, images(8, 6), ["a", "head"]),
    "functional": Specimen(
        Functional,
        images(4, 3, 6, 6),
        ["conv2d", "deep_conv2d", "head_linear"],
        r"stay head \(Functional\), linear_1 \(a product",
    ),
    "same padding": Specimen(
        lambda: nn.Sequential(SamePadding(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU(), SamePadding(6, 4, 2)),
        images(4, 3, 7, 7),
        ["0.conv2d", "3.conv2d"],
    ),
    "parametrized": Specimen(parametrized, images(6, 3, 8, 8), ["0", "3", "4", "6"]),
    "vision transformer": Specimen(
        lambda: nn.Sequential(Block(), Block(), nn.Linear(8, 3)),
        images(4, 6, 8),
        ["0.qkv", "0.proj", "1.qkv", "1.proj", "2"],
        "scaled_dot_product_attention",
    ),
    "cross attention": Specimen(
        CrossAttention,
        cross_inputs,
        ["attention.q", "attention.k", "attention.v", "attention.out_proj", "head"],
        r"the products in attention \(Attention\)",
    ),
    "encoder": Specimen(
        Encoder, images(4, 6, 8), [*ENCODER_LAYERS, "head"], "the products in encoder.layers.0.self_attn"
    ),
    "transformer": Specimen(
        lambda: nn.Transformer(8, 2, 1, 1, 12, batch_first=True),
        lambda generator: (torch.randn(4, 6, 8, generator=generator), torch.randn(4, 5, 8, generator=generator)),
        [
            *(
                f"encoder.layers.0.{part}"
                for part in ("self_attn.q", "self_attn.k", "self_attn.v", "self_attn.out_proj")
            ),
            *("encoder.layers.0.linear1", "encoder.layers.0.linear2"),
            *(f"decoder.layers.0.self_attn.{part}" for part in ("q", "k", "v", "out_proj")),
            *(f"decoder.layers.0.multihead_attn.{part}" for part in ("q", "k", "v", "out_proj")),
            *("decoder.layers.0.linear1", "decoder.layers.0.linear2"),
        ],
        "the products in decoder.layers.0.multihead_attn",
    ),
    "branching": Specimen(
        Branching,
        images(6, 3, 6, 6),
        ["conv", "head"],
        r"torch\.fx cannot trace Branching \(.*\): its layers are replaced .*In full precision stay never\.weight",
    ),
    "recurrent": Specimen(
        Recurrent,
        lambda generator: torch.randint(0, 11, (6, 5), generator=generator),
        ["head"],
        r"embedding\.weight \(Embedding\), lstm\.weight_ih_l0 \(LSTM\)",
    ),
    "two inputs": Specimen(
        TwoInputs,
        lambda generator: [torch.randn(6, 1, 5, 5, generator=generator), torch.randn(6, 5, generator=generator)],
        ["image", "facts"],
    ),
    "double": mlp_of(torch.float64),
    "half": mlp_of(torch.float16),
    "bfloat16": mlp_of(torch.bfloat16),
}
