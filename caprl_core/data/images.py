"""An image file's bytes as what the captioner sees: checked, decoded, upright, RGB and fitted to the pixel budget."""

import hashlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

# Imported by name: Image.open would otherwise load all of Pillow's plug-ins at the first TIFF or WebP.
from PIL import Image, ImageFile, MpoImagePlugin, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin

from caprl_core.data.image_formats import EXTENSIONS, ends_early, sniffed_format
from caprl_core.data.pixels import as_rgb
from caprl_core.data.reasons import Reason
from caprl_core.data.sample import PreparedImage
from caprl_core.data.visual_budget import fitted_size
from caprl_core.errors import SampleFailedError
from caprl_core.recipe.models import ImageRecipe

_PLUGINS: Final = (MpoImagePlugin, TiffImagePlugin, WebPImagePlugin)

# Level 1 encodes the corpus at its fitted sizes in 27 ms an image at 0.30 of raw; level 6 takes 87 ms for 0.28.
_PNG_LEVEL: Final = 1

_RESAMPLING: Final = {
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "bilinear": Image.Resampling.BILINEAR,
}

_ORIENTATION_TAG: Final = 274  # EXIF 2.3
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS: Final = frozenset((5, 6, 7, 8))


Encoding = Literal["png", "bmp"]
"""How the pixels an engine sees are encoded; never a difference in what it sees."""


