"""The recipe of a captioning dataset: what it is (identity) and how it is run (execution).

A field marked with `EXECUTION` says where or how something runs and never changes the bytes of a row; every other field
is identity, goes into the fingerprint, and a dataset refuses shards of another value.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

EXECUTION: dict[str, Any] = {"identity": False}
"""`json_schema_extra` mark of a field that has no identity."""

LATER: dict[str, Any] = {"identity": "unless default"}
"""Mark of an identity field that came after datasets were made without it: left out of the fingerprint while it has its
default, so that theirs stays what it was."""

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]

SourceKind = Literal[
    "sharegpt4v",
    "densefusion",
    "conversations",
    "table",
    "hf_parquet",
    "webdataset",
    "folder",
    "stage_rows",
    "qa_blocks",
    "qa_lists",
    "caprl_qa",
    "benchmark_released",
    "benchmark_questions",
    "benchmark_captionqa",
]
"""The last seven bring more than an image: rows of a stage before, released QA files, and questions of a benchmark."""


class Strict(BaseModel):
    """Frozen, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


class CaptionFileRecipe(Strict):
    """Captions that are there already: of anybody, our export among them."""

    name: str = Field(min_length=1, description="Whose captions these are, as in every table.")
    uri: str = Field(
        description="JSON or JSON lines of `image` and `caption` (or `captions`), or one JSON object of both.",
        json_schema_extra=EXECUTION,
    )
    image_field: str | None = Field(default=None, description="Key of the image; default depends on the file.")
    caption_field: str | None = Field(default=None, description="Key of the caption or list of captions.")
    match: Literal["path", "name", "stem", "id"] = Field(
        default="path",
        description="What the image's value is: its path in the benchmark, file name, that without extension, or id.",
    )


class SourceRecipe(Strict):
    """One source of images."""

    name: Slug = Field(description="Short name of the source; part of every key, never reused for another source.")
    kind: SourceKind = Field(description="Format of the source.")
    uri: str = Field(
        description="File, folder, glob, `s3://` or `https://` address of the annotations or containers.",
        json_schema_extra=EXECUTION,
    )
    roots: dict[str, str] = Field(
        default_factory=dict,
        description=(
            "Where image paths lie: longest matching path prefix -> folder, `s3://` prefix, zip or tar (globs "
            "allowed), or `https://` prefix. The key `` (empty) is the default root."
        ),
        json_schema_extra=EXECUTION,
    )
    image_field: str | None = Field(default=None, description="Column or key of the image; default depends on kind.")
    caption_field: str | None = Field(default=None, description="Column or key of the original caption.")
    id_field: str | None = Field(default=None, description="Column or key of the record's id.")
    limit: int | None = Field(default=None, ge=1, description="Take only the first N records.")
    upstream: str | None = Field(
        default=None,
        description="Fingerprint of the dataset these rows come from (stage_rows; set by the flow).",
        json_schema_extra=LATER,
    )
    captions: CaptionFileRecipe | None = Field(
        default=None, description="Captions to judge (benchmark_*; set by the flow).", json_schema_extra=LATER
    )


