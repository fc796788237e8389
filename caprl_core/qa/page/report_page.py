"""The report page of a curated question set: what was kept, what was refused and why, and examples to judge by eye."""

from collections.abc import Mapping, Sequence
from typing import Final

from caprl_core.qa.page.example_cards import card
from caprl_core.qa.page.examples import Example
from caprl_core.qa.page.report_sections import (
    accuracy_parts,
    funnel_parts,
    letters_parts,
    per_image_parts,
    reasons_parts,
    types_parts,
)
from caprl_core.qa.sets.stats import CurationStats
from caprl_core.recipe.qa import FilterRecipe
from caprl_core.report.charts import NOTHING, number, share
from caprl_core.report.markup import Html, clipped, escaped, joined
from caprl_core.report.page import Headline, Section, headline, page, pairs, paragraph

_ENTRIES: Final = 40
_VALUE: Final = 300  # characters of an entry of the provenance


def curation_page(
    stats: CurationStats,
    examples: Sequence[Example],
    provenance: Mapping[str, str],
    *,
    rules: FilterRecipe | None = None,
) -> bytes:
    """One HTML file, below 2 MB with twenty examples; the same bytes for the same arguments.

    `provenance` is shown as it is, name and value; its entry `set`, if any, names the page. With `rules`, the filter
    the stats come from, the page states the limits and outlines them in the grid of accuracies.
    """
    title = f"Curated questions: {clipped(provenance['set'], 100)}" if "set" in provenance else "Curated questions"
    return page(
        title,
        [_introduction(), *_unfinished(stats), _headline(stats)],
        [
            Section("funnel", "From written to kept", funnel_parts(stats)),
            Section("reasons", "Why questions were refused", reasons_parts(stats)),
            Section("accuracy", "Answered with and without the image", accuracy_parts(stats, rules)),
            Section("images", "Kept questions per image", per_image_parts(stats)),
            Section("letters", "Where the right answer stands", letters_parts(stats)),
            Section("types", "What the questions ask", types_parts(stats)),
            Section("examples", "Examples", _examples(examples)),
            Section("provenance", "How this set was made", [pairs(_shown(provenance))]),
        ],
    )


def _introduction() -> Html:
    return paragraph(
        "Each question was written by one model about one image and has one right option. A second, smaller model then"
        " answered it several times with its options in changing order: with the image, and without it. A question is"
        " kept if it is answered right with the image and not without."
    )


def _unfinished(stats: CurationStats) -> list[Html]:
    pending = max((stage.get("pending", 0) for stage in stats.stages.values()), default=0)
    if not stats.waiting and not pending:
        return []
    return [
        Html(
            f"<p><strong>Not finished:</strong> {escaped(number(stats.waiting))} questions still wait to be answered;"
            f" {escaped(number(pending))} samples are pending in the stage with the most.</p>"
        )
    ]


def _headline(stats: CurationStats) -> Html:
    steps = stats.funnel
    kept, written, images = steps["kept"], steps["written"], steps["images"]
    used = sum(stats.images_kept.values())
    chance = stats.blind_pass_chance
    return headline(
        [
            Headline("Images", number(images), f"{number(used)} of them have a kept question"),
            Headline("Questions written", number(written), "pieces of the writer's replies, readable or not"),
            Headline("Questions kept", number(kept), f"{_mean(kept, used)} for each image that has any"),
            Headline("Acceptance", share(kept, written), "questions kept, of those written"),
            Headline(
                "Blind guess passes",
                NOTHING if chance is None else share(chance, 1),
                "chance that picking letters at random, without the image, stays below the limit for one question",
            ),
        ]
    )


def _examples(examples: Sequence[Example]) -> list[Html]:
    if not examples:
        return [paragraph("There is no question with a verdict yet.")]
    kept = sum(one.verdict.kept for one in examples)
    note = (
        f"{kept} kept and {len(examples) - kept} refused questions, drawn by a hash of their ids and not by quality;"
        " refused ones show as many different reasons as there are. Pictures are reduced to 320 pixels."
    )
    cards = joined(card(place, one) for place, one in enumerate(examples, 1))
    return [paragraph(note), Html(f'<div class="cards">{cards}</div>')]


def _shown(provenance: Mapping[str, str]) -> dict[str, str]:
    return {clipped(name, 80): clipped(value, _VALUE) for name, value in list(provenance.items())[:_ENTRIES]}


def _mean(total: int, count: int) -> str:
    return f"{total / count:.2f}" if count else NOTHING
