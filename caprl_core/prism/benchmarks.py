"""Benchmarks are checked before anything is asked: a gold answer that nothing can be scored by is an error."""

from collections.abc import Iterator, Mapping

from caprl_core.data.files.reader import Files
from caprl_core.data.sources.benchmark_forms import LETTERS
from caprl_core.data.sources.benchmarks import Benchmark
from caprl_core.errors import BadInputError
from caprl_core.prism.question import BenchmarkQuestion
from caprl_core.prism.scorers.table import scorer
from caprl_core.prism.scorers.verdict import Scorer
from caprl_core.prism.stages import benchmark_source
from caprl_core.recipe.prism import BenchmarkRecipe, PrismRecipe

NAMED = 20
"""Bad rows named in the message; the count is whole."""


def is_open(question: BenchmarkQuestion) -> bool:
    """A question without options whose answers are no single letters."""
    letters = all(len(answer) == 1 and answer in LETTERS for answer in question.answers)
    return not question.options and not letters


def scorer_of(benchmark: BenchmarkRecipe, question: BenchmarkQuestion) -> Scorer:
    """Who scores a question of a benchmark."""
    if benchmark.open_scorer is not None and is_open(question):
        return scorer(benchmark.open_scorer)
    return scorer(benchmark.scorer)


def check_benchmarks(recipe: PrismRecipe) -> Mapping[str, int]:
    """Read every question of every benchmark and have its scorer check it; returns questions by benchmark.

    Raises `BadInputError` naming file and row of the questions that cannot be scored.
    """
    files = Files(recipe.execution.storage)
    counts: dict[str, int] = {}
    problems: list[str] = []
    for benchmark in recipe.benchmarks:
        counts[benchmark.name] = 0
        for problem in _checked(benchmark, Benchmark(files, benchmark_source(benchmark, recipe))):
            counts[benchmark.name] += 1
            if problem is not None:
                problems.append(problem)
    if problems:
        more = f"\n… and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
        raise BadInputError("\n".join(problems[:NAMED]) + more)
    return counts


def _checked(benchmark: BenchmarkRecipe, source: Benchmark) -> Iterator[str | None]:
    """For every question None, or what is wrong with it."""
    for where, own, asked in source.questions():
        question = BenchmarkQuestion.of({"id": own, **asked.question})
        chosen = scorer_of(benchmark, question)
        try:
            chosen.check(question)
        except ValueError as error:
            yield (
                f"{where}: benchmark {benchmark.name}, question {own}: the scorer {chosen.name!r} cannot use its gold "
                f"answer: {error}; repair the row, or name another scorer"
            )
        else:
            yield None
