"""The factory's engine room: pure Python, no orchestrator.

A stage maps a shard of samples to a shard of rows through an engine; a shard becomes visible by one conditional
commit. Read `docs/architecture.md` for one sentence a module.
"""
