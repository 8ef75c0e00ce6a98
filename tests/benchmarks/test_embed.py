import gzip
import hashlib
import struct
from dataclasses import replace

import numpy
import pytest

from benchmarks import datasets, embed
from benchmarks.datasets import DATASETS, EMBEDDED, MissingDataError, content_sha256

FASHION = DATASETS["fashion-mnist"]


def idx(array) -> bytes:
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape) + array.tobytes()


@pytest.fixture
def source(monkeypatch, tmp_path):
    """Return the folder of a made-up data set of 60 training images, six of each class, in no order."""
    generator = numpy.random.default_rng(0)
    labels = generator.permutation(numpy.repeat(numpy.arange(10, dtype="u1"), 6))
    contents = {
        "train-images-idx3-ubyte.gz": idx(generator.integers(0, 256, (60, 28, 28), "u1")),
        "train-labels-idx1-ubyte.gz": idx(labels),
        "t10k-images-idx3-ubyte.gz": idx(generator.integers(0, 256, (5, 28, 28), "u1")),
        "t10k-labels-idx1-ubyte.gz": idx(labels[:5]),
    }
    folder = tmp_path / "source"
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(gzip.compress(content))
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setitem(DATASETS, "fashion-mnist", replace(FASHION, files=sums))
    monkeypatch.setattr(embed, "PER_CLASS", 2)
    return folder


def content(path) -> bytes:
    return gzip.decompress(path.read_bytes())


def test_the_first_of_each_class_are_taken_in_the_original_order(source, tmp_path):
    embed.embed_fashion_mnist(source, tmp_path / "out")
    labels = content(source / "train-labels-idx1-ubyte.gz")[8:]
    images = content(source / "train-images-idx3-ubyte.gz")[16:]
    seen = dict.fromkeys(range(10), 0)
    ids = []
    for i, label in enumerate(labels):
        seen[label] += 1
        if seen[label] <= 2:
            ids.append(i)
    wanted = b"".join(images[784 * i : 784 * (i + 1)] for i in ids)
    out = tmp_path / "out"
    assert content(out / "train10k-images-idx3-ubyte.gz") == b"\0\0\x08\3" + struct.pack(">3i", 20, 28, 28) + wanted
    assert content(out / "train10k-labels-idx1-ubyte.gz")[8:] == bytes(labels[i] for i in ids)
    assert content(out / "train10k-ids-idx1-int.gz") == b"\0\0\x0c\1" + struct.pack(">21i", 20, *ids)


def test_the_test_set_is_taken_over_byte_for_byte_and_the_hashes_fit(source, tmp_path, monkeypatch):
    embed.embed_fashion_mnist(source, tmp_path / "out" / "fashion-mnist")
    for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        assert (tmp_path / "out" / "fashion-mnist" / name).read_bytes() == (source / name).read_bytes()
    monkeypatch.setattr(datasets, "EMBEDDED", tmp_path / "out")
    datasets.check_embedded("fashion-mnist")
    assert len(datasets.embedded_sums("fashion-mnist")) == 5


def test_the_same_source_gives_the_same_bytes(source, tmp_path):
    for name in "ab":
        assert embed.main([str(tmp_path / name), "--source", str(source)]) == 0
    assert (tmp_path / "a" / "SHA256SUMS").read_bytes() == (tmp_path / "b" / "SHA256SUMS").read_bytes()


def test_a_source_of_another_content_is_refused(source, tmp_path, capsys):
    (source / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"another"))
    with pytest.raises(MissingDataError, match="t10k-labels-idx1-ubyte"):
        embed.embed_fashion_mnist(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert embed.main([str(tmp_path / "out"), "--source", str(source)]) == 1
    assert "t10k-labels-idx1-ubyte" in capsys.readouterr().err


def test_without_the_data_set_the_program_says_how_to_get_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("DQSS_DATA", str(tmp_path))
    monkeypatch.setitem(DATASETS, "fashion-mnist", replace(FASHION, system_folder=tmp_path / "system"))
    assert embed.main([str(tmp_path / "out")]) == 1
    assert "dqss-bench data fetch fashion-mnist" in capsys.readouterr().err


def test_the_shipped_files_are_what_the_whole_data_set_gives(tmp_path):
    folder = datasets.locate(FASHION)
    if folder is None:
        pytest.skip("the whole of Fashion-MNIST is not on this machine")
    embed.embed_fashion_mnist(folder, tmp_path)
    for name in datasets.embedded_sums("fashion-mnist"):
        assert content_sha256(tmp_path / name) == content_sha256(EMBEDDED / "fashion-mnist" / name)
