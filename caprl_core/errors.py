"""The errors the factory raises, by what the caller can do about them."""


class CaprlError(Exception):
    """Base of every error this package raises on purpose; its text says what to do."""


class BadInputError(CaprlError):
    """A file, row or setting given by the user cannot be used; the text names it and the remedy."""


class IdentityMismatchError(CaprlError):
    """A dataset was asked to take shards of another recipe; the text names each differing field."""


class StoreError(CaprlError):
    """The object store failed after its retries; nothing half-written is visible, and resuming is safe."""


class StoreAwayError(StoreError):
    """The object store cannot be reached now, or its credentials have expired: waiting can help."""


class ObjectMissingError(StoreError):
    """The object does not exist."""


class ObjectExistsError(StoreError):
    """A conditional create lost: the object already exists."""


class SampleFailedError(CaprlError):
    """One request failed for good while the engine lives: the sample goes to the ledger.

    `reason` is a value of `caprl_core.data.reasons.Reason`; `detail` is free text, cut to 500 characters by the ledger.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class EngineDeadError(CaprlError):
    """The engine itself is gone: no sample is to blame, the shard attempt stops and is retried later."""


class LaneGaveUpError(EngineDeadError):
    """Engine after engine died before it had brought the work forward: the lane starts no more of them."""


class GpuHeldError(CaprlError):
    """Another process of this machine has the GPU and did not give it up in time; the text names it."""


class DiskFullError(CaprlError):
    """A local disk is full; the text names the folder and what is free there. What is in the log is kept."""


class ShardQuarantinedError(CaprlError):
    """The gate refused to publish a shard: too large a share of its samples failed for one reason."""


class IncompleteError(CaprlError):
    """Samples are still pending where a finished dataset is needed."""
