"""Builds a Qwen2.5-VL folder so small that a CPU captions with it: random weights, captions that are noise of words.

The folder is what the hub's Qwen2.5-VL folders are (configuration, tokenizer, chat template, processor, safetensors),
and loads in vLLM, in `vllm serve` and in transformers. The same seed gives the same bytes.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

Floats = npt.NDArray[np.float32]

WORDS = """
a an the this that these some many several one two three four five no each both other another all most few more
and or but with without near under over above below behind beside between inside outside across along around against
beyond on in at by of to from into onto toward through left right top bottom upper lower middle center corner edge
foreground background surface side front back row column line shape pattern texture shadow light color scene picture
image view detail area space frame part piece object person man woman child people face hand eye hair head arm dress
shirt coat hat shoe bag glass table chair desk lamp bed sofa door window wall floor roof house building tower bridge
street road path car bus train bicycle boat ship plane tree leaf flower grass garden field forest mountain hill rock
river lake sea beach wave sand sky cloud sun moon star rain snow ice fire smoke dog cat bird horse cow sheep fish
apple orange banana bread cake plate bowl cup bottle knife spoon food fruit book page letter word number text sign
label chart graph axis bar legend title table map screen phone clock camera wheel box ball rope wood stone metal
paper cloth red green blue yellow purple pink brown black white gray golden silver dark bright pale deep soft sharp
smooth rough large small tall short long wide narrow round square flat curved old new young clean quiet busy empty
full open closed warm cold wet dry is are was has have shows stands sits lies hangs rests leans faces holds wears
walks looks appears seems rises falls fills covers surrounds reflects contains its their his her which where while
slightly clearly partly mostly nearly almost very quite also together
""".split()  # noqa: SIM905 - a list of words reads better as text
"""Every word the model can say (each with a space before it); `,` and `.` come on top."""

SPECIALS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
"""The control tokens Qwen2.5-VL's processor and vLLM look up by name."""

CHAT_TEMPLATE = """\
{%- if not messages or messages[0]['role'] != 'system' -%}
{{- '<|im_start|>system\\nYou look at pictures and describe them.<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- if message['content'] is string -%}
{{- message['content'] -}}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] in ['image', 'image_url'] -%}
{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif part['type'] == 'video' -%}
{{- '<|vision_start|><|video_pad|><|vision_end|>' -}}
{%- elif part['type'] == 'text' -%}
{{- part['text'] -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""

HIDDEN = 64
INTERMEDIATE = 128
LAYERS = 2
HEADS = 2
KV_HEADS = 1
HEAD_DIM = HIDDEN // HEADS
PATCH = 14
MERGE = 2
POSITIONS = 4096
# The image sizes the real model's processor allows stop at 16,384 visual tokens; 1,280 is what recipes prepare by
# default, and vLLM sizes its start-up profile by this limit.
MIN_PIXELS = 4 * (PATCH * MERGE) ** 2
MAX_PIXELS = 1280 * (PATCH * MERGE) ** 2

# Dimension 0 of the residual stream is a constant that no layer reads or changes, so that column 0 of the output matrix
# is a bias of each token. 8.0 against about 1.3 in the other 63 dimensions leaves it near 5 after the last norm.
CONSTANT = 8.0
CONSTANT_AFTER_NORM = 5.0
# Standard deviation of a word's logit. At temperature 1 this spreads the choice over about a hundred words.
LOGIT_STD = 2.0
SILENT = -40.0  # logit of tokens that must never be said: 40 nats below the mean word
PUNCTUATION = 2.5  # logit bonus of `,` and `.`
END_SHARE = 0.03  # share of draws at temperature 1 that end the caption: 33 words on average


def build_tiny_captioner(folder: Path, seed: int = 0) -> Path:
    """Write the model into `folder` (made if absent; its files are overwritten) and return it. About 0.2 s, 2 MB."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary, merges, speakable = _vocabulary()
    # vLLM and CUDA kernels like multiples of 64; the rows past the last token are silent.
    rows = -(-(len(vocabulary) + len(SPECIALS)) // 64) * 64
    ids = {token: len(vocabulary) + position for position, token in enumerate(SPECIALS)}

    _write_tokenizer(folder, vocabulary, merges, ids)
    _write_json(folder / "config.json", _config(rows, ids))
    _write_json(folder / "generation_config.json", _generation_config(ids))
    _write_json(folder / "preprocessor_config.json", _preprocessor("image_processor_type", "Qwen2VLImageProcessor"))
    _write_json(
        folder / "video_preprocessor_config.json", _preprocessor("video_processor_type", "Qwen2VLVideoProcessor")
    )
    weights = dict(_weights(np.random.default_rng(seed), _token_biases(rows, vocabulary, speakable, ids)))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes it for its owner alone
    return folder


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _vocabulary() -> tuple[dict[str, int], list[tuple[str, str]], list[str]]:
    """Tokens, merges and the tokens that may be said: all bytes, then each word spelt out from its leading space."""
    vocabulary = {symbol: number for number, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges: list[tuple[str, str]] = []
    spoken: list[str] = []
    for word in dict.fromkeys(WORDS):
        prefix = "\u0120"  # the byte-level symbol of a space
        for letter in word:
            longer = prefix + letter
            if longer not in vocabulary:
                vocabulary[longer] = len(vocabulary)
                merges.append((prefix, letter))
            prefix = longer
        spoken.append(prefix)
    return vocabulary, merges, spoken


def _write_tokenizer(
    folder: Path, vocabulary: dict[str, int], merges: list[tuple[str, str]], ids: dict[str, int]
) -> None:
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(ids))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "processor_class": "Qwen2_5_VLProcessor",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "model_max_length": POSITIONS,
            "clean_up_tokenization_spaces": False,
        },
    )


