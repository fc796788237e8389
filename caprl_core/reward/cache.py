"""Readings remembered by the content of their request, the least recently used forgotten first."""

from collections import OrderedDict

from caprl_core.reward.reading import Reading


class ReadingCache:
    """At most `entries` readings by request digest. For tasks of one event loop."""

    def __init__(self, entries: int = 65_536) -> None:
        """65,536 are eight steps of 8,192 requests, about 25 MB. 0 remembers nothing."""
        self._entries = entries
        self._readings: OrderedDict[bytes, Reading] = OrderedDict()

    def __len__(self) -> int:
        """Readings remembered."""
        return len(self._readings)

    def get(self, request: bytes) -> Reading | None:
        """The reading of an equal request, now the most recently used; None if there is none."""
        reading = self._readings.get(request)
        if reading is not None:
            self._readings.move_to_end(request)
        return reading

    def put(self, request: bytes, reading: Reading) -> None:
        """Remember a reading."""
        self._readings[request] = reading
        self._readings.move_to_end(request)
        while len(self._readings) > self._entries:
            self._readings.popitem(last=False)
