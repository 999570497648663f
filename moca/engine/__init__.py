"""What mmengine lacks: mixed precision on CPUs, layer decay, config and data checks."""

from moca.engine.amp import AutocastDtypeHook, AutocastOptimWrapper

__all__ = ['AutocastDtypeHook', 'AutocastOptimWrapper']
