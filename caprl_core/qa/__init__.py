"""QA curation: questions about images that a reader can answer with the image and cannot answer without it."""
