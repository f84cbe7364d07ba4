"""A small per-pixel network, a method that notes what happens to it, and batches: enough to train in milliseconds."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from contexts import step_context
from torch import nn
from torch.nn import functional

from model.data.loading.pixel_batch import PixelBatch
from model.methods.pixel.base import PixelMethod
from model.scenario import Step
from model.training.loop import gradient_scaler, train
from model.training.optimiser import build_optimiser, freeze_untrained
from model.training.schedule import Poly

CPU = torch.device("cpu")


class SmallNetwork(nn.Module):
    """Convolution, normalisation, dropout, one classifier a step."""

    def __init__(self, classes_per_step: list[int], dropout: float = 0.0) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(dropout)
        self.cls = nn.ModuleList()
        self.classes_per_step: list[int] = []
        for classes in classes_per_step:
            self.grow(classes)

    def grow(self, new_classes: int) -> None:
        self.cls.append(nn.Conv2d(4, new_classes + (not self.cls), 1))
        self.classes_per_step.append(new_classes)

    def forward(self, images: torch.Tensor) -> Any:
        x = self.dropout(self.norm(self.body(images)).relu())
        return SimpleNamespace(logits=torch.cat([c(x) for c in self.cls], dim=1), training=self.training)


@dataclass(frozen=True)
class NotingMethod(PixelMethod):
    """Cross-entropy; notes the calls of the hooks that the loop and the step make, with what they saw."""

    calls: list[tuple[str, Any]] = field(default_factory=list)

    def trainable(self, network, step):
        self.calls.append(("trainable", step.index))
        return super().trainable(network, step)

    def before_step(self, context):
        self.calls.append(("before_step", [len(batch) for batch in context.batches()]))
        return {"count": torch.zeros(()), **context.state}

    def forward(self, context, batch, old_outputs):
        self.calls.append(("forward", old_outputs))
        return super().forward(context, batch, old_outputs)

    def targets(self, context, batch, old_outputs):
        self.calls.append(("targets", old_outputs))
        return batch.labels

    def losses(self, context, batch, outputs, old_outputs, targets):
        self.calls.append(("losses", outputs.training))
        return {"classification": functional.cross_entropy(outputs.logits, targets)}

    def after_backward(self, context):
        context.state["count"] = context.state.get("count", torch.zeros(())) + 1
        gradients = [p.grad.clone() for p in context.network.parameters() if p.grad is not None]
        self.calls.append(("after_backward", gradients))

    def after_update(self, context):
        self.calls.append(("after_update", (context.iteration, context.epoch, context.ends_epoch)))

    def after_step(self, context):
        self.calls.append(("after_step", context.network.training))
        return {**context.state, "done": True}

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]


class Notes:
    """A reporter that keeps everything."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, float, dict[str, float]]] = []

    def iteration(self, iteration, learning_rate, terms):
        self.seen.append((iteration, learning_rate, dict(terms)))

    def state_dict(self):
        return {"seen": [list(row) for row in self.seen]}

    def load_state_dict(self, state):
        self.seen = [tuple(row) for row in state["seen"]]


def stream(size: int = 4, start: int = 0, side: int = 6) -> Iterator[PixelBatch]:
    """Endless batches; the k-th one is always the same."""
    k = start
    while True:
        generator = torch.Generator().manual_seed(k)
        yield PixelBatch(
            images=torch.randn(size, 3, side, side, generator=generator),
            labels=torch.randint(0, 3, (size, side, side), generator=generator),
            names=tuple(f"image{k * size + i}" for i in range(size)),
            from_memory=torch.zeros(size, dtype=torch.bool),
        )
        k += 1


def run_loop(
    network,
    method,
    *,
    batches=None,
    optimiser=None,
    learning_rate=0.1,
    iterations=3,
    step=None,
    old_model=None,
    device=CPU,
    **options,
):
    """The loop with plain SGD and a constant rate; returns the reporter's notes."""
    step = Step(0, (), (1, 2)) if step is None else step
    if optimiser is None:
        groups = method.trainable(network, step).groups
        freeze_untrained(network, groups)
        optimiser = build_optimiser(
            "sgd", groups, learning_rate=learning_rate, weight_decay=0.0, momentum=0.0, nesterov=False
        )
    notes = Notes()
    arguments = {
        "method": method,
        "batches": batches if batches is not None else stream(),
        "optimiser": optimiser,
        "schedule": lambda iteration: 1.0,
        "reporter": notes,
        "scaler": gradient_scaler(options.get("precision", "fp32"), CPU),
    }
    context = step_context(step, network, old_model=old_model, iterations=iterations, device=device)
    train(context, **{**arguments, **options})
    return notes


@pytest.fixture(autouse=True)
def numerics():
    """Training chooses threads and deterministic algorithms for its process; other tests get theirs back."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = False


@pytest.fixture
def small():
    """The pieces above in one place: ``small.Network``, ``small.Method``, ``small.stream``, ``small.loop``, …"""
    return SimpleNamespace(
        Network=SmallNetwork,
        Method=NotingMethod,
        Notes=Notes,
        stream=stream,
        loop=run_loop,
        cpu=CPU,
        sgd=partial(build_optimiser, "sgd", learning_rate=0.1, weight_decay=1e-4),
        adamw=partial(build_optimiser, "adamw", learning_rate=0.01, weight_decay=1e-2),
        poly=Poly,
    )
