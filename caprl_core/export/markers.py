r"""Markers that trainers and chat templates act on, disarmed inside captions, and brought back.

A caption may speak of `<image>`: a trainer would count it as a picture, a tokenizer would read `<|im_end|>` as the end
of the turn. The escape is one backslash behind the `<`, in every trainer's format alike: `<image>` becomes `<\image>`,
`</s>` becomes `<\/s>`, and a caption that holds `<\image>` already gets one more, so nothing is lost: `unescape` takes
one away again.
"""

import re
from typing import Final

IMAGE: Final = "<image>"
"""What LLaMA-Factory, LLaVA, ms-swift and Qwen's fine-tuning code replace by a picture."""

_NAMES: Final = (
    # Media: LLaMA-Factory 0.9.5 (extras/constants.py), ms-swift 4.6 (template/base.py), Qwen's data_processor.py,
    # LLaVA's constants.py, InternVL's and Gemma 3's tokenizers.
    *("image", "video", "audio", "bbox", "ref-object", "cot-process", "start-image", "img", "/img", "IMG_CONTEXT"),
    *("im_start", "im_end", "im_patch", "start_of_image", "end_of_image", "image_soft_token", "image_id", "slice"),
    # Turns and sequences: Llama 2 and Vicuna, whose `</s>` LLaVA splits conversations by, Gemma 3, ChatGLM.
    *("s", "/s", "unk", "pad", "bos", "eos", "start_of_turn", "end_of_turn", "sop", "eop"),
    # Added tokens of Qwen2.5 and Qwen3 that their chat templates act on.
    *("think", "/think", "tool_call", "/tool_call", "tool_response", "/tool_response"),
)
_BODY: Final = "|".join((*map(re.escape, _NAMES), r"\|[^<>|\s]{1,40}\|", r"\uff5c[^<>\uff5c\s]{1,40}\uff5c"))
"""`<|…|>` is the form of the control tokens of Qwen, Llama 3, Phi, GLM and InternLM; DeepSeek's have U+FF5C for `|`."""
_MARKER: Final = re.compile(rf"<(\\*(?:{_BODY})>)")
_ESCAPED: Final = re.compile(rf"<\\(\\*(?:{_BODY})>)")


def escape(caption: str) -> str:
    """The caption with every marker disarmed; the same string where there is none."""
    return _MARKER.sub(r"<\\\1", caption) if "<" in caption else caption


def unescape(text: str) -> str:
    """The caption that `escape` was given."""
    return _ESCAPED.sub(r"<\1", text) if "<" in text else text


def has_marker(text: str) -> bool:
    """True when something in the text is acted on."""
    return "<" in text and escape(text) != text
