"""Trains the tiny models from nothing, on one CPU core each."""
