"""Everything the doctor looks at, in order."""

from collections.abc import Iterator

from caprl_core.doctor.bucket import examine_output
from caprl_core.doctor.finding import Finding
from caprl_core.doctor.inputs import examine_dataset, examine_engine, examine_sources
from caprl_core.doctor.machine import examine_machine
from caprl_core.recipe.models import CaptionRecipe


def examine(recipe: CaptionRecipe | None) -> Iterator[Finding]:
    """Findings as they are made; the slowest is the import of vLLM, about ten seconds."""
    yield from examine_machine(recipe)
    if recipe is None:
        return
    yield from examine_engine(recipe)
    yield from examine_sources(recipe)
    answers = True
    for finding in examine_output(recipe):
        answers = answers and (finding.name, finding.state) != ("output", "missing")
        yield finding
    if answers:
        yield from examine_dataset(recipe)
