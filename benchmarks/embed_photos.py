"""The program that made the shipped photographs: `python -m benchmarks.embed_photos FOLDER --debian DIR`.

Training and validation photographs come from Debian packages, test photographs from the wheels of scikit-image and
scikit-learn; every source is known by its hash.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
import PIL.Image
import torch

from benchmarks.datasets import SUMS, MissingDataError
from benchmarks.packaged import PHOTOGRAPHS
from benchmarks.tasks.super_resolution import CROP, luma

if TYPE_CHECKING:
    from PIL.Image import Image

DETAIL = 1.5
MOST_CROPS = 48
"""A photograph gives at most this many crops: those with the most detail, of those that have at least DETAIL."""
SYSTEM = Path("/usr/share/backgrounds")
PACKAGES = ("lomiri-wallpapers-16.04", "lomiri-wallpapers-20.04")


@dataclass(frozen=True)
class Wallpaper:
    """A photograph of a Debian package.

    Args:
        file: its name below /usr/share/backgrounds.
        shrinks: the factors by which it is downscaled, so that what JPEG left in it vanishes; each gives crops.
    """

    file: str
    sha256: str
    shrinks: tuple[int, ...]

    @property
    def name(self) -> str:
        return self.file.partition("_by_")[0].lower().replace("_", "-")


WALLPAPERS = {
    "train": (
        Wallpaper(
            "Bridge_by_Sander_Klootwijk.jpg", "bd86b081f9975e2b83527f71e49b9271a8ab40885428395969d9f7d834d7f050", (3, 6)
        ),
        Wallpaper(
            "Kleiber_by_Lukas_Baubkus.jpg", "6572410c09f4492c74ccadde133565a14c0161617d5917d4c820c66d65a44ba7", (4, 6)
        ),
        Wallpaper(
            "Wine_by_Jakkub_Mede.jpg", "d2e96e6d4da40dd804b3d0ce295e94de04a2d7d9b6785d42cd9d92ba58bced74", (3, 6)
        ),
        Wallpaper(
            "aitzgorri_by_Aitzol_Berasategi.jpg",
            "66268e7b48f8854d36a28765fac6e23ec1aee251daa6da1f64715f201020ad36",
            (2, 4),
        ),
        Wallpaper(
            "free_by_Peter_Nerlich.jpg", "85a5453c2fed514c75973016f3d862aca62eb7ca087618822469274ac1092373", (2, 4)
        ),
        Wallpaper(
            "friends_by_Aitzol_Berasategi.jpg",
            "cc40e313c74e421edffe3403def413c16878ce14661cce7ec5915baeab35538d",
            (2, 4),
        ),
        Wallpaper(
            "greentock_by_Peter_Nerlich.jpg", "e7b20e2db9dcd6e2b278ca55873c2110b35d89cd38b04d0b18728726888e6889", (2, 4)
        ),
        Wallpaper(
            "life_by_Aitzol_Berasategi.jpg", "4c119350ead80201fe256850c3d316309ddfb4bdf10b235ce982dcde0c667c05", (2, 4)
        ),
        Wallpaper(
            "picosdeeuropa_by_Aitzol_Berasategi.jpg",
            "414d0072b2f6f2c555deafeaef6e45c4fed6fa9ad26eba6560ca8803959cf97a",
            (2, 4),
        ),
        Wallpaper(
            "seeding_by_Clements_Engelhardt.jpg",
            "a5634d1ab5e41a3568e92d4a894a500c92b891f9ff734e50bd224d6e185a605f",
            (4, 6),
        ),
    ),
    "validation": (
        Wallpaper("Dragonfly_by_Bolly.jpg", "af5af17841009732def24b09bb1e669a1b09d2b4bdeee7812c371101c30d2bb3", (4, 6)),
        Wallpaper(
            "Picture_0B_by_freespace.jpg", "c8c0ab18e48d9e0419fe42881112137f3afafc27dfddc29ec3a6d54c56d225ad", (2,)
        ),
        Wallpaper(
            "Picture_1A_by_freespace.jpg", "89e86af38d04daaef975665dc2127e9fa76f0fd68f4eea105a2d0ae3390b010b", (2,)
        ),
        Wallpaper(
            "sunset_by_Aitzol_Berasategi.jpg",
            "474dab6a4b9f94dc76c29dfe30e9f5db4af0fd2e33fe5d695f8152b371efca18",
            (3, 6),
        ),
    ),
}
"""Split -> its photographs; no split has one of another's."""

