"""The models that suites name. A class takes what its task's `build` gives it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dqss.registry import Entry, Registry

if TYPE_CHECKING:
    from torch import nn

MODELS: Registry[nn.Module] = Registry(
    "model",
    "torch.nn:Module",
    {
        "resnet8": Entry("benchmarks.models.resnet:ResNet8"),
        "resnet20": Entry("benchmarks.models.resnet:ResNet20"),
        "mobilenetv2-small": Entry("benchmarks.models.mobilenetv2:MobileNetV2Small"),
        "efficientnet-lite0": Entry("benchmarks.models.efficientnet_lite:EfficientNetLite0"),
        "espcn": Entry("benchmarks.models.espcn:Espcn"),
        "fsrcnn": Entry("benchmarks.models.fsrcnn:Fsrcnn"),
        "edsr-small": Entry("benchmarks.models.edsr:EdsrSmall"),
        "srresnet-small": Entry("benchmarks.models.srresnet:SrResNetSmall"),
    },
)
