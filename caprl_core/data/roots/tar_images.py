"""Images inside WebDataset tars, read by offset."""

from collections import OrderedDict
from collections.abc import Iterator
from threading import Lock

from caprl_core.data.files.reader import Files
from caprl_core.data.files.tars import HOP_BLOCK, tar_members
from caprl_core.data.files.uris import join
from caprl_core.data.roots.archives import read_tar_member
from caprl_core.data.roots.member_index import Place
from caprl_core.data.roots.root import missing
from caprl_core.errors import BadInputError, ObjectMissingError

MOST_TARS = 8
"""Tars whose members are remembered: neighbouring shards come from one or two."""


class TarImages:
    """`<tar>#<member>` references, the tars named relative to the folder or prefix `base`. Safe to share between
    threads."""

    def __init__(self, files: Files, base: str, what: str) -> None:
        self._files = files
        self._base = base
        self._what = what
        self._lock = Lock()
        self._tars: OrderedDict[str, _Tar] = OrderedDict()

    def read(self, container: str, inner: str, limit: int) -> bytes:
        """The bytes of one member, `limit` at most.

        Raises `SampleFailedError` for a member that is not there, `BadInputError` for a tar that is gone or damaged.
        """
        uri = join(self._base, container)
        with self._lock:
            tar = self._tars.setdefault(uri, _Tar(self._files, uri))
            self._tars.move_to_end(uri)
            if len(self._tars) > MOST_TARS:
                self._tars.popitem(last=False)
        try:
            place = tar.find(inner)
            if place is None:
                raise missing(f"{uri}#{inner}: no such member")
            return read_tar_member(self._files, uri, inner, place, limit)
        except ObjectMissingError as error:
            raise BadInputError(f"{self._what}: {error}, though the plan names it") from error

    def close(self) -> None:
        """Forget the tars."""
        with self._lock:
            self._tars.clear()


class _Tar:
    """The members of one tar as far as they were looked for: the first image needs no walk over the whole file."""

    def __init__(self, files: Files, uri: str) -> None:
        self._files = files
        self._uri = uri
        self._lock = Lock()
        self._known: dict[str, Place] = {}
        self._rest: Iterator[tuple[str, Place]] | None = None
        self._is_complete = False

    def find(self, name: str) -> Place | None:
        """Where the member lies; of several of the same name the first, as the source reader took it."""
        place = self._known.get(name)
        if place is not None or self._is_complete:
            return place
        with self._lock:
            if name in self._known:
                return self._known[name]
            if self._rest is None:
                self._rest = self._walk()
            try:
                for found, place in self._rest:
                    self._known.setdefault(found, place)
                    if found == name:
                        return place
            except BaseException:
                # A generator that raised is finished; the next look begins anew instead of calling the tar complete.
                self._rest = None
                raise
            self._is_complete = True
        return None

    def _walk(self) -> Iterator[tuple[str, Place]]:
        length = self._files.size(self._uri)
        with self._files.open(self._uri, HOP_BLOCK) as stream:
            for member in tar_members(stream, self._uri, length):
                yield member.name, Place(member.offset, member.size)
