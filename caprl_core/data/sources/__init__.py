"""Readers of annotation files and containers, one a format; `open_source` chooses."""

from caprl_core.data.sources.open import open_source
from caprl_core.data.sources.source import Source

__all__ = ["Source", "open_source"]
