"""What every trainer's format says of itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Layout = Literal["json", "jsonl"]
"""One JSON array, or one object a line."""


class Example(NamedTuple):
    """One image and its caption as a conversation.

    id: the row's key. instruction: the user's turn, with exactly one `<image>`. caption: the answer, markers escaped.
    image: the path, relative to the folder the trainer is given or absolute.
    """

    id: str
    instruction: str
    caption: str
    image: str


class ExportedFile(NamedTuple):
    """A finished file of examples: the name its trainer may call it, the file's, and the folder's absolute path."""

    dataset: str
    file: str
    folder: str


def nothing_beside(_files: Sequence[ExportedFile], _before: Mapping[str, bytes]) -> dict[str, bytes]:
    """Most trainers want nothing but the examples."""
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainer:
    """A trainer's format.

    layouts: what it reads, the default first. record: an example in its words. beside: file name -> content of what it
    wants beside the examples, given the files and what of that lies there already (`reads` names it). absolute: its
    image paths depend on the folder it is started in, so they are written absolute unless told otherwise. use: how the
    files are given to it, for people.
    """

    name: str
    layouts: tuple[Layout, ...]
    record: Callable[[Example], dict[str, Any]]
    use: Callable[[Sequence[ExportedFile], str], str]
    beside: Callable[[Sequence[ExportedFile], Mapping[str, bytes]], dict[str, bytes]] = field(default=nothing_beside)
    reads: tuple[str, ...] = ()
    absolute: bool = False
