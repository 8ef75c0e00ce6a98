import shutil
from pathlib import Path

import numpy
import pytest
import torch
from torch import nn

from benchmarks.tasks import super_resolution
from benchmarks.tasks.base import Split, generator_of
from benchmarks.tasks.photos import PhotosX2, PhotosX4
from benchmarks.tasks.super_resolution import (
    BEST_PSNR,
    Bicubic,
    SuperResolution,
    bicubic_scores,
    cut,
    downscaled,
    luma,
    psnr,
    read_crops,
    read_luma,
    ssim,
    turned,
)
from dqss.search.base import no_report

Image = pytest.importorskip("PIL.Image")
SCALES = {2: PhotosX2, 4: PhotosX4}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(16, 236, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def scene(height: int, width: int) -> torch.Tensor:
    """Return (1, 1, H, W) uint8 of waves, which bicubic interpolation follows but not exactly."""
    rows, columns = torch.arange(height)[:, None] / 7, torch.arange(width) / 5
    return (125 + 60 * rows.sin() * columns.cos() + 30 * (rows * 3 + columns).sin()).round().to(torch.uint8)[None, None]


@pytest.fixture
def task(tmp_path, monkeypatch):
    """A task with two test photographs of odd sizes, one grey and one in colour."""
    for name, size in (("a", (45, 61)), ("b", (38, 40))):
        pixels = scene(*size)[0, 0].numpy()
        Image.fromarray(numpy.stack([pixels] * 3, 2) if name == "b" else pixels).save(tmp_path / f"{name}.png")

    class Small(SuperResolution):
        name = "photos-x2"
        scale = 2

        def test_files(self) -> list[Path]:
            return sorted(tmp_path.glob("*.png"))

    return Small()


class Shifted(nn.Module):
    """Bicubic interpolation, brighter by so many levels."""

    def __init__(self, scale: int, levels: float) -> None:
        super().__init__()
        self.bicubic, self.levels = Bicubic(scale), levels

    def forward(self, x):
        return self.bicubic(x) + self.levels / 255


def test_luma_is_that_of_matlabs_rgb2ycbcr():
    # Black, white, the primaries and a grey, by the definition 16 + (65.481 R + 128.553 G + 24.966 B).
    colours = torch.tensor([[0, 0, 0], [255] * 3, [255, 0, 0], [0, 255, 0], [0, 0, 255], [100] * 3], dtype=torch.uint8)
    assert luma(colours[None]).tolist() == [[16, 235, 81, 145, 41, 102]]


def test_luma_is_the_formula_rounded_for_many_colours():
    colours = torch.randint(0, 256, (40, 50, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = numpy.rint(16 + colours.numpy() @ numpy.array([65.481, 128.553, 24.966]) / 255)
    assert luma(colours).numpy().tolist() == expected.tolist()


@pytest.mark.parametrize("scale", SCALES)
def test_downscaling_is_that_of_pillow(scale):
    high = noise(1, 1, 12 * scale, 17 * scale)
    wide = Image.fromarray(high[0, 0].numpy().astype("f4"))
    expected = numpy.asarray(wide.resize((17, 12), Image.Resampling.BICUBIC))
    found = downscaled(high, scale)[0, 0].numpy()
    assert found.dtype == numpy.uint8
    assert numpy.abs(found - expected.clip(0, 255)).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("scale", SCALES)
def test_the_bicubic_baseline_is_that_of_pillow(scale):
    low = noise(1, 1, 12, 17)
    small = Image.fromarray(low[0, 0].numpy().astype("f4"))
    expected = numpy.asarray(small.resize((17 * scale, 12 * scale), Image.Resampling.BICUBIC))
    assert numpy.abs(Bicubic(scale)(low.float())[0, 0].numpy() - expected).max() < 1e-2


def test_psnr_and_ssim_are_those_of_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    high = scene(60, 70)
    image = (high.float() + torch.randn(high.shape, generator=torch.Generator().manual_seed(0)) * 8).round()
    first, second = high[0, 0].numpy().astype("f8"), image[0, 0].numpy().astype("f8")
    assert psnr(image, high) == pytest.approx(metrics.peak_signal_noise_ratio(first, second, data_range=255), abs=1e-5)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    assert ssim(image, high) == pytest.approx(metrics.structural_similarity(first, second, **options), abs=1e-4)


def test_an_exact_image_has_the_best_psnr_and_not_an_infinite_one():
    assert psnr(scene(20, 20), scene(20, 20)) == BEST_PSNR


def test_the_score_is_that_of_the_interior_after_rounding(task):
    scores = task.evaluate(Shifted(2, 3.0), Split.TEST, no_report)
    expected = []
    for low, high in task.pairs(Split.TEST):
        levels = (255 * Shifted(2, 3.0)(low.float() / 255)).round().clamp(0, 255)
        error = (levels - high.float())[0, 0, 2:-2, 2:-2].double().square().mean()
        expected.append(10 * torch.log10(255**2 / error).item())
    assert scores.outcomes.tolist() == pytest.approx(expected, abs=1e-4)
    assert scores.outcomes.dtype == torch.float32
    assert scores.primary == pytest.approx(scores.outcomes.double().mean().item(), abs=1e-12)
    assert 0 < scores.measures["SSIM"] < 1


def test_test_photographs_are_cropped_to_a_multiple_of_the_scale(task):
    assert [tuple(high.shape[2:]) for _, high in task.pairs(Split.TEST)] == [(44, 60), (38, 40)]
    assert [tuple(low.shape[2:]) for low, _ in task.pairs(Split.TEST)] == [(22, 30), (19, 20)]
    assert task.ids(Split.TEST) == [0, 1]
    assert task.names() == ["a", "b"]


def test_a_grey_photograph_counts_as_one_of_equal_colours(tmp_path):
    pixels = scene(20, 24)[0, 0].numpy()
    Image.fromarray(pixels).save(tmp_path / "grey.png")
    Image.fromarray(numpy.stack([pixels] * 3, 2)).save(tmp_path / "rgb.png")
    assert read_luma(tmp_path / "grey.png").equal(read_luma(tmp_path / "rgb.png"))
    assert (
        read_luma(tmp_path / "grey.png").numpy().tolist() == numpy.rint(16 + pixels.astype("f8") * 219 / 255).tolist()
    )


def test_a_file_that_is_no_whole_image_of_8_bits_is_named(tmp_path):
    path = tmp_path / "a.png"
    path.write_text("no image")
    with pytest.raises(ValueError, match=r"a\.png: cannot be read as an image"):
        read_luma(path)
    Image.fromarray(noise(40, 40).numpy()).save(path)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(ValueError, match=r"a\.png: cannot be read as an image"):
        read_luma(path)
    # Pillow itself would make 255 of each level above.
    Image.fromarray(numpy.arange(0, 65536, 16, dtype="u2").reshape(64, 64)).save(path)
    with pytest.raises(ValueError, match=r"a\.png: its grey levels have more than 8 bits"):
        read_luma(path)


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "CMYK"])
def test_other_images_of_8_bits_are_read_by_their_colours(mode, tmp_path):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.new("RGB", (24, 20), (255, 255, 255)).convert(mode).save(path)
    assert read_luma(path).unique().tolist() == [235]


@pytest.mark.parametrize(("kind", "least"), [(PhotosX2, 16), (PhotosX4, 20)])
def test_a_photograph_that_is_too_small_for_its_scores_is_named(kind, least, tmp_path):
    class Tiny(kind):
        def test_files(self):
            return [tmp_path / "tiny.png"]

    Image.fromarray(noise(least, 40).numpy()).save(tmp_path / "tiny.png")
    assert 0 < bicubic_scores(Tiny(), Split.TEST).measures["SSIM"] < 1
    Image.fromarray(noise(least - 1, 40).numpy()).save(tmp_path / "tiny.png")
    with pytest.raises(ValueError, match=rf"tiny\.png: 40 x {least - 1} pixels .* at least {least} x {least}"):
        Tiny().pairs(Split.TEST)


def test_an_output_that_is_not_a_number_has_no_score(task):
    with pytest.raises(ValueError, match="model: its output has values that are not numbers"):
        task.evaluate(Shifted(2, float("nan")), Split.TEST, no_report)


def test_distance_to_full_precision_is_measured_but_for_the_network_itself(task):
    assert set(task.evaluate(Bicubic(2), Split.TEST, no_report).measures) == {"SSIM"}
    task.take_reference(Bicubic(2), no_report)
    assert task.reference.halo == 2
    assert set(task.evaluate(Bicubic(2), Split.TEST, no_report).measures) == {"SSIM"}
    measures = task.evaluate(Shifted(2, 3.0), Split.TEST, no_report).measures
    # Every pixel is off by three levels: 10 log10(255^2 / 9).
    assert measures["PSNR to full precision, dB"] == pytest.approx(38.588, abs=0.02)
    assert set(task.evaluate(Shifted(2, 3.0), Split.VALIDATION, no_report).measures) == {"SSIM"}


def test_a_photograph_in_tiles_scores_as_the_whole(task, monkeypatch):
    whole = task.evaluate(Bicubic(2), Split.TEST, no_report)
    original = super_resolution.upscale
    sizes = []

    def upscale(network, image, scale, halo):
        sizes.append((tuple(image.shape[2:]), halo))
        return original(network, image, scale, halo, tile=7)

    monkeypatch.setattr(super_resolution, "upscale", upscale)
    tiled = task.evaluate(Bicubic(2), Split.TEST, no_report)
    assert sizes == [((22, 30), 2), ((19, 20), 2)]
    assert tiled.outcomes.tolist() == pytest.approx(whole.outcomes.tolist(), abs=1e-3)


@pytest.mark.parametrize(("scale", "kind"), SCALES.items())
def test_patches_are_the_middles_of_their_crops(scale, kind):
    task = kind()
    for split, part, count in ((Split.CALIBRATION, "train", 96), (Split.VALIDATION, "validation", 64)):
        inputs, ids = task.inputs(split), task.ids(split)
        assert inputs.shape == (count, 1, 32, 32)
        assert len(set(ids)) == count
        crop = read_crops(part).images[ids[3]][None]
        margin = (192 - 32 * scale) // 2
        low, high = task.pairs(split)[3]
        assert high.equal(crop[:, :, margin : 192 - margin, margin : 192 - margin])
        small = margin // scale
        assert low.equal(downscaled(crop, scale)[:, :, small : small + 32, small : small + 32])
        assert inputs[3].equal(low[0].float() / 255)


def test_inputs_of_other_splits_are_refused():
    with pytest.raises(ValueError, match="split: test has no inputs of one size"):
        PhotosX2().inputs(Split.TEST)


def test_the_order_of_crops_is_that_of_hashes_and_mixes_photographs():
    order = read_crops("train").order
    assert sorted(order) == list(range(len(read_crops("train").images)))
    assert order == read_crops("train").order
    # The first photograph's crops are spread over the whole.
    places = [order.index(i) for i in range(42)]
    assert min(places) < 30
    assert max(places) > 240


@pytest.mark.parametrize(("scale", "kind"), SCALES.items())
def test_an_epoch_has_every_crop_as_often_and_pairs_that_belong_together(scale, kind):
    task = kind()
    count = 0
    for inputs, targets in task.training_batches(Split.TRAIN, 64, torch.Generator().manual_seed(0)):
        assert inputs.shape[1:] == (1, 96 // scale, 96 // scale)
        assert targets.shape[1:] == (1, 96, 96)
        assert inputs.min() > 0
        assert targets.max() <= 1
        # The interior of a pair is what downscaling the target alone gives.
        alone = downscaled((255 * targets).round().to(torch.uint8), scale).float() / 255
        assert (alone - inputs)[..., 4:-4, 4:-4].abs().max() <= 1 / 255 + 1e-6
        count += len(inputs)
    assert count == len(task.ids(Split.TRAIN)) == 4 * len(read_crops("train").images)


def test_batches_are_those_of_the_generator():
    first, again, other = (
        next(iter(PhotosX2().training_batches(Split.TRAIN, 8, torch.Generator().manual_seed(seed))))
        for seed in (0, 0, 1)
    )
    assert first[0].equal(again[0])
    assert first[1].equal(again[1])
    assert not first[0].equal(other[0])


def test_an_image_has_eight_positions():
    image = torch.arange(9).view(3, 3)
    found = turned(image.expand(8, 1, 3, 3), torch.arange(8))
    rotated = [torch.rot90(image, k) for k in range(4)]
    expected = {tuple(x.flatten().tolist()) for each in rotated for x in (each, each.flip(1))}
    assert {tuple(x.flatten().tolist()) for x in found} == expected
    assert len(expected) == 8


def test_squares_are_cut_where_their_corners_say():
    images = torch.arange(2 * 5 * 6).view(2, 1, 5, 6)
    found = cut(images, torch.tensor([1, 0, 1]), torch.tensor([[0, 0], [2, 3], [1, 2]]), 3)
    assert found.equal(torch.stack([images[1, :, 0:3, 0:3], images[0, :, 2:5, 3:6], images[1, :, 1:4, 2:5]]))


def test_training_minimises_the_mean_absolute_error():
    task = PhotosX2()
    assert task.training_loss(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0])).item() == 1.5
    names = task.training_data()["content_sha256"]
    assert len(names) == 10
    assert all(name.startswith("train/") for name in names)