def limit_decoder(recipe: ImageRecipe) -> None:
    """Set Pillow's process-wide bomb limit to the recipe's; only for a process that does nothing but decode.

    It also guards what the checks below cannot see: frames of a GIF and tiles of a TIFF larger than the picture.
    """
    Image.MAX_IMAGE_PIXELS = -(-recipe.max_source_pixels // 2)  # Pillow refuses above twice this value


def check_bytes(data: bytes, recipe: ImageRecipe) -> None:
    """Raise SampleFailedError IMAGE_TOO_LARGE above `recipe.max_bytes`, IMAGE_CORRUPT for an empty file."""
    if not data:
        raise SampleFailedError(Reason.IMAGE_CORRUPT, "the file is empty")
    if len(data) > recipe.max_bytes:
        raise SampleFailedError(Reason.IMAGE_TOO_LARGE, f"{len(data)} bytes; at most {recipe.max_bytes} are accepted")


def prepare_image(data: bytes, recipe: ImageRecipe, encoding: Encoding = "png") -> PreparedImage:
    """Decode `data`, fit it to the recipe's budget and encode the pixels losslessly.

    PNG is small enough to send (27 ms a megapixel); BMP is for engines in this process (2 ms).

    Notes it may set: `alpha_flattened`, `cmyk_converted`, `exif_broken` (its orientation could not be trusted; the
    picture is kept, unrotated if unreadable), `exif_rotated`, `first_frame`, `jpeg_drafted` (decoded at 1/2, 1/4 or
    1/8), `range_stretched`, `sixteen_bit_scaled`, `truncated_kept`.

    Raises SampleFailedError with an IMAGE_* reason, and nothing else, whatever the bytes are. Not for several threads
    of one process at a time (it collects warnings); hostile bytes may hang or crash it: see `DecodePool`.
    """
    check_bytes(data, recipe)
    name = sniffed_format(data)
    try:
        return _prepared(data, name, recipe, encoding)
    except SampleFailedError:
        raise
    except Image.DecompressionBombError as error:
        raise SampleFailedError(Reason.IMAGE_TOO_LARGE, str(error)) from error
    except MemoryError as error:
        raise SampleFailedError(
            Reason.IMAGE_TOO_LARGE, f"decoding this {name} takes more memory than allowed"
        ) from error
    except Exception as error:  # Pillow's plug-ins raise nearly every built-in error on damaged files
        reason = Reason.IMAGE_TRUNCATED if _cut_short(error, data, name) else Reason.IMAGE_CORRUPT
        raise SampleFailedError(reason, f"{name}: {_said(error)}") from error


def reencoded(image: PreparedImage, recipe: ImageRecipe) -> tuple[bytes, str]:
    """Bytes and extension that the tar carries for `image` under `recipe.reencode`.

    `jpeg95` keeps full colour resolution (4:4:4), because half of it blurs the thin coloured lines of charts.
    """
    match recipe.reencode:
        case "none":
            return image.original, image.extension
        case "png":
            with _seen(image) as picture:
                return _encoded(picture, "png"), "png"
        case "jpeg95":
            buffer = io.BytesIO()
            with _seen(image) as picture:
                picture.save(buffer, format="JPEG", quality=95, subsampling=0)
            return buffer.getvalue(), "jpg"


def _seen(image: PreparedImage) -> Image.Image:
    return Image.open(io.BytesIO(image.encoded), formats=("PNG", "BMP"))


def _encoded(rgb: Image.Image, encoding: Encoding) -> bytes:
    buffer = io.BytesIO()
    if encoding == "png":
        rgb.save(buffer, format="PNG", compress_level=_PNG_LEVEL)
    else:
        rgb.save(buffer, format="BMP")
    return buffer.getvalue()


def _prepared(data: bytes, name: str, recipe: ImageRecipe, encoding: Encoding) -> PreparedImage:
    notes: set[str] = set()
    with _collected_warnings(notes):
        try:
            decoded = _decoded(data, name, recipe)
        except Exception as error:
            if recipe.truncated != "keep" or not _cut_short(error, data, name):
                raise
            notes.add("truncated_kept")
            with _tolerated_truncation():
                decoded = _decoded(data, name, recipe)
        if decoded.drafted:
            notes.add("jpeg_drafted")
        upright, sideways = _upright(decoded.image, notes)
    frames = _frame_count(data, decoded.format)
    if frames > 1:
        notes.add("first_frame")
    width, height = decoded.fitted[::-1] if sideways else decoded.fitted
    rgb, converted = as_rgb(upright, recipe.background)
    if rgb.size != (width, height):
        rgb = rgb.resize((width, height), _RESAMPLING[recipe.resample])
    rgb.info = {}  # no profile, text or EXIF of the original reaches the engine
    return PreparedImage(
        original=data,
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        extension=EXTENSIONS[decoded.format],
        format=decoded.format,
        source_width=decoded.source_width,
        source_height=decoded.source_height,
        width=width,
        height=height,
        encoded=_encoded(rgb, encoding),
        frames=frames,
        notes=tuple(sorted({*notes, *converted})),
    )


@dataclass(frozen=True, slots=True)
class _Decoded:
    """A loaded picture, not yet upright. `fitted` is the size for its stored orientation; the rule is symmetric."""

    image: Image.Image
    format: str
    source_width: int
    source_height: int
    fitted: tuple[int, int]
    drafted: bool


def _decoded(data: bytes, name: str, recipe: ImageRecipe) -> _Decoded:
    image = Image.open(io.BytesIO(data), formats=(name,))
    width, height = image.size
    _check_sides(width, height, recipe)
    fitted = fitted_size(width, height, recipe)
    if recipe.draft and name == "JPEG":
        # Never below `fitted`: the scale is the smaller side's ratio, taken down to 1, 2, 4 or 8.
        image.draft(None, fitted)
    drafted = image.size != (width, height)
    image.load()
    return _Decoded(image, image.format or name, width, height, fitted, drafted)


def _check_sides(width: int, height: int, recipe: ImageRecipe) -> None:
    if width * height > recipe.max_source_pixels:
        raise SampleFailedError(
            Reason.IMAGE_TOO_LARGE,
            f"{width} x {height} px is over {recipe.max_source_pixels} pixels (image.max_source_pixels)",
        )
    if min(width, height) < recipe.min_side:
        raise SampleFailedError(
            Reason.IMAGE_TOO_SMALL, f"{width} x {height} px; sides of {recipe.min_side} px at least (image.min_side)"
        )


def _upright(image: Image.Image, notes: set[str]) -> tuple[Image.Image, bool]:
    """The loaded picture turned as its EXIF says (PNG allows EXIF after the pixels), and whether its sides swapped."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # whatever is wrong with the EXIF block, the pixels are good
        orientation = None
    if not isinstance(orientation, int) or not 1 <= orientation <= 8:
        notes.add("exif_broken")
        return image, False
    if orientation == 1:
        return image, False
    notes.add("exif_rotated")
    return image.transpose(_UPRIGHT[orientation]), orientation in _SIDEWAYS


def _frame_count(data: bytes, image_format: str) -> int:
    """Frames or pages. Counted on a picture of its own, since counting moves the position and may fail half-way."""
    if image_format in ("JPEG", "BMP"):
        return 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        name = "JPEG" if image_format == "MPO" else image_format
        with Image.open(io.BytesIO(data), formats=(name,)) as image:
            try:
                return max(1, int(getattr(image, "n_frames", 1)))
            except Exception:  # a later frame is damaged; the first, which is used, is not
                return max(1, image.tell() + 1)


@contextmanager
def _collected_warnings(notes: set[str]) -> Iterator[None]:
    """Keep Pillow's warnings off the terminal and add `exif_broken` to `notes` when one is about EXIF."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    if any("EXIF" in str(warning.message) for warning in caught):
        notes.add("exif_broken")


@contextmanager
def _tolerated_truncation() -> Iterator[None]:
    """Pillow offers this only as a process-wide switch."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _cut_short(error: Exception, data: bytes, name: str) -> bool:
    if isinstance(error, SampleFailedError | Image.DecompressionBombError | MemoryError):
        return False
    return "truncated" in str(error).lower() or ends_early(data, name)


def _said(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "its header cannot be read"  # Pillow's text holds a memory address; ledgers must not differ between runs
    return f"{type(error).__name__}: {error}"
