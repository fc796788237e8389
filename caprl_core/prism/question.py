"""A question of a benchmark, of any form: what readers yield, the judge is asked and scorers score."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class BenchmarkQuestion:
    """One question about one image.

    id:      unique within its benchmark, stable.
    text:    what is asked, without image tokens and without `options`.
    options: texts of the options in their stored order, without letters; empty for open questions, and for those whose
             options stand in `text`.
    answers: right answers, at least one; any of them is right. A letter (`C`) where the question is one of options.
    system:  system text that the benchmark asks with, or None.
    """

    id: str
    text: str
    options: tuple[str, ...]
    answers: tuple[str, ...]
    system: str | None = None

    def as_json(self) -> dict[str, Any]:
        """As stored in rows."""
        return {
            "id": self.id,
            "text": self.text,
            "options": list(self.options),
            "answers": list(self.answers),
            "system": self.system,
        }

    @staticmethod
    def of(fields: Mapping[str, Any]) -> "BenchmarkQuestion":
        """From stored fields. Raises `KeyError` or `TypeError` for fields that we did not write."""
        return BenchmarkQuestion(
            fields["id"], fields["text"], tuple(fields["options"]), tuple(fields["answers"]), fields["system"]
        )
