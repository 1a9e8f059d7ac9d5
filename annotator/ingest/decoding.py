"""Turning untrusted bytes into pictures: pure Pillow, no Django, run in a limited child process.

Every file ends as two upright RGB JPEGs or as a :class:`RefusalError` with a code and a sentence.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageFile, UnidentifiedImageError

# Decoders outside this list (EPS, PDF, PSD, SVG, ICO …) are never invoked.
FORMATS = {
    "JPEG": "jpg",
    "PNG": "png",
    "WEBP": "webp",
    "GIF": "gif",
    "BMP": "bmp",
    "TIFF": "tiff",
    "AVIF": "avif",
}
# Pictures of stereo cameras: JPEG files with a second picture behind the first.
OPENED_AS_JPEG = "MPO"
MAX_PIXELS = 100_000_000
MAX_SIDE = 32_768
MAX_PAGES = 1_000
DISPLAY_SIDE = 2048
DISPLAY_QUALITY = 85
THUMBNAIL_SHORT_SIDE = 256
# A very long picture's thumbnail is cut short here, so that it stays small.
THUMBNAIL_MAX_LONG_SIDE = 2048
THUMBNAIL_QUALITY = 90
ORIENTATION = 0x0112
STRIP_ROWS = 256

Image.MAX_IMAGE_PIXELS = MAX_PIXELS
ImageFile.LOAD_TRUNCATED_IMAGES = False


class RefusalError(Exception):
    """A file is not taken; ``code`` is stable, the text is for people."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True)
class Decoded:
    """A picture that was read whole, and its renditions.

    ``width`` and ``height`` are upright, after the EXIF orientation.
    """

    file_format: str
    width: int
    height: int
    note: str


def decode(source: Path, display: Path, thumbnail: Path) -> Decoded:
    """Read a picture and write its renditions, without any metadata of the original.

    Args:
        source: the untrusted file.
        display: where to write the JPEG for the screen.
        thumbnail: where to write the small JPEG, which the backbone reads too.

    Raises:
        RefusalError: it is not a picture this project takes.
    """
    if source.stat().st_size == 0:
        raise RefusalError("empty-file", "The file is empty.")
    _refuse_svg(source)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(source, formats=list(FORMATS)) as opened:
                return _decode_opened(opened, display, thumbnail)
        except RefusalError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise RefusalError(
                "too-many-pixels", f"The picture has more than {MAX_PIXELS // 10**6} megapixels."
            ) from error
        except UnidentifiedImageError as error:
            raise RefusalError(
                "not-an-image",
                "This is not a picture of a kind we take (JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF).",
            ) from error
        except MemoryError as error:
            raise RefusalError("too-many-pixels", "The picture needs too much memory.") from error
        except Exception as error:
            # Decoders raise whatever they like on broken data: OSError, SyntaxError, struct.error,
            # ValueError, EOFError … Each of them means that the file is broken.
            raise RefusalError(*_broken(error)) from error


def _refuse_svg(source: Path) -> None:
    with source.open("rb") as file:
        start = file.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<svg", b"<?xml")) or b"<svg" in start[:512]:
        raise RefusalError("svg-refused", "SVG files can hold scripts and are not taken.")


def _broken(error: Exception) -> tuple[str, str]:
    text = str(error)
    if "truncated" in text.lower() or "not enough" in text.lower() or isinstance(error, EOFError):
        return "truncated-image", "The picture ends too early; it was not copied whole."
    return "broken-image", "The picture is damaged and cannot be read."


def _decode_opened(opened: Image.Image, display: Path, thumbnail: Path) -> Decoded:
    file_format = FORMATS.get(opened.format or "", "jpg")
    _check_size(opened.size)
    note = _first_page_note(opened)
    orientation = _orientation(opened)
    turned = orientation in {5, 6, 7, 8}
    full = opened.size[::-1] if turned else opened.size
    if opened.format == "JPEG":
        # Decodes at a half, a quarter or an eighth where that is still large enough.
        opened.draft(None, (DISPLAY_SIDE, DISPLAY_SIDE))
    opened.load()
    picture = _to_rgb(opened)
    picture = _shrunk(picture, DISPLAY_SIDE)
    picture = _upright(picture, orientation)
    picture.save(display, "JPEG", quality=DISPLAY_QUALITY)
    _thumbnail(picture).save(thumbnail, "JPEG", quality=THUMBNAIL_QUALITY, subsampling=0)
    return Decoded(file_format=file_format, width=full[0], height=full[1], note=note)


