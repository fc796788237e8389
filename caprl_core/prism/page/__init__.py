"""The page of a Prism run."""
