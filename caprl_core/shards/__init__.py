"""The one mechanism: plan, run, gate, pack, commit, verify and revise shards of samples."""