def _check_size(size: tuple[int, int]) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise RefusalError("no-pixels", "The picture has no pixels.")
    if width * height > MAX_PIXELS:
        raise RefusalError(
            "too-many-pixels", f"The picture has more than {MAX_PIXELS // 10**6} megapixels."
        )
    if max(width, height) > MAX_SIDE:
        raise RefusalError("bad-aspect", f"A side is longer than {MAX_SIDE} pixels.")


def _first_page_note(opened: Image.Image) -> str:
    if not getattr(opened, "is_animated", False):
        return ""
    pages = int(getattr(opened, "n_frames", 1))
    if pages > MAX_PAGES:
        raise RefusalError("too-many-pages", f"The file has more than {MAX_PAGES} pictures.")
    opened.seek(0)
    if opened.format == OPENED_AS_JPEG:
        return ""
    return f"First of {pages} {'pages' if opened.format == 'TIFF' else 'frames'}."


def _orientation(opened: Image.Image) -> int:
    try:
        value = opened.getexif().get(ORIENTATION, 1)
    except Exception:
        # Broken EXIF is common and says nothing about the picture.
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(picture: Image.Image, orientation: int) -> Image.Image:
    method = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(orientation)
    return picture.transpose(method) if method is not None else picture


def _to_rgb(picture: Image.Image) -> Image.Image:
    """Return plain RGB: deep greys scaled instead of clipped, transparency over white."""
    if picture.mode.startswith("I;16"):
        # The other byte orders cannot be scaled in one step.
        if picture.mode == "I;16":
            picture = picture.point(lambda value: value / 257.0, "L")
        else:
            picture = picture.convert("I").point(lambda value: value / 257.0 + 0.0).convert("L")
    elif picture.mode in {"I", "F"}:
        picture = _stretched(picture)
    if picture.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in picture.info:
        return _over_white(picture)
    rgb = picture if picture.mode == "RGB" else picture.convert("RGB")
    # Nothing of the original's metadata may reach the renditions.
    rgb.info = {}
    return rgb


def _over_white(picture: Image.Image) -> Image.Image:
    """Return a picture over white, strip by strip: whole copies of a large one would not fit."""
    white = Image.new("RGB", picture.size, (255, 255, 255))
    width, height = picture.size
    for top in range(0, height, STRIP_ROWS):
        box = (0, top, width, min(top + STRIP_ROWS, height))
        strip = picture.crop(box).convert("RGBA")
        white.paste(strip, box, strip)
    return white


def _stretched(picture: Image.Image) -> Image.Image:
    """Return a 32-bit or floating-point grey picture with its range spread over 0 to 255."""
    extrema = picture.getextrema()
    low, high = (float(value) for value in extrema[:2])  # type: ignore[arg-type]
    if not (low == low and high == high) or abs(low) == float("inf") or abs(high) == float("inf"):
        raise RefusalError("broken-image", "The picture holds values that are no numbers.")
    span = high - low
    if span == 0:
        return Image.new("L", picture.size, 0)
    factor = 255.0 / span
    offset = -low * factor
    return picture.convert("F").point(lambda value: value * factor + offset).convert("L")


def _shrunk(picture: Image.Image, longest: int) -> Image.Image:
    if max(picture.size) <= longest:
        return picture
    factor = longest / max(picture.size)
    smaller = picture.resize(_scaled(picture.size, factor), Image.Resampling.LANCZOS)
    smaller.info = {}
    return smaller


def _thumbnail(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    factor = min(
        1.0,
        THUMBNAIL_SHORT_SIDE / min(width, height),
        THUMBNAIL_MAX_LONG_SIDE / max(width, height),
    )
    if factor == 1.0:
        return picture
    size = _scaled(picture.size, factor)
    return picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def _scaled(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """Return a size made smaller; a line one pixel thin stays one pixel thin."""
    return max(round(size[0] * factor), 1), max(round(size[1] * factor), 1)