class ModelRecipe(Strict):
    """The captioner."""

    name: str = Field(description="Name recorded in every row, normally the hub id, e.g. `internlm/CapRL-3B`.")
    revision: str | None = Field(default=None, description="Hub revision (commit) of weights, tokenizer and processor.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(default="auto", description="Weights' data type.")
    quantization: str | None = Field(default=None, description="Quantisation name, e.g. `fp8` or `Q8_0`; None is none.")


class PromptRecipe(Strict):
    """What the captioner is asked."""

    id: Slug = Field(description="Name of the prompt, recorded in every row.")
    text: str = Field(min_length=1, description="The user's text, after the image.")
    system: str | None = Field(default=None, description="System text; None leaves it to the model's chat template.")


class SamplingRecipe(Strict):
    """How replies are drawn."""

    temperature: float = Field(default=1.0, ge=0, description="Softmax temperature; 0 is greedy.")
    top_p: float = Field(default=1.0, gt=0, le=1, description="Nucleus mass.")
    top_k: int = Field(default=-1, ge=-1, description="Candidates kept; -1 is all.")
    repetition_penalty: float = Field(default=1.0, gt=0, description="Factor on logits of tokens seen; 1 is off.")
    max_tokens: int = Field(default=2048, ge=1, description="Completion tokens at most.")
    seed: int = Field(default=0, ge=0, description="Base seed; each request's is derived from it, the key and attempt.")


class ImageRecipe(Strict):
    """How an image becomes what the engine sees. The tar always carries the original bytes unless `reencode` is set."""

    min_pixels: int = Field(default=4 * 28 * 28, ge=1, description="Pixels (area) at least, by upscaling.")
    max_pixels: int = Field(
        default=1280 * 28 * 28,
        ge=1,
        description="Pixels (area) at most, by downscaling; 1280 visual tokens by default.",
    )
    factor: int = Field(
        default=28, ge=1, description="Sides are multiples of this many pixels (patch 14 x merge 2 for Qwen2.5-VL)."
    )
    resample: Literal["bicubic", "lanczos", "bilinear"] = Field(default="bicubic", description="Resampling filter.")
    draft: bool = Field(default=True, description="Let the JPEG decoder scale by 1/2, 1/4 or 1/8 while decoding.")
    background: str = Field(
        default="#ffffff", pattern=r"^#[0-9a-fA-F]{6}$", description="Colour behind transparent pixels."
    )
    truncated: Literal["reject", "keep"] = Field(
        default="reject", description="What to do with an image whose data end early."
    )
    max_bytes: int = Field(default=64 * 2**20, ge=1, description="Bytes of an image file at most.")
    max_source_pixels: int = Field(
        default=178_956_970,
        ge=1,
        description="Pixels of an image before scaling at most (Pillow's own bomb limit x 2).",
    )
    min_side: int = Field(default=8, ge=1, description="Pixels of the shorter side at least.")
    max_aspect: float = Field(default=200.0, ge=1, description="Longer side / shorter side at most (Qwen's limit).")
    reencode: Literal["none", "jpeg95", "png"] = Field(
        default="none", description="Re-encode what the tar carries, at the size the engine saw; recorded in the row."
    )


class ChecksRecipe(Strict):
    """Which replies are refused. A refused reply is asked again, with another seed, while attempts are left."""

    max_attempts: int = Field(default=2, ge=1, le=10, description="Attempts a sample may use.")
    empty: bool = Field(default=True, description="Refuse replies with fewer than `min_characters` characters.")
    min_characters: int = Field(default=1, ge=1, description="Visible characters of a caption at least.")
    refusal: bool = Field(default=True, description="Refuse replies that decline the task.")
    repetition: bool = Field(default=True, description="Refuse replies that loop.")
    truncation: bool = Field(default=True, description="Refuse replies cut at max_tokens.")
    prompt_leak: bool = Field(default=True, description="Refuse replies with prompt text or chat-template tokens.")
    language: Literal["any", "latin", "cjk"] = Field(
        default="any", description="Script most letters must belong to; `any` accepts all."
    )


class DeduplicateRecipe(Strict):
    """What the plan does with repeated images."""

    by: Literal["none", "path", "sha256"] = Field(
        default="path",
        description="Compare by (source, path), or by the bytes' sha256 (which reads every image while planning).",
    )
    drop: bool = Field(default=False, description="Drop all but the first; otherwise duplicates are only reported.")


class DatasetRecipe(Strict):
    """How samples are laid out."""

    shard_samples: int = Field(default=1000, ge=1, le=100_000, description="Samples a shard.")
    deduplicate: DeduplicateRecipe = Field(default_factory=DeduplicateRecipe)


class EngineExecution(Strict):
    """Which engine answers and how it is run."""

    kind: Literal["vllm", "openai", "transformers"] = Field(description="Engine.")
    model_path: str | None = Field(default=None, description="Local folder of the model; None takes model.name.")
    served_name: str | None = Field(default=None, description="Model name a server expects; None takes model.name.")
    urls: tuple[str, ...] = Field(default=(), description="Base URLs ending in /v1 (openai).")
    api_key_env: str = Field(default="OPENAI_API_KEY", description="Environment variable holding the API key (openai).")
    concurrency: int = Field(default=64, ge=1, description="Requests in flight, over all URLs.")
    timeout_s: float = Field(default=300.0, gt=0, description="Seconds one request may take.")
    retries: int = Field(default=5, ge=0, description="Retries of one request on 429, 5xx, time-out, lost connection.")
    dead_after_s: float = Field(
        default=60.0, gt=0, description="Seconds without one success, while requests fail, until the engine is dead."
    )
    tensor_parallel: int = Field(default=1, ge=1, description="GPUs one model is split over (vllm).")
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1, description="Share of GPU memory taken (vllm).")
    max_model_len: int | None = Field(default=None, ge=1, description="Prompt + completion tokens at most (vllm).")
    enforce_eager: bool = Field(default=False, description="No CUDA graphs or compilation (vllm).")
    # More rows gain little on a CPU with a model of some size, and wait for the slowest among them.
    batch: int = Field(default=8, ge=1, description="Requests generated together at most (transformers).")
    trust_remote_code: bool = Field(default=False, description="Run Python code that comes with the model.")
    extra: dict[str, Any] = Field(
        default_factory=dict,
        description="Further engine arguments, passed as they are; not fingerprinted, so none that changes replies.",
    )

    @model_validator(mode="after")
    def _urls_for_servers(self) -> Self:
        if self.kind == "openai" and not self.urls:
            raise ValueError("execution.engine.urls: an openai engine needs at least one base URL")
        return self


