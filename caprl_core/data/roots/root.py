"""What a root is: a place that image paths are relative to."""

from typing import Protocol

from caprl_core.data.reasons import Reason
from caprl_core.errors import SampleFailedError


class Root(Protocol):
    """A place with images, read by blocking calls from several threads at once."""

    def read(self, parts: tuple[str, ...], limit: int) -> bytes:
        """The bytes of one image, `limit` at most, by the components of its path (safe ones).

        Raises `SampleFailedError` where this image is to blame, and `BadInputError` or `StoreError`, naming the root,
        where the root itself is: a missing mount must stop the run instead of filling the ledger.
        """
        ...

    def close(self) -> None:
        """Give back what is held."""
        ...


def too_large(name: str, limit: int, size: int | None = None) -> SampleFailedError:
    """The error for an image of more than `limit` bytes."""
    has = f"has {size} bytes" if size is not None else "is larger"
    return SampleFailedError(Reason.IMAGE_TOO_LARGE, f"{name} {has}; image.max_bytes is {limit}")


def missing(detail: str) -> SampleFailedError:
    """The error for an image that is not there."""
    return SampleFailedError(Reason.IMAGE_MISSING, detail)


def unreadable(detail: str) -> SampleFailedError:
    """The error for an image whose bytes cannot be had."""
    return SampleFailedError(Reason.IMAGE_UNREADABLE, detail)


def forbidden(detail: str) -> SampleFailedError:
    """The error for a path or address that must not be followed."""
    return SampleFailedError(Reason.IMAGE_FORBIDDEN, detail)
