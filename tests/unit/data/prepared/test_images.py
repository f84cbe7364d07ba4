from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from model.data.prepared.images import ImageError, is_turned, read_channels, read_cmyk, read_labels, read_rgb, write_png

GREY = np.linspace(0, 255, 48, dtype=np.uint8).reshape(6, 8)


@pytest.mark.parametrize(
    ("mode", "ending"), [("RGB", "jpg"), ("L", "jpg"), ("RGBA", "png"), ("P", "png"), ("LA", "png")]
)
def test_photographs_of_eight_bits_are_rgb(tmp_path: Path, mode: str, ending: str) -> None:
    Image.fromarray(GREY).convert(mode).save(tmp_path / f"x.{ending}", quality=100)
    image = read_rgb(tmp_path / f"x.{ending}")
    assert image.shape == (6, 8, 3) and image.dtype == np.uint8
    assert np.abs(image.astype(int) - GREY[..., None]).max() < 12


@pytest.mark.parametrize(
    ("array", "mode", "ending", "message"),
    [
        (GREY, "CMYK", "jpg", "is a CMYK image; expected 8-bit RGB or grey"),
        (GREY.astype(np.uint16) * 200, "I;16", "png", "more than 8 bits per channel"),
        (np.full((6, 8), np.nan, dtype=np.float32), "F", "tiff", "mode 'F' .more than 8 bits"),
    ],
)
def test_what_would_change_by_conversion_is_refused(
    tmp_path: Path, array: np.ndarray, mode: str, ending: str, message: str
) -> None:
    image = Image.fromarray(array)
    (image if image.mode == mode else image.convert(mode)).save(tmp_path / f"x.{ending}")
    with pytest.raises(ImageError, match=message):
        read_rgb(tmp_path / f"x.{ending}")


def test_an_image_too_large_to_be_meant_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_png(tmp_path / "x.png", GREY)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ImageError, match="decompression bomb"):
        read_rgb(tmp_path / "x.png")


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.png").touch()
    with pytest.raises(ImageError, match=r"x\.png is empty"):
        read_rgb(tmp_path / "x.png")


@pytest.mark.parametrize("orientation", [*range(1, 9), 0, 9])
@pytest.mark.parametrize(("mode", "ending"), [("RGB", "jpg"), ("RGB", "png"), ("L", "jpg"), ("CMYK", "jpg")])
def test_photographs_are_read_as_viewers_show_them(tmp_path: Path, orientation: int, mode: str, ending: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.kron(np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    file = tmp_path / f"x.{ending}"
    Image.fromarray(stored).convert(mode).save(file, exif=exif)
    with Image.open(file) as image:
        shown = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    read = read_cmyk(file) if mode == "CMYK" else read_rgb(file)
    assert read is not None and np.array_equal(read, shown)
    assert is_turned(file) == (2 <= orientation <= 8)
    assert shown.shape[:2] == ((56, 40) if 5 <= orientation <= 8 else (40, 56))


def test_metadata_that_cannot_be_read_turn_nothing(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "x.jpg", exif=b"Exif\0\0MM\0*\0\0\0\xff damaged")
    assert read_rgb(tmp_path / "x.jpg").shape[:2] == (6, 8)


def test_a_label_map_with_an_orientation_is_refused(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(GREY).save(tmp_path / "x.png", exif=exif)
    with pytest.raises(ImageError, match="map with an orientation in its metadata"):
        read_labels(tmp_path / "x.png")


def test_palette_labels_are_indices(tmp_path: Path) -> None:
    labels = (np.arange(48) % 21).astype(np.uint8).reshape(6, 8)
    image = Image.fromarray(labels)
    image.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
    image.save(tmp_path / "x.png")
    assert (read_labels(tmp_path / "x.png") == labels).all()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_labels_survive_writing(tmp_path: Path, kind: type) -> None:
    labels = (np.arange(48) * (1300 if kind is np.uint16 else 5)).astype(kind).reshape(6, 8)
    write_png(tmp_path / "x.png", labels)
    assert read_labels(tmp_path / "x.png").dtype == kind
    assert (read_labels(tmp_path / "x.png") == labels).all()


def test_channels_survive_writing_in_their_order(tmp_path: Path) -> None:
    channels = np.stack([GREY, GREY // 2, np.zeros_like(GREY)], axis=-1)
    write_png(tmp_path / "x.png", channels)
    assert (read_channels(tmp_path / "x.png") == channels).all()


def test_bad_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"no image")
    write_png(tmp_path / "grey.png", GREY)
    write_png(tmp_path / "rgb.png", np.stack([GREY] * 3, axis=-1))
    whole = (tmp_path / "rgb.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    for read in (read_rgb, read_labels, read_channels, is_turned):
        with pytest.raises(ImageError, match=r"x\.png cannot be read as an image"):
            read(tmp_path / "x.png")
        with pytest.raises(ImageError, match=r"none\.png does not exist"):
            read(tmp_path / "none.png")
    with pytest.raises(ImageError, match=r"cut\.png cannot be read"):
        read_rgb(tmp_path / "cut.png")
    with pytest.raises(ImageError, match="has 3 channels"):
        read_labels(tmp_path / "rgb.png")
    with pytest.raises(ImageError, match="is not an 8-bit RGB image"):
        read_channels(tmp_path / "grey.png")


@pytest.mark.parametrize(
    "options", [{"subsampling": k} for k in (0, 1, 2)] + [{"progressive": True}, {"optimize": True}]
)
def test_colour_jpegs_have_the_values_that_pillow_gives(tmp_path: Path, options: dict[str, object]) -> None:
    generator = np.random.default_rng(0)
    for number, size in enumerate([(37, 53), (64, 48), (1, 9), (120, 7)]):
        file = tmp_path / f"{number}.jpg"
        pixels = np.kron(generator.integers(0, 256, (*[-(-side // 3) for side in size], 3)), np.ones((3, 3, 1), int))
        Image.fromarray(pixels[: size[0], : size[1]].astype(np.uint8)).save(file, quality=80, **options)
        with Image.open(file) as image:
            expected = np.asarray(image.convert("RGB"))
        assert np.array_equal(read_rgb(file), expected)
        whole = file.read_bytes()
        file.write_bytes(whole + b"\0\0")  # ends otherwise, but everything is there
        assert np.array_equal(read_rgb(file), expected)
        file.write_bytes(whole[: len(whole) * 2 // 3])
        if size == (64, 48):
            with pytest.raises(ImageError, match=r"cannot be read"):
                read_rgb(file)
