"""A root that is one or several zips or tars, read in place."""

from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from caprl_core.data.files.errors import ObjectRefusedError, ObjectUnreadableError
from caprl_core.data.files.reader import Files
from caprl_core.data.files.tars import HOP_BLOCK, tar_members
from caprl_core.data.roots.member_index import MemberIndex, Place
from caprl_core.data.roots.root import missing, too_large, unreadable
from caprl_core.data.roots.zips import read_member, zip_members
from caprl_core.errors import BadInputError, CaprlError, ObjectMissingError, StoreError

ARCHIVES = (".zip", ".tar")
_INDEXERS = 4
"""Containers indexed at once: hopping through a tar on S3 waits for requests, not for the processor."""


class ArchiveRoot:
    """Members of the containers, in the containers' order.

    A path is looked up as it is in every container; only when none has it, the one member that ends in it is taken
    (COCO's `train2017.zip` stores `train2017/…`). Several such members are ambiguous, so none is taken.
    """

    def __init__(self, files: Files, pattern: str, what: str) -> None:
        """`what` names the root in messages."""
        self._files = files
        self._what = what
        try:
            self._containers = files.expand(pattern, ARCHIVES)
        except BadInputError as error:
            raise BadInputError(f"{what}: {error}") from error
        self._indexes: list[MemberIndex | None] = [None] * len(self._containers)
        self._locks = [Lock() for _ in self._containers]
        self._started = False
        self._start_lock = Lock()
        self._indexers = ThreadPoolExecutor(_INDEXERS, thread_name_prefix="index-archives")

    def read(self, parts: tuple[str, ...], limit: int) -> bytes:
        """See `Root`."""
        path = "/".join(parts)
        try:
            number, place = self._find(path)
            return self._read(self._containers[number], path, place, limit)
        except (BadInputError, StoreError) as error:
            raise type(error)(f"{self._what}: {error}") from error

    def close(self) -> None:
        """Stop indexing."""
        self._indexers.shutdown(wait=False, cancel_futures=True)

    def _find(self, path: str) -> tuple[int, Place]:
        for number in range(len(self._containers)):
            place = self._index(number).exact(path)
            if place is not None:
                return number, place
        found = [
            (number, place) for number in range(len(self._containers)) for place in self._index(number).ending_in(path)
        ]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(sorted({self._containers[number] for number, _ in found})[:3])
            raise missing(f"{path}: ambiguous, {len(found)} members end in it ({names}); name more of the path")
        raise missing(f"{path}: in none of the {len(self._containers)} archives of {self._what}")

    def _index(self, number: int) -> MemberIndex:
        """The index of one container, built by whoever needs it first; the others are begun in the background."""
        index = self._indexes[number]
        if index is not None:
            return index
        with self._start_lock:
            if not self._started:
                self._started = True
                for other in range(len(self._containers)):
                    self._indexers.submit(self._build_quietly, other)
        return self._build(number)

    def _build(self, number: int) -> MemberIndex:
        with self._locks[number]:
            index = self._indexes[number]
            if index is None:
                index = self._indexes[number] = index_of(self._files, self._containers[number])
            return index

    def _build_quietly(self, number: int) -> None:
        """Errors wait for the reader that needs this container: it meets them again, and can name its sample."""
        try:
            self._build(number)
        except CaprlError:
            return

    def _read(self, container: str, path: str, place: Place, limit: int) -> bytes:
        try:
            if container.lower().endswith(".zip"):
                return read_member(self._files, container, path, place, limit)
            return read_tar_member(self._files, container, path, place, limit)
        except (ObjectRefusedError, ObjectUnreadableError) as error:
            raise unreadable(str(error)) from error
        except ObjectMissingError as error:
            raise BadInputError(f"{error}, though it was there before") from error


def index_of(files: Files, uri: str) -> MemberIndex:
    """The members of a zip or tar, by its suffix. Raises `BadInputError` when it is damaged."""
    if uri.lower().endswith(".zip"):
        return MemberIndex(zip_members(files, uri))
    length = files.size(uri)
    with files.open(uri, HOP_BLOCK) as stream:
        return MemberIndex(
            (member.name, Place(member.offset, member.size)) for member in tar_members(stream, uri, length)
        )


def read_tar_member(files: Files, uri: str, name: str, place: Place, limit: int) -> bytes:
    """The bytes of one tar member, `limit` at most."""
    what = f"{uri}#{name}"
    if place.size > limit:
        raise too_large(what, limit, place.size)
    data = files.read(uri, place.offset, place.offset + place.size)
    if len(data) < place.size:
        raise unreadable(f"{what}: its data end early; the tar was changed or cut")
    return data
