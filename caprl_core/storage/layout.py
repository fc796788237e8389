"""Where everything lies below a dataset's root. The names are a promise: tools and people build paths from them."""

import re
import secrets
import time
from dataclasses import dataclass
from typing import NamedTuple

DATASET = "dataset.json"
"""The dataset's identity, created once."""
PLAN = "plan/plan.parquet"
PLAN_REPORT = "plan/report.json"
COMMITS = "commits"
ATTEMPTS = "attempts"
QUARANTINE = "quarantine"
LANES = "lanes"
"""What lanes at work shall do; nothing of it outlives a run."""
SHARDS = "shards"
ATTEMPT_STATE = "attempt.json"
"""What an attempt says about itself, below its prefix."""
COMMIT_CACHE = "index/commits.jsonl"
"""Advisory copy of all commit records, so that `status` reads one object instead of thousands."""

ROLES = ("tar", "jsonl", "ledger")
"""The objects of a commit, in the order they are written."""

_SUFFIX = {"tar": ".tar", "jsonl": ".jsonl", "ledger": ".ledger.parquet"}
_UNIT = re.compile(r"([0-9]{6,})\.r([0-9]{3,})")
_LOG_KEY = re.compile(rf"{ATTEMPTS}/[^/]+/[^/]+/log/[0-9]+-([0-9]+)\.jsonl")


class Unit(NamedTuple):
    """A revision of a shard: what is attempted and committed."""

    shard: int
    revision: int

    def __str__(self) -> str:
        """`000007.r001`."""
        return f"{self.shard:06d}.r{self.revision:03d}"

    @property
    def commit_key(self) -> str:
        """Key of the commit record: the one name on which attempts race."""
        return f"{COMMITS}/{self}.json"

    @property
    def attempts_prefix(self) -> str:
        """Below it lie all attempts at this unit."""
        return f"{ATTEMPTS}/{self}"

    @property
    def quarantine_prefix(self) -> str:
        """Below it lie the gate's verdicts on this unit."""
        return f"{QUARANTINE}/{self}"

    def final_key(self, dataset: str, role: str) -> str:
        """Published name: `shards/<dataset>-000000.tar`; later revisions carry `.r1`, `.r2`, … before the suffix.

        Revision 0 has the plain name, so that WebDataset users can brace-expand a finished dataset; nothing committed
        is ever overwritten by a later revision.
        """
        later = f".r{self.revision}" if self.revision else ""
        return f"{SHARDS}/{dataset}-{self.shard:06d}{later}{_SUFFIX[role]}"


def parse_unit(text: str) -> Unit | None:
    """`000007.r001` -> Unit(7, 1); None for anything else, `0000007.r001` included: a unit has one name."""
    match = _UNIT.fullmatch(text)
    unit = Unit(int(match[1]), int(match[2])) if match else None
    return unit if str(unit) == text else None


def parse_commit_key(key: str) -> Unit | None:
    """`commits/000007.r001.json` -> Unit(7, 1); None for anything else."""
    if not (key.startswith(f"{COMMITS}/") and key.endswith(".json")):
        return None
    return parse_unit(key[len(COMMITS) + 1 : -len(".json")])


def logged_samples(key: str) -> int:
    """Samples its attempt had logged when this log segment was written; 0 for any other object."""
    match = _LOG_KEY.fullmatch(key)
    return int(match[1]) if match else 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a unit. Ids sort by start time (milliseconds) and never collide (64 random bits)."""

    unit: Unit
    id: str

    @classmethod
    def begin(cls, unit: Unit) -> "Attempt":
        """A new attempt, starting now."""
        return cls(unit, f"{time.time_ns() // 1_000_000:013d}-{secrets.token_hex(8)}")

    @property
    def prefix(self) -> str:
        """Everything this attempt writes lies below it."""
        return f"{self.unit.attempts_prefix}/{self.id}"

    @property
    def state_key(self) -> str:
        """Key of what this attempt says about itself (`caprl_core.shards.suspects`)."""
        return f"{self.prefix}/{ATTEMPT_STATE}"

    def object_key(self, role: str) -> str:
        """Key of a packed object before publication."""
        return f"{self.prefix}/data{_SUFFIX[role]}"

    def log_key(self, segment: int, samples: int) -> str:
        """Key of a log segment, with the samples this attempt has logged so far: one listing shows the progress."""
        return f"{self.prefix}/log/{segment:06d}-{samples:07d}.jsonl"
