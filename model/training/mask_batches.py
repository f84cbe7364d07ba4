"""Training batches of the mask family, from a job's description.

The label of a category is its position in the learning order, from 0. An exemplar shows the classes that were labelled when
it was chosen, and no class of the present step, even where the step has the same image with those (BalConpas).

``leak_next_class`` reproduces a quirk of BalConpas's released semantic loader, which hides the labels below a step's range of
ids and those *above its end*, the end itself being the next step's first class. That class stays visible in the images of
every step but the last; its label is the number of classes seen, which is "no object" to the network, and it makes an image
look like an exemplar to the class loss, in the base step too. The published semantic numbers contain the quirk. It is defined
for the natural order of classes only, as in the released code.
"""

from __future__ import annotations

import torch

from model.data.loading.mask_loading import Exemplar, MaskLoader, mask_loader
from model.data.loading.mask_transforms import build_mask_transform
from model.data.prepared.dataset import PreparedDataset
from model.methods.base import Method
from model.scenario import Step
from model.training.inputs import StepImages
from model.training.seeds import sub_seed
from model.training.spec import TrainingSpec


class MaskBatchesError(ValueError):
    """A job whose labels cannot be made; the message says why."""


def mask_batches(
    spec: TrainingSpec,
    dataset: PreparedDataset,
    images: StepImages,
    method: Method,
    workers: int,
    device: torch.device,
    rank: int = 0,
    world_size: int = 1,
) -> MaskLoader:
    """The training batches of a job; with several processes, of each the share of one.

    Raises:
        ValueError: of the transform, annotation or loader.
    """
    recipe, step = spec.recipe, spec.step.step
    arguments = dict(recipe.transform)
    position = {category: place for place, category in enumerate(step.seen)}
    labels = {category: position[category] for category in images.visible}
    leaked = leaked_class(dataset.classes(spec.task), step) if recipe.leak_next_class else {}
    exemplars = [
        Exemplar(name, {category: position[category] for category in classes})
        for name, classes in zip(images.exemplars, images.exemplar_classes, strict=True)
    ]
    return mask_loader(
        dataset,
        images.split,
        spec.task,
        images.images,
        labels | leaked,
        build_mask_transform(arguments.pop("name"), **arguments),
        batch_size=recipe.batch_size // recipe.accumulate,
        seed=sub_seed(spec.seed, "sampling", step.index),
        exemplars=exemplars,
        replay_mixing=method.replay_mixing,
        leaked=bool(leaked),
        workers=workers,
        pin_memory=device.type == "cuda",
        rank=rank,
        world_size=world_size,
    )


def leaked_class(categories: tuple[int, ...], step: Step) -> dict[int, int]:
    """The next step's first class with its label; empty at the last step.

    Args:
        categories: category ids of the task, in natural order.
        step: classes learnt before and now.

    Raises:
        MaskBatchesError: if the classes are learnt in another order.
    """
    known = len(step.seen)
    if step.seen != categories[:known]:
        raise MaskBatchesError(
            f"leak_next_class is defined for the natural order of classes, but step {step.index} knows "
            f"{list(step.seen)}; remove the key from the recipe"
        )
    return {category: known for category in categories[known : known + 1]}