def _config(rows: int, ids: dict[str, int]) -> dict[str, Any]:
    return {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "dtype": "float32",
        "tie_word_embeddings": False,
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "text_config": {
            "model_type": "qwen2_5_vl_text",
            "vocab_size": rows,
            "hidden_size": HIDDEN,
            "intermediate_size": INTERMEDIATE,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KV_HEADS,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-6,
            "max_position_embeddings": POSITIONS,
            "tie_word_embeddings": False,
            "use_sliding_window": False,
            # Time, height and width share the 16 rotary frequencies of a head in Qwen2.5-VL's proportion 2 : 3 : 3.
            "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0, "mrope_section": [4, 6, 6]},
            "bos_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
        },
        "vision_config": {
            "model_type": "qwen2_5_vl_vision",
            "depth": LAYERS,
            "hidden_size": HIDDEN,
            "intermediate_size": INTERMEDIATE,
            "num_heads": HEADS,
            "out_hidden_size": HIDDEN,
            "hidden_act": "silu",
            "in_channels": 3,
            "patch_size": PATCH,
            "temporal_patch_size": 2,
            "spatial_merge_size": MERGE,
            "tokens_per_second": 2,
            "window_size": 112,
            "fullatt_block_indexes": [LAYERS - 1],
        },
    }


def _generation_config(ids: dict[str, int]) -> dict[str, Any]:
    return {"do_sample": False, "eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"]}


def _preprocessor(kind: str, name: str) -> dict[str, Any]:
    return {
        kind: name,
        "processor_class": "Qwen2_5_VLProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "resample": 3,  # bicubic
        "rescale_factor": 1 / 255,
        # The CLIP mean and deviation that Qwen2.5-VL uses.
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "min_pixels": MIN_PIXELS,
        "max_pixels": MAX_PIXELS,
        "patch_size": PATCH,
        "temporal_patch_size": 2,
        "merge_size": MERGE,
    }


def _token_biases(rows: int, vocabulary: dict[str, int], speakable: list[str], ids: dict[str, int]) -> Floats:
    """Added to each token's logit: words 0, punctuation a little more, the end as END_SHARE asks, all else silent."""
    biases = np.full(rows, SILENT, dtype=np.float32)
    biases[[vocabulary[token] for token in speakable]] = 0.0
    biases[[vocabulary[","], vocabulary["."]]] = PUNCTUATION
    # The mean of exp(logit) of normal logits is exp(std^2 / 2).
    biases[ids["<|im_end|>"]] = np.log(END_SHARE * len(speakable)) + LOGIT_STD**2 / 2
    return biases


