"""The writer's blocks: read tolerantly, judged strictly, rendered as the released ones are."""
