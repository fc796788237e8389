"""The recipe of a training run: which captioner learns from which questions, how, and where."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from caprl_core.recipe.models import (
    EXECUTION,
    ImageRecipe,
    ModelRecipe,
    PromptRecipe,
    Slug,
    StorageExecution,
    Strict,
)
from caprl_core.recipe.reward import RewardRecipe
from caprl_core.recipe.shipped_prompts import shipped_in, shipped_prompt

_PROMPTS = "caprl_core.training"
ShippedPrompt = Annotated[PromptRecipe, BeforeValidator(shipped_in(_PROMPTS))]
"""A prompt written out, or the name of one in `caprl_core/training/prompts`."""


class LoraRecipe(Strict):
    """Low-rank adapters instead of all weights; they are merged into the exported captioner."""

    rank: int = Field(default=64, ge=1, description="Rank of the adapters.")
    alpha: float = Field(default=128.0, gt=0, description="The adapters' output is scaled by alpha / rank.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout before the adapters.")
    targets: str | tuple[str, ...] = Field(
        default="all-linear", description="Names of the layers that get adapters, or `all-linear`."
    )


class PolicyRecipe(Strict):
    """The captioner to be trained, and what it is asked."""

    model: ModelRecipe
    prompt: ShippedPrompt = Field(
        default_factory=lambda: shipped_prompt(_PROMPTS, "describe-v1"),
        description="Name of a shipped prompt, or one of your own (id, text, system).",
    )
    image: ImageRecipe = Field(default_factory=ImageRecipe)
    vision: Literal["learns", "stays"] = Field(
        default="learns", description="Whether the vision tower and what joins it to the language model learn, too."
    )
    lora: LoraRecipe | None = Field(default=None, description="Train adapters only; None trains every weight.")


class QuestionsRecipe(Strict):
    """The questions, with the pictures they are about; their content, not their place, is part of the identity."""

    train: str = Field(
        description="Parquet files with images in the schema of CapRL-QA-75K (`caprl qa export`): file, folder, glob.",
        json_schema_extra=EXECUTION,
    )
    held_out: str | None = Field(
        default=None,
        description="Such files of pictures that are never trained on; None sets `pictures` of `train` apart.",
        json_schema_extra=EXECUTION,
    )
    pictures: int = Field(default=256, ge=1, description="Held-out pictures that are looked at.")


class GrpoRecipe(Strict):
    """Group-relative policy optimisation."""

    groups: int = Field(default=128, ge=1, description="Pictures a step.")
    rollouts: int = Field(default=8, ge=2, description="Captions of a picture (the group).")
    max_tokens: int = Field(default=4096, ge=1, description="Tokens of a caption at most.")
    temperature: float = Field(default=1.0, gt=0, description="Softmax temperature of rollouts.")
    top_p: float = Field(default=1.0, gt=0, le=1, description="Nucleus mass of rollouts.")
    top_k: int = Field(default=-1, ge=-1, description="Candidates kept; -1 is all.")
    advantage: Literal["group", "batch", "none"] = Field(
        default="group",
        description="The reward less its group's mean, divided by the deviation of the group, of the step, or by 1.",
    )
    loss: Literal["grpo", "dapo", "dr_grpo", "bnpo"] = Field(
        default="grpo",
        description="grpo: mean over a caption's tokens, then over captions; dapo: mean over all tokens of the step; "
        "dr_grpo: sum over tokens / max_tokens; bnpo: mean over the tokens of a micro-batch.",
    )
    kl: float = Field(default=0.0, ge=0, description="Weight of the KL penalty towards the start (beta).")
    clip: float = Field(default=0.2, gt=0, description="Width of the clipped ratio; without effect at one update.")
    # With more TRL 1.16 counts every pass as a step, tells the first one's figures again, and its checkpoints forget
    # captions that are to be passed over once more.
    updates: int = Field(
        default=1, ge=1, le=1, description="Passes over the captions of a step; only 1, as TRL cannot resume more."
    )
    mask_truncated: bool = Field(default=False, description="Leave captions cut at the limit out of the loss.")


class OptimiserRecipe(Strict):
    """AdamW."""

    learning_rate: float = Field(default=1e-6, gt=0, description="Peak.")
    schedule: Literal["constant", "cosine", "linear"] = Field(default="cosine", description="After the warm-up.")
    warmup_steps: int = Field(default=0, ge=0, description="Steps of linear warm-up.")
    final_share: float = Field(default=0.0, ge=0, le=1, description="Of the peak, at the end of a cosine.")
    betas: tuple[float, float] = Field(default=(0.9, 0.999), description="Of the moments.")
    weight_decay: float = Field(default=0.0, ge=0, description="Decoupled weight decay.")
    max_grad_norm: float = Field(default=1.0, gt=0, description="The gradient is scaled down to this norm.")


class CollapseRecipe(Strict):
    """When training has gone wrong and stops. Each is judged by its mean over the last `window` steps."""

    window: int = Field(default=10, ge=1, description="Steps.")
    length_factor: float | None = Field(
        default=8.0, gt=1, description="Captions so many times longer than in the first window."
    )
    truncated: float | None = Field(default=0.5, gt=0, le=1, description="Share of captions cut at the token limit.")
    repetitive: float | None = Field(default=0.5, gt=0, le=1, description="Share of captions that loop.")
    abstained: float | None = Field(default=0.98, gt=0, le=1, description="Share of answers the reader declined.")
    entropy_below: float | None = Field(default=1e-4, ge=0, description="Nats a token: the policy is certain.")


class EvaluationRecipe(Strict):
    """How the captioner is looked at while it learns: greedy captions of held-out pictures."""

    every: int = Field(default=50, ge=1, description="Steps between evaluations; also at start and end.")
    watched: int = Field(default=8, ge=0, description="Held-out pictures whose captions the page shows side by side.")
    second_reader: RewardRecipe | None = Field(
        default=None, description="Another reader, asked about the same captions: a policy may learn to please its own."
    )
    export: Literal["best", "last"] = Field(default="best", description="Which checkpoint becomes the captioner.")


class RolloutExecution(Strict):
    """What writes the captions of a step."""

    kind: Literal["transformers", "vllm_colocate", "vllm_server"] = Field(
        default="transformers",
        description="vLLM beside the policy on the same GPUs, a vLLM server of its own, or the policy itself.",
    )
    server_url: str | None = Field(default=None, description="Base URL of the server (vllm_server).")
    gpu_memory_utilization: float = Field(default=0.4, gt=0, le=1, description="Share of GPU memory (vllm_colocate).")
    tensor_parallel: int = Field(default=1, ge=1, description="GPUs one copy is split over (vllm_colocate).")
    max_model_len: int | None = Field(default=None, ge=1, description="Prompt + caption tokens at most.")
    sleep: bool = Field(default=True, description="Give the memory back during the update (vllm_colocate).")

    @model_validator(mode="after")
    def _url_for_servers(self) -> Self:
        if self.kind == "vllm_server" and self.server_url is None:
            raise ValueError("execution.rollouts.server_url: a vllm_server needs its address")
        return self


class TrainingExecution(Strict):
    """Where and how it runs. Nothing here changes what is learnt, but for rounding."""

    output: str = Field(description="Folder or `s3://` prefix of the run: checkpoints, rollouts, captioner, page.")
    work: str | None = Field(
        default=None, description="Local folder of the run; None is `output` itself, if that is local."
    )
    model_path: str | None = Field(default=None, description="Local folder of the policy; None takes model.name.")
    trust_remote_code: bool = Field(default=False, description="Run Python code that comes with the model.")
    rollouts: RolloutExecution = Field(default_factory=RolloutExecution)
    processes: int = Field(default=1, ge=1, description="Training processes; more than one run by `accelerate launch`.")
    accelerate_config: str | None = Field(
        default=None, description="Configuration file of `accelerate launch`; `processes` must be its num_processes."
    )
    micro_batch: int = Field(default=4, ge=1, description="Captions a process learns from at once.")
    evaluation_batch: int = Field(default=32, ge=1, description="Held-out captions a process writes at once.")
    precision: Literal["float32", "bfloat16"] = Field(
        default="bfloat16", description="Of the arithmetic; the weights that learn are float32 either way."
    )
    gradient_checkpointing: bool = Field(default=True, description="Trade time for memory.")
    threads: int | None = Field(default=None, ge=1, description="CPU threads of a process; None leaves it to torch.")
    decode_workers: int = Field(default=2, ge=1, description="Processes that check the pictures once, at the start.")
    checkpoint_every: int = Field(default=50, ge=1, description="Steps between checkpoints; evaluations have one, too.")
    checkpoints_kept: int = Field(default=3, ge=1, description="The latest ones; an earlier best one is kept besides.")
    storage: StorageExecution = Field(default_factory=StorageExecution)


class TrainingRecipe(Strict):
    """A captioner trained to say what a reader needs to know."""

    name: Slug = Field(description="Name of the run, and of the captioner it registers.")
    policy: PolicyRecipe
    questions: QuestionsRecipe
    reward: RewardRecipe
    grpo: GrpoRecipe = Field(default_factory=GrpoRecipe)
    optimiser: OptimiserRecipe = Field(default_factory=OptimiserRecipe)
    steps: int = Field(ge=1, description="Steps: rollouts, reward and update.")
    # numpy takes 32 bits, and TRL adds the process's number.
    seed: int = Field(default=0, ge=0, lt=2**31, description="Of the pictures' order and of every rollout.")
    evaluation: EvaluationRecipe = Field(default_factory=EvaluationRecipe)
    collapse: CollapseRecipe = Field(default_factory=CollapseRecipe)
    execution: TrainingExecution = Field(json_schema_extra=EXECUTION)

    @model_validator(mode="after")
    def _batch_divides(self) -> Self:
        captions = self.grpo.groups * self.grpo.rollouts
        share = self.execution.processes * self.execution.micro_batch
        if captions % share:
            raise ValueError(
                f"grpo.groups x grpo.rollouts = {captions} captions a step cannot be divided among "
                f"execution.processes x execution.micro_batch = {share}"
            )
        return self

    @model_validator(mode="after")
    def _work_is_local(self) -> Self:
        if self.execution.work is None and "://" in self.execution.output:
            raise ValueError(f"execution.work: output is {self.execution.output}, so name a local folder to work in")
        return self
