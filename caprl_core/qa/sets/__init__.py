"""Curated sets: their files, statistics, and the schema of the released question set."""
