"""How the scripted answerer reads the options put before it, chooses one and words its reply."""

import math
import random
import re
from dataclasses import dataclass
from typing import Any

from support.scripted_images import ScriptedQuestion

_OPTION = re.compile(r"^[ \t]*(?:[-*][ \t]*)?\(?([A-I])[).:][ \t]+(\S.*?)[ \t]*$", re.MULTILINE)
_TOKEN = re.compile(r"\s*(?:\w+|[^\w\s])")
CHOSEN_P = 0.9
"""Probability of the answer's letter when log-probabilities are asked for; the other letters share the rest."""


@dataclass(frozen=True, slots=True)
class Presented:
    """A question as one request shows it: letter -> text, and the stored order as `Vote.order` spells it."""

    options: dict[str, str]
    order: str
    gold: str | None

    @classmethod
    def read(cls, text: str, question: ScriptedQuestion) -> "Presented":
        """From the request's text; `gold` is None if the right option is not among those shown."""
        options = {letter: _plain(option) for letter, option in _OPTION.findall(text)}
        stored = [_plain(option) for option in question.options]
        order = "".join("ABCDEFGHI"[stored.index(text)] if text in stored else "-" for text in options.values())
        right = _plain(question.gold_text)
        return cls(options, order, next((letter for letter, text in options.items() if text == right), None))


def letter_for(question: ScriptedQuestion, shown: Presented, with_image: bool, draw: random.Random) -> str | None:
    """What the answerer chooses; None is a reply in which no answer can be read."""
    wrong = [letter for letter in shown.options if letter != shown.gold]
    match question.behaviour:
        case "mumbles":
            return None
        case "letter_biased":
            return "A"
        case "leaky":
            return shown.gold
        case "too_hard":
            return draw.choice(wrong)
        case _:
            return shown.gold if with_image else draw.choice(wrong)


def worded(letter: str | None, shown: Presented, max_tokens: int, draw: random.Random) -> str:
    """A reply of at most `max_tokens` tokens that a fair reader takes for that letter, or for none."""
    if letter is None:
        return _cut(draw.choice(("Well, it is hard to tell from here", "...", "Hmm")), max_tokens)
    text = shown.options[letter]
    forms = [
        letter,
        f"({letter.lower()})",
        f"{letter})",
        f"**{letter}**",
        f"The answer is {letter}.",
        f"Answer: {letter}",
        f"{letter}) {text}",
        text,
    ]
    fitting = [form for form in forms if len(tokens(form)) <= max_tokens]
    return draw.choice(fitting)


def tokens(text: str) -> list[str]:
    """What counts as a token here: a word or a sign, with the space before it."""
    return _TOKEN.findall(text)


def logprobs(reply: str, letter: str | None, shown: Presented, top: int) -> dict[str, Any]:
    """The `logprobs` of a choice, as OpenAI's interface has them; `top` alternatives for each token, at most 20."""
    content = []
    for place, token in enumerate(tokens(reply)):
        likely = {token: math.log(0.99)}
        if place == 0 and letter is not None and token == letter:
            others = [other for other in shown.options if other != letter]
            likely = {letter: math.log(CHOSEN_P)}
            likely |= {other: math.log((1 - CHOSEN_P) / len(others)) for other in others}
        ranked = sorted(likely.items(), key=lambda item: -item[1])
        entries = [{"token": name, "logprob": value, "bytes": list(name.encode())} for name, value in ranked]
        chosen = next(entry for entry in entries if entry["token"] == token)
        content.append({**chosen, "top_logprobs": entries[:top]})
    return {"content": content}


def _cut(text: str, max_tokens: int) -> str:
    return "".join(tokens(text)[:max_tokens])


def _plain(text: str) -> str:
    return " ".join(text.split())
