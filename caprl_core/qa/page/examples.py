"""A few questions of a curated set to look at, kept and refused, with their pictures; drawn by a hash of their ids."""

import heapq
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from caprl_core.errors import CaprlError
from caprl_core.qa.filter import Verdict
from caprl_core.qa.page.thumbnails import NoThumbnail, Thumbnail, thumbnail
from caprl_core.qa.reasons import QuestionReason

EXAMPLES: Final = 20
_POOL: Final = 4  # candidates remembered for each example wanted, so that images can differ
_LARGEST: Final = 2**32  # above every rank
_OUTCOMES: Final = (None, *QuestionReason)


@dataclass(frozen=True, slots=True)
class Example:
    """One question (fields as the answer stage stores them, with votes), its verdict, its sample's key and picture."""

    key: str
    question: Mapping[str, Any]
    verdict: Verdict
    picture: Thumbnail | NoThumbnail


class _Candidate(NamedTuple):
    rank: int
    key: str
    question: Mapping[str, Any]
    verdict: Verdict


def choose_examples(
    judged: Iterable[tuple[str, Sequence[Mapping[str, Any]], Sequence[Verdict]]],
    image_of: Callable[[str], bytes],
    *,
    count: int = EXAMPLES,
    seed: int = 0,
) -> list[Example]:
    """`count` examples, kept ones first: half are kept and half refused where there are enough of both.

    `judged` gives for each image its sample's key, its questions as stored, and a verdict for each; it is read once, in
    any order, and only some hundred questions are held. Which are chosen depends on `seed` and the questions' ids.
    Refused ones show as many different reasons as there are, and no image comes twice before all chosen from have come.
    `image_of` gives the picture's bytes for a key; where it raises `CaprlError`, `OSError` or `KeyError`, the example
    has no picture and says why.
    """
    pools: dict[QuestionReason | None, _Smallest] = {reason: _Smallest(max(1, _POOL * count)) for reason in _OUTCOMES}
    for key, questions, verdicts in judged:
        for question, verdict in zip(questions, verdicts, strict=True):
            rank, pool = _rank(seed, verdict.id), pools[verdict.reason]
            if rank <= pool.largest:  # nearly always not: 375,000 questions pass here
                pool.take(_Candidate(rank, key, question, verdict))
    kept = pools[None].ascending()
    refused = _in_turn([pools[reason].ascending() for reason in QuestionReason])
    of_kept = max(count - len(refused), min(len(kept), count - count // 2))
    used: set[str] = set()
    chosen = _different(kept, of_kept, used)
    chosen += _different(refused, count - len(chosen), used)
    return [Example(one.key, one.question, one.verdict, _picture(one.key, image_of)) for one in chosen]


class _Smallest:
    """The `size` candidates (1 at least) with the smallest ranks among all taken; those above `largest` need no try."""

    def __init__(self, size: int) -> None:
        self.largest = _LARGEST
        self._size = size
        self._heap: list[tuple[int, str, str, int, _Candidate]] = []
        self._taken = 0

    def take(self, candidate: _Candidate) -> None:
        # Equal ranks are decided by what is unique, so that the order of the rows cannot be seen.
        self._taken += 1
        entry = (-candidate.rank, candidate.verdict.id, candidate.key, self._taken, candidate)
        if len(self._heap) < self._size:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)
        if len(self._heap) == self._size:
            self.largest = -self._heap[0][0]

    def ascending(self) -> list[_Candidate]:
        return sorted((entry[-1] for entry in self._heap), key=lambda one: (one.rank, one.verdict.id, one.key))


def _in_turn(lists: Sequence[Sequence[_Candidate]]) -> list[_Candidate]:
    """The first of each list, then the second of each."""
    longest = max(map(len, lists), default=0)
    return [one[place] for place in range(longest) for one in lists if place < len(one)]


def _different(candidates: Sequence[_Candidate], count: int, used: set[str]) -> list[_Candidate]:
    """The first `count`, passing over images in `used` while others are left; adds theirs to `used`."""
    fresh: list[_Candidate] = []
    repeated: list[_Candidate] = []
    for one in candidates:
        (repeated if one.key in used else fresh).append(one)
        used.add(one.key)
        if len(fresh) >= count:
            break
    return [*fresh, *repeated][:count]


def _rank(seed: int, question: str) -> int:
    """Ids are digests already, so that a checksum of them, from a start of one's own, is as good as a shuffle."""
    return zlib.crc32(question.encode("utf-8", "surrogatepass"), seed)


def _picture(key: str, image_of: Callable[[str], bytes]) -> Thumbnail | NoThumbnail:
    try:
        data = image_of(key)
    except (CaprlError, OSError, KeyError) as error:
        return NoThumbnail(f"the picture could not be read: {error}")
    return thumbnail(data)
