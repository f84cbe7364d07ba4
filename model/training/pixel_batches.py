"""Training batches of the per-pixel family, from a job's description."""

from __future__ import annotations

from functools import partial

import torch

from model.data.loading.pixel_loading import PixelLoader, pixel_loader
from model.data.loading.pixel_transforms import build_transform
from model.data.prepared.dataset import PreparedDataset
from model.data.prepared.labels import pixel_lookup
from model.methods.base import Method
from model.training.inputs import StepImages
from model.training.seeds import sub_seed
from model.training.spec import TrainingSpec


def pixel_batches(
    spec: TrainingSpec,
    dataset: PreparedDataset,
    images: StepImages,
    method: Method,
    workers: int,
    device: torch.device,
    rank: int = 0,
    world_size: int = 1,
) -> PixelLoader:
    """The training batches of a job; with several processes, of each the share of one.

    Raises:
        ValueError: of the transform, lookup table or loader.
    """
    recipe, step = spec.recipe, spec.step.step
    arguments = dict(recipe.transform)
    transform = build_transform(arguments.pop("name"), **arguments)
    lookup = partial(
        pixel_lookup,
        dataset.category_ids,
        step.seen,
        background_id=dataset.background_id,
        void_id=dataset.void_id,
        void_in_training=recipe.void_in_training,
    )
    return pixel_loader(
        dataset,
        images.split,
        images.images,
        lookup(visible=images.visible),
        transform,
        batch_size=recipe.batch_size // recipe.accumulate,
        seed=sub_seed(spec.seed, "sampling", step.index),
        memory_ids=images.exemplars,
        memory_lookup=lookup(visible=step.seen) if images.exemplars else None,
        replay_mixing=method.replay_mixing,
        saliency=method.needs_saliency,
        workers=workers,
        pin_memory=device.type == "cuda",
        rank=rank,
        world_size=world_size,
    )
