"""A stage: the pure part of a model-driven step (prompt, parser, row). Everything hard lives in the runner."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from caprl_core.data.sample import PlannedSample, PreparedImage
from caprl_core.engines.protocol import Reply, Request


@dataclass(frozen=True, slots=True)
class Row:
    """The sample succeeded: `fields` are the stage's own columns."""

    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Drop:
    """The sample did not succeed this time: `retry` asks for another attempt while attempts are left."""

    reason: str
    detail: str
    retry: bool


Outcome = Row | Drop


class Stage(Protocol):
    """Pure and picklable-free: the same inputs give the same requests and the same outcome."""

    name: str
    fields: pa.Schema
    """Arrow types of the columns this stage adds to the common row columns."""
    max_attempts: int
    """Attempts a sample may use, 1 or more."""

    def requests(self, sample: PlannedSample, image: PreparedImage, attempt: int) -> Sequence[Request]:
        """The requests of one attempt (1-based); all of them are in flight together."""
        ...

    def outcome(self, sample: PlannedSample, replies: Sequence[Reply], attempt: int) -> Outcome:
        """Judge the replies, given in the order of the requests."""
        ...

    def text(self, fields: Mapping[str, Any]) -> str:
        """What goes into the sample's `.txt` member."""
        ...
