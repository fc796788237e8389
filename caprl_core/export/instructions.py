"""What the user's turn of an example says: one text, or one of a list drawn by seed and key."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from caprl_core.errors import BadInputError
from caprl_core.export.draws import draw
from caprl_core.export.markers import IMAGE, has_marker

MOST_BYTES = 4 * 2**20
"""Of a list of instructions; the longest in use have a few hundred lines."""


class Instructions:
    """A list of texts, each with exactly one `<image>`: where it stands, or before the text when it names none."""

    def __init__(self, texts: Sequence[str], seed: int, where: str = "the instructions") -> None:
        """Raises `BadInputError` for an empty list, or a text with several images or with other markers."""
        if not texts:
            raise BadInputError(f"{where}: no instruction in it; write one a line")
        self.texts = tuple(_with_image(text, f"{where}: instruction {n}") for n, text in enumerate(texts, start=1))
        self._seed = seed

    def of(self, key: str) -> str:
        """The instruction of a row: the same for the same seed, key and list."""
        if len(self.texts) == 1:
            return self.texts[0]
        return self.texts[draw("instruction", self._seed, key) % len(self.texts)]


def read_instructions(path: Path, seed: int) -> Instructions:
    """From a text file, one a line (empty lines and those that begin with `#` are passed over), or a YAML list.

    Raises `BadInputError` naming file and line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInputError(f"{path}: the list of instructions cannot be read: {error.strerror}") from error
    if len(data) > MOST_BYTES:
        raise BadInputError(f"{path}: {len(data)} bytes; a list of instructions has {MOST_BYTES} at most")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInputError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from error
    if path.suffix.lower() in (".yaml", ".yml"):
        return Instructions(_yaml_list(path, text), seed, str(path))
    lines = [line.strip() for line in text.splitlines()]
    return Instructions([line for line in lines if line and not line.startswith("#")], seed, str(path))


def _yaml_list(path: Path, text: str) -> list[str]:
    try:
        value: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadInputError(f"{path}: not YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
        raise BadInputError(f"{path}: a YAML list of texts is needed, like `- Describe this image.`")
    return [item.strip() for item in value]


def _with_image(text: str, where: str) -> str:
    if text.count(IMAGE) > 1:
        raise BadInputError(f"{where}: {IMAGE} stands {text.count(IMAGE)} times in it; an example has one image")
    if has_marker(text.replace(IMAGE, "")):
        raise BadInputError(f"{where}: {text[:80]!r} holds a marker trainers act on besides one {IMAGE}; remove it")
    return text if IMAGE in text else f"{IMAGE}\n{text}"
