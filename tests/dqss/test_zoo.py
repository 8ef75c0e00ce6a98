import copy
import re
import warnings

import pytest
import torch
from torch import nn

import dqss
from dqss.attention import Attention
from dqss.inputs import Batch, call
from dqss.search.dqss import Dqss
from tests.dqss.zoo import ZOO, Specimen

QUICK = Dqss(steps=4)


def model_of(specimen: Specimen) -> nn.Module:
    """Return the model with weights and statistics as after training, in training mode as users may have it."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the old weight_norm, which models in use still have
        torch.manual_seed(0)
        model = specimen.make()
        for part in model.modules():
            if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
                part.running_mean.normal_()
                part.running_var.uniform_(0.5, 2)
    return model.train()


def batches_of(specimen: Specimen) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    return [specimen.batch(generator) for _ in range(2)]


def state_of(model: nn.Module) -> dict[str, object]:
    """Return all that a caller would see changed."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_state_dict_hooks")
    return {
        "tensors": {name: (id(t), t.detach().clone(), t.requires_grad) for name, t in model.named_parameters()},
        "buffers": {name: (id(t), t.clone(), t.requires_grad) for name, t in model.named_buffers()},
        "modules": {name: (id(m), type(m), m.training) for name, m in model.named_modules(remove_duplicate=False)},
        "hooks": {name: [dict(getattr(m, kind)) for kind in hooks] for name, m in model.named_modules()},
    }


def assert_unchanged(model: nn.Module, before: dict[str, object]) -> None:
    after = state_of(model)
    assert after["modules"] == before["modules"]
    assert after["hooks"] == before["hooks"]
    for kind in ("tensors", "buffers"):
        assert list(after[kind]) == list(before[kind])
        for (mine, tensor, wanted), (same, old, was_wanted) in zip(
            after[kind].values(), before[kind].values(), strict=True
        ):
            assert (mine, wanted) == (same, was_wanted)
            assert tensor.equal(old)


def full_precision(model: nn.Module, batch: Batch) -> torch.Tensor:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # What a copy would be, without making one: not every model here can be copied.
        flags = {part: part.training for part in model.modules()}
        output = call(model.eval(), batch)
        for part, flag in flags.items():
            part.training = flag
    return output


