"""Fashion-MNIST: 28x28 grey images of ten kinds of clothing.

Xiao, Rasul, Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms"
(arXiv 1708.07747). Shipped with the package: the whole test set and a class-balanced 10,000 of the training set.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from benchmarks.datasets import DATASETS, EMBEDDED, MissingDataError, check_embedded, locate
from benchmarks.tasks.base import Split
from benchmarks.tasks.classification import Classification

CALIBRATION_SIZE = 1024
VALIDATION_SIZE = 2000


def read_idx(path: Path) -> Tensor:
    """Return the array in a gzipped idx file of bytes or 32-bit integers (the format of LeCun's MNIST page).

    Raises:
        ValueError: not an idx file of these types, or shorter than its header says.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: not a gzip file ({error}). Delete it and fetch it again.") from error
    types: dict[bytes, numpy.dtype[Any]] = {b"\x00\x00\x08": numpy.dtype("u1"), b"\x00\x00\x0c": numpy.dtype(">i4")}
    if content[:3] not in types or len(content) < 4 + 4 * content[3]:
        raise ValueError(f"{path}: not an idx file of bytes or 32-bit integers. Delete it and fetch it again.")
    dtype = types[content[:3]]
    rank = content[3]
    shape = numpy.frombuffer(content, ">i4", rank, offset=4)
    start = 4 + 4 * rank
    if len(content) - start != int(shape.prod(dtype=numpy.int64)) * dtype.itemsize:
        raise ValueError(f"{path}: its size does not fit its header. Delete it and fetch it again.")
    array = numpy.frombuffer(content, dtype, offset=start).reshape(tuple(shape))
    return torch.from_numpy(array.astype(dtype.newbyteorder("=")))


@cache
def read_pair(folder: Path, prefix: str) -> tuple[Tensor, Tensor]:
    """Return (N, 1, 28, 28) uint8 images and (N,) int64 labels of one part of the data set."""
    images = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz")
    return images.unsqueeze(1), labels.long()


@cache
def embedded_order() -> Tensor:
    """Return a fixed order of the shipped training subset: by the SHA-256 of each image's id, whatever the library."""
    ids = read_idx(EMBEDDED / "fashion-mnist" / "train10k-ids-idx1-int.gz").tolist()
    digests = [hashlib.sha256(f"fashion-mnist/train/{i}".encode()).digest() for i in ids]
    return torch.tensor(sorted(range(len(ids)), key=digests.__getitem__))


class FashionMnist(Classification):
    """Classification of Fashion-MNIST. Calibration and validation images are disjoint parts of the shipped subset.

    Fine-tuning takes all of it but the validation images.
    """

    name = "fashion-mnist"
    in_channels = 1
    classes = 10
    mean = 0.2860
    std = 0.3530

    def check(self, split: Split) -> None:
        if split is Split.TRAIN:
            if locate(DATASETS["fashion-mnist"]) is None:
                raise MissingDataError(
                    "the 60,000 training images of Fashion-MNIST are not here. "
                    "Get them with `dqss-bench data fetch fashion-mnist`."
                )
            return
        check_embedded(self.name)

    def chosen(self, split: Split) -> Tensor:
        """Return the split's positions in the shipped training subset."""
        order, end = embedded_order(), CALIBRATION_SIZE + VALIDATION_SIZE
        if split is Split.CALIBRATION:
            return order[:CALIBRATION_SIZE]
        if split is Split.FINE_TUNING:
            return torch.cat([order[:CALIBRATION_SIZE], order[end:]])
        return order[CALIBRATION_SIZE:end]

    def ids(self, split: Split) -> list[int]:
        if split is Split.TRAIN:
            return list(range(60_000))
        if split is Split.TEST:
            return list(range(10_000))
        ids = read_idx(EMBEDDED / "fashion-mnist" / "train10k-ids-idx1-int.gz")
        return [int(i) for i in ids[self.chosen(split)]]

    def data(self, split: Split) -> tuple[Tensor, Tensor]:
        self.check(split)
        if split is Split.TRAIN:
            folder = locate(DATASETS["fashion-mnist"])
            assert folder is not None
            return read_pair(folder, "train")
        if split is Split.TEST:
            return read_pair(EMBEDDED / "fashion-mnist", "t10k")
        images, labels = read_pair(EMBEDDED / "fashion-mnist", "train10k")
        chosen = self.chosen(split)
        return images[chosen], labels[chosen]

    def training_data(self) -> dict[str, Any]:
        files = DATASETS["fashion-mnist"].files
        return {
            "name": "Fashion-MNIST, all training images",
            "content_sha256": {name: digest for name, digest in files.items() if name.startswith("train")},
            "preprocessing": f"(x / 255 - {self.mean}) / {self.std}",
        }
