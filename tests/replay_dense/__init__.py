"""Replay recordings of the original code of dense evaluation protocols."""
