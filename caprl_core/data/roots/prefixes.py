"""Which root an image path belongs to: the longest prefix, compared component by component."""

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefixes(Generic[T]):
    """`coco/train2017` matches `coco/train2017/1.jpg` and not `coco/train2017b/1.jpg`; the empty prefix matches all."""

    def __init__(self, roots: Mapping[str, T]) -> None:
        parts = {
            tuple(part for part in prefix.split("/") if part not in ("", ".")): root for prefix, root in roots.items()
        }
        self._longest_first = sorted(parts.items(), key=lambda item: -len(item[0]))

    def values(self) -> Iterator[T]:
        """All roots."""
        return (root for _, root in self._longest_first)

    def match(self, parts: tuple[str, ...]) -> tuple[T, tuple[str, ...]] | None:
        """The root, and what is left of the path below it; None where no prefix matches or nothing would be left."""
        for prefix, root in self._longest_first:
            if parts[: len(prefix)] == prefix and len(parts) > len(prefix):
                return root, parts[len(prefix) :]
        return None
