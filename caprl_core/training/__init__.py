"""GRPO training of the captioner with the question-answering reward."""