def test_the_network_is_built_for_luma_and_the_scale():
    class Net(nn.Module):
        def __init__(self, in_channels, scale):
            super().__init__()
            self.shape = in_channels, scale

    assert PhotosX4().build(Net).shape == (1, 4)


def test_a_user_without_the_shipped_files_is_told(tmp_path, monkeypatch):
    from benchmarks import datasets

    shutil.copytree(datasets.EMBEDDED / "photos", tmp_path / "photos")
    monkeypatch.setattr(datasets, "EMBEDDED", tmp_path)
    (tmp_path / "photos" / "train" / "life.png").unlink()
    for split in Split:
        with pytest.raises(datasets.MissingDataError, match=r"life\.png is missing"):
            PhotosX2().check(split)


@pytest.mark.parametrize(("kind", "expected"), [(PhotosX2, 31.276), (PhotosX4, 26.839)])
def test_the_bicubic_score_of_the_shipped_photographs(kind, expected):
    """Worked out by Pillow alone, which rounds to 8 bits between the two steps likewise."""
    scale = kind.scale
    scores = []
    for path in kind().test_files():
        with Image.open(path) as image:
            rgb = numpy.asarray(image.convert("RGB")).astype("f8")
        grey = numpy.floor(16.5 + rgb @ numpy.array([65.481, 128.553, 24.966]) / 255)
        height, width = (side // scale * scale for side in grey.shape)
        grey = grey[:height, :width]
        low = Image.fromarray(grey.astype("f4")).resize((width // scale, height // scale), Image.Resampling.BICUBIC)
        low = Image.fromarray(numpy.rint(numpy.asarray(low)).clip(0, 255).astype("f4"))
        back = numpy.rint(numpy.asarray(low.resize((width, height), Image.Resampling.BICUBIC))).clip(0, 255)
        error = (back - grey)[scale:-scale, scale:-scale]
        scores.append(10 * numpy.log10(255**2 / (error**2).mean()))
    found = bicubic_scores(kind(), Split.TEST)
    assert found.outcomes.tolist() == pytest.approx(scores, abs=0.01)
    assert found.primary == pytest.approx(expected, abs=0.005)


def test_bicubic_interpolation_reproduces_a_ramp():
    ramp = torch.arange(40.0).view(1, 1, 1, 40).expand(1, 1, 10, 40)
    enlarged = Bicubic(2)(ramp)[0, 0, 10, 8:-8]
    assert enlarged.diff().allclose(torch.full((63,), 0.5), atol=1e-4)


def test_fine_tuning_takes_the_training_crops_in_full_batches():
    task = PhotosX2()
    assert task.ids(Split.FINE_TUNING) == task.ids(Split.TRAIN)
    sizes = [len(inputs) for inputs, _ in task.training_batches(Split.FINE_TUNING, 64, generator_of(0, 0))]
    assert sizes == [64] * (len(task.ids(Split.TRAIN)) // 64)
