"""Any of Pillow's pixel modes as 8-bit RGB: deep samples scaled, transparency laid on a background, CMYK converted."""

import math

from PIL import Image

from caprl_core.data.reasons import Reason
from caprl_core.errors import SampleFailedError

_TWELVE_BITS, _SIXTEEN_BITS = 2**12 - 1, 2**16 - 1


def as_rgb(image: Image.Image, background: str) -> tuple[Image.Image, tuple[str, ...]]:
    """`image` (loaded) as RGB, and notes of what was done: `cmyk_converted`, `sixteen_bit_scaled`, `range_stretched`
    (32-bit integers and floats have no fixed white, so their own range is stretched), `alpha_flattened` (some pixel was
    not opaque).

    `background` is `#rrggbb`. Raises SampleFailedError IMAGE_CORRUPT when float samples are not finite.
    """
    notes: list[str] = []
    if image.mode.startswith("I;16"):
        image = _scaled_sixteen_bit(image)
        notes.append("sixteen_bit_scaled")
    elif image.mode in ("I", "F"):
        image = _stretched(image)
        notes.append("range_stretched")
    elif image.mode == "CMYK":
        notes.append("cmyk_converted")
    if image.has_transparency_data:
        image, flattened = _flattened(image, background)
        notes += ["alpha_flattened"] * flattened
    # Without this, convert() would take a palette's or a grey picture's stray transparency for a colour to change.
    image.info.pop("transparency", None)
    return (image if image.mode == "RGB" else image.convert("RGB")), tuple(notes)


def _scaled_sixteen_bit(image: Image.Image) -> Image.Image:
    white = _TWELVE_BITS if _bits_per_sample(image) == 12 else _SIXTEEN_BITS
    key = image.info.pop("transparency", None)
    # convert("L") alone clips at 255, which turns nearly every 16-bit picture white. It also truncates, hence the half.
    scaled = image.convert("I").point(lambda value: value * (255 / white) + 0.5).convert("L")
    if isinstance(key, int):
        scaled.info["transparency"] = round(key * 255 / white)
    return scaled


def _stretched(image: Image.Image) -> Image.Image:
    lowest, highest = (float(edge) for edge in image.getextrema())  # type: ignore[arg-type]  # single-band modes only
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        raise SampleFailedError(Reason.IMAGE_CORRUPT, "samples are not finite numbers")
    if lowest >= 0 and highest <= 255 and image.mode == "I":
        return image.convert("L")
    slope = 255 / (highest - lowest) if highest > lowest else 0.0
    # Through floats, because 32-bit integers overflow while being scaled.
    return image.convert("F").point(lambda value: value * slope + (0.5 - lowest * slope)).convert("L")


def _flattened(image: Image.Image, background: str) -> tuple[Image.Image, bool]:
    if image.mode != "RGBA":
        image = image.convert("RGBA")
    alpha = image.getchannel("A")
    if alpha.getextrema()[0] == 255:
        return image.convert("RGB"), False
    canvas = Image.new("RGB", image.size, background)
    canvas.paste(image, mask=alpha)
    return canvas, True


def _bits_per_sample(image: Image.Image) -> int | None:
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        return None
    bits = tags.get(258)  # TIFF 6.0, BitsPerSample
    return int(bits[0]) if isinstance(bits, tuple) and len(bits) == 1 else None
