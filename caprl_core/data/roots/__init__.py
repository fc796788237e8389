"""Where the bytes of images lie, and how they are read from there."""

from caprl_core.data.roots.reader import ImageReader

__all__ = ["ImageReader"]
