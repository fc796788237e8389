"""Whether a language model fits a vision tower, and the configuration of the two together."""

import copy
from typing import Any, Final, NamedTuple

from caprl_core.errors import BadInputError
from caprl_core.pretraining.sources import ModelSource

SIZES: Final = "3B, 7B, 32B and 72B"
"""In which both Qwen2.5-VL and Qwen2.5-Instruct were released."""
_SAME: Final = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "hidden_act",
)
"""Settings that both models must share: they are of one size then."""
_TAKEN: Final = (
    "max_position_embeddings",
    "rms_norm_eps",
    "attention_dropout",
    "initializer_range",
)
"""Settings that belong to the language model's weights, so its own are written. Token ids stay the donor's, as its
tokenizer, chat template and generation settings do; `rope_theta` and `tie_word_embeddings` are seen to below."""
_WINDOW: Final = ("use_sliding_window", "sliding_window", "max_window_layers", "layer_types")
"""Taken together, where the two attend differently far. They say nothing where no window is used."""
_DTYPES: Final = ("dtype", "torch_dtype")
"""Names of the data type in configurations, new and old."""


class Fitted(NamedTuple):
    """config: what `config.json` says, laid out as the donor's. parsed: the same as a `Qwen2_5_VLConfig`. taken: each
    text setting in which the language model differs from the donor's: donor's value, language model's."""

    config: dict[str, Any]
    parsed: Any
    taken: dict[str, tuple[Any, Any]]


def fit(vision: ModelSource, language: ModelSource, dtype: str) -> Fitted:
    """The configuration of `vision`'s tower with `language`'s language model, weights in `dtype` (torch's name).

    How positions of pictures are counted (mrope) stays the donor's. Raises `BadInputError` for models of another
    architecture, quantised ones, and those whose sizes differ, naming each field, both values and the remedy.
    """
    ours, theirs = _config(vision, ("qwen2_5_vl",)), _config(language, ("qwen2", "qwen2_5_vl"))
    donor, text = _parsed(vision, ours), _text(_parsed(language, theirs))
    _check(vision, donor, language, text)
    old = donor.text_config
    window = _WINDOW if (old.sliding_window, old.layer_types) != (text.sliding_window, text.layer_types) else ()
    taken = {
        name: (getattr(old, name), getattr(text, name))
        for name in (*_TAKEN, *window)
        if getattr(old, name) != getattr(text, name)
    }
    thetas = old.rope_parameters["rope_theta"], text.rope_parameters["rope_theta"]
    if thetas[0] != thetas[1]:
        taken["rope_theta"] = thetas
    tied = donor.tie_word_embeddings, _is_tied(_parsed(language, theirs))
    if tied[0] != tied[1]:
        taken["tie_word_embeddings"] = tied
    config = _written(ours, {name: new for name, (_, new) in taken.items()}, dtype)
    return Fitted(config, _parsed(vision, config), taken)


def _config(source: ModelSource, kinds: tuple[str, ...]) -> dict[str, Any]:
    config = source.json("config.json")
    if (kind := config.get("model_type")) not in kinds:
        wanted = {"qwen2_5_vl": "a Qwen2.5-VL", "qwen2": "a Qwen2.5-Instruct"}[kinds[0]]
        raise BadInputError(f"{source.shown}: model_type is {kind!r}, not {kinds[0]!r}; name {wanted} here")
    if "quantization_config" in config:
        raise BadInputError(f"{source.shown}: it is quantised (quantization_config); take the model as it was before")
    return config


def _parsed(source: ModelSource, config: dict[str, Any]) -> Any:
    from huggingface_hub.errors import StrictDataclassError  # noqa: PLC0415
    from transformers import Qwen2_5_VLConfig, Qwen2Config  # noqa: PLC0415 - seconds to import

    kind = Qwen2Config if config["model_type"] == "qwen2" else Qwen2_5_VLConfig
    try:
        return kind.from_dict(copy.deepcopy(config))
    except (StrictDataclassError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadInputError(f"{source.shown}: config.json is not that of a {config['model_type']}: {error}") from error


def _text(parsed: Any) -> Any:
    return parsed.get_text_config()


def _is_tied(parsed: Any) -> bool:
    return bool(parsed.tie_word_embeddings)


def _check(vision: ModelSource, donor: Any, language: ModelSource, text: Any) -> None:
    wrong = [
        f"{name} is {getattr(donor.text_config, name)} in {vision.shown} and {getattr(text, name)} in {language.shown}"
        for name in _SAME
        if getattr(donor.text_config, name) != getattr(text, name)
    ]
    if wrong:
        raise BadInputError(
            f"the language model is not of the donor's size: {'; '.join(wrong)}; "
            f"take a Qwen2.5-Instruct and a Qwen2.5-VL of one size (there are {SIZES})"
        )
    if (out := donor.vision_config.out_hidden_size) != text.hidden_size:
        raise BadInputError(
            f"{vision.shown}: vision_config.out_hidden_size is {out}, and hidden_size is {text.hidden_size} in "
            f"{language.shown}; the tower's config.json is not the one it was released with"
        )
    kind = text.rope_parameters.get("rope_type", "default")
    if kind != "default":
        raise BadInputError(
            f"{language.shown}: its rope_type is {kind!r}, which pictures' positions (mrope) cannot be combined with; "
            "take rope_scaling out of its config.json"
        )


def _written(donor: dict[str, Any], taken: dict[str, Any], dtype: str) -> dict[str, Any]:
    """The donor's configuration with these text settings, in whichever of the layouts of old and new it has."""
    config = copy.deepcopy(donor)
    for name in ("_name_or_path", "auto_map"):
        config.pop(name, None)
    config["architectures"] = ["Qwen2_5_VLForConditionalGeneration"]
    parts = [config, *(part for part in config.values() if isinstance(part, dict))]
    if not config.keys() & set(_DTYPES):
        config["torch_dtype"] = dtype
    for part in parts:
        part.update(dict.fromkeys(part.keys() & set(_DTYPES), dtype))
    nested = config.get("text_config")
    texts = [config] if not isinstance(nested, dict) else [config, nested]
    for name, value in taken.items():
        if name == "rope_theta":
            _set_theta(texts, value)
        else:
            texts[-1][name] = value
            if name in config or name == "tie_word_embeddings":
                config[name] = value
    return config


def _set_theta(texts: list[dict[str, Any]], theta: float) -> None:
    """Beside the scaling or inside it, wherever it stands."""
    for text in texts:
        for name in ("rope_parameters", "rope_scaling"):
            if isinstance(text.get(name), dict) and "rope_theta" in text[name]:
                text[name]["rope_theta"] = theta
        if "rope_theta" in text:
            text["rope_theta"] = theta
    inside = [texts[-1].get(name) for name in ("rope_parameters", "rope_scaling")]
    if not any(isinstance(part, dict) and "rope_theta" in part for part in inside):
        texts[-1]["rope_theta"] = theta
