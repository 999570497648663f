"""Predict with what a run has trained: images, folders and videos in, arrays and files out."""
