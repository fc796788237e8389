"""From outcomes and text to numbers: accuracy, credit, the optional terms, and their sum."""

import re
from collections.abc import Mapping, Sequence

from caprl_core.captioning.checks import leaks_prompt, visible_characters
from caprl_core.recipe.reward import LengthRecipe, TermsRecipe
from caprl_core.reward.reading import Outcome

_THINKS = re.compile(r"</?think(?:ing)?>", re.IGNORECASE)
_PRAISE = re.compile(
    r"\b(?:this|the|my)\s(?:above\s)?(?:caption|description|answer|response)(?:\sabove)?\s"
    r"(?:is|provides|offers|gives|captures|covers|accurately|faithfully|fully|thoroughly)\b"
    r"[^.!?]{0,60}\b(?:accurate|comprehensive|complete|detailed|thorough|faithful|precise|excellent|perfect|highest|"
    r"high-quality|every\sdetail|all\sdetails|without\serrors?)",
    re.IGNORECASE,
)
"""A caption that praises itself. Rewards by a judge teach this (fact sheet 6: verbose, self-praise)."""


def accuracy(outcomes: Sequence[Outcome]) -> float | None:
    """Right draws / answered draws: equation 3 of the paper, failed requests left out. None if none was answered."""
    return credit(outcomes, wrong=0.0, abstained=0.0)


def credit(outcomes: Sequence[Outcome], *, wrong: float, abstained: float) -> float | None:
    """Mean over the answered draws of 1 (right), `abstained`, or `wrong` (unread too); None if none was answered."""
    worth: Mapping[Outcome, float] = {"right": 1.0, "wrong": wrong, "unread": wrong, "abstained": abstained}
    answered = [worth[outcome] for outcome in outcomes if outcome != "failed"]
    return sum(answered) / len(answered) if answered else None


def length_term(caption: str, tokens: int, recipe: LengthRecipe) -> float:
    """0 to 1: 1 up to `full` tokens, linear to 0 at `none`; 0 for a caption without a visible character."""
    if tokens <= 0 or visible_characters(caption) == 0:
        return 0.0
    return min(1.0, max(0.0, (recipe.none - tokens) / (recipe.none - recipe.full)))


def format_term(caption: str) -> float:
    """1 for a caption that is nothing but a caption; 0 if it is empty, holds chat tokens or praises itself."""
    soiled = leaks_prompt(caption, "") or _THINKS.search(caption) or _PRAISE.search(caption)
    return 0.0 if soiled or visible_characters(caption) == 0 else 1.0


def term_values(caption: str, tokens: int | None, recipe: TermsRecipe) -> dict[str, float]:
    """The terms that are on, each 0 to 1, by name; no length where the token count is not known (None)."""
    values = {}
    if recipe.length is not None and tokens is not None:
        values["length"] = length_term(caption, tokens, recipe.length)
    if recipe.format:
        values["format"] = format_term(caption)
    return values


def weighted_sum(mean_credit: float, values: Mapping[str, float], recipe: TermsRecipe) -> float:
    """scale x credit + the weighted terms, all of which must have a value."""
    length = 0.0 if recipe.length is None else recipe.length.weight * values["length"]
    return recipe.scale * mean_credit + length + recipe.format * values.get("format", 0.0)
