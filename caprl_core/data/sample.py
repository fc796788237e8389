"""The two things that flow: a planned sample and the image bytes read for it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """One record as a source reader yields it, before the plan gives it a key.

    image:     reference resolved against the source's roots, e.g. `coco/train2017/000000000009.jpg`;
               for sources that hold the bytes themselves, `<container>#<member or row>`.
    record_id: the source's own id, or None.
    caption:   the caption the source came with, or None.
    ordinal:   0-based position in the source.
    problem:   None, or why this record cannot be used (it is planned all the same, and goes to the ledger).
    key:       the sample's key in the dataset it comes from, kept; None lets the plan make one.
    payload:   what else the stage needs of the sample, as JSON text; None for images alone.
    """

    image: str
    ordinal: int
    record_id: str | None = None
    caption: str | None = None
    problem: str | None = None
    key: str | None = None
    payload: str | None = None


@dataclass(frozen=True, slots=True)
class PlannedSample:
    """One row of the plan.

    key:      unique over the whole dataset, stable under re-planning, `[a-z0-9_-]+` only: it is a WebDataset key.
    shard:    0-based shard number.
    index:    0-based position inside the shard.
    source:   name of the source in the recipe.
    """

    key: str
    shard: int
    index: int
    source: str
    image: str
    record_id: str | None = None
    original_caption: str | None = None
    problem: str | None = None
    payload: str | None = None


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """What the engine sees of one image, plus the facts about its original bytes.

    original:        the bytes as read from the source, untouched.
    sha256, size:    hex digest and length (bytes) of `original`.
    extension:       file extension for the tar by the sniffed format, without the dot: `jpg`, `png`, `webp`, …
    format:          Pillow's name of the sniffed format: `JPEG`, `PNG`, …
    source_width, source_height: pixels of the original before EXIF orientation.
    width, height:   pixels of what the engine sees.
    encoded:         what the engine sees (RGB, 8 bit), encoded as PNG, or as BMP for engines in this process: the
                     pixels are the same.
    frames:          number of frames of an animation (1 for a still picture); the first is used.
    notes:           what was done, e.g. ("exif_rotated", "alpha_flattened", "first_frame"), sorted.
    """

    original: bytes
    sha256: str
    size: int
    extension: str
    format: str
    source_width: int
    source_height: int
    width: int
    height: int
    encoded: bytes
    frames: int = 1
    notes: tuple[str, ...] = ()
