"""An event loop with a clock of its own, in which one thread runs at a time: real asynchronous code, replayable.

Nothing waits: when everybody sleeps, the clock jumps to the first who wakes. What is handed to a thread runs in a real
thread, but only until it says `pause`; then the loop goes on, and lets it continue when the pause is over on the loop's
clock. So all orders of events come from the delays that are drawn, and the same draws give the same run.
"""

import asyncio
import selectors
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

_current = threading.local()


class _NothingOutside(selectors.BaseSelector):
    """Never waits: the time until the next timer passes at once."""

    def __init__(self) -> None:
        self.now = 0.0
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._keys.setdefault(fileobj, selectors.SelectorKey(fileobj, 0, events, data))

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everybody waits, and nobody will wake")
        self.now += timeout
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys


class SteppedLoop(asyncio.SelectorEventLoop):
    """`time` starts at 0 seconds."""

    def __init__(self) -> None:
        self._own = _NothingOutside()
        self._threads = ThreadPoolExecutor(256, thread_name_prefix="stepped")
        self.working = 0  # hands not yet at their end, those included whose caller has given up
        super().__init__(self._own)

    def time(self) -> float:
        return self._own.now

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> "asyncio.Future[T]":  # type: ignore[override]
        """Any executor is this loop's: one hand at a time."""
        result: asyncio.Future[T] = self.create_future()
        hand = _Hand(lambda: func(*args))
        self.working += 1

        def advance() -> None:
            hand.advance(self._threads)
            if not hand.ended:
                self.call_later(hand.delay, advance)
                return
            self.working -= 1
            if result.cancelled():
                return
            if hand.error is not None:
                result.set_exception(hand.error)
            else:
                result.set_result(hand.value)

        self.call_soon(advance)
        return result

    def close(self) -> None:
        if not self.is_closed():
            self._threads.shutdown()
        super().close()


class _Hand:
    """Work in a thread that runs only between `advance` and its next `pause`."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.delay = 0.0
        self.ended = False
        self.value: Any = None
        self.error: BaseException | None = None
        self._work = work
        self._begun = False
        self._go = threading.Semaphore(0)
        self._back = threading.Semaphore(0)

    def advance(self, threads: ThreadPoolExecutor) -> None:
        if self._begun:
            self._go.release()
        else:
            self._begun = True
            threads.submit(self._run)
        self._back.acquire()

    def pause(self, seconds: float) -> None:
        self.delay = seconds
        self._back.release()
        self._go.acquire()

    def _run(self) -> None:
        _current.hand = self
        try:
            self.value = self._work()
        except BaseException as error:
            self.error = error
        finally:
            _current.hand = None
            self.ended = True
            self._back.release()


def pause(seconds: float) -> bool:
    """In a thread of a `SteppedLoop`: let others go on for so long. Elsewhere nothing, and False."""
    hand = getattr(_current, "hand", None)
    if hand is None:
        return False
    hand.pause(seconds)
    return True


def run_stepped(work: Coroutine[Any, Any, T]) -> T:
    """Like `asyncio.run`, and it ends only when every thread has come to its end."""

    async def whole() -> T:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SteppedLoop)
        result = await work
        while loop.working:
            await asyncio.sleep(1.0)
        return result

    with asyncio.Runner(loop_factory=SteppedLoop) as runner:
        return runner.run(whole())
