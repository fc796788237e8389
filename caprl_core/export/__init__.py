"""Getting a finished dataset out: JSONL for trainers, a verified local copy, a dataset card."""
