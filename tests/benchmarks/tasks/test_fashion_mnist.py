import gzip
import hashlib
import json
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch

from benchmarks import datasets
from benchmarks.checkpoints import find_checkpoint
from benchmarks.datasets import DATASETS, EMBEDDED, MissingDataError, locate
from benchmarks.tasks import TASKS
from benchmarks.tasks.base import Split
from benchmarks.tasks.fashion_mnist import FashionMnist, read_idx

SHIPPED = EMBEDDED / "fashion-mnist"
SHIPPED_SPLITS = [Split.FINE_TUNING, Split.CALIBRATION, Split.VALIDATION, Split.TEST]


@pytest.fixture
def whole() -> Path:
    folder = locate(DATASETS["fashion-mnist"])
    if folder is None:
        pytest.skip("the whole of Fashion-MNIST is not on this machine")
    return folder


@pytest.fixture
def no_whole(monkeypatch, tmp_path):
    monkeypatch.setenv("DQSS_DATA", str(tmp_path / "data"))
    elsewhere = replace(DATASETS["fashion-mnist"], system_folder=tmp_path / "system")
    monkeypatch.setitem(DATASETS, "fashion-mnist", elsewhere)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content))
    return path


def shipped_ids() -> list[int]:
    content = gzip.decompress((SHIPPED / "train10k-ids-idx1-int.gz").read_bytes())
    return [i for (i,) in struct.iter_unpack(">i", content[8:])]


def test_calibration_and_validation_have_the_promised_sizes_and_no_image_in_common():
    task = FashionMnist()
    calibration, validation = task.ids(Split.CALIBRATION), task.ids(Split.VALIDATION)
    assert (len(set(calibration)), len(set(validation))) == (len(calibration), len(validation)) == (1024, 2000)
    assert not set(calibration) & set(validation)
    assert {*calibration, *validation} <= set(shipped_ids()) <= set(range(60_000))


def test_the_splits_are_taken_in_the_order_of_the_hashes_of_the_ids():
    order = sorted(shipped_ids(), key=lambda i: hashlib.sha256(f"fashion-mnist/train/{i}".encode()).digest())
    task = FashionMnist()
    assert task.ids(Split.CALIBRATION) == order[:1024]
    assert task.ids(Split.VALIDATION) == order[1024:3024]


def test_the_splits_stay_what_records_were_made_with():
    task = FashionMnist()
    digests = {
        split: hashlib.sha256(json.dumps(task.ids(split)).encode()).hexdigest()[:16]
        for split in (Split.CALIBRATION, Split.VALIDATION)
    }
    assert digests == {Split.CALIBRATION: "18831df2012b9e53", Split.VALIDATION: "8537192b21e95b21"}


@pytest.mark.parametrize("split", SHIPPED_SPLITS)
def test_every_split_has_an_image_a_label_and_an_id_each(split):
    task = FashionMnist()
    images, labels = task.data(split)
    count = len(task.ids(split))
    assert (images.shape, images.dtype) == ((count, 1, 28, 28), torch.uint8)
    assert (labels.shape, labels.dtype) == ((count,), torch.int64)
    assert task.inputs(split).shape == images.shape


