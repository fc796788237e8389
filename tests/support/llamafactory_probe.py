"""Runs in the environment of LLaMA-Factory, not in ours: its own loader and template on an exported folder.

`python llamafactory_probe.py MODEL_FOLDER DATASET_DIR DATASET [key=value…]` prints one JSON object: how many examples
it made, the warnings it gave while doing so, and of each example the texts and numbers it came to.
"""

import json
import logging
import sys
import warnings

from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer

IGNORED = -100


class Kept(logging.Handler):
    """Keeps what is logged as a warning or worse."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(f"{record.name}: {record.getMessage()}")


def main() -> None:
    model, folder, dataset, *options = sys.argv[1:]
    arguments = {
        "model_name_or_path": model,
        "stage": "sft",
        "do_train": True,
        "dataset_dir": folder,
        "dataset": dataset,
        "template": "qwen2_vl",
        "output_dir": f"{folder}/never-written",
        "cutoff_len": 100_000,
        "image_max_pixels": 200_704,  # 256 x 28 x 28: small, so that many pictures take seconds
        "overwrite_cache": True,
        "report_to": "none",
        "use_cpu": True,
    } | dict(option.split("=", 1) for option in options)
    model_args, data_args, training_args, _, _ = get_train_args(arguments)
    parts = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(parts["tokenizer"], data_args)
    kept = Kept()
    for name in (None, "llamafactory", "transformers", "datasets", "PIL"):
        logging.getLogger(name).addHandler(kept)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        # It leaves the closing of picture files to the collector, whatever they are.
        warnings.simplefilter("ignore", ResourceWarning)
        found = get_dataset(template, model_args, data_args, training_args, stage="sft", **parts)["train_dataset"]
    tokenizer = parts["tokenizer"]
    image_id = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    examples = [
        {
            "images": example["images"],
            "image_tokens": example["input_ids"].count(image_id),
            "prompt": tokenizer.decode(
                [
                    token
                    for token, label in zip(example["input_ids"], example["labels"], strict=True)
                    if label == IGNORED
                ]
            ),
            "answer": tokenizer.decode([label for label in example["labels"] if label != IGNORED]),
        }
        for example in found
    ]
    messages = kept.messages + [f"{item.category.__name__}: {item.message}" for item in warned]
    # On a line of its own: LLaMA-Factory prints an example to standard output.
    print("\n" + json.dumps({"rows": len(found), "warnings": messages, "examples": examples}), flush=True)


if __name__ == "__main__":
    main()
