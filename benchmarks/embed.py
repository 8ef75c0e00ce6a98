"""The program that made the shipped part of Fashion-MNIST from the whole of it: `python -m benchmarks.embed FOLDER`."""

from __future__ import annotations

import argparse
import gzip
import hashlib
import struct
import sys
from pathlib import Path
from typing import Any

import numpy

from benchmarks.datasets import DATASETS, SUMS, MissingDataError, locate, wrong_files

PER_CLASS = 1000
IDX_TYPES = {"|u1": 0x08, ">i4": 0x0C}


def first_of_each_class(labels: numpy.ndarray[Any, Any], count: int) -> numpy.ndarray[Any, Any]:
    """Return the positions of the first `count` of each class, in ascending order.

    >>> first_of_each_class(numpy.array([1, 0, 0, 1, 0]), 1)
    array([0, 1])
    """
    return numpy.sort(numpy.concatenate([numpy.flatnonzero(labels == c)[:count] for c in numpy.unique(labels)]))


def write_idx(path: Path, array: numpy.ndarray[Any, Any]) -> None:
    """Write a gzipped idx file of bytes or 32-bit big-endian integers; the same bytes for the same array."""
    header = struct.pack(f">4B{array.ndim}i", 0, 0, IDX_TYPES[array.dtype.str], array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes(), 9, mtime=0))


def embed_fashion_mnist(source: Path, destination: Path) -> None:
    """Write the shipped files and the list of their hashes: the test set as it is, and a part of the training set.

    Args:
        source: the folder of the whole data set.
        destination: a folder, made where it is missing.

    Raises:
        MissingDataError: the source lacks a file, or one has another content.
    """
    wrong = wrong_files(DATASETS["fashion-mnist"], source)
    if wrong:
        raise MissingDataError(
            f"{source}: {', '.join(wrong)}: missing or of another content. Fetch the data set again."
        )
    labels = _values(source / "train-labels-idx1-ubyte.gz", header=8)
    images = _values(source / "train-images-idx3-ubyte.gz", header=16).reshape(-1, 28, 28)
    ids = first_of_each_class(labels, PER_CLASS)
    destination.mkdir(parents=True, exist_ok=True)
    write_idx(destination / "train10k-images-idx3-ubyte.gz", images[ids])
    write_idx(destination / "train10k-labels-idx1-ubyte.gz", labels[ids])
    write_idx(destination / "train10k-ids-idx1-int.gz", ids.astype(">i4"))
    for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        (destination / name).write_bytes((source / name).read_bytes())
    paths = sorted(destination.glob("*.gz"))
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in paths]
    (destination / SUMS).write_text("".join(sums))


def _values(path: Path, header: int) -> numpy.ndarray[Any, Any]:
    return numpy.frombuffer(gzip.decompress(path.read_bytes()), numpy.uint8, offset=header)


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.embed", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where to write the files")
    parser.add_argument("--source", type=Path, metavar="DIR", help="the whole data set (default: where tasks find it)")
    arguments = parser.parse_args(argv)
    source = arguments.source or locate(DATASETS["fashion-mnist"])
    try:
        if source is None:
            raise MissingDataError("the data set is not here. Get it with `dqss-bench data fetch fashion-mnist`.")
        embed_fashion_mnist(source, arguments.folder)
    except (MissingDataError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(arguments.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
