"""From a row to the path of its picture as a trainer is told it, or to the reason why there is none."""

import os
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from caprl_core.data.files.paths import UnsafePathError, is_address, safe_parts
from caprl_core.export.image_files import image_name


class NoImage(NamedTuple):
    """Why a row has no picture, in words."""

    reason: str


class ImagePaths(Protocol):
    """Finds pictures."""

    def find(self, row: dict[str, Any]) -> str | NoImage:
        """The path to write into an example, or why there is none."""
        ...


class Told:
    """How a path is told: relative to `base` where it lies below it, else absolute; always absolute without a base."""

    def __init__(self, folder: Path, base: Path | None) -> None:
        """`folder` holds the pictures."""
        folder = Path(os.path.abspath(folder.expanduser()))  # noqa: PTH100 - resolving would tell a link's target
        self.folder = folder
        relative = base is not None and folder.is_relative_to(base)
        inner = folder.relative_to(base).as_posix() if relative and base is not None else folder.as_posix()
        self._prefix = "" if inner == "." else inner.rstrip("/") + "/"

    def path(self, name: str) -> str:
        """`name` is below the folder, with slashes."""
        return self._prefix + name


class ExtractedImages:
    """Pictures that were extracted from the tars just now."""

    def __init__(self, told: Told) -> None:
        self._told = told

    def find(self, row: dict[str, Any]) -> str | NoImage:
        """Always a path."""
        return self._told.path(image_name(row))


class RootedImages:
    """Pictures below a folder of the user's, by the paths the source gave them."""

    def __init__(self, told: Told) -> None:
        self._told = told

    def find(self, row: dict[str, Any]) -> str | NoImage:
        """A path of a file that is there. A path that would lead out of the folder is a reason, never followed."""
        image = row["image"]
        if is_address(image):
            return NoImage("an address, no file; take --images, which extracts it from the shards")
        try:
            name = "/".join(safe_parts(image))
        except UnsafePathError as error:
            return NoImage(str(error))
        if os.path.isfile(f"{self._told.folder}/{name}"):  # noqa: PTH113 - a Path costs 4 times as much
            return self._told.path(name)
        if "#" in image:
            return NoImage("inside a container; take --images, which extracts it from the shards")
        return NoImage("no such file below the root")
