"""The bytes of planned samples' images, wherever the recipe says they lie."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from caprl_core.data.containers import TAR, base_folder
from caprl_core.data.files import uris
from caprl_core.data.files.paths import is_address
from caprl_core.data.files.reader import Files
from caprl_core.data.reasons import Reason
from caprl_core.data.roots.parquet_images import ParquetImages
from caprl_core.data.roots.source_images import ContainedImages, RootedImages
from caprl_core.data.roots.tar_images import TarImages
from caprl_core.data.roots.web import HostUnreachableError
from caprl_core.data.roots.web_thread import WebThread
from caprl_core.data.sample import PlannedSample
from caprl_core.errors import BadInputError, SampleFailedError, StoreError
from caprl_core.recipe.models import SourceRecipe, StageRecipe

SHARDS_FOLDER = "shards"
"""Where the tars of one of our datasets lie below its root (`storage.layout.SHARDS`, which is above this package)."""


class ImageReader:
    """Reads `execution.runner.read_concurrency` images at once, from any event loop. Keep one for many shards: what it
    learns about archives and containers stays."""

    def __init__(self, recipe: StageRecipe) -> None:
        self._limit = recipe.image.max_bytes
        self._web_settings = recipe.execution.web
        self._concurrency = recipe.execution.runner.read_concurrency
        self._files = Files(recipe.execution.storage)
        self._threads = ThreadPoolExecutor(self._concurrency, thread_name_prefix="read-images")
        self._sources = {source.name: self._images(source) for source in recipe.sources}
        self._web: WebThread | None = None
        self._web_lock = Lock()

    async def read(self, sample: PlannedSample) -> bytes:
        """The image's bytes, untouched, `image.max_bytes` at most.

        Raises `SampleFailedError` with IMAGE_MISSING, IMAGE_UNREADABLE, IMAGE_FORBIDDEN, IMAGE_TOO_LARGE or
        SAMPLE_INVALID where this sample is to blame; `BadInputError` or `StoreError`, naming the root, where a whole
        root cannot be reached.
        """
        if sample.problem is not None:
            raise SampleFailedError(Reason.SAMPLE_INVALID, sample.problem)
        images = self._sources.get(sample.source)
        if images is None:
            raise BadInputError(f"sample {sample.key}: the recipe has no source named {sample.source!r}")
        if isinstance(images, RootedImages):
            if is_address(sample.image):
                return await self._pages().fetch(sample.image, self._limit)
            address = images.address(sample.image)
            if address is not None:
                return await self._fetch_below(*address)
        return await asyncio.get_running_loop().run_in_executor(self._threads, images.read, sample.image, self._limit)

    def close(self) -> None:
        """Close connections and files. Reads not yet begun are cancelled, results of those in progress are dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._web_lock:
            if self._web is not None:
                self._web.close()
                self._web = None
        for images in self._sources.values():
            images.close()
        self._files.close()

    async def _fetch_below(self, url: str, root: str) -> bytes:
        try:
            return await self._pages().fetch(url, self._limit)
        except HostUnreachableError as error:
            raise StoreError(f"{root}: {error.detail}") from error

    def _pages(self) -> WebThread:
        with self._web_lock:
            if self._web is None:
                self._web = WebThread(self._web_settings, connections=self._concurrency)
            return self._web

    def _images(self, source: SourceRecipe) -> RootedImages | ContainedImages:
        what = f"source {source.name} ({source.uri})"
        if source.kind in ("hf_parquet", "caprl_qa"):
            return ContainedImages(ParquetImages(self._files, source, what))
        if source.kind == "webdataset":
            return ContainedImages(TarImages(self._files, base_folder(source.uri, TAR), what))
        if source.kind == "stage_rows":
            tars = source.roots.get("", uris.join(source.uri, SHARDS_FOLDER))
            return ContainedImages(TarImages(self._files, tars, what))
        return RootedImages(self._files, source)
