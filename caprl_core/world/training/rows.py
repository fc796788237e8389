"""Many replies on one context in one row: a tree of tokens, each branch seeing only what leads to it.

A context (a caption or a picture) is read once for all questions on it, and a question once for all replies to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

Weighted = Sequence[tuple[int, float]]
"""Tokens with the weight of their loss; 0 is given, not learnt."""


@dataclass(frozen=True, slots=True)
class Segment:
    """What follows a context: shared tokens, then branches that do not see each other."""

    shared: Weighted
    branches: Sequence[Weighted] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A context and what may follow it. `positions` are the context's (time, height, width), None for plain text."""

    context: Sequence[int]
    segments: Sequence[Segment]
    positions: Sequence[tuple[int, int, int]] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """Rows as tensors.

    tokens:    int (rows, length)
    positions: int (3, rows, length), for mrope; rope takes the first
    mask:      bool (rows, 1, length, length), true where a token may look
    sources:   int (learnt, 2), row and place of the token that predicts each learnt one
    targets:   int (learnt,)
    weights:   float (learnt,)
    """

    tokens: Any
    positions: Any
    mask: Any
    sources: Any
    targets: Any
    weights: Any


def pack(rows: Sequence[Row], padding: int) -> Packed:
    """Lay the rows out side by side, padded to one length."""
    laid = [_Laid(row) for row in rows]
    length = max(len(one.tokens) for one in laid)

    def filled(values: Sequence[Sequence[int]], filler: int) -> Any:
        return torch.tensor([[*line, *[filler] * (length - len(line))] for line in values])

    groups, branches = filled([one.groups for one in laid], -1), filled([one.branches for one in laid], -1)
    same_group = groups[:, None, :] == groups[:, :, None]
    same_branch = (branches[:, None, :] == branches[:, :, None]) | (branches[:, None, :] == 0)
    visible = (groups[:, None, :] == 0) | (same_group & same_branch)
    # A padding token sees itself and other padding: a softmax over nothing would be no number.
    visible &= torch.ones(length, length, dtype=torch.bool).tril()
    learnt = [(number, *one) for number, line in enumerate(laid) for one in line.learnt]
    return Packed(
        tokens=filled([one.tokens for one in laid], padding),
        positions=torch.stack([filled([[at[axis] for at in one.positions] for one in laid], 0) for axis in range(3)]),
        mask=visible[:, None],
        sources=torch.tensor([(number, source) for number, source, _, _ in learnt]),
        targets=torch.tensor([token for _, _, token, _ in learnt]),
        weights=torch.tensor([weight for _, _, _, weight in learnt]),
    )


class _Laid:
    """One row, token by token: group 0 is the context, branch 0 what a segment's branches share."""

    def __init__(self, row: Row) -> None:
        context = row.positions or [(place, place, place) for place in range(len(row.context))]
        self.tokens = list(row.context)
        self.positions = list(context)
        self.groups = [0] * len(row.context)
        self.branches = [0] * len(row.context)
        self.learnt: list[tuple[int, int, float]] = []
        start = max(max(at) for at in context) + 1
        last = len(row.context) - 1
        for group, segment in enumerate(row.segments, 1):
            fork = self._add(segment.shared, last, start, group, 0)
            for branch, tokens in enumerate(segment.branches, 1):
                self._add(tokens, fork, start + len(segment.shared), group, branch)

    def _add(self, tokens: Weighted, source: int, position: int, group: int, branch: int) -> int:
        """Append tokens, the first predicted by the one at `source`; returns the place of the last."""
        for offset, (token, weight) in enumerate(tokens):
            if weight:
                self.learnt.append((source, token, weight))
            source = len(self.tokens)
            self.tokens.append(token)
            self.positions.append((position + offset,) * 3)
            self.groups.append(group)
            self.branches.append(branch)
        return source


def given(tokens: Sequence[int]) -> list[tuple[int, float]]:
    """Tokens without a loss."""
    return [(token, 0.0) for token in tokens]


def learnt(tokens: Sequence[int], weight: float = 1.0) -> list[tuple[int, float]]:
    """Tokens with a loss."""
    return [(token, weight) for token in tokens]
