"""The images of a set, from the tars of the stage that kept them, each checked against its sha256 in the rows."""

import hashlib

from caprl_core.data.containers import split_reference
from caprl_core.data.files.reader import Files
from caprl_core.data.roots.tar_images import TarImages
from caprl_core.errors import SampleFailedError, StoreError
from caprl_core.recipe.models import StorageExecution
from caprl_core.storage.layout import SHARDS
from caprl_core.storage.store import Store

MOST_IMAGE_BYTES = 2**30
"""The stage that kept an image has applied the recipe's own limit; this one keeps a damaged tar from filling memory."""


class KeptImages:
    """Safe to share between threads."""

    def __init__(self, images: Store, storage: StorageExecution) -> None:
        """`images` is the store of the dataset whose tars carry the images; `storage` says how it is reached."""
        self._files = Files(storage)
        self._uri = f"{images.uri}/{SHARDS}"
        self._tars = TarImages(self._files, self._uri, self._uri)

    def read(self, reference: str, sha256: str) -> bytes:
        """The bytes of `<tar>#<member>`. Raises `StoreError` when they are gone or have another digest."""
        try:
            data = self._tars.read(*split_reference(reference), MOST_IMAGE_BYTES)
        except (ValueError, SampleFailedError) as error:
            raise StoreError(f"{self._uri}: image {reference} cannot be read: {error}") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise StoreError(
                f"{self._uri}/{reference} is not the image that was asked about (sha256 {sha256[:16]}…); "
                "run `caprl verify` on that dataset"
            )
        return data

    def close(self) -> None:
        """Close what was opened."""
        self._tars.close()
        self._files.close()
