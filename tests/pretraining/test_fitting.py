"""Which models fit one another, what the two together are configured as, and what is said where they do not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen2_5_VLConfig

from caprl_core.errors import BadInputError
from caprl_core.pretraining.fitting import fit
from caprl_core.pretraining.initialise import initialise
from caprl_core.pretraining.sources import ModelSource

Language = Callable[..., Any]
TIED = "tie_word_embeddings"

# hidden, intermediate, layers, heads, key-value heads, vocabulary, tied; the vision tower's intermediate size. As in
# config.json of Qwen2.5-VL-…-Instruct and Qwen2.5-…-Instruct.
RELEASED = {
    "3B": (2048, 11008, 36, 16, 2, 151936, True, 3420),
    "7B": (3584, 18944, 28, 28, 4, 152064, False, 3420),
    "32B": (5120, 27648, 64, 40, 8, 152064, False, 3456),
    "72B": (8192, 29568, 80, 64, 8, 152064, False, 3456),
}


def text_settings(size: str) -> dict[str, Any]:
    hidden, intermediate, layers, heads, kv_heads, vocabulary, tied, _ = RELEASED[size]
    return {
        "attention_dropout": 0.0,
        "bos_token_id": 151643,
        "eos_token_id": 151645,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "initializer_range": 0.02,
        "intermediate_size": intermediate,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "num_key_value_heads": kv_heads,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "sliding_window": 32768,
        "tie_word_embeddings": tied,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": vocabulary,
    }


def released_models(folder: Path, vision: str, language: str) -> tuple[ModelSource, ModelSource]:
    tower = {
        "depth": 32,
        "hidden_act": "silu",
        "hidden_size": 1280,
        "intermediate_size": RELEASED[vision][-1],
        "num_heads": 16,
        "in_chans": 3,
        "out_hidden_size": RELEASED[vision][0],
        "patch_size": 14,
        "spatial_merge_size": 2,
        "spatial_patch_size": 14,
        "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31],
        "tokens_per_second": 2,
        "temporal_patch_size": 2,
    }
    config = text_settings(vision) | {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "max_position_embeddings": 128000,
        "max_window_layers": 70,
        "image_token_id": 151655,
        "vision_config": tower,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    }
    words = text_settings(language) | {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "max_position_embeddings": 32768,
        "max_window_layers": 28,
    }
    for name, value in (("vision", config), ("language", words)):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(value))
    return ModelSource.open(str(folder / "vision")), ModelSource.open(str(folder / "language"))


@pytest.mark.parametrize("size", list(RELEASED))
def test_the_released_models_of_one_size_fit(tmp_path: Path, size: str) -> None:
    vision, language = released_models(tmp_path, size, size)
    fitted = fit(vision, language, "bfloat16")
    # The one setting that differs and means anything: 128,000 positions are a promise of other weights.
    assert fitted.taken == {"max_position_embeddings": (128000, 32768)}
    assert fitted.config == vision.json("config.json") | {"max_position_embeddings": 32768}


@pytest.mark.parametrize(("vision", "language"), [("3B", "7B"), ("7B", "3B"), ("32B", "72B"), ("72B", "7B")])
def test_the_released_models_of_two_sizes_do_not(tmp_path: Path, vision: str, language: str) -> None:
    with pytest.raises(BadInputError) as refused:
        fit(*released_models(tmp_path, vision, language), "bfloat16")
    ours, theirs = RELEASED[vision][0], RELEASED[language][0]
    assert f"hidden_size is {ours} in {tmp_path}/vision and {theirs} in {tmp_path}/language" in str(refused.value)
    assert "take a Qwen2.5-Instruct and a Qwen2.5-VL of one size (there are 3B, 7B, 32B and 72B)" in str(refused.value)


SIZES = {
    "hidden_size": 128,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 4096,
    "hidden_act": "gelu",
}


@pytest.mark.parametrize("field", list(SIZES))
def test_a_size_that_differs_is_named_with_both_values(
    donor: Any, language: Language, tmp_path: Path, field: str
) -> None:
    words = language(**{field: SIZES[field]})
    with pytest.raises(BadInputError, match="is not of the donor's size") as refused:
        make(donor, words, tmp_path / "out")
    ours = donor.config["text_config"][field]
    assert f"{field} is {ours} in {donor.folder} and {SIZES[field]} in {words.folder}" in str(refused.value)
    assert "take a Qwen2.5-Instruct and a Qwen2.5-VL of one size" in str(refused.value)


def make(donor: Any, words: Any, out: Path) -> dict[str, Any]:
    return initialise(ModelSource.open(str(donor.folder)), ModelSource.open(str(words.folder)), out, dtype="float32")


def refusal(donor: Any, words: Any, out: Path) -> str:
    with pytest.raises(BadInputError) as refused:
        make(donor, words, out)
    assert not out.exists() and not out.with_name("out.partial").exists()
    return str(refused.value)


def test_a_tower_that_speaks_to_another_width_is_refused(donor: Any, language: Language, tmp_path: Path) -> None:
    donor.configure(vision_config=donor.config["vision_config"] | {"out_hidden_size": 96})
    said = refusal(donor, language(), tmp_path / "out")
    assert "vision_config.out_hidden_size is 96, and hidden_size is 64" in said


@pytest.mark.parametrize(
    ("who", "changes", "said"),
    [
        ("donor", {"model_type": "qwen2_vl"}, "model_type is 'qwen2_vl', not 'qwen2_5_vl'; name a Qwen2.5-VL here"),
        ("words", {"model_type": "qwen3"}, "model_type is 'qwen3', not 'qwen2'; name a Qwen2.5-Instruct here"),
        ("words", {"quantization_config": {"bits": 4}}, "it is quantised"),
        ("donor", {"quantization_config": {"bits": 4}}, "it is quantised"),
        ("words", {"hidden_size": "wide"}, "config.json is not that of a qwen2"),
        ("donor", {"vision_config": "none"}, "config.json is not that of a qwen2_5_vl"),
        (
            "words",
            {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e6}},
            "its rope_type is 'yarn', which pictures' positions (mrope) cannot be combined with",
        ),
    ],
)
def test_a_configuration_that_cannot_be_used_is_refused(
    donor: Any, language: Language, tmp_path: Path, who: str, changes: dict[str, Any], said: str
) -> None:
    words = language()
    {"donor": donor, "words": words}[who].configure(**changes)
    assert said in refusal(donor, words, tmp_path / "out")


@pytest.mark.parametrize(
    ("who", "name", "change", "said"),
    [
        ("words", "model.layers.1.mlp.up_proj.weight", None, "1 tensors that its config.json promises are not in it"),
        ("donor", "visual.blocks.1.attn.qkv.bias", None, "1 tensors that its config.json promises are not in it"),
        ("words", "model.layers.1.self_attn.q_norm.weight", torch.ones(32), "such as model.layers.1.self_attn.q_norm"),
        ("donor", "visual.blocks.2.norm1.weight", torch.ones(64), "it is another architecture, or was changed"),
        ("words", "model.norm.weight", torch.ones(63), "has shape [63], and by config.json it has [64]"),
        ("donor", "visual.blocks.0.norm1.weight", torch.ones(1, 64), "has shape [1, 64], and by config.json"),
        ("words", "model.norm.weight", torch.ones(64, dtype=torch.int8), "model.norm.weight is I8, not one of F32"),
        ("words", "lm_head.weight", torch.zeros(1984, 64), "lm_head.weight differs from them; set tie_word_embeddings"),
    ],
)
def test_tensors_that_are_not_the_configurations_are_refused(
    donor: Any, language: Language, tmp_path: Path, who: str, name: str, change: torch.Tensor | None, said: str
) -> None:
    words = language()
    model = {"donor": donor, "words": words}[who]
    tensors = {key: value for key, value in model.tensors().items() if key != name}
    model.store(tensors if change is None else tensors | {name: change})
    refused = refusal(donor, words, tmp_path / "out")
    assert said in refused and str(model.folder) in refused


def test_a_copy_of_the_embeddings_as_a_tied_head_is_left_out(donor: Any, language: Language, tmp_path: Path) -> None:
    words = language(tied=True)
    tensors = words.tensors()
    words.store(tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()})
    make(donor, words, tmp_path / "out")
    assert "lm_head.weight" not in type(donor)(tmp_path / "out").tensors()


def test_a_merger_of_the_donors_that_is_damaged_or_absent_does_not_matter(
    donor: Any, language: Language, tmp_path: Path
) -> None:
    donor.store({name: value for name, value in donor.tensors().items() if "merger" not in name})
    make(donor, language(), tmp_path / "out")


@pytest.mark.parametrize("form", ["nested", "flat", "both"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_language_models_settings_are_written_where_readers_look(
    donor: Any, language: Language, tmp_path: Path, form: str, tied: bool
) -> None:
    nested = donor.config
    if form != "nested":
        donor.flatten()
    if form == "both":  # transformers 4.52 to 4.57 write the settings twice
        donor.configure(text_config=nested["text_config"])
    before = donor.config
    words = language(tied=tied, eos_token_id=3)
    lineage = make(donor, words, tmp_path / "out")
    after = json.loads((tmp_path / "out/config.json").read_text())
    expected = {
        "initializer_range": 0.3,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 20_000.0,
        **({"tie_word_embeddings": True} if tied else {}),
    }
    assert {name: one["written"] for name, one in lineage["taken_from_language_model"].items()} == expected
    for text in [part for part in (after, after.get("text_config")) if part and "hidden_size" in part]:
        rope = text.get("rope_parameters", text)
        found = {name: (rope if name == "rope_theta" else text).get(name) for name in expected}
        # Settings that stand in two places say the same in both; one that stood in one is not doubled.
        assert found == expected or (
            form == "both" and text is after and found | {"initializer_range": 0.3} == expected
        )
        assert (text.get("rope_scaling") or rope)["mrope_section"] == [4, 6, 6]
        # Its turns end as the donor's do.
        assert text["eos_token_id"] == nested["text_config"]["eos_token_id"] != 3
    parsed = Qwen2_5_VLConfig.from_dict(after).text_config
    assert {name: getattr(parsed, name, None) for name in expected if name not in ("rope_theta", TIED)} == {
        name: value for name, value in expected.items() if name not in ("rope_theta", TIED)
    }
    assert parsed.rope_parameters["rope_theta"] == 20_000.0 and parsed.rope_parameters["mrope_section"] == [4, 6, 6]
    assert after["tie_word_embeddings"] is tied
    assert after["vision_config"] == before["vision_config"]


def test_a_window_is_taken_with_the_weights_that_were_trained_with_it(
    donor: Any, language: Language, tmp_path: Path
) -> None:
    words = language(use_sliding_window=True, sliding_window=16, max_window_layers=1)
    make(donor, words, tmp_path / "out")
    text = json.loads((tmp_path / "out/config.json").read_text())["text_config"]
    assert (text["use_sliding_window"], text["sliding_window"], text["max_window_layers"]) == (True, 16, 1)
    assert text["layer_types"] == ["full_attention", "sliding_attention"]


def test_code_of_somebody_elses_is_not_asked_for(donor: Any, language: Language, tmp_path: Path) -> None:
    donor.configure(auto_map={"AutoModel": "evil.Model"}, _name_or_path="/home/somebody/models/donor")
    (donor.folder / "evil.py").write_text("raise SystemExit")
    make(donor, language(), tmp_path / "out")
    assert not (tmp_path / "out/evil.py").exists()
    assert not {"auto_map", "_name_or_path"} & json.loads((tmp_path / "out/config.json").read_text()).keys()
