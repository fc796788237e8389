"""What must come out of a scripted world: counted from the script, without a line of the code under test."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from caprl_core.data.reasons import Reason
from caprl_core.qa.reasons import QuestionReason
from support.scripted_images import Behaviour, Kind, ScriptedImage, ScriptedQuestion

REJECTED: dict[Kind, Reason] = {
    "refusal": Reason.REFUSED,
    "empty": Reason.EMPTY,
    "server_error": Reason.REQUEST_FAILED,
    "too_long": Reason.REQUEST_REFUSED,
    "broken": Reason.IMAGE_CORRUPT,
}
"""Images without a block, and why; the writer is given two attempts at least."""


@dataclass(frozen=True)
class Funnel:
    """Exact counts.

    images:            in the folder.
    blocks:            images whose writer's reply is a row.
    rejected:          images that never became one.
    questions:         taken over from the blocks.
    refused:           pieces of blocks that were not.
    without_questions: blocks of which nothing was taken over: `Reason.NO_QUESTION` when it comes to answering.
    verdicts:          stem (in one line) -> why the question was not kept, or None for a kept one.
    accuracies:        stem -> accuracy with the image, and without it; None for unanswered ones.
    """

    images: int
    blocks: int
    rejected: Counter[Reason]
    questions: int
    refused: Counter[QuestionReason]
    without_questions: int
    verdicts: dict[str, QuestionReason | None]
    accuracies: dict[str, tuple[float, float] | None]

    def of(self, verdict: QuestionReason | None) -> int:
        """How many questions met this end."""
        return sum(end is verdict for end in self.verdicts.values())

    @property
    def kept(self) -> int:
        """Questions that need their image."""
        return self.of(None)

    @property
    def visual_too_low(self) -> int:
        """Questions not answered rightly with the image."""
        return self.of(QuestionReason.VISUAL_TOO_LOW)

    @property
    def text_too_high(self) -> int:
        """Questions answered without it."""
        return self.of(QuestionReason.TEXT_TOO_HIGH)

    @property
    def unanswered(self) -> int:
        """Questions whose requests failed."""
        return self.of(QuestionReason.UNANSWERED)


def expected_funnel(
    images: Sequence[ScriptedImage],
    rotations: int = 4,
    visual_above: float = 0.75,
    text_below: float = 0.25,
    *,
    visual_inclusive: bool = False,
    text_inclusive: bool = False,
    max_questions: int = 20,
) -> Funnel:
    """Counts for these settings; accuracy with the image is judged first.

    `ValueError` for a biased question whose options do not each stand first equally often in so many rotations: what
    it scores would depend on the shuffling.
    """
    refused: Counter[QuestionReason] = Counter()
    verdicts: dict[str, QuestionReason | None] = {}
    accuracies: dict[str, tuple[float, float] | None] = {}
    blocks = [image for image in images if image.kind not in REJECTED]
    empty = 0
    for image in blocks:
        refused.update(question.fault for question in image.questions if question.fault is not None)
        if image.kind == "chatter":
            refused[QuestionReason.UNREADABLE] += 1
        taken = image.usable[:max_questions] if image.kind != "chatter" else ()
        if over := max(0, len(image.usable) - max_questions):
            refused[QuestionReason.OVER_LIMIT] += over
        empty += not taken
        for question in taken:
            scored = accuracies[question.stem] = _accuracies(question, rotations)
            if scored is None:
                verdicts[question.stem] = QuestionReason.UNANSWERED
            elif not (scored[0] > visual_above or (visual_inclusive and scored[0] == visual_above)):
                verdicts[question.stem] = QuestionReason.VISUAL_TOO_LOW
            elif not (scored[1] < text_below or (text_inclusive and scored[1] == text_below)):
                verdicts[question.stem] = QuestionReason.TEXT_TOO_HIGH
            else:
                verdicts[question.stem] = None
    return Funnel(
        images=len(images),
        blocks=len(blocks),
        rejected=Counter(REJECTED[image.kind] for image in images if image.kind in REJECTED),
        questions=len(verdicts),
        refused=refused,
        without_questions=empty,
        verdicts=verdicts,
        accuracies=accuracies,
    )


_RIGHT: dict[Behaviour, tuple[float, float]] = {
    "needs_image": (1.0, 0.0),
    "flaky": (1.0, 0.0),
    "leaky": (1.0, 1.0),
    "too_hard": (0.0, 0.0),
    "mumbles": (0.0, 0.0),
}


def _accuracies(question: ScriptedQuestion, rotations: int) -> tuple[float, float] | None:
    if question.behaviour == "fails":
        return None
    if question.behaviour != "letter_biased":
        return _RIGHT[question.behaviour]
    if rotations % len(question.options):
        raise ValueError(f"{len(question.options)} options in {rotations} rotations: what (A) scores is not known")
    return (1 / len(question.options),) * 2
