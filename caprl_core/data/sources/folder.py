"""A folder or prefix of images, found recursively."""

from collections.abc import Iterator

from caprl_core.data.files.reader import Files
from caprl_core.data.image_names import is_image
from caprl_core.data.sample import SourceRecord
from caprl_core.data.sources.fields import make_record
from caprl_core.errors import BadInputError
from caprl_core.recipe.models import SourceRecipe


class Folder:
    """One record an image file, in the byte order of the relative paths.

    Hidden files and folders (names that begin with a dot) and `__MACOSX` folders are passed over.
    """

    def __init__(self, files: Files, source: SourceRecipe) -> None:
        self._files = files
        self._source = source

    def records(self) -> Iterator[SourceRecord]:
        """Images below the folder; raises `BadInputError` when it is absent or empty."""
        folder = self._source.uri
        if not self._files.holds_anything(folder):
            raise BadInputError(f"{folder}: the folder is absent or empty; is the disk mounted?")
        ordinal = 0
        for path in self._files.below(folder):
            if is_image(path) and not _is_hidden(path):
                yield make_record(ordinal, image=path, where=f"{folder}: file {ordinal}")
                ordinal += 1


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))
