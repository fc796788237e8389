"""The images of one source: which root, container or address a reference means."""

from collections.abc import Callable
from threading import Lock
from typing import Protocol
from urllib.parse import quote

from caprl_core.data.containers import split_reference
from caprl_core.data.files import uris
from caprl_core.data.files.paths import UnsafePathError, safe_parts
from caprl_core.data.files.reader import Files
from caprl_core.data.reasons import Reason
from caprl_core.data.roots.archives import ARCHIVES, ArchiveRoot
from caprl_core.data.roots.folder import FolderRoot
from caprl_core.data.roots.parquet_images import ParquetImages
from caprl_core.data.roots.prefix import PrefixRoot
from caprl_core.data.roots.prefixes import Prefixes
from caprl_core.data.roots.root import Root, forbidden, missing
from caprl_core.data.roots.tar_images import TarImages
from caprl_core.errors import SampleFailedError
from caprl_core.recipe.models import SourceRecipe


class SourceImages(Protocol):
    """Reads the images of one source by blocking calls from several threads."""

    def read(self, image: str, limit: int) -> bytes:
        """The bytes of the image that a record refers to; raises as `Root.read` does."""
        ...

    def close(self) -> None:
        """Give back what is held."""
        ...


class ContainedImages:
    """A source whose files hold the images themselves."""

    def __init__(self, containers: ParquetImages | TarImages) -> None:
        self._containers = containers

    def read(self, image: str, limit: int) -> bytes:
        """See `SourceImages`."""
        try:
            container, inner = split_reference(image)
            container = "/".join(safe_parts(container))
        except UnsafePathError as error:
            raise forbidden(f"{image}: {error}") from error
        except ValueError as error:
            raise SampleFailedError(Reason.SAMPLE_INVALID, str(error)) from error
        return self._containers.read(container, inner, limit)

    def close(self) -> None:
        """Close the containers."""
        self._containers.close()


class RootedImages:
    """A source of image paths, below the roots the recipe maps them to."""

    def __init__(self, files: Files, source: SourceRecipe) -> None:
        self._source = source
        self._prefixes = Prefixes(
            {prefix: _LazyRoot(files, source, prefix, value) for prefix, value in roots_of(source).items()}
        )

    def read(self, image: str, limit: int) -> bytes:
        """See `SourceImages`."""
        root, rest = self._match(image)
        return root.get().read(rest, limit)

    def close(self) -> None:
        """Close the roots that were opened."""
        for root in self._prefixes.values():
            root.close()

    def address(self, image: str) -> tuple[str, str] | None:
        """(address, root) of an image whose root is an `https://` prefix, or None."""
        root, rest = self._match(image)
        if not root.is_web:
            return None
        return uris.join(root.value, "/".join(quote(part, safe="") for part in rest)), root.what

    def _match(self, image: str) -> tuple["_LazyRoot", tuple[str, ...]]:
        try:
            parts = safe_parts(image)
        except UnsafePathError as error:
            raise forbidden(f"{image!r}: {error}") from error
        match = self._prefixes.match(parts)
        if match is None:
            raise missing(f"{image}: no root of source {self._source.name} matches; add its prefix to `roots`")
        return match


class _LazyRoot:
    """A root that is opened when its first image is read: a lane may never need some of them."""

    def __init__(self, files: Files, source: SourceRecipe, prefix: str, value: str) -> None:
        self.value = value
        self.what = f"source {source.name}, root {prefix!r} ({value})"
        is_archive = value.lower().endswith(ARCHIVES)
        scheme = uris.scheme(value)
        self.is_web = scheme == "https" and not is_archive
        self._open: Callable[[], Root]
        if is_archive:
            self._open = lambda: ArchiveRoot(files, value, self.what)
        elif scheme == "file":
            self._open = lambda: FolderRoot(value, self.what)
        else:
            self._open = lambda: PrefixRoot(files, value, self.what)
        self._root: Root | None = None
        self._lock = Lock()

    def get(self) -> Root:
        with self._lock:
            if self._root is None:
                self._root = self._open()
            return self._root

    def close(self) -> None:
        with self._lock:
            if self._root is not None:
                self._root.close()


def roots_of(source: SourceRecipe) -> dict[str, str]:
    """The recipe's roots; without any, the folder itself or the folder the annotation file lies in."""
    if source.roots:
        return dict(source.roots)
    return {"": source.uri if source.kind == "folder" else uris.literal_folder(source.uri) or "."}
