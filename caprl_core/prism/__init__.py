"""Prism: how good captions are, measured by what a judge can answer from them alone."""
