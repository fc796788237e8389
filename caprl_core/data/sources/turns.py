"""Conversations in the two spellings in use: `from`/`value` (ShareGPT, LLaVA) and `role`/`content` (OpenAI)."""

from typing import Any

_ASSISTANT = {"gpt", "assistant", "model", "chatgpt"}


def last_answer(row: dict[str, Any]) -> str | None:
    """The text of the last turn the assistant speaks, or None."""
    turns = row.get("conversations") or row.get("conversation") or row.get("messages")
    if not isinstance(turns, list):
        return None
    for turn in reversed(turns):
        if isinstance(turn, dict) and (turn.get("from") or turn.get("role")) in _ASSISTANT:
            return _text(turn.get("value") or turn.get("content"))
    return None


def _text(content: Any) -> str | None:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(part for part in parts if isinstance(part, str)) or None
    return None
