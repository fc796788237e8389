"""Seeing a run: metrics of a lane, log lines that say whose they are, and what is worth an alarm."""
