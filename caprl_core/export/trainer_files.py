"""A dataset in a trainer's format: conversations whose pictures are files, one `<image>` for each picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from caprl_core.errors import BadInputError
from caprl_core.export.image_files import extract_images
from caprl_core.export.image_paths import ExtractedImages, ImagePaths, NoImage, RootedImages, Told
from caprl_core.export.instructions import Instructions
from caprl_core.export.lines import LineWriter
from caprl_core.export.manifest import ExportReport, manifest_of
from caprl_core.export.markers import IMAGE, escape
from caprl_core.export.outputs import Outputs, folder_address, part_names
from caprl_core.export.reading import Progress, Reading
from caprl_core.export.subsets import Division
from caprl_core.export.trainers.trainer import Example, ExportedFile, Layout, Trainer
from caprl_core.shards.dataset import Dataset

ESCAPE = r"one backslash behind `<` of every marker (caprl_core.export.markers): <image> is written <\image>"


def export_for_trainer(
    dataset: Dataset,
    out: str,
    trainer: Trainer,
    *,
    images: Path | None = None,
    image_root: Path | None = None,
    relative_to: Path | None = None,
    check_images: bool = False,
    instructions: Instructions | None = None,
    layout: Layout | None = None,
    division: Division | None = None,
    partial: bool = False,
    threads: int = 8,
    progress: Progress = lambda _done, _total: None,
    extracting: Progress = lambda _done, _total: None,
) -> ExportReport:
    """Write a file of examples for each subset into the local folder `out`, what the trainer wants beside it, and a
    manifest.

    Pictures are extracted from the tars into `images` (default: `out/images`), or lie below `image_root` already, by
    the source's own paths; a row whose picture is not there is left out and listed in `<name>.missing-images.jsonl`.
    Paths are relative to `relative_to` (default: `out`) where they lie below it, else absolute; ms-swift's are absolute
    by default. `instructions` default to the dataset's prompt.

    Raises `BadInputError` for options the dataset or the trainer cannot serve, or when no picture is found at all,
    `IncompleteError` and `StoreError` as `export_jsonl` does. No file but pictures is left then.
    """
    reading = Reading(dataset, division=division or Division(), partial=partial, threads=threads)
    chosen = _layout(trainer, layout)
    folder = Path(_local(trainer, out))
    texts = instructions or _own_prompt(reading)
    if images is not None and image_root is not None:
        raise BadInputError("take --images (extract them) or --image-root (they are there), not both")
    base = relative_to.expanduser().absolute() if relative_to else None if trainer.absolute else folder
    if image_root is None:
        told = Told(images or folder / "images", base)
        extract_images(
            dataset.store,
            reading.current.records,
            reading.shards(),
            told.folder,
            check=check_images,
            threads=threads,
            progress=extracting,
        )
        paths: ImagePaths = ExtractedImages(told)
    else:
        if not image_root.expanduser().is_dir():
            raise BadInputError(f"--image-root {image_root}: there is no such folder; is the disk mounted?")
        paths = RootedImages(Told(image_root, base))
    name = dataset.record.name
    examples = _Examples(texts, paths)
    with Outputs(str(folder), f"{name}.manifest.json", None, None) as outputs:
        files = [
            ExportedFile(
                f"{name}-{subset.name}" if subset.name else name,
                part_names(f"{name}.{chosen}", subset.name, 1)[0],
                str(folder),
            )
            for subset in reading.subsets
        ]
        writers = [LineWriter(outputs, [item.file], 0, chosen) for item in files]
        missing = outputs.open(f"{name}.missing-images.jsonl") if image_root is not None else None
        rows = 0
        for item in reading.rows(progress):
            example = examples.of(item.row)
            if isinstance(example, NoImage):
                if missing is not None:
                    fact = {"key": item.row["key"], "image": item.row["image"], "reason": example.reason}
                    missing.write(orjson.dumps(fact, option=orjson.OPT_APPEND_NEWLINE))
                    missing.rows += 1
                continue
            line = orjson.dumps(trainer.record(example), option=orjson.OPT_APPEND_NEWLINE)
            for number in item.subsets:
                writers[number].write(line)
            rows += 1
        for writer in writers:
            writer.close()
        absent = _closed(missing)
        if absent and not rows:
            raise BadInputError(
                f"--image-root {image_root}: none of {absent} pictures is there, like {examples.first_missing}; "
                "name the folder the paths of the source begin in, or take --images"
            )
        before = {item: (folder / item).read_bytes() for item in trainer.reads if (folder / item).is_file()}
        for file_name, content in trainer.beside(files, before).items():
            outputs.add(file_name, content)
        facts: dict[str, Any] = {
            "format": trainer.name,
            "instructions": list(texts.texts),
            "escape": ESCAPE,
            "escaped": examples.escaped,
            "missing": absent,
        }
        outputs.publish(manifest_of(reading, outputs.written, rows, facts))
    return ExportReport(
        outputs.written,
        outputs.manifest_name,
        rows,
        reading.rejected,
        reading.current.pending,
        missing=absent,
        escaped=examples.escaped,
        use=trainer.use(files, str(base or folder)),
    )


class _Examples:
    """Rows as examples."""

    def __init__(self, texts: Instructions, paths: ImagePaths) -> None:
        self._texts = texts
        self._paths = paths
        self.escaped = 0
        self.first_missing = ""

    def of(self, row: dict[str, Any]) -> Example | NoImage:
        """The example, with exactly one `<image>` for its one picture."""
        path = self._paths.find(row)
        if isinstance(path, NoImage):
            self.first_missing = self.first_missing or f"{row['image']!r} ({path.reason})"
            return path
        caption = escape(row["caption"])
        self.escaped += caption is not row["caption"] and caption != row["caption"]
        instruction = self._texts.of(row["key"])
        if instruction.count(IMAGE) + caption.count(IMAGE) != 1:
            raise AssertionError(f"{row['key']}: the example has one picture and another number of {IMAGE}")
        return Example(row["key"], instruction, caption, path)


def _layout(trainer: Trainer, layout: Layout | None) -> Layout:
    if layout is not None and layout not in trainer.layouts:
        raise BadInputError(f"--layout {layout}: {trainer.name} reads {' and '.join(trainer.layouts)}")
    return layout or trainer.layouts[0]


def _local(trainer: Trainer, out: str) -> str:
    if out.startswith("s3://"):
        raise BadInputError(f"{out}: {trainer.name} reads local files; export into a folder, and copy that")
    return folder_address(out)


def _own_prompt(reading: Reading) -> Instructions:
    """What the captioner was asked."""
    columns: Sequence[str] = reading.columns
    prompt = reading.dataset.record.identity.get("prompt", {}).get("text")
    if "caption" not in columns or prompt is None:
        raise BadInputError(
            f"{reading.dataset.store.uri}: this format needs a captioning dataset; take --format jsonl --form full"
        )
    return Instructions([prompt], 0, "the dataset's prompt")


def _closed(missing: Any) -> int:
    if missing is None:
        return 0
    missing.close()
    return int(missing.rows)