class RunnerExecution(Strict):
    """How a shard is worked through."""

    # Stragglers hold shards: with log-normal latencies (sigma 1) and shards of 500 the run took 1.13 x the ideal with 2
    # shards in flight, 1.04 x with 3, 1.01 x with 4 (bench/runner.py).
    shards_in_flight: int = Field(default=4, ge=1, le=16, description="Neighbouring shards that overlap in one lane.")
    window: int | None = Field(
        default=None, ge=1, description="Samples asked but not yet in the log at most; None is 3 x concurrency."
    )
    flush_s: float = Field(default=3.0, gt=0, description="Seconds between flushes of the write-ahead log.")
    # Two at least: the first death cannot tell a sample from its neighbours.
    engine_deaths: int = Field(
        default=3, ge=2, description="Engines that die with one sample inside until its shard is quarantined."
    )
    decode_workers: int = Field(default=2, ge=1, description="Processes that decode images.")
    decode_timeout_s: float = Field(default=30.0, gt=0, description="Seconds one image may take to decode.")
    decode_memory_mb: int = Field(default=4096, ge=256, description="Memory of one decoding process at most, MiB.")
    read_concurrency: int = Field(default=16, ge=1, description="Images read from their source at once.")
    spool_dir: str | None = Field(default=None, description="Local scratch folder; None is the system's temporary one.")


class GateExecution(Strict):
    """When a finished shard is quarantined instead of published."""

    max_share: dict[str, float] = Field(
        default_factory=lambda: {"*": 0.2},
        description="Reason code (or `*` for each other one) -> share of the shard's samples it may claim, 0 to 1.",
    )
    min_samples: int = Field(default=20, ge=1, description="Shards with fewer samples are not judged.")


class StorageExecution(Strict):
    """How the object store is reached; credentials come from the usual AWS places."""

    endpoint: str | None = Field(default=None, description="S3 endpoint URL; None takes AWS_ENDPOINT_URL or AWS.")
    region: str | None = Field(default=None, description="S3 region; None takes the AWS configuration.")
    timeout_s: float = Field(default=60.0, gt=0, description="Seconds one storage request may take.")
    retries: int = Field(default=8, ge=0, description="Retries of one storage request.")
    retry_timeout_s: float = Field(default=120.0, gt=0, description="Seconds all retries of one request may take.")
    outage_s: float = Field(
        default=900.0,
        ge=0,
        description="Seconds a lane waits, its samples in hand, while the store is away or credentials have expired.",
    )


