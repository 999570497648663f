"""Tar shards: where their images lie, reading them in any order, writing and verifying them."""
