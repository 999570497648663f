"""Training-free evaluation of patch features."""
