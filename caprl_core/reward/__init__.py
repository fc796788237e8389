"""The reward of a caption: how well a reader who never saw the picture answers questions from it; and baselines."""
