"""The examples with buttons that narrow them down by benchmark and outcome. No script: the page runs nothing."""

from collections.abc import Sequence
from typing import Final

from caprl_core.prism.page.choosing import OUTCOMES
from caprl_core.prism.page.example_cards import OUTCOME_WORDS, card
from caprl_core.prism.page.examples import Example
from caprl_core.report.markup import Html, escaped, joined
from caprl_core.report.page import paragraph

STYLE: Final = """
.filter { border: 0; padding: 0; margin: .75rem 0; display: flex; flex-wrap: wrap; gap: .4rem; align-items: center; }
.filter legend { float: left; color: var(--quiet); font-size: .9rem; padding: 0 .4rem 0 0; }
.filter input { position: absolute; opacity: 0; }
.filter label { border: 1px solid var(--line); border-radius: 1rem; padding: .15rem .8rem; cursor: pointer;
  font-size: .93rem; background: var(--panel); }
.filter input:checked + label { background: var(--link); border-color: var(--link); color: var(--ground);
  font-weight: 700; }
.filter input:focus-visible + label { outline: 3px solid var(--series-1); outline-offset: 2px; }
.browser .none { display: none; }
.options { list-style: none; padding: 0; margin: .5rem 0; font-size: .95rem; }
.options li { padding: .1rem 0; overflow-wrap: anywhere; } .options .right { font-weight: 700; }
.said { display: grid; grid-template-columns: auto minmax(0, 1fr); gap: .1rem .9rem; margin: .6rem 0;
  font-size: .95rem; }
.said dt { color: var(--quiet); } .said dd { margin: 0; font-weight: 700; overflow-wrap: anywhere; }
.told { color: var(--quiet); font-size: .9rem; margin: .9rem 0 .2rem; }
.long { background: var(--panel); border-radius: .35rem; padding: .5rem .7rem; font-size: .93rem; line-height: 1.45; }
.long[tabindex] { max-height: 13rem; overflow-y: auto; }
@media print { .filter { display: none; } .long[tabindex] { max-height: none; } }
"""


def browser_parts(examples: Sequence[Example]) -> list[Html]:
    """Two rows of radio buttons and the cards; a browser that knows no `:has()` shows all cards."""
    if not examples:
        return [paragraph("There is no answer with points yet.")]
    names = list(dict.fromkeys(one.answer.benchmark for one in examples))
    outcomes = [outcome for outcome in OUTCOMES if any(one.answer.outcome == outcome for one in examples)]
    classes = [(names.index(one.answer.benchmark), outcomes.index(one.answer.outcome)) for one in examples]
    benchmarks = [(name, sum(first == place for first, _ in classes)) for place, name in enumerate(names)]
    kinds = [(OUTCOME_WORDS[name], sum(last == place for _, last in classes)) for place, name in enumerate(outcomes)]
    cards = [
        card(number, one, f"b{first} o{last}")
        for number, (one, (first, last)) in enumerate(zip(examples, classes, strict=True), 1)
    ]
    note = (
        f"{len(examples)} answers, drawn by a seed and not by quality, spread over benchmarks and outcomes: their"
        " shares here are not those of the run. Requests that failed are not among them. Pictures are reduced to 320"
        " pixels."
    )
    return [
        paragraph(note),
        Html(
            f'<div class="browser">{_filter("Benchmark", "b", benchmarks)}{_filter("Outcome", "o", kinds)}'
            f'<p class="none">None of the examples is both.</p><div class="cards">{joined(cards)}</div></div>'
        ),
    ]


def browser_style(examples: Sequence[Example]) -> str:
    """The style sheet of `browser_parts`, with a rule for every button. Names are numbers here: nothing to escape."""
    names = list(dict.fromkeys(one.answer.benchmark for one in examples))
    outcomes = [outcome for outcome in OUTCOMES if any(one.answer.outcome == outcome for one in examples)]
    buttons = [*(f"b{place}" for place in range(len(names))), *(f"o{place}" for place in range(len(outcomes)))]
    rules = [f".browser:has(#{name}:checked) .card:not(.{name}) {{ display: none; }}" for name in buttons]
    shown = {(one.answer.benchmark, one.answer.outcome) for one in examples}
    rules += [
        f".browser:has(#b{first}:checked):has(#o{last}:checked) .none {{ display: block; }}"
        for first, name in enumerate(names)
        for last, outcome in enumerate(outcomes)
        if (name, outcome) not in shown
    ]
    return STYLE + "\n".join(rules) + "\n"


def _filter(legend: str, group: str, entries: Sequence[tuple[str, int]]) -> Html:
    all_of = sum(count for _, count in entries)
    buttons = [_button(group, f"{group}-all", f"All {all_of}", checked=True)]
    buttons += [_button(group, f"{group}{place}", f"{name} {count}") for place, (name, count) in enumerate(entries)]
    return Html(f'<fieldset class="filter"><legend>{escaped(legend)}</legend>{joined(buttons)}</fieldset>')


def _button(group: str, name: str, label: str, *, checked: bool = False) -> Html:
    state = " checked" if checked else ""
    return Html(f'<input type="radio" name="{group}" id="{name}"{state}><label for="{name}">{escaped(label)}</label>')