class WebExecution(Strict):
    """How `https://` images are fetched."""

    timeout_s: float = Field(default=20.0, gt=0, description="Seconds for one image.")
    allow_private: bool = Field(default=False, description="Allow loopback, link-local and private addresses.")
    retries: int = Field(default=3, ge=0, description="Retries on 429, 5xx and lost connections.")


class CostExecution(Strict):
    """What a run costs."""

    gpus: int = Field(default=1, ge=0, description="GPUs a lane keeps busy.")
    gpu_hour_price: float = Field(default=0.0, ge=0, description="Price of one GPU-hour, in `currency`.")
    currency: str = Field(default="USD", description="Currency of the price.")


class MetricsExecution(Strict):
    """Prometheus metrics of a lane; off unless a port is given."""

    port: int | None = Field(default=None, ge=1, le=65535, description="TCP port of `/metrics`; None serves nothing.")
    ports: int = Field(
        default=16, ge=1, le=1024, description="Ports tried, from `port` on: one for each lane of a host."
    )
    address: str = Field(default="127.0.0.1", description="Address to listen on; metrics have no password.")


class LogsExecution(Strict):
    """Log lines of a run."""

    format: Literal["human", "json"] = Field(
        default="human", description="`json` writes a JSON object a line, with shard and attempt; `human` adds nothing."
    )
    file: str | None = Field(default=None, description="File the JSON lines are appended to; None is standard error.")
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="Least level of the lines.")


class AlertsExecution(Strict):
    """When a run raises an event that an automation can act on."""

    failure_budget: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Share of the run's samples rejected, or of its shards failed, above which it tells; None is off.",
    )
    samples_per_second_at_least: float | None = Field(
        default=None, gt=0, description="Samples/s of the whole run below which it is told; None is off."
    )
    window_s: float = Field(default=300.0, gt=0, description="Seconds the rate is taken over.")


class StageExecution(Strict):
    """Where and how a stage runs. Nothing here changes the bytes of a row."""

    output: str = Field(description="Folder or `s3://` prefix of the dataset.")
    runner: RunnerExecution = Field(default_factory=RunnerExecution)
    gate: GateExecution = Field(default_factory=GateExecution)
    storage: StorageExecution = Field(default_factory=StorageExecution)
    web: WebExecution = Field(default_factory=WebExecution)
    cost: CostExecution = Field(default_factory=CostExecution)
    metrics: MetricsExecution = Field(default_factory=MetricsExecution)
    logs: LogsExecution = Field(default_factory=LogsExecution)
    alerts: AlertsExecution = Field(default_factory=AlertsExecution)


class Execution(StageExecution):
    """Where and how a stage that asks an engine runs."""

    engine: EngineExecution


class StageRecipe(Strict):
    """What every stage on the shard runner has in common."""

    name: Slug = Field(description="Name of the dataset; shard files are called after it.")
    sources: tuple[SourceRecipe, ...] = Field(min_length=1, description="Sources, in plan order.")
    dataset: DatasetRecipe = Field(default_factory=DatasetRecipe)
    image: ImageRecipe = Field(default_factory=ImageRecipe)
    execution: StageExecution = Field(json_schema_extra=EXECUTION)

    @model_validator(mode="after")
    def _source_names_differ(self) -> Self:
        names = [source.name for source in self.sources]
        if len(set(names)) != len(names):
            raise ValueError(f"sources: names must differ, got {names}")
        return self


class EngineRecipe(StageRecipe):
    """A stage that asks one model."""

    model: ModelRecipe
    execution: Execution = Field(json_schema_extra=EXECUTION)


class CaptionRecipe(EngineRecipe):
    """A captioning dataset."""

    prompt: PromptRecipe
    sampling: SamplingRecipe = Field(default_factory=SamplingRecipe)
    checks: ChecksRecipe = Field(default_factory=ChecksRecipe)
