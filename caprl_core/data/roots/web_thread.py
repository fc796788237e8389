"""The web reader on an event loop of its own, so that it serves callers on any loop and closes without one."""

import asyncio
from threading import Thread

from caprl_core.data.roots.public_network import PublicNetwork
from caprl_core.data.roots.web import WebImages
from caprl_core.recipe.models import WebExecution


class WebThread:
    """A thread with a loop that fetches images. Connections are shared by all callers."""

    def __init__(self, web: WebExecution, *, connections: int, network: PublicNetwork | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="fetch-images", daemon=True)
        self._thread.start()
        self._images = WebImages(web, connections=connections, network=network)

    async def fetch(self, url: str, limit: int) -> bytes:
        """See `WebImages.fetch`; cancelling the caller cancels the request."""
        work = asyncio.run_coroutine_threadsafe(self._images.fetch(url, limit), self._loop)
        return await asyncio.wrap_future(work)

    def close(self) -> None:
        """Cancel what is in progress, close the connections, end the thread."""
        asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _finish(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._images.close()
