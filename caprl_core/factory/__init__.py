"""The whole factory as one chain: recipes derived from what the part before made, and what was published."""
