import hashlib

import numpy
import pytest
import torch
from torch import nn

import dqss
from benchmarks import packaged
from benchmarks.checkpoints import MissingCheckpointError, find_checkpoint, load_model
from benchmarks.datasets import MissingDataError
from benchmarks.models.efficientnet_lite import EfficientNetLite0
from benchmarks.packaged import PHOTOGRAPHS, PackagedFile, check_data, data_digest
from benchmarks.suite import Inventory
from benchmarks.tasks import TASKS
from benchmarks.tasks.base import Split
from benchmarks.tasks.imagenet_fidelity import VIEWS, ImagenetFidelity, preprocess, views_of
from dqss.search.base import no_report

PHOTOS = PHOTOGRAPHS["imagenet-fidelity"]
Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def task() -> ImagenetFidelity:
    try:
        check_data("imagenet-fidelity")
    except MissingDataError as error:
        pytest.skip(str(error))
    return ImagenetFidelity()


@pytest.fixture
def network(task) -> nn.Module:
    try:
        return load_model("efficientnet-lite0", task, find_checkpoint("efficientnet-lite0", "imagenet-fidelity"))
    except MissingCheckpointError as error:
        pytest.skip(str(error))


def centres(task: ImagenetFidelity) -> torch.Tensor:
    return task.inputs(Split.TEST)[:: len(VIEWS)]


def test_no_photograph_is_in_two_splits():
    hashes = [file.sha256 for file in PHOTOS.all]
    assert len(set(hashes)) == len(hashes) == 20 + 16 + 3


def test_an_image_is_scaled_cropped_and_centred_on_127():
    """A grey ramp from left to right: 512 x 1024 becomes 256 x 512, so the crop's columns are 144 to 367 of 512."""
    ramp = numpy.tile(numpy.linspace(0, 255, 1024), (512, 1)).round().astype("uint8")
    image = Image.fromarray(ramp)
    view = preprocess(image)
    assert (view.shape, view.dtype) == ((3, 224, 224), torch.float32)
    expected = (torch.arange(144, 368) + 0.5) / 512 * 255
    assert torch.allclose(view[1, 100] * 128 + 127, expected, atol=1.5)
    assert preprocess(image, 0.0)[0, 0, 0] * 128 + 127 < 2
    assert preprocess(image, 1.0, flip=True)[0, 0, 0] * 128 + 127 > 253
    assert preprocess(image, flip=True).equal(view.flip(2))


def test_white_and_black_are_where_the_networks_training_had_them():
    assert preprocess(Image.new("RGB", (300, 300), "white")).unique().tolist() == [1.0]
    assert preprocess(Image.new("L", (300, 300), 0)).unique().tolist() == [-127 / 128]


def test_a_missing_package_is_told_with_the_extra_that_brings_it():
    with pytest.raises(MissingDataError, match=r"`no_such_package` is not installed.*dqss-bench\[imagenet-lite\]"):
        PackagedFile("no_such_package", "x", "0").locate()


def test_another_file_than_the_tested_one_is_refused():
    with pytest.raises(MissingDataError, match=r"is missing or not the file"):
        PackagedFile("benchmarks", "__init__.py", "0" * 64).locate()
    right = hashlib.sha256(b"").hexdigest()
    assert PackagedFile("benchmarks", "__init__.py", right).locate().name == "__init__.py"


def test_without_the_photographs_cells_are_skipped_with_what_to_do(monkeypatch):
    absent = packaged.Photographs((PackagedFile("no_such_package", "x", "0"),), (), ())
    monkeypatch.setitem(PHOTOGRAPHS, "imagenet-fidelity", absent)
    assert "pip install 'dqss-bench[imagenet-lite]'" in Inventory().data("imagenet-fidelity").missing
    assert Inventory().data("fashion-mnist").missing is None


def test_the_hash_of_the_data_changes_with_each_photograph(monkeypatch):
    before = data_digest("imagenet-fidelity")
    fewer = packaged.Photographs(PHOTOS.test, PHOTOS.calibration[1:], PHOTOS.validation)
    monkeypatch.setitem(PHOTOGRAPHS, "imagenet-fidelity", fewer)
    assert data_digest("imagenet-fidelity") != before


