"""Reading and writing of image files: the only place that knows about file formats.

The orientation in a photograph's metadata is applied wherever it is read, as viewers and annotation tools do: its label map is
drawn on what they show. A label map itself has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image

from model.common.files import not_written

PHOTOGRAPH_MODES = ("RGB", "RGBA", "L", "LA", "P", "PA", "1")
"""Modes of PIL with eight bits per channel that define red, green and blue."""
_END_OF_JPEG = b"\xff\xd9"
_AS_STORED = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_DRAWN = [
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT, cv2.IMWRITE_PNG_COMPRESSION, 1),
]
_AGAIN = "copy or unpack it again, or take it out of the dataset"


class ImageError(ValueError):
    """An image file that cannot be used; the message names it, says what was expected and what to do."""


def read_rgb(file: Path) -> np.ndarray:
    """Photograph as (H, W, 3) uint8 RGB; grey, palette and alpha are converted.

    Raises:
        ImageError: if the file is missing, damaged or no image, or does not hold eight bits of red, green and blue: CMYK has
            no RGB without the profile of its printer, and wider or floating-point values would be clipped at 255.
    """
    with _opened(file) as image:
        orientation = _orientation(image)
        if image.format == "JPEG" and image.mode == "RGB" and (pixels := _decode_jpeg(file, image.size)) is not None:
            return _turned(pixels, orientation)
        if image.mode not in PHOTOGRAPH_MODES:
            kind = {"CMYK": "CMYK", "YCbCr": "YCbCr", "LAB": "Lab"}.get(image.mode)
            what = f"a {kind} image" if kind else f"an image of mode '{image.mode}' (more than 8 bits per channel)"
            raise ImageError(f"{file} is {what}; expected 8-bit RGB or grey: convert it with any image program")
        return _turned(np.asarray(image.convert("RGB")), orientation)


def read_cmyk(file: Path) -> np.ndarray | None:
    """A CMYK photograph as Pillow converts it, (H, W, 3) uint8 RGB; None if it is not CMYK.

    For published datasets that hold some: everybody who trained on them converted them this way.

    Raises:
        ImageError: if the file is missing or no image.
    """
    with _opened(file) as image:
        return _turned(np.asarray(image.convert("RGB")), _orientation(image)) if image.mode == "CMYK" else None


def is_turned(file: Path) -> bool:
    """Whether the metadata of a photograph say that it is shown turned or mirrored.

    Raises:
        ImageError: if the file is missing or no image.
    """
    with _opened(file) as image:
        return _orientation(image) != 1


def read_labels(file: Path) -> np.ndarray:
    """Label map as (H, W) uint8 or uint16; of a palette image the indices, not the colours.

    Raises:
        ImageError: if the file is missing, no image, or has more than one channel.
    """
    labels = _read_raw(file)
    if labels.ndim != 2:
        raise ImageError(f"{file} has {labels.shape[2]} channels; a label map has one: save it as grey or palette PNG")
    if labels.dtype == np.bool_:
        return labels.astype(np.uint8)
    if labels.dtype == np.int32:  # 16-bit grey in some decoders
        if labels.min() < 0 or labels.max() > 65535:
            raise ImageError(f"{file} has labels outside 0…65535: save it as 8 or 16 bit PNG")
        return labels.astype(np.uint16)
    if labels.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"{file} stores {labels.dtype}; a label map is 8 or 16 bit: save it as grey or palette PNG")
    return labels


def read_channels(file: Path) -> np.ndarray:
    """Label image with several channels as (H, W, C) uint8, RGB order.

    Raises:
        ImageError: if the file is missing, no image, or has fewer than three channels.
    """
    labels = _read_raw(file)
    if labels.ndim != 3 or labels.dtype != np.uint8:
        raise ImageError(f"{file} is not an 8-bit RGB image, in which segments or instances are drawn: {_AGAIN}")
    return labels


def write_png(file: Path, array: np.ndarray, *, drawn: bool | None = None) -> None:
    """Write (H, W) uint8/uint16 or (H, W, 3) uint8 RGB, losslessly.

    Args:
        file: to write; its folder is made.
        array: pixels.
        drawn: whether large areas have one value, as in label maps: they are stored so that they are read several times as
            fast, at the same size. By default what one channel is taken for.

    Raises:
        ImageError: if the array cannot be stored as PNG.
        NotWrittenError: if the file cannot be written.
    """
    pixels = cv2.cvtColor(array, cv2.COLOR_RGB2BGR) if array.ndim == 3 else array
    drawn = array.ndim == 2 if drawn is None else drawn
    done, encoded = cv2.imencode(".png", pixels, _DRAWN if drawn else [])
    if not done:
        raise ImageError(f"{file}: an array of shape {array.shape} and type {array.dtype} cannot be stored as PNG")
    part = file.with_name(f"{file.name}.part")  # a process that is killed leaves no half image under a valid name
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(encoded.tobytes())
        part.replace(file)
    except OSError as error:
        raise not_written(file, error) from error


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    """An image, and one clear error for whatever a decoder reports about a damaged file."""
    try:
        if file.stat().st_size == 0:
            raise ImageError(f"{file} is empty (0 bytes): {_AGAIN}")
        with Image.open(file) as image:
            yield image
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{file} does not exist: {_AGAIN}") from None
    except Exception as error:  # decoders raise anything: OSError, SyntaxError, struct.error, DecompressionBombError
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{file} cannot be read as an image ({reason}): {_AGAIN}") from error


def _decode_jpeg(file: Path, size: tuple[int, int]) -> np.ndarray | None:
    """A colour JPEG by OpenCV: the values that Pillow gives, in less time. None if the file may be truncated.

    Pillow refuses a truncated file, OpenCV fills the rest with grey; so only a complete file is read.
    """
    content = file.read_bytes()
    if content[-2:] != _END_OF_JPEG:
        return None
    pixels: np.ndarray | None = cv2.imdecode(np.frombuffer(content, np.uint8), _AS_STORED)
    return pixels if pixels is not None and pixels.shape[1::-1] == size else None


def _read_raw(file: Path) -> np.ndarray:
    with _opened(file) as image:
        if _orientation(image) != 1:
            raise ImageError(
                f"{file} is a map with an orientation in its metadata, which programs disagree about: save it without metadata"
            )
        return np.asarray(image)


def _orientation(image: Image.Image) -> int:
    """How the metadata say that the stored raster is shown, 1…8 as in EXIF; 1 is as it is stored."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # metadata that cannot be read say nothing, to viewers neither
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """The raster as it is shown."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def one_thread_before_fork() -> None:
    """Stop OpenCV's threads before processes are forked: those are the parallelism.

    A forked process inherits the thread pool's bookkeeping but not its threads, and would wait for them forever, even
    when it only asks for fewer threads. So it has to be done here, in the parent.
    """
    cv2.setNumThreads(1)
