"""Samples, rows, images and the readers of every source format."""
