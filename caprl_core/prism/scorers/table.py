"""Scorers by the names that recipes use."""

from collections.abc import Mapping
from types import MappingProxyType

from caprl_core.prism.scorers.anls import Anls
from caprl_core.prism.scorers.choice import Choice, ChoiceOrAbstain
from caprl_core.prism.scorers.match import Exact, Match
from caprl_core.prism.scorers.math import Math
from caprl_core.prism.scorers.relaxed import Relaxed
from caprl_core.prism.scorers.verdict import Scorer
from caprl_core.recipe.prism import ScorerName

SCORERS: Mapping[ScorerName, Scorer] = MappingProxyType(
    {
        "choice": Choice(),
        "choice_or_abstain": ChoiceOrAbstain(),
        "relaxed": Relaxed(),
        "anls": Anls(),
        "math": Math(),
        "match": Match(),
        "exact": Exact(),
    }
)
"""Every scorer a recipe can name."""


def scorer(name: ScorerName) -> Scorer:
    """The scorer of that name; they have no state."""
    return SCORERS[name]
