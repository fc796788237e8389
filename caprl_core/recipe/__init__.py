"""Recipes: the YAML of `configs/` as checked models, split into identity and execution."""
