"""Trained models as graphs that run without this suite: ONNX files, and torch.export's.

Weights for other libraries are another matter: `moca.checkpoints.export`.
"""
