"""The network of recorded runs of several steps: two convolutions and a classifier a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from model.networks.backbones.resnet import Features
from model.networks.deeplabv3.network import StepwiseNetwork

OURS = {"body.": "backbone.", "head.": "aspp."}


class _Layer(nn.Module):
    def __init__(self, weight: Tensor, stride: int) -> None:
        super().__init__()
        outputs, inputs, kernel, _ = weight.shape
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)).relu()


class _Body(_Layer):
    def forward(self, x: Tensor) -> Features:  # type: ignore[override]
        return Features(super().forward(x))


def our_key(key: str) -> str:
    """Name in :class:`PlainNetwork` of a recorded parameter."""
    for theirs, ours in OURS.items():
        key = key.replace(theirs, ours) if key.startswith(theirs) else key
    return key


def recorded_key(key: str) -> str:
    """Name in the recording of a parameter of :class:`PlainNetwork`."""
    for theirs, ours in OURS.items():
        key = key.replace(ours, theirs) if key.startswith(ours) else key
    return key


class PlainNetwork(StepwiseNetwork):
    """Body (3x3, stride 2) and head (1x1), both with batch normalisation and ReLU, and a classifier a step.

    ``state`` holds recorded tensors ``body.…``, ``head.…`` that give the sizes; classes do not count the background.
    """

    def __init__(self, state: Mapping[str, Tensor], classes_per_step: Sequence[int]) -> None:
        head = state["head.conv.weight"]
        super().__init__(
            _Body(state["body.conv.weight"], 2),
            _Layer(head, 1),
            classes_per_step,
            channels=head.shape[0],
            background=True,
        )

    def load_recorded(self, state: Mapping[str, Tensor]) -> None:
        """Fill in recorded tensors under their recorded names; others stay."""
        _, unexpected = self.load_state_dict({our_key(key): value for key, value in state.items()}, strict=False)
        assert not unexpected

    def recorded_state(self) -> dict[str, Tensor]:
        """Parameters and running statistics under their recorded names."""
        state = {recorded_key(key): value for key, value in self.state_dict().items()}
        return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}

    def recorded_gradients(self) -> dict[str, Tensor]:
        """What has received a gradient, under recorded names."""
        return {recorded_key(key): p.grad for key, p in self.named_parameters() if p.grad is not None}
