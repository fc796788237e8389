"""A chat model of the transformers library with what prepares its inputs: image-and-text models, and text-only ones."""

import io
from collections.abc import Sequence
from typing import Any, Self

from PIL import Image

from caprl_core.engines.protocol import Request
from caprl_core.recipe.models import EngineExecution, ModelRecipe


class ChatModel:
    """network: the loaded model; tokenizer: its tokenizer; limit: tokens of a prompt and its reply at most."""

    def __init__(self, network: Any, tokenizer: Any, processor: Any, limit: int) -> None:
        """`processor` is None for a text-only model."""
        self.network = network
        self.tokenizer = tokenizer
        self.limit = limit
        self._processor = processor

    @classmethod
    def load(cls, model: ModelRecipe, execution: EngineExecution) -> Self:
        """Load it, on the GPU if there is one. What is no chat model raises `OSError`, `ValueError` or `KeyError`."""
        import torch  # noqa: PLC0415 - seconds to import
        import transformers  # noqa: PLC0415

        source = execution.model_path or model.name
        gpu = torch.cuda.is_available()
        common: dict[str, Any] = {"trust_remote_code": execution.trust_remote_code}
        if execution.model_path is None:
            common["revision"] = model.revision
        dtype = "float32" if model.dtype == "auto" and not gpu else model.dtype
        config = transformers.AutoConfig.from_pretrained(source, **common)
        sees = (
            getattr(config, "vision_config", None) is not None
            or type(config) in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
        )
        if sees:
            processor = transformers.AutoProcessor.from_pretrained(source, **common)
            tokenizer = processor.tokenizer
            kind = transformers.AutoModelForImageTextToText
        else:
            processor = None
            tokenizer = transformers.AutoTokenizer.from_pretrained(source, **common)
            kind = transformers.AutoModelForCausalLM
        tokenizer.padding_side = "left"  # all prompts of a batch end, and all replies begin, together
        network = kind.from_pretrained(source, dtype=dtype, **common, **execution.extra)
        network.to("cuda" if gpu else "cpu").eval()
        limit = execution.max_model_len or network.config.get_text_config().max_position_embeddings
        if tokenizer.pad_token_id is None:
            # Padding is masked, so any token will do; batches cannot be padded without one.
            tokenizer.pad_token = tokenizer.eos_token
        return cls(network, tokenizer, processor, limit)

    def inputs(self, requests: Sequence[Request]) -> Any:
        """The batch as tensors, prompts padded on the left, on the model's device.

        Raises `ValueError` for a prompt that leaves no room for a reply, and for images a text-only model is shown.
        """
        prompts = [self._prompt(request) for request in requests]
        if self._processor is None:
            if any(request.images for request in requests):
                raise ValueError("this model takes text only, and the request has an image")
            # The template writes the control tokens itself.
            inputs = self.tokenizer(prompts, padding=True, return_tensors="pt", add_special_tokens=False)
            inputs.pop("token_type_ids", None)  # some tokenizers make them; no chat model reads them
        else:
            pictures = [_decode(image.encoded) for request in requests for image in request.images]
            inputs = self._processor(text=prompts, images=pictures or None, padding=True, return_tensors="pt")
        longest = int(inputs["attention_mask"].sum(1).max())
        if longest >= self.limit:
            raise ValueError(f"the prompt has {longest} tokens, the model takes {self.limit} with the reply")
        return inputs.to(self.network.device)

    def _prompt(self, request: Request) -> str:
        texts = {"user": request.text} | ({} if request.system is None else {"system": request.system})
        images = {"user": [{"type": "image"} for _ in request.images]}
        messages: list[dict[str, Any]] = []
        for role in ("system", "user"):
            if role in texts:
                # Templates of text-only models put contents together as texts.
                part = [*images.get(role, ()), {"type": "text", "text": texts[role]}]
                messages.append({"role": role, "content": texts[role] if self._processor is None else part})
        renders = self.tokenizer if self._processor is None else self._processor
        return str(renders.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))


def _decode(encoded: bytes) -> Image.Image:
    with Image.open(io.BytesIO(encoded)) as picture:
        return picture.convert("RGB")
