"""File extensions that mean an image."""

IMAGE_EXTENSIONS = (
    *("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "heic", "heif", "jpe", "jfif", "jp2", "apng"),
    *("ico", "mpo", "ppm", "pgm", "pbm", "pnm", "tga", "dib", "psd", "jxl"),
)
"""In order of preference where one WebDataset key has several. Formats the decoder refuses are listed too: such a file
gets its ledger row instead of going unmentioned."""


def extension(name: str) -> str:
    """What follows the last dot of the basename, in lower case; empty without a dot or in front of the only one."""
    stem, dot, last = name.rpartition("/")[2].rpartition(".")
    return last.lower() if dot and stem else ""


def is_image(name: str) -> bool:
    """Whether the name ends like an image."""
    return extension(name) in IMAGE_EXTENSIONS
