"""Reading and writing of image files: the only place that knows about file formats."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError


class ImageError(ValueError):
    """An image file that cannot be used; the message names it."""


def read_rgb(file: Path) -> np.ndarray:
    """Photograph as (H, W, 3) uint8 RGB, whatever is stored: grey, palette, alpha, CMYK.

    A rotation noted in the file's metadata is not applied, because label maps are drawn on the stored raster.

    Raises:
        ImageError: if the file is missing or no image.
    """
    try:
        with Image.open(file) as image:
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError:
        raise ImageError(f"{file} does not exist") from None
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise ImageError(f"{file} cannot be read as an image: {error}") from error


def read_labels(file: Path) -> np.ndarray:
    """Label map as (H, W) uint8 or uint16; of a palette image the indices, not the colours.

    Raises:
        ImageError: if the file is missing, no image, or has more than one channel.
    """
    labels = _read_raw(file)
    if labels.ndim != 2:
        raise ImageError(f"{file} has {labels.shape[2]} channels; a label map has one (grey or palette)")
    if labels.dtype == np.bool_:
        return labels.astype(np.uint8)
    if labels.dtype == np.int32:  # 16-bit grey in some decoders
        if labels.min() < 0 or labels.max() > 65535:
            raise ImageError(f"{file} has labels outside 0…65535")
        return labels.astype(np.uint16)
    if labels.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"{file} stores {labels.dtype}; a label map is 8 or 16 bit")
    return labels


def read_channels(file: Path) -> np.ndarray:
    """Label image with several channels as (H, W, C) uint8, RGB order.

    Raises:
        ImageError: if the file is missing, no image, or has fewer than three channels.
    """
    labels = _read_raw(file)
    if labels.ndim != 3 or labels.dtype != np.uint8:
        raise ImageError(f"{file} is not an 8-bit RGB image")
    return labels


def image_size(file: Path) -> tuple[int, int]:
    """(height, width), read from the header only.

    Raises:
        ImageError: if the file is missing or no image.
    """
    try:
        with Image.open(file) as image:
            return image.height, image.width
    except FileNotFoundError:
        raise ImageError(f"{file} does not exist") from None
    except (UnidentifiedImageError, OSError) as error:
        raise ImageError(f"{file} cannot be read as an image: {error}") from error


def write_png(file: Path, array: np.ndarray) -> None:
    """Write (H, W) uint8/uint16 or (H, W, 3) uint8 RGB, losslessly.

    Raises:
        ImageError: if the file cannot be written.
    """
    pixels = cv2.cvtColor(array, cv2.COLOR_RGB2BGR) if array.ndim == 3 else array
    done, encoded = cv2.imencode(".png", pixels)
    if not done:
        raise ImageError(f"{file}: an array of shape {array.shape} and type {array.dtype} cannot be stored as PNG")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(encoded.tobytes())


def _read_raw(file: Path) -> np.ndarray:
    try:
        with Image.open(file) as image:
            return np.asarray(image)
    except FileNotFoundError:
        raise ImageError(f"{file} does not exist") from None
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise ImageError(f"{file} cannot be read as an image: {error}") from error


def one_thread_before_fork() -> None:
    """Stop OpenCV's threads before processes are forked: those are the parallelism.

    A forked process inherits the thread pool's bookkeeping but not its threads, and would wait for them forever, even
    when it only asks for fewer threads. So it has to be done here, in the parent.
    """
    cv2.setNumThreads(1)
