"""Whether two models mean the same by a token: the donor's tokenizer is to speak to the other's embeddings."""

from typing import Any

from caprl_core.errors import BadInputError
from caprl_core.pretraining.sources import ModelSource


def check_tokens(vision: ModelSource, language: ModelSource) -> None:
    """Raise `BadInputError` where a token has another number in the other model, or a number another token.

    A token or number that only one of them has does no harm: Qwen2.5-VL's and Qwen2.5's are the same.
    """
    ours, theirs = _numbers(vision), _numbers(language)
    tokens = {number: token for token, number in theirs.items()}
    moved = [token for token, number in ours.items() if theirs.get(token, number) != number]
    replaced = [number for token, number in ours.items() if token not in theirs and number in tokens]
    if moved:
        first = f"{moved[0]!r} is {ours[moved[0]]} in {vision.shown} and {theirs[moved[0]]} in {language.shown}"
    elif replaced:
        old = next(token for token, number in ours.items() if number == replaced[0])
        first = f"{replaced[0]} is {old!r} in {vision.shown} and {tokens[replaced[0]]!r} in {language.shown}"
    else:
        return
    raise BadInputError(
        f"{len(moved) + len(replaced):,} tokens differ: {first}; take a language model with the donor's tokenizer"
    )


def _numbers(source: ModelSource) -> dict[str, int]:
    """Every token's number, from whichever files the model has."""
    found: dict[str, Any] = {}
    if "tokenizer.json" in source.names:
        whole = source.json("tokenizer.json")
        model, added = whole.get("model"), whole.get("added_tokens")
        if isinstance(model, dict) and isinstance(model.get("vocab"), dict):
            found |= model["vocab"]
        for one in added if isinstance(added, list) else ():
            if isinstance(one, dict) and isinstance(one.get("content"), str):
                found[one["content"]] = one.get("id")
    elif "vocab.json" in source.names:
        found |= source.json("vocab.json")
        if "added_tokens.json" in source.names:
            found |= source.json("added_tokens.json")
    numbers = {token: number for token, number in found.items() if isinstance(number, int)}
    if not numbers:
        raise BadInputError(f"{source.shown}: there is no tokenizer.json or vocab.json in it to compare tokens by")
    return numbers
