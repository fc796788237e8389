"""One record of an annotation file with another caption in it."""

from typing import Any

from caprl_core.data.sources.fields import CAPTION_FIELDS, first_present
from caprl_core.export.markers import IMAGE

_ASSISTANT = ("gpt", "assistant", "model", "chatgpt")
"""Who answers, in the spellings that the readers of sources know (`caprl_core.data.sources.turns`)."""


def with_caption(record: dict[str, Any], caption: str, field: str | None) -> dict[str, Any] | None:
    """The record with its last answer replaced, or its caption field where there is no conversation; else None.

    `caption` has its markers escaped; `field` is the caption's field in the recipe. The record itself is not changed.
    """
    for name in ("conversations", "conversation", "messages"):
        turns = record.get(name)
        if isinstance(turns, list) and field is None:
            changed = _answered(turns, caption)
            return None if changed is None else record | {name: changed}
    own = field or first_present(CAPTION_FIELDS, record)
    return None if own is None or own not in record else record | {own: caption}


def is_balanced(record: dict[str, Any]) -> bool:
    """True when as many `<image>` stand in its turns as it has images; records without turns are."""
    turns = next((record[n] for n in ("conversations", "conversation", "messages") if n in record), None)
    if not isinstance(turns, list):
        return True
    images = record.get("image", record.get("images"))
    count = len(images) if isinstance(images, list) else int(images is not None)
    texts = (turn.get("value", turn.get("content")) for turn in turns if isinstance(turn, dict))
    return sum(text.count(IMAGE) for text in texts if isinstance(text, str)) == count


def _answered(turns: list[Any], caption: str) -> list[Any] | None:
    for place in range(len(turns) - 1, -1, -1):
        turn = turns[place]
        if isinstance(turn, dict) and (turn.get("from") or turn.get("role")) in _ASSISTANT:
            name = "value" if "value" in turn else "content"
            parts = [{"type": "text", "text": caption}]
            changed = turn | {name: parts if isinstance(turn.get(name), list) else caption}
            return [*turns[:place], changed, *turns[place + 1 :]]
    return None