TESTS = {
    "astronaut.png": (1, 384),
    "brick.png": (1, 256),
    "camera.png": (1, 384),
    "chelsea.png": (1, 384),
    "china.jpg": (2, 384),
    "coffee.png": (1, 384),
    "flower.jpg": (2, 384),
    "grass.png": (1, 256),
    "gravel.png": (1, 256),
    "rocket.jpg": (2, 384),
}
"""Test photograph -> the factor it is downscaled by and the longest side of the crop of its middle, in pixels."""


def detail(crop: numpy.ndarray[Any, Any]) -> float:
    """Return the mean absolute second difference, over rows and columns alike, in levels of 8 bits.

    It is near nothing where the picture is flat, a ramp or out of focus: there bicubic interpolation is right already.
    """
    levels = crop.astype(numpy.float64)
    return float(sum(numpy.abs(numpy.diff(levels, 2, axis)).mean() for axis in (0, 1)) / 2)


def tiles(grey: numpy.ndarray[Any, Any]) -> list[numpy.ndarray[Any, Any]]:
    """Return the CROP x CROP tiles of an image, in reading order, without those that hang over its edge."""
    return [
        grey[top : top + CROP, left : left + CROP]
        for top in range(0, grey.shape[0] - CROP + 1, CROP)
        for left in range(0, grey.shape[1] - CROP + 1, CROP)
    ]


def detailed(crops: list[numpy.ndarray[Any, Any]]) -> list[numpy.ndarray[Any, Any]]:
    """Return the crops that have enough detail, at most MOST_CROPS of them, in the order given."""
    details = [detail(crop) for crop in crops]
    best = sorted(range(len(crops)), key=details.__getitem__, reverse=True)[:MOST_CROPS]
    return [crops[i] for i in sorted(best) if details[i] >= DETAIL]


def shrunk(image: Image, factor: int) -> Image:
    """Return the image downscaled by a whole factor with Lanczos's filter, which leaves no alias."""
    size = (image.width // factor, image.height // factor)
    # A box of whole multiples, so that the factor is exact.
    box = (0, 0, size[0] * factor, size[1] * factor)
    return image if factor == 1 else image.resize(size, PIL.Image.Resampling.LANCZOS, box)


def middle(image: Image, longest: int) -> Image:
    """Return the image's middle, with no side longer than that."""
    width, height = min(image.width, longest), min(image.height, longest)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def embed_photos(debian: Path, destination: Path) -> None:
    """Write the crops of training and validation photographs, the test photographs, and the list of their hashes.

    Args:
        debian: the folder of the Debian packages' photographs.
        destination: a folder, made where it is missing.

    Raises:
        MissingDataError: a source is missing or has another content.
    """
    sources = {file.path.rpartition("/")[2]: file for file in PHOTOGRAPHS["imagenet-fidelity"].all}
    tests = {name: sources[name].locate() for name in TESTS}
    for wallpaper in (*WALLPAPERS["train"], *WALLPAPERS["validation"]):
        path = debian / wallpaper.file
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != wallpaper.sha256:
            raise MissingDataError(
                f"{path}: missing or of another content. Unpack the Debian packages {' and '.join(PACKAGES)} 20.04.0-2 "
                "and name their folder usr/share/backgrounds with --debian."
            )
    for split, wallpapers in WALLPAPERS.items():
        for wallpaper in wallpapers:
            with PIL.Image.open(debian / wallpaper.file) as image:
                rgb = image.convert("RGB")
            views = (luma(torch.from_numpy(numpy.array(shrunk(rgb, factor)))).numpy() for factor in wallpaper.shrinks)
            crops = detailed([tile for view in views for tile in tiles(view)])
            _write(PIL.Image.fromarray(numpy.concatenate(crops)), destination / split / f"{wallpaper.name}.png")
    for name, (factor, longest) in TESTS.items():
        with PIL.Image.open(tests[name]) as image:
            _write(middle(shrunk(image, factor), longest), destination / "test" / f"{Path(name).stem}.png")
    paths = sorted(destination.glob("*/*.png"))
    sums = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(destination).as_posix()}\n"
        for path in paths
    ]
    (destination / SUMS).write_text("".join(sums))


def _write(image: Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    clean = PIL.Image.fromarray(numpy.asarray(image))  # without the source's profiles and comments
    clean.save(path, optimize=True)


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.embed_photos", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where to write the files")
    parser.add_argument(
        "--debian", type=Path, metavar="DIR", default=SYSTEM, help=f"the Debian packages' photographs ({SYSTEM})"
    )
    arguments = parser.parse_args(argv)
    try:
        embed_photos(arguments.debian, arguments.folder)
    except (MissingDataError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(arguments.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
