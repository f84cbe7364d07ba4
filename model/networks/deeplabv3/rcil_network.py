"""DeepLabV3 with twin convolutions: the network of RCIL.

Zhang, Xiao, Liu, Chen & Cheng, "Representation Compensation Networks for Continual Semantic Segmentation" (RCIL), CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from model.networks.arguments import Channels, Count, Dilations
from model.networks.backbones.twin_resnet import TwinResNet
from model.networks.deeplabv3.backbone import dilations, variant
from model.networks.deeplabv3.network import StepwiseNetwork
from model.networks.deeplabv3.twin_head import TwinMibHead
from model.networks.twins import Twins


class RcilDeepLabV3(StepwiseNetwork):
    """MiB's network with twins in every residual block and in the head; outputs carry the activated stages.

    As in the release nothing is activated between the stem's normalisation and its pooling.
    """

    def __init__(
        self,
        classes_per_step: Sequence[int],
        *,
        backbone: str = "resnet101",
        output_stride: int = 16,
        channels: Channels = 256,
        rates: Dilations | None = None,
        pooling_window: Count = 32,
        background: bool = True,
    ) -> None:
        """The defaults are the released network.

        Args:
            classes_per_step: number of classes learnt in each step so far, the background not counted.
            backbone: a name of :data:`model.networks.backbones.resnet.VARIANTS`.
            output_stride: image size over feature size.
            channels: of the head and of what the classifiers see.
            rates: dilations of the head, None for 6, 12, 18 at stride 16 (scaled with the stride).
            pooling_window: of the head in evaluation, in cells.
            background: the first classifier begins with a background channel.

        Raises:
            NetworkError: for an unknown backbone, or a step without classes.
        """
        body = TwinResNet(
            variant(backbone),
            output_stride=output_stride,
            act="leaky-relu",
            stem_act="identity",
            dilate_first_block=True,
            keep_stages=True,
        )
        head = TwinMibHead(
            body.out_channels,
            channels,
            rates=dilations(rates, output_stride),
            pooling_window=pooling_window,
        )
        super().__init__(body, head, classes_per_step, channels=channels, background=background)

    @property
    def twins(self) -> tuple[Twins, ...]:
        """Every pair of branches, those of the backbone first."""
        parts: Any = (self.backbone, self.aspp)
        return tuple(pair for part in parts for pair in part.twins)

    def merge(self) -> None:
        """Fold the second branch of every pair into the first one, see :meth:`model.networks.twins.Twins.merge`."""
        for pair in self.twins:
            pair.merge()
