"""The deployable flows, one file each, and what running them without a server needs."""