def test_every_class_has_its_share():
    labels = gzip.decompress((SHIPPED / "train10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    assert [labels.count(c) for c in range(10)] == [1000] * 10
    assert FashionMnist().data(Split.TEST)[1].bincount().tolist() == [1000] * 10
    for split, least in ((Split.CALIBRATION, 70), (Split.VALIDATION, 160)):
        shares = FashionMnist().data(split)[1].bincount(minlength=10)
        assert len(shares) == 10
        assert int(shares.min()) >= least


def test_labels_belong_to_their_images():
    """The nearest class mean is right far more often than the one in ten that shuffled labels would give."""
    task = FashionMnist()
    images, labels = task.data(Split.VALIDATION)
    means = torch.stack([images[labels == c].float().mean(0).flatten() for c in range(10)])
    for split in (Split.CALIBRATION, Split.TEST):
        images, labels = task.data(split)
        nearest = torch.cdist(images.float().flatten(1), means).argmin(1)
        assert (nearest == labels).double().mean() > 0.6


@pytest.mark.parametrize("split", [Split.FINE_TUNING, Split.CALIBRATION, Split.VALIDATION])
def test_ids_name_the_same_images_in_the_whole_data_set(whole, split):
    pixels = gzip.decompress((whole / "train-images-idx3-ubyte.gz").read_bytes())[16:]
    all_labels = gzip.decompress((whole / "train-labels-idx1-ubyte.gz").read_bytes())[8:]
    task = FashionMnist()
    images, labels = task.data(split)
    for i, image, label in zip(task.ids(split), images, labels, strict=True):
        assert image.numpy().tobytes() == pixels[784 * i : 784 * (i + 1)]
        assert label == all_labels[i]


def test_the_training_split_is_the_whole_training_set(whole):
    task = FashionMnist()
    images, labels = task.data(Split.TRAIN)
    assert images.shape == (60_000, 1, 28, 28)
    assert labels.bincount().tolist() == [6000] * 10
    assert task.ids(Split.TRAIN) == list(range(60_000))
    scaled = images.double() / 255
    assert scaled.mean().item() == pytest.approx(task.mean, abs=1e-4)
    assert scaled.std().item() == pytest.approx(task.std, abs=1e-4)


def test_without_the_whole_data_set_only_training_is_refused(no_whole):
    task = FashionMnist()
    for split in SHIPPED_SPLITS:
        task.check(split)
    with pytest.raises(MissingDataError, match="dqss-bench data fetch fashion-mnist"):
        task.check(Split.TRAIN)
    with pytest.raises(MissingDataError):
        task.data(Split.TRAIN)
    with pytest.raises(MissingDataError):
        next(task.training_batches(Split.TRAIN, 8, torch.Generator()))


@pytest.mark.parametrize("split", SHIPPED_SPLITS)
def test_a_changed_shipped_file_is_refused_before_it_is_read(monkeypatch, tmp_path, split):
    shutil.copytree(EMBEDDED, tmp_path / "data")
    monkeypatch.setattr(datasets, "EMBEDDED", tmp_path / "data")
    (tmp_path / "data" / "fashion-mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"")
    with pytest.raises(MissingDataError, match=r"t10k-labels-idx1-ubyte\.gz was changed"):
        FashionMnist().data(split)


def test_the_shipped_checkpoints_were_trained_on_all_training_images():
    expected = FashionMnist().training_data()
    assert set(expected["content_sha256"]) == {"train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"}
    for model in ("resnet8", "resnet20", "mobilenetv2-small"):
        recipe = find_checkpoint(model, "fashion-mnist").recipe
        assert recipe["data"] == expected
        assert recipe["training_images"] == 60_000


def test_the_task_stands_in_the_table():
    assert TASKS.load("fashion-mnist") is FashionMnist


@pytest.mark.parametrize(("code", "dtype"), [(0x08, "u1"), (0x0C, ">i4")])
def test_an_idx_file_gives_its_array(tmp_path, code, dtype):
    array = numpy.arange(200, 224).astype(dtype).reshape(2, 3, 4)
    content = bytes([0, 0, code, 3]) + struct.pack(">3i", 2, 3, 4) + array.tobytes()
    found = read_idx(write(tmp_path / "x.gz", content))
    assert found.tolist() == [[[200 + 12 * i + 4 * j + k for k in range(4)] for j in range(3)] for i in range(2)]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"\0\0\x0d\1" + struct.pack(">i", 1) + b"\0" * 4, "not an idx file of bytes or 32-bit integers"),
        (b"PNG\1" + struct.pack(">i", 1) + b"\0", "not an idx file of bytes or 32-bit integers"),
        (b"", "not an idx file of bytes or 32-bit integers"),
        (b"\0\0\x08\1" + struct.pack(">i", 5) + b"\0" * 4, "its size does not fit its header"),
        (b"\0\0\x08\1" + struct.pack(">i", 5) + b"\0" * 6, "its size does not fit its header"),
        (b"\0\0\x0c\1" + struct.pack(">i", 2) + b"\0" * 2, "its size does not fit its header"),
    ],
)
def test_a_file_that_is_no_idx_file_or_of_another_size_is_refused_with_its_path(tmp_path, content, fault):
    path = write(tmp_path / "x.gz", content)
    with pytest.raises(ValueError, match=fault) as caught:
        read_idx(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "fetch it again" in str(caught.value)


def test_fine_tuning_has_every_shipped_training_image_but_those_of_search_validation():
    task = FashionMnist()
    ids = task.ids(Split.FINE_TUNING)
    assert len(ids) == len(set(ids)) == 8000
    assert set(ids) == set(shipped_ids()) - set(task.ids(Split.VALIDATION))
    images, labels = task.data(Split.FINE_TUNING)
    assert images.shape == (8000, 1, 28, 28)
    # The shipped subset has 1,000 of each class.
    assert labels.bincount().tolist() == (1000 - task.data(Split.VALIDATION)[1].bincount()).tolist()
