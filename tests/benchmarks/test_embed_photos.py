import hashlib

import numpy
import pytest

from benchmarks import datasets, embed_photos
from benchmarks.datasets import EMBEDDED, MissingDataError
from benchmarks.embed_photos import CROP, SYSTEM, TESTS, WALLPAPERS, Wallpaper, detail, detailed, middle, shrunk, tiles
from benchmarks.packaged import PHOTOGRAPHS

Image = pytest.importorskip("PIL.Image")
SHIPPED = EMBEDDED / "photos"
FILES = sorted(path for path in SHIPPED.glob("*/*.png"))


def noise(height: int, width: int, strength: int = 200, seed: int = 0):
    return numpy.random.default_rng(seed).integers(20, 20 + strength, (height, width), "u1")


def located(name):
    sources = {file.path.rpartition("/")[2]: file for file in PHOTOGRAPHS["imagenet-fidelity"].all}
    try:
        return sources[name].locate()
    except MissingDataError as error:
        pytest.skip(str(error))


def test_the_list_of_hashes_is_of_the_files_that_are_shipped():
    expected = {f"{path.parent.name}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in FILES}
    assert datasets.embedded_sums("photos") == expected
    assert len(expected) == 24
    datasets.check_embedded("photos")


def test_description_and_licence_name_every_file_and_nothing_is_too_large():
    readme, licence = ((SHIPPED / name).read_text() for name in ("README.md", "LICENSE"))
    for path in FILES:
        name = f"{path.parent.name}/{path.name}"
        row = next(line for line in readme.splitlines() if line.startswith(f"| `{name}` |"))
        assert name in licence
        assert len([cell for cell in row.split("|") if cell.strip()]) == 5
        if path.parent.name != "test":
            with Image.open(path) as image:
                assert (image.mode, image.width, image.height % CROP) == ("L", CROP, 0)
                assert f" {image.height // CROP} crops " in row
    sizes = [path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()]
    assert sum(sizes) < 14_000_000
    assert max(sizes) < 10_000_000


def test_no_photograph_is_in_two_parts():
    names = [path.stem for path in FILES]
    assert len(names) == len(set(names))
    expected = {f"{part}/{each.name}.png" for part, each_of in WALLPAPERS.items() for each in each_of}
    expected |= {f"test/{name.partition('.')[0]}.png" for name in TESTS}
    assert datasets.embedded_sums("photos").keys() == expected


@pytest.mark.parametrize("name", TESTS)
def test_a_test_photograph_is_the_middle_of_its_source(name):
    factor, longest = TESTS[name]
    with Image.open(located(name)) as image:
        whole = numpy.asarray(image).astype("f8")
    with Image.open(SHIPPED / "test" / f"{name.partition('.')[0]}.png") as image:
        found = numpy.asarray(image)
    assert max(found.shape[:2]) <= longest
    if factor == 1:
        top, left = ((big - small) // 2 for big, small in zip(whole.shape[:2], found.shape[:2], strict=True))
        assert (whole[top : top + found.shape[0], left : left + found.shape[1]] == found).all()
        return
    height, width = found.shape[:2]
    blocks = whole[: height * factor, : width * factor].reshape(height, factor, width, factor, 3).mean((1, 3))
    # Lanczos's filter is near the mean of each block, and nearer than to the blocks beside it.
    assert numpy.abs(found - blocks).mean() < 5
    assert numpy.abs(found - blocks).mean() < numpy.abs(found[:, 1:] - blocks[:, :-1]).mean() / 2


def test_tiles_are_in_reading_order_and_none_hangs_over():
    grey = noise(2 * CROP + 5, 3 * CROP + 100)
    found = tiles(grey)
    assert len(found) == 6
    assert (found[4] == grey[CROP : 2 * CROP, CROP : 2 * CROP]).all()
    assert tiles(noise(CROP - 1, CROP)) == []


def test_detail_is_nothing_of_a_ramp_and_known_of_stripes():
    ramp = numpy.add.outer(numpy.arange(40), 2 * numpy.arange(40)).astype("u1")
    assert detail(ramp) == 0
    # Rows of 0 and 10 in turn: second differences of 20 down the rows, none along them.
    assert detail(numpy.tile([[0], [10]], (20, 40)).astype("u1")) == 10


def test_the_crops_with_the_most_detail_are_kept_in_their_order(monkeypatch):
    monkeypatch.setattr(embed_photos, "MOST_CROPS", 2)
    flat, weak, strong, stronger = (noise(CROP, CROP, strength) for strength in (1, 20, 100, 200))
    assert [crop is one for crop, one in zip(detailed([stronger, weak, flat, strong]), [stronger, strong], strict=True)]
    assert detailed([flat, flat]) == []


def test_an_image_is_shrunk_by_exactly_the_factor_and_cut_in_its_middle():
    image = Image.fromarray(noise(101, 62))
    assert shrunk(image, 1) is image
    assert shrunk(image, 3).size == (20, 33)
    assert (numpy.asarray(middle(image, 50)) == numpy.asarray(image)[25:75, 6:56]).all()


@pytest.fixture
def debian(tmp_path, monkeypatch):
    """Return a folder with two made-up photographs, one for each part."""
    folder = tmp_path / "debian"
    folder.mkdir()
    parts = {}
    for seed, (part, name) in enumerate((("train", "One_by_Me.jpg"), ("validation", "Two_A_by_Me.jpg"))):
        Image.fromarray(noise(2 * CROP, 4 * CROP, seed=seed)).convert("RGB").save(folder / name)
        parts[part] = (Wallpaper(name, hashlib.sha256((folder / name).read_bytes()).hexdigest(), (1, 2)),)
    monkeypatch.setattr(embed_photos, "WALLPAPERS", parts)
    return folder


def test_the_program_writes_crops_and_their_hashes_and_the_same_bytes_again(debian, tmp_path, monkeypatch):
    located("astronaut.png")
    located("china.jpg")
    for name in "ab":
        assert embed_photos.main([str(tmp_path / name / "photos"), "--debian", str(debian)]) == 0
    first, second = ((tmp_path / name / "photos" / "SHA256SUMS").read_bytes() for name in "ab")
    assert first == second
    monkeypatch.setattr(datasets, "EMBEDDED", tmp_path / "a")
    datasets.check_embedded("photos")
    with Image.open(tmp_path / "a" / "photos" / "validation" / "two-a.png") as image:
        # Eight tiles at factor 1, two at factor 2.
        assert image.size == (CROP, 10 * CROP)
    for name in TESTS:
        stem = name.partition(".")[0]
        assert (tmp_path / "a" / "photos" / "test" / f"{stem}.png").exists()


def test_a_photograph_of_another_content_is_refused(debian, tmp_path, capsys):
    located("astronaut.png")
    (debian / "Two_A_by_Me.jpg").write_bytes(b"another")
    assert embed_photos.main([str(tmp_path / "out"), "--debian", str(debian)]) == 1
    said = capsys.readouterr().err
    assert "Two_A_by_Me.jpg" in said
    assert "lomiri-wallpapers-16.04" in said
    assert not (tmp_path / "out").exists()


def test_the_shipped_crops_are_what_the_debian_packages_give(tmp_path):
    located("astronaut.png")
    if not (SYSTEM / WALLPAPERS["train"][0].file).exists():
        pytest.skip("the Debian packages' photographs are not on this machine")
    embed_photos.embed_photos(SYSTEM, tmp_path)
    for path in FILES:
        with Image.open(path) as shipped, Image.open(tmp_path / path.parent.name / path.name) as made:
            assert (numpy.asarray(shipped) == numpy.asarray(made)).all()
