"""Bootstrap intervals over images: an image is drawn again with all its questions and captions.

Answers about one image, and about one caption, are alike, so that drawing answers or questions one by one would give
intervals that are too narrow (Cameron, Gelbach and Miller 2008, "Bootstrap-based improvements for inference with
clustered errors"; Davison and Hinkley 1997, "Bootstrap Methods and their Application", section 3.8).

Two methods, chosen by how often they hold the truth; at 95 %, with 60 to 300 images, `bench/paired.py` gives

                                              plain percentile    ours is off 95 by
  a score of 0.5                              94.4 to 95.2        0.6 at most
  a score of 0.1                              92.8 to 93.7        0.6
  a score of 0.95, an image's answers alike   90.2 to 94.2        0.8
  a score of 0.9, one yes or no an image      93.5 to 95.8        1.2
  a paired difference                         93.6 to 94.7        0.8
  a paired difference, most questions tied    93.1 to 95.3        1.2

Scores get the studentised interval on the arcsine scale, where the spread of a share does not depend on the share (it
never leaves 0 to 1); differences get the expanded percentile interval (Hesterberg 2015, "What Teachers Should Know
About the Bootstrap", section 5.3). Neither does for both: expanded percentiles of scores of 0.95 held 91.7 %, where
studentised intervals on the arcsine scale held 94.3 %, and studentised intervals of differences in 2 % of the questions
held 84.6 %, where expanded percentiles held 92.7 % (60 images, 4,000 simulations). Where all images agree there is
nothing to draw from: then the bound is that of Clopper and Pearson for an event that no image showed.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from caprl_core.recipe.prism import IntervalsRecipe

Floats = npt.NDArray[np.float64]

CELLS: Final = 2**22
"""Draws x images worked on at once: 34 MB of counts."""
_NO_SPREAD: Final = 1e-12
"""Variances below it are rounding: one answer of 100,000 images makes a variance of 1e-10."""


class Interval(NamedTuple):
    """low and high are None for fewer than two images."""

    value: float
    low: float | None
    high: float | None


class PerImage(NamedTuple):
    """Sums over the questions of each image. sums: [images, statistics]; sizes: [images], questions."""

    sums: Floats
    sizes: Floats


@dataclass(frozen=True, slots=True)
class Resampled:
    """Statistics of a benchmark, or of several averaged, and of its draws.

    values, variances: [statistics]; draws, draw_variances: [draws, statistics]; freedom: [statistics], degrees of it;
    images: of each benchmark in it.
    """

    values: Floats
    variances: Floats
    draws: Floats
    draw_variances: Floats
    freedom: Floats
    images: tuple[int, ...]

    def only(self, statistics: Sequence[int]) -> "Resampled":
        """Some of the statistics, by place."""
        chosen = list(statistics)
        return Resampled(
            self.values[chosen],
            self.variances[chosen],
            self.draws[:, chosen],
            self.draw_variances[:, chosen],
            self.freedom[chosen],
            self.images,
        )


def per_image(images: npt.NDArray[Any], values: Floats) -> PerImage:
    """Sum `values` ([questions, statistics]) by image; `images` are any integers that tell them apart."""
    _, codes = np.unique(images, return_inverse=True)
    count = int(codes.max()) + 1 if len(codes) else 0
    sums = [np.bincount(codes, weights=column, minlength=count) for column in values.T]
    return PerImage(np.stack(sums, axis=1), np.bincount(codes, minlength=count).astype(np.float64))


def resample(cells: PerImage, rules: IntervalsRecipe, stream: str) -> Resampled:
    """Means over questions, of the images (1 or more) and of `rules.draws` draws of as many images.

    `stream` names the random numbers beside the seed: a benchmark's draws do not depend on which others there are.
    """
    images, statistics = cells.sums.shape
    values, variances = _means(cells.sums.sum(0), cells.sizes.sum(), *_squares(cells), images)
    draws = np.empty((rules.draws, statistics))
    draw_variances = np.empty_like(draws)
    rng = np.random.default_rng([rules.seed, zlib.crc32(stream.encode("utf-8", "surrogatepass"))])
    products = np.concatenate(
        [cells.sums, cells.sizes[:, None], cells.sums**2, cells.sums * cells.sizes[:, None], cells.sizes[:, None] ** 2],
        axis=1,
    )
    step = max(1, CELLS // images)
    for start in range(0, rules.draws, step):
        count = min(step, rules.draws - start)
        drawn = rng.integers(0, images, size=(count, images)) + images * np.arange(count)[:, None]
        times = np.bincount(drawn.ravel(), minlength=count * images).reshape(count, images).astype(np.float64)
        sums, sizes, squares, crossed, whole = np.split(
            times @ products, np.cumsum([statistics, 1, statistics, statistics]), axis=1
        )
        place = slice(start, start + count)
        draws[place], draw_variances[place] = _means(sums, sizes, squares, crossed, whole, images)
    return Resampled(values, variances, draws, draw_variances, np.full(statistics, images - 1.0), (images,))


class Average:
    """The plain mean over benchmarks, whose images are drawn independently. Parts need the same statistics and draws;
    of each only the sum is kept."""

    def __init__(self) -> None:
        self._sum: Resampled | None = None
        self._variances: list[Floats] = []
        self._freedom: list[Floats] = []

    def add(self, part: Resampled) -> None:
        """Another benchmark."""
        self._variances.append(part.variances)
        self._freedom.append(np.maximum(part.freedom, 1.0))
        if self._sum is None:
            self._sum = part
            return
        before = self._sum
        self._sum = Resampled(
            before.values + part.values,
            before.variances + part.variances,
            before.draws + part.draws,
            before.draw_variances + part.draw_variances,
            before.freedom,
            before.images + part.images,
        )

    def result(self) -> Resampled | None:
        """The mean, with degrees of freedom after Welch (1947); None where nothing was added."""
        if self._sum is None:
            return None
        count = len(self._variances)
        spread, freedom = np.stack(self._variances), np.stack(self._freedom)
        least = freedom.min(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            joint = spread.sum(axis=0) ** 2 / (spread**2 / freedom).sum(axis=0)
        return Resampled(
            self._sum.values / count,
            self._sum.variances / count**2,
            self._sum.draws / count,
            self._sum.draw_variances / count**2,
            np.where(np.isfinite(joint), np.maximum(joint, least), least),
            self._sum.images,
        )


def score_intervals(found: Resampled, level: float) -> list[Interval]:
    """Of statistics between 0 and 1: studentised on the arcsine scale, where each has a variance of 1 / (4 n), n being
    the number of independent yes-or-no answers that would spread as much."""
    tail = (1 - level) / 2
    intervals = []
    for place, value in enumerate(found.values.tolist()):
        variance = float(found.variances[place])
        if min(found.images) < 2:
            intervals.append(Interval(value, None, None))
        elif variance < _NO_SPREAD:
            intervals.append(_agreed(value, found.images, tail, lowest=0.0))
        else:
            answers = value * (1 - value) / variance
            draws, spread = found.draws[:, place].clip(0, 1), found.draw_variances[:, place]
            # A draw without spread tells nothing of its own: it gets that of the images.
            own = np.where(spread < _NO_SPREAD, answers, draws * (1 - draws) / np.maximum(spread, _NO_SPREAD))
            centre = _angle(np.float64(value))
            low, high = np.quantile((_angle(draws) - centre) * 2 * np.sqrt(own), [tail, 1 - tail])
            ends = centre - np.asarray([high, low]) / (2 * np.sqrt(answers))
            bounds = np.sin(ends.clip(0, np.pi / 2)) ** 2
            intervals.append(Interval(value, float(bounds[0]), float(bounds[1])))
    return intervals


def difference_intervals(found: Resampled, level: float) -> list[Interval]:
    """Of statistics between -1 and 1: percentiles of the draws, as far out as Student's t is wider than the normal
    distribution, and further by what draws with replacement lack of spread."""
    tail = (1 - level) / 2
    intervals = []
    for place, value in enumerate(found.values.tolist()):
        if min(found.images) < 2:
            intervals.append(Interval(value, None, None))
        elif found.variances[place] < _NO_SPREAD:
            intervals.append(_agreed(value, found.images, tail, lowest=-1.0))
        else:
            freedom = float(found.freedom[place])
            wider = NormalDist().cdf(np.sqrt((freedom + 1) / freedom) * student_quantile(tail, freedom))
            low, high = np.quantile(found.draws[:, place], [wider, 1 - wider])
            intervals.append(Interval(value, float(low), float(high)))
    return intervals


def student_quantile(probability: float, freedom: float) -> float:
    """Of Student's t distribution, by Abramowitz and Stegun 26.7.5: right to 0.01 from 5 degrees of freedom on."""
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, start=1))


def _squares(cells: PerImage) -> tuple[Floats, Floats, Floats]:
    sizes = cells.sizes[:, None]
    return (cells.sums**2).sum(0), (cells.sums * sizes).sum(0), (sizes**2).sum(0)


def _means(  # noqa: PLR0917 - the sums a ratio and its variance are made of
    sums: Floats, sizes: Any, squares: Floats, crossed: Floats, whole: Floats, images: int
) -> tuple[Floats, Floats]:
    """Sums over questions by numbers of questions, and the variances of these ratios by linearisation."""
    means = sums / sizes
    residual = np.maximum(0.0, squares - 2 * means * crossed + means**2 * whole)
    return means, residual * (images / max(1, images - 1)) / sizes**2


def _agreed(value: float, images: Sequence[int], tail: float, lowest: float) -> Interval:
    """All images have the same value: so large a share of others would have been missed with a chance of `tail`."""
    missed = sum(1 - tail ** (1 / count) for count in images) / len(images)
    return Interval(value, value - missed * (value - lowest), value + missed * (1.0 - value))


def _angle(share: Any) -> Any:
    return np.arcsin(np.sqrt(share))
