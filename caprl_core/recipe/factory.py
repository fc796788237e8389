"""The recipe of the whole factory: which recipes follow one another, and when their outcome is published."""

from pydantic import Field

from caprl_core.recipe.models import EXECUTION, Slug, StorageExecution, Strict


class PublishRecipe(Strict):
    """Where a dataset is published, and what its captioner must not be worse than."""

    output: str = Field(
        description="Folder or `s3://` prefix of the publications, one sub-folder each.", json_schema_extra=EXECUTION
    )
    margin: float = Field(
        default=0.01,
        ge=0,
        le=1,
        # With 0 a captioner as good as the one before is never published: its interval reaches below 0.
        description="The lower end of the paired interval of the difference may lie this far below 0 (share).",
    )
    baseline: str | None = Field(
        default=None,
        description=(
            "Results of the evaluation to be compared with; None: of what was published last, or else of the captioner "
            "that training began with."
        ),
        json_schema_extra=EXECUTION,
    )
    licence: str | None = Field(default=None, description="Hub identifier of the captions' terms, for the card.")


class FactoryRecipe(Strict):
    """Questions, a captioner trained on them, a dataset by it, its evaluation, and its publication if it is no worse.

    Each part is a recipe file of its own; what one part makes is handed to the next, whatever its file says there:
    questions to training, the trained captioner to annotation and evaluation.
    """

    name: Slug = Field(description="Name of the factory.")
    curate: str | None = Field(default=None, description="Recipe of the questions; None where training has its own.")
    train: str = Field(description="Recipe of the training.")
    annotate: str = Field(description="Recipe of the dataset.")
    evaluate: str = Field(description="Recipe of the evaluation; its captioner's model is replaced.")
    publish: PublishRecipe
    work: str = Field(description="Local folder for the derived recipes and the model.", json_schema_extra=EXECUTION)
    storage: StorageExecution = Field(
        default_factory=StorageExecution,
        description="How the store of the publications is reached.",
        json_schema_extra=EXECUTION,
    )
