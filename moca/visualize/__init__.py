"""Figures of backbones, predictions, training curves and errors."""
