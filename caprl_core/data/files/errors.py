"""What can go wrong with one object while the store itself answers; `ObjectMissingError` is in `caprl_core.errors`."""

from caprl_core.errors import StoreError


class ObjectRefusedError(StoreError):
    """The store refuses access to this object (S3 also says so of missing ones when listing is not allowed)."""


class ObjectUnreadableError(StoreError):
    """The store answers, but will not give this object's bytes; repeating does not help."""
