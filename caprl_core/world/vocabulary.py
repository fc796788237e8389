"""The words of the tiny models: their tokenizer, chat template and prompts.

A byte-level BPE in which each known word is one token; any other text is spelt in bytes. A few texts of several words
are single tokens, which spares models of this size the spelling: places, the letters of options, the abstention.
"""

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from caprl_core.qa.question import LETTERS
from caprl_core.world.captions import EMPTY_CAPTIONS
from caprl_core.world.questions import CANNOT, COUNT_OPTIONS
from caprl_core.world.scene import COLOURS, PLACES, SHAPES

END, PADDING = "<|im_end|>", "<|endoftext|>"
IMAGE, VIDEO = "<|image_pad|>", "<|video_pad|>"
VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
SPECIALS = (PADDING, "<|im_start|>", END, VISION_START, VISION_END, "<|vision_pad|>", IMAGE, VIDEO)
"""The control tokens that Qwen2.5-VL's processor and vLLM look up by name."""

OPTION_LETTERS = LETTERS[:7]
"""Six options at most, and the further one."""

CAPTION_PROMPT = "Please describe this image in detail."
"""CapRL's own prompt (fact sheet, section 2.1). The warm start answers it thinly: what GRPO has to mend."""
FULL_PROMPT = "List every shape with its colour and place."
"""The prompt that the captioner answers completely: the ceiling of what GRPO can reach."""
READER_PROMPT = "Caption: {caption}\n{question}"
"""What the text-only reader is asked; `{question}` is the text of `qa.present.presented`."""
ANSWER_PROMPT = "{question}"
"""What the answerer is asked, after the image or without one."""
WRITER_PROMPT = "Write three questions about this picture."
"""What the question writer is asked, with the image. Two of its words are spelt; a prompt is only read."""
CANNOT_OPTION = CANNOT
"""Text of the further option, for `qa.present.presented`."""

WORDS = """
a an and are at bar bars background blue bottom caption centre chart circle colour colourful cross describe detail
diamond every five four green image in is its left list middle number of on one orange picture place plain please
purple red right shape shapes six some square star tall tallest the there this three top triangle two what where which
with yellow
"""
"""Words that are one token after a space. A few are spare, for what the models may be taught next."""
BEGINNINGS = "A An Caption Describe List Please Some The There What Where Which"
"""Words that are one token with and without a space before them."""
ROLES = "system user assistant"
"""Words that are one token where nothing stands before them."""
_SPACE = "\u0120"  # the byte-level symbol of a space
_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen2 cuts a text before its bytes are merged. Loaders that know the model's family put their own rule, which is
this one, in the place of what `tokenizer.json` says."""

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- if message['content'] is string -%}
{{- message['content'] -}}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] in ['image', 'image_url'] -%}
{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
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
"""Qwen's turns without a default system text; content is a text, or parts of which the image comes first."""


def build_tokenizer() -> Tokenizer:
    """The tokenizer, always the same."""
    vocabulary = {symbol: number for number, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges: list[tuple[str, str]] = []
    # Earlier merges go first. Those behind a space touch only a word's beginning, then capitals do, and roles come
    # last: so no chain of merges breaks into another's word.
    for word in (WORDS + BEGINNINGS).split():
        _spell(_SPACE + word, vocabulary, merges)
    for word in (BEGINNINGS + " " + ROLES).split():
        _spell(word, vocabulary, merges)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIALS))
    single = [f"\n{letter})" for letter in OPTION_LETTERS] + [f" {text}" for text in (*PLACES, CANNOT)]
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in single])
    return tokenizer


def _spell(word: str, vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> None:
    """Make `word` a token, letter by letter from its beginning."""
    prefix = word[0]
    for letter in word[1:]:
        if prefix + letter not in vocabulary:
            vocabulary[prefix + letter] = len(vocabulary)
            merges.append((prefix, letter))
        prefix += letter


def unknown_words() -> set[str]:
    """Words that captions, questions and prompts use and the vocabulary lacks: none, or a model would have to spell."""
    texts = [*EMPTY_CAPTIONS, *PLACES, *SHAPES, *COLOURS, *COUNT_OPTIONS, CAPTION_PROMPT, FULL_PROMPT]
    said = {word.strip(".,:?").lower() for text in texts for word in text.split()}
    return said - set((WORDS + BEGINNINGS.lower()).split())


def write_tokenizer(folder: Path, processor: bool) -> None:
    """Write the tokenizer's files into `folder`; with `processor` they name Qwen2.5-VL's processor."""
    build_tokenizer().save(str(folder / "tokenizer.json"), pretty=False)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": PADDING,
        "padding_side": "left",
        "model_max_length": 1024,
        "clean_up_tokenization_spaces": False,
    }
    if processor:
        settings["processor_class"] = "Qwen2_5_VLProcessor"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