def distance(output: torch.Tensor, expected: torch.Tensor) -> float:
    output, expected = output.double(), expected.double()
    return ((output - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("name", ZOO)
def test_any_model_is_quantized_and_stays_as_it_was(name, caplog):
    specimen = ZOO[name]
    model, batches = model_of(specimen), batches_of(specimen)
    before = state_of(model)
    result = dqss.quantize_ptq(
        model,
        batches,
        bits="W4A4",
        search=QUICK,
        weight_quantizers=["minmax", "mse"],
        activation_quantizers=["minmax", "mse"],
    )
    assert_unchanged(model, before)
    assert list(result.strategy.layers) == specimen.layers
    notes = " ".join(result.report.notes)
    assert re.search(specimen.notes, notes) if specimen.notes else notes == "", notes
    assert [record.message for record in caplog.records] == ([notes] if notes else [])
    replayed = dqss.apply_strategy(model, result.strategy, batches)
    for batch in batches:
        with torch.no_grad():
            output = call(result.model, batch)
            assert call(replayed, batch).equal(output)
        expected = full_precision(model, batch)
        assert (output.shape, output.dtype, output.isfinite().all().item()) == (expected.shape, expected.dtype, True)
        assert not output.equal(expected)


@pytest.mark.parametrize("name", ZOO)
def test_at_eight_bits_any_model_is_near_full_precision(name):
    specimen = ZOO[name]
    model, batches = model_of(specimen), batches_of(specimen)
    result = dqss.quantize_ptq(
        model, batches, bits="W8A8", search="uniform", weight_quantizers=["minmax"], activation_quantizers=["minmax"]
    )
    for batch in batches:
        with torch.no_grad():
            assert distance(call(result.model, batch), full_precision(model, batch)) < 0.06


@pytest.mark.parametrize("name", ZOO)
def test_every_layer_named_is_quantized_in_the_running_model(name):
    """Each layer alone at two bits changes the outputs, so none is passed by, for instance by a fused kernel."""
    specimen = ZOO[name]
    model, batches = model_of(specimen), batches_of(specimen)
    strategy = dqss.quantize_ptq(
        model, batches, bits="W8A8", search="uniform", weight_quantizers=["minmax"], activation_quantizers=["minmax"]
    ).strategy
    quantized = dqss.apply_strategy(model, strategy, batches)
    with torch.no_grad():
        expected = call(quantized, batches[0])
        for layer in strategy.layers:
            other = copy.deepcopy(quantized)
            other.get_submodule(layer).scale.mul_(30)
            assert not call(other, batches[0]).equal(expected), layer


def test_after_an_error_the_callers_model_is_as_it_was(caplog):
    for name, specimen in ZOO.items():
        model, batches = model_of(specimen), batches_of(specimen)
        before = state_of(model)

        def fail(stage: str, done: int, total: int) -> None:
            if stage == "search":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            dqss.quantize_ptq(
                model,
                batches,
                search=QUICK,
                weight_quantizers=["minmax"],
                activation_quantizers=["minmax"],
                report=fail,
            )
        assert_unchanged(model, before), name


def test_batches_with_labels_are_an_error_that_says_what_to_do():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    batches = [(torch.randn(8, 4), torch.arange(8) % 3)]
    with pytest.raises(ValueError, match=r"batch 1 of 1 is a tuple of 2, which .* leave the labels out, for example"):
        dqss.quantize_ptq(model, batches)


def test_inputs_by_a_wrong_name_are_an_error():
    with pytest.raises(ValueError, match="batch 2 of 2 is a mapping with 'image', which"):
        dqss.quantize_ptq(nn.Linear(4, 3), [torch.randn(8, 4), {"image": torch.randn(8, 4)}])


def test_a_batch_that_holds_no_tensors_is_an_error():
    with pytest.raises(ValueError, match=r"batch 1 of 1 holds a ndarray\. Give tensors"):
        dqss.quantize_ptq(nn.Linear(4, 3), [torch.randn(8, 4).numpy()])


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("mask", [None, "causal", "per head", "float"])
def test_attention_taken_apart_does_what_pytorchs_does(batch_first, weights, mask):
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, batch_first=batch_first, bias=mask != "causal").eval()
    x = torch.randn(3, 5, 8) if batch_first else torch.randn(5, 3, 8)
    masks = {
        None: None,
        "causal": torch.ones(5, 5).triu(1).bool(),
        "per head": torch.rand(6, 5, 5) > 2 / 3,
        "float": torch.randn(5, 5),
    }
    attn_mask = masks[mask]
    if mask == "per head":
        attn_mask[:, :, 0] = False
    arguments = {"attn_mask": attn_mask, "need_weights": weights, "average_attn_weights": mask is None}
    if mask in (None, "causal"):
        padding = torch.zeros(3, 5, dtype=torch.bool)
        padding[1, 3:] = True
        arguments["key_padding_mask"] = padding
    with torch.no_grad():
        expected, expected_weights = attention(x, x, x, **arguments)
        output, found_weights = Attention(attention)(x, x, x, **arguments)
    torch.testing.assert_close(output, expected)
    if weights:
        torch.testing.assert_close(found_weights, expected_weights)
    else:
        assert found_weights is None


def test_attention_without_a_batch_does_what_pytorchs_does():
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, kdim=6, vdim=4).eval()
    x, key, value = torch.randn(5, 8), torch.randn(7, 6), torch.randn(7, 4)
    padding = torch.tensor([False] * 6 + [True])
    with torch.no_grad():
        expected = attention(x, key, value, key_padding_mask=padding)
        found = Attention(attention)(x, key, value, key_padding_mask=padding)
    torch.testing.assert_close(found, expected)


def test_attention_that_cannot_be_taken_apart_is_left_and_said():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(8, 8)
            self.odd = nn.MultiheadAttention(8, 2, add_bias_kv=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x)
            return self.odd(x, x, x)[0]

    result = dqss.quantize_ptq(Odd(), [torch.randn(5, 3, 8)], search="uniform")
    assert list(result.strategy.layers) == ["first"]
    assert "odd.in_proj_weight (MultiheadAttention)" in result.report.notes[0]
    assert "odd.out_proj.weight" in result.report.notes[0]


def test_a_graph_that_does_another_thing_than_the_model_is_not_used():
    class Guarded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.a(x) if type(x) is torch.Tensor else x * 0

    result = dqss.quantize_ptq(Guarded(), [torch.randn(5, 4)], search="uniform")
    assert "its graph gives other outputs than the model" in result.report.notes[0]
    assert list(result.strategy.layers) == ["a"]
