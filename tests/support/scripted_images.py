"""What a scripted world holds: drawn pictures that carry a number in their pixels, and what two models say of each."""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image, ImageDraw

from caprl_core.qa.reasons import QuestionReason

Behaviour = Literal["needs_image", "leaky", "too_hard", "letter_biased", "mumbles", "fails", "flaky"]
"""How the answerer takes a question: right with the image only; right with and without; wrong with and without; always
(A); replies in which no answer can be read; HTTP 500 always; HTTP 429 or 500 to each request's first arrival, else as
`needs_image`."""

Kind = Literal["block", "refusal", "refusal_once", "empty", "chatter", "server_error", "too_long", "broken"]
"""What the writer makes of an image: a block of questions; a refusal, always or at the first attempt; nothing; talk
without a question; HTTP 500 always; HTTP 400 always. `broken` is a file that is no picture: nobody is asked."""

Style = Literal["released", "lettered", "bracketed", "stacked", "fenced"]
"""How a block is spelled; see `scripted_blocks`."""

SIDE = 84
"""Pixels: a multiple of 28 in the default pixel budget, so nothing is resampled on the way to the model."""
CELL = 7
NUMBERS = 256


@dataclass(frozen=True, slots=True)
class ScriptedQuestion:
    """One question as the writer means it; `fault` is what the block makes of it, so that it must be refused.

    Stems are unique in a script: requests without an image are recognised by them.
    """

    stem: str
    options: tuple[str, ...]
    gold: int
    behaviour: Behaviour = "needs_image"
    fault: QuestionReason | None = None

    @property
    def gold_text(self) -> str:
        """The right option's text."""
        return self.options[self.gold]


@dataclass(frozen=True, slots=True)
class ScriptedImage:
    """One picture, the writer's reply to it and the answerer's ways with its questions. number: 0 to 255, unique."""

    number: int
    questions: tuple[ScriptedQuestion, ...] = ()
    kind: Kind = "block"
    style: Style = "released"

    @property
    def file_name(self) -> str:
        """PNG and JPEG in turn."""
        return f"picture-{self.number:03d}.{'jpg' if self.number % 2 else 'png'}"

    @property
    def usable(self) -> tuple[ScriptedQuestion, ...]:
        """The questions that nothing is wrong with."""
        return tuple(question for question in self.questions if question.fault is None)


def corpus_of_pictures(folder: Path, images: Iterable[ScriptedImage]) -> Path:
    """Draw every image into `folder`, a new one or an existing one."""
    folder.mkdir(parents=True, exist_ok=True)
    for image in images:
        content = b"this is no picture\n" if image.kind == "broken" else _file(image)
        (folder / image.file_name).write_bytes(content)
    return folder


def number_in(encoded: bytes) -> int | None:
    """The number that a picture's pixels carry, or None for pictures that are not ours or no longer readable."""
    try:
        with Image.open(io.BytesIO(encoded)) as opened:
            picture = opened.convert("RGB")
    except OSError:
        return None
    if picture.size != (SIDE, SIDE):
        return None
    cells = [picture.getpixel((cell * CELL + CELL // 2, CELL)) for cell in range(SIDE // CELL)]
    first, *bits, checks, again, last = cells
    if _colour(first) != "red" or _colour(last) != "blue":
        return None
    digits = [_colour(cell) for cell in bits]
    if set(digits) - {"white", "black"}:
        return None
    number = int("".join("1" if digit == "white" else "0" for digit in digits), 2)
    parity = ["white" if number % 3 == rest else "black" for rest in (1, 2)]
    return number if parity == [_colour(checks), _colour(again)] else None


def _file(image: ScriptedImage) -> bytes:
    """A strip of twelve cells (red, eight bits, the number modulo 3 twice, blue) above a few shapes."""
    if not 0 <= image.number < NUMBERS:
        raise ValueError(f"the strip holds numbers below {NUMBERS}, not {image.number}")
    picture = Image.new("RGB", (SIDE, SIDE), (120, 122, 118))
    draw = ImageDraw.Draw(picture)
    bits = ["white" if digit == "1" else "black" for digit in f"{image.number:08b}"]
    checks = ["white" if image.number % 3 == rest else "black" for rest in (1, 2)]
    for cell, colour in enumerate(["red", *bits, *checks, "blue"]):
        draw.rectangle((cell * CELL, 0, cell * CELL + CELL - 1, 2 * CELL - 1), fill=colour)
    for shape in range(3):
        left, top = 4 + shape * 27, 20 + (image.number * (shape + 3)) % 36
        fill = tuple((image.number * step + shape * 80) % 256 for step in (37, 91, 53))
        draw.ellipse((left, top, left + 20, top + 20), fill=fill, outline="black")
    out = io.BytesIO()
    if image.file_name.endswith(".png"):
        picture.save(out, "PNG")
    else:
        picture.save(out, "JPEG", quality=92, subsampling=0)
    return out.getvalue()


def _colour(pixel: object) -> str:
    """The nearest of the strip's colours."""
    assert isinstance(pixel, tuple)
    known = {"red": (255, 0, 0), "blue": (0, 0, 255), "white": (255, 255, 255), "black": (0, 0, 0)}
    return min(known, key=lambda name: sum((a - b) ** 2 for a, b in zip(known[name], pixel, strict=True)))
