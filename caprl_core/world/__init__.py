"""The embedded world: tiny models and servers that let everything run without a GPU or a network."""
