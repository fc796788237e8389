"""Thin Prefect tasks: retries, limits and artifacts around what `caprl_core` does."""
