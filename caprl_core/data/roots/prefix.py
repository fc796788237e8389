"""A root that is an `s3://` prefix."""

from caprl_core.data.files.errors import ObjectRefusedError, ObjectUnreadableError
from caprl_core.data.files.reader import Files
from caprl_core.data.files.uris import join
from caprl_core.data.roots.root import missing, too_large, unreadable
from caprl_core.errors import BadInputError, ObjectMissingError, StoreAwayError, StoreError


class PrefixRoot:
    """Objects below one prefix."""

    def __init__(self, files: Files, prefix: str, what: str) -> None:
        """`what` names the root in messages."""
        self._files = files
        self._prefix = prefix
        self._what = what
        self._proven = False

    def read(self, parts: tuple[str, ...], limit: int) -> bytes:
        """See `Root`. One ranged request, which asks for no more than one byte over the limit."""
        uri = join(self._prefix, "/".join(parts))
        try:
            data = self._files.read(uri, 0, limit + 1)
        except ObjectMissingError as error:
            self._require_once()
            raise missing(str(error)) from error
        except ObjectRefusedError as error:
            self._require_once()
            raise unreadable(str(error)) from error
        except ObjectUnreadableError as error:
            raise unreadable(str(error)) from error
        except BadInputError as error:
            raise BadInputError(f"{self._what}: {error}") from error
        except StoreAwayError as error:
            # Expired credentials: no fault of this object, even if they have been renewed meanwhile.
            raise StoreAwayError(f"{self._what}: {error}") from error
        except StoreError as error:
            # Is it this object, or everything? Asked anew each time: the store was there a moment ago.
            self._require()
            raise unreadable(str(error)) from error
        self._proven = True
        if len(data) > limit:
            raise too_large(uri, limit)
        return data

    def close(self) -> None:
        """Nothing is held."""

    def _require_once(self) -> None:
        """Once something was read or listed, a missing object is only a missing object."""
        if not self._proven:
            self._require()
            self._proven = True

    def _require(self) -> None:
        try:
            there = self._files.holds_anything(self._prefix)
        except ObjectRefusedError as error:
            # S3 answers 403 for missing objects to those who may not list, so nothing can be told apart.
            if not self._proven:
                raise StoreError(f"{self._what}: {error}; allow s3:GetObject and s3:ListBucket") from error
            return
        except BadInputError as error:
            raise BadInputError(f"{self._what}: {error}") from error
        except StoreError as error:
            raise StoreError(f"{self._what}: {error}") from error
        if not there:
            raise BadInputError(f"{self._what}: nothing lies below this prefix; correct it, or copy the images there")
