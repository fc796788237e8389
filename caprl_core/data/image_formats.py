"""Which image formats are read, told by their first bytes, and whether a file of one ends before its own end mark."""

from typing import Final

from caprl_core.data.reasons import Reason
from caprl_core.errors import SampleFailedError

EXTENSIONS: Final = {
    "JPEG": "jpg",
    "MPO": "jpg",
    "PNG": "png",
    "WEBP": "webp",
    "GIF": "gif",
    "BMP": "bmp",
    "TIFF": "tif",
}
"""Pillow's name of each allowed format -> extension in the tar. An MPO is a JPEG followed by further pictures."""

_STARTS: Final = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),  # BigTIFF
    (b"MM\x00+", "TIFF"),
)

# Pictures a crawl does contain but nobody captions from, or whose decoders are large or seldom exercised.
_REFUSED_STARTS: Final = (
    (b"8BPS", "a Photoshop document"),
    (b"\x00\x00\x01\x00", "an icon (ICO)"),
    (b"\x00\x00\x02\x00", "a cursor (CUR)"),
    (b"icns", "an icon (ICNS)"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL picture"),
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"DDS ", "a DirectDraw surface"),
    (b"v/1\x01", "an OpenEXR picture"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML document"),
)

_PAGE_STARTS: Final = (b"<!doctype", b"<html", b"<head", b"{")


def sniffed_format(data: bytes) -> str:
    """Pillow's name of the format `data` starts like; MPO is not told from JPEG here.

    Raises SampleFailedError: IMAGE_UNSUPPORTED for pictures and documents outside the allowed list, IMAGE_CORRUPT for
    anything that is no picture at all.
    """
    for start, name in _STARTS:
        if data.startswith(start):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        brand = data[8:12].decode("ascii", "replace")
        raise SampleFailedError(Reason.IMAGE_UNSUPPORTED, f"an ISO media file of brand {brand!r} (AVIF, HEIC or video)")
    for start, name in _REFUSED_STARTS:
        if data.startswith(start):
            raise SampleFailedError(Reason.IMAGE_UNSUPPORTED, f"{name}; allowed are {', '.join(EXTENSIONS)}")
    if data[:64].lstrip().lower().startswith(_PAGE_STARTS):
        raise SampleFailedError(Reason.IMAGE_CORRUPT, "a web page or JSON instead of an image")
    raise SampleFailedError(Reason.IMAGE_CORRUPT, f"no image: the file starts with {data[:8].hex(' ') or 'nothing'}")


def ends_early(data: bytes, image_format: str) -> bool:
    """Whether a file of this format lacks the end that the format prescribes (never true for TIFF, which has none)."""
    match image_format:
        case "PNG":
            return _png_ends_early(data)
        case "JPEG" | "MPO":
            return b"\xff\xd9" not in data[-64:]
        case "GIF":
            return not data.rstrip(b"\x00").endswith(b";")
        case "WEBP":
            return len(data) < int.from_bytes(data[4:8], "little") + 8
        case "BMP":
            return len(data) < int.from_bytes(data[2:6], "little")
        case _:
            return False


def _png_ends_early(data: bytes) -> bool:
    """False once a chunk's name is no name: then the stream is damaged, not short (PNG 1.2, section 3.3)."""
    position = 8
    while position + 8 <= len(data):
        kind = data[position + 4 : position + 8]
        if kind == b"IEND" or not kind.isalpha():
            return False
        position += 12 + int.from_bytes(data[position : position + 4])
    return True