def test_every_photograph_has_its_views(task):
    for split, photographs in ((Split.CALIBRATION, 16), (Split.VALIDATION, 3), (Split.TEST, 20)):
        assert task.inputs(split).shape == (photographs * len(VIEWS), 3, 224, 224)
        assert len(task.ids(split)) == photographs * len(VIEWS)
    assert views_of(PHOTOS.test).unique(dim=0).shape[0] == 100


def test_training_is_refused(task):
    for split in (Split.TRAIN, Split.FINE_TUNING):
        with pytest.raises(MissingDataError, match="trains nothing"):
            task.check(split)
        with pytest.raises(MissingDataError, match="trains nothing"):
            next(task.training_batches(split, 8, torch.Generator()))


class Scores(nn.Module):
    """Scores that come from the mean colour alone."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(shift))

    def forward(self, x):
        means = x.mean((2, 3))
        return torch.cat([means, means.new_full((len(x), 997), -9.0)], dim=1) + torch.eye(1000)[0] * self.shift


def test_agreement_and_divergence_are_those_worked_out_by_hand(task):
    exact, shifted = Scores(0.0), Scores(0.05)
    with pytest.raises(ValueError, match="after take_reference"):
        task.evaluate(exact, Split.TEST, no_report)
    task.take_reference(exact, no_report)
    same = task.evaluate(exact, Split.TEST, no_report)
    assert same.primary == 100
    assert same.measures["logit KL to full precision, nats"] == pytest.approx(0, abs=1e-6)
    scores = task.evaluate(shifted, Split.TEST, no_report)
    with torch.no_grad():
        before, after = (model(task.inputs(Split.TEST)).double() for model in (exact, shifted))
    agreed = [b.argmax() == a.argmax() for b, a in zip(before, after, strict=True)]
    divergence = (before.softmax(1) * (before.log_softmax(1) - after.log_softmax(1))).sum(1).mean().item()
    assert 0 < sum(agreed) < 100
    assert scores.primary == pytest.approx(100 * sum(agreed) / 100)
    assert scores.outcomes.tolist() == agreed
    labels = [int(file.path[:-4].split("_")[-1]) for file in PHOTOS.test]
    right = sum(views[0].argmax() == label for views, label in zip(after.split(5), labels, strict=True))
    assert scores.measures["top-1 of the labelled centre crops, %"] == 100 * right / 20
    assert scores.measures["logit KL to full precision, nats"] == pytest.approx(divergence, rel=1e-3)


def test_the_network_knows_most_of_the_labelled_photographs(task, network):
    """Its published top-1 is 74.8 %; of 20 photographs fewer than 12 right would be one chance in two hundred."""
    labels = [int(file.path[:-4].split("_")[-1]) for file in PHOTOS.test]
    with torch.inference_mode():
        named = network(centres(task)).argmax(1).tolist()
    assert sum(n == label for n, label in zip(named, labels, strict=True)) >= 12


def test_the_network_is_that_of_the_package_whose_weights_it_takes(task, network):
    theirs = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0").eval()
    theirs.load_state_dict(network.state_dict())
    with torch.inference_mode():
        expected, found = theirs(centres(task)[:4]), network(centres(task)[:4])
    assert torch.allclose(found, expected, rtol=0, atol=1e-4)


def test_the_packages_own_network_is_quantized_in_every_layer_with_its_normalisations_folded(task):
    theirs = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0").train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        batch = torch.randn(2, 3, 224, 224)
    result = dqss.quantize_ptq(
        theirs, [batch], bits="W8A8", search="uniform", weight_quantizers=["minmax"], activation_quantizers=["minmax"]
    )
    assert len(result.strategy.layers) == 50
    assert result.report.notes == ()
    assert not any(isinstance(part, nn.BatchNorm2d) for part in result.model.modules())


def test_the_network_has_fifty_layers_and_is_built_for_other_channels():
    built = EfficientNetLite0(in_channels=1, classes=7).eval()
    assert sum(isinstance(part, nn.Conv2d | nn.Linear) for part in built.modules()) == 50
    with torch.inference_mode():
        assert built(torch.zeros(2, 1, 64, 64)).shape == (2, 7)


def test_the_task_stands_in_the_table():
    assert TASKS.load("imagenet-fidelity") is ImagenetFidelity