def _weights(generator: np.random.Generator, biases: Floats) -> Iterator[tuple[str, Floats]]:
    """All tensors under the names Qwen2.5-VL's published checkpoints use."""

    def normal(*shape: int, std: float | None = None) -> Floats:
        deviation = float(np.prod(shape[1:])) ** -0.5 if std is None else std
        return (generator.standard_normal(shape) * deviation).astype(np.float32)

    def bias(size: int) -> Floats:
        return normal(size, std=0.02)

    def deaf_norm() -> Floats:
        """A norm whose output leaves the constant dimension out."""
        weight = np.ones(HIDDEN, dtype=np.float32)
        weight[0] = 0.0
        return weight

    def into_stream(width: int) -> Floats:
        """A projection back into the residual stream that leaves the constant dimension alone."""
        weight = normal(HIDDEN, width)
        weight[0] = 0.0
        return weight

    yield "visual.patch_embed.proj.weight", normal(HIDDEN, 3, 2, PATCH, PATCH)
    for layer in range(LAYERS):
        block = f"visual.blocks.{layer}."
        yield block + "norm1.weight", np.ones(HIDDEN, dtype=np.float32)
        yield block + "norm2.weight", np.ones(HIDDEN, dtype=np.float32)
        for name, out, width in (
            ("attn.qkv", 3 * HIDDEN, HIDDEN),
            ("attn.proj", HIDDEN, HIDDEN),
            ("mlp.gate_proj", INTERMEDIATE, HIDDEN),
            ("mlp.up_proj", INTERMEDIATE, HIDDEN),
            ("mlp.down_proj", HIDDEN, INTERMEDIATE),
        ):
            yield f"{block}{name}.weight", normal(out, width)
            yield f"{block}{name}.bias", bias(out)
    merged = HIDDEN * MERGE**2
    constant = bias(HIDDEN)
    constant[0] = CONSTANT
    yield "visual.merger.ln_q.weight", np.ones(HIDDEN, dtype=np.float32)
    yield "visual.merger.mlp.0.weight", normal(merged, merged)
    yield "visual.merger.mlp.0.bias", bias(merged)
    yield "visual.merger.mlp.2.weight", into_stream(merged) * np.float32(2.0)
    yield "visual.merger.mlp.2.bias", constant

    embeddings = normal(len(biases), HIDDEN, std=1.0)
    embeddings[:, 0] = CONSTANT
    yield "model.embed_tokens.weight", embeddings
    for layer in range(LAYERS):
        block = f"model.layers.{layer}."
        yield block + "input_layernorm.weight", deaf_norm()
        yield block + "post_attention_layernorm.weight", deaf_norm()
        for name, out in (("q", HIDDEN), ("k", KV_HEADS * HEAD_DIM), ("v", KV_HEADS * HEAD_DIM)):
            yield f"{block}self_attn.{name}_proj.weight", normal(out, HIDDEN, std=0.3)
            yield f"{block}self_attn.{name}_proj.bias", bias(out)
        yield block + "self_attn.o_proj.weight", into_stream(HIDDEN)
        yield block + "mlp.gate_proj.weight", normal(INTERMEDIATE, HIDDEN)
        yield block + "mlp.up_proj.weight", normal(INTERMEDIATE, HIDDEN)
        yield block + "mlp.down_proj.weight", into_stream(INTERMEDIATE)
    yield "model.norm.weight", np.ones(HIDDEN, dtype=np.float32)
    output = normal(len(biases), HIDDEN, std=LOGIT_STD / HIDDEN**0.5)
    output[biases == biases.max()] *= (
        0.1  # the end is told by its bias alone, so that greedy replies rarely start with it
    )
    output[:, 0] = biases / CONSTANT_AFTER_NORM
    yield "lm_head.weight", output


def main() -> None:
    """`python -m caprl_core.world.tiny_captioner FOLDER [SEED]`."""
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python -m caprl_core.world.tiny_captioner FOLDER [SEED]")
    print(build_tiny_captioner(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) == 3 else 0))


if __name__ == "__main__":
    main()
