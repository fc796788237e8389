"""A stage: the pure part of a model-driven step (prompt, parser, row). Everything hard lives in the runner."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

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


@dataclass(frozen=True, slots=True)
class More:
    """The sample needs further requests, one at least: it is judged again on all replies of the attempt, in the order
    asked."""

    requests: Sequence[Request]


Outcome = Row | Drop | More
ImageUse = Literal["kept", "seen", "unread"]
"""Kept: the engine sees the image and the tar carries it. Seen: only the engine. Unread: nobody reads it."""


class Stage(Protocol):
    """Pure and picklable-free: the same inputs give the same requests and the same outcome."""

    name: str
    fields: pa.Schema
    """Arrow types of the columns this stage adds to the common row columns."""
    max_attempts: int
    """Attempts a sample may use, 1 or more."""
    prompt_id: str
    """Recorded in every row; empty for a stage that asks nothing."""
    image_use: ImageUse
    asks: bool
    """False for a stage of pure text: it has no requests, and its rows name no engine."""
    leads: int
    """So many first requests of an attempt are answered before the rest is sent: they fill the engine's prefix cache.
    Those that `More` names find it filled and go all at once."""
    tolerates_failures: bool
    """True: a failed request is a reply with `failure` set. False: it costs the sample."""

    def requests(self, sample: PlannedSample, image: PreparedImage | None, attempt: int) -> Sequence[Request]:
        """The requests of one attempt (1-based); all of them are in flight together. `image` is None if unread."""
        ...

    def outcome(self, sample: PlannedSample, replies: Sequence[Reply], attempt: int) -> Outcome:
        """Judge the replies, given in the order of the requests."""
        ...

    def text(self, fields: Mapping[str, Any]) -> str:
        """What goes into the sample's `.txt` member."""
        ...
