"""Prompts and replies as tokens, piece by piece: what the chat template makes of them when they are joined."""

import random

from tokenizers import Tokenizer

from caprl_core.qa.present import presented
from caprl_core.qa.question import LETTERS, Question
from caprl_core.qa.rotation import EXTRA, Order
from caprl_core.world.questions import CANNOT, POOLS, SceneQuestion
from caprl_core.world.training.rows import Segment, given, learnt
from caprl_core.world.vocabulary import END, PADDING, VISION_END, VISION_START

EXTRA_SHARE = 0.85
"""Share of taught questions that offer to abstain: the reward's do, a curation's need not."""
VALUE_WEIGHT = 2.0
"""Finding the value is rarer in a row, and harder, than copying subject and letter."""

COUNTS_UNSEEN = ("one", "six")
"""Numbers that are never an option."""


class Words:
    """Turns texts into tokens, keeping what it has seen."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._seen: dict[str, list[int]] = {}
        self.end = self.of(END)
        self.padding = self.of(PADDING)[0]
        self.user = self.of("<|im_start|>user\n")
        self.reply = self.of(f"{END}\n<|im_start|>assistant\n")
        self.vision_start, self.vision_end = self.of(VISION_START), self.of(VISION_END)

    def of(self, text: str) -> list[int]:
        """The tokens of a text."""
        if text not in self._seen:
            self._seen[text] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return self._seen[text]

    def text(self, tokens: list[int]) -> str:
        """The text of tokens, without control tokens."""
        return self._tokenizer.decode(tokens, skip_special_tokens=True)

    def written(self, text: str) -> list[int]:
        """A whole reply, too rare to keep: its tokens and the end."""
        return [*self._tokenizer.encode(text, add_special_tokens=False).ids, *self.end]

    def caption_context(self, caption: str) -> list[int]:
        """The reader's prompt up to the question; captions are too many to keep."""
        return self.user + self._tokenizer.encode(f"Caption: {caption}\n", add_special_tokens=False).ids

    def open_question(self, asked: SceneQuestion, value: str | None) -> Segment:
        """A question without options, answered by subject and value, or by subject and abstention."""
        reply = [*learnt(self.of(f" {value or CANNOT}"), VALUE_WEIGHT), *learnt(self.end)]
        return Segment([*self._asked(asked.question.stem), *learnt(self.of(f" {asked.subject}"))], [reply])

    def question(self, asked: SceneQuestion, value: str | None, rng: random.Random) -> Segment:
        """A question with its options, answered by subject, value and letter; `value` None is to abstain.

        A value that is no option is said all the same, and followed by the letter of the abstention, or by none.

        A branch for each other option teaches the letter that would follow it, and nothing else: without these
        counterfactual branches models of this size never bound letters to options (design section 8).
        """
        extra = rng.random() < EXTRA_SHARE
        order: Order = (*range(len(asked.question.options)), *([EXTRA] if extra else []))
        shown = presented(asked.question, order, CANNOT)
        target = CANNOT if value is None else value
        branches = []
        for letter, option in zip(LETTERS, shown.options, strict=False):
            said, bound = self.of(f" {option}"), self.of(f"\n{letter})")
            if option == target:
                branches.append([*learnt(said, VALUE_WEIGHT), *learnt(bound), *learnt(self.end)])
            else:
                branches.append([*given(said), *learnt(bound)])
        strangers = [text for text in POOLS[asked.kind] if text not in shown.options]
        stranger = rng.choice(strangers or COUNTS_UNSEEN)
        last = self.of(f"\n{LETTERS[len(asked.question.options)]})") if extra else self.end
        if target not in shown.options:
            branches.append(
                [*learnt(self.of(f" {target}"), VALUE_WEIGHT), *learnt(last), *learnt(self.end if extra else [])]
            )
        else:
            branches.append([*given(self.of(f" {stranger}")), *learnt(last)])
        return Segment([*self._asked(shown.text), *learnt(self.of(f" {asked.subject}"))], branches)

    def _asked(self, text: str) -> list[tuple[int, float]]:
        head, *options = text.split("\n")
        tokens = self.of(head) + [token for line in options for token in self.of(f"\n{line}")]
        return given(tokens + self.reply)


def extra_presented(question: Question) -> str:
    """A question as the reward shows it: the options in stored order, then the abstention."""
    return presented(question, (*range(len(question.options)), EXTRA), CANNOT).text
