"""The report page of a curated set."""
