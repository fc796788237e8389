"""What a shard tells while it runs, and what it returns."""

from collections.abc import Callable
from dataclasses import dataclass

from caprl_core.storage.commit import CommitRecord
from caprl_core.storage.layout import Unit

Step = str
"""Steps of the protocol, in order: `log read`, (`sample`, `log flushed`)*, `all logged`, `gated`, `packed`, `tar put`,
`jsonl put`, `ledger put`, `committed`, `tar published`, `jsonl published`, `ledger published`, `swept`."""


@dataclass(frozen=True, slots=True)
class ShardEvent:
    """A step was finished; `done` samples of the unit have a result so far, `rejected` of them a reason.

    `attempt` is the id under which the attempt writes to the bucket, empty where the teller does not know it.
    """

    unit: Unit
    step: Step
    done: int
    rejected: int
    attempt: str = ""


Observer = Callable[[ShardEvent], None]
"""Called in the lane's thread: quick, and never raising."""


@dataclass(frozen=True, slots=True)
class ShardResult:
    """A finished unit: the record that is visible to readers, whether this attempt won it, samples taken from logs."""

    unit: Unit
    record: CommitRecord
    won: bool
    resumed: int
