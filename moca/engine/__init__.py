"""What mmengine lacks: mixed precision on CPUs, layer decay, config checks, a launcher check."""

from moca.engine.amp import AutocastDtypeHook, AutocastOptimWrapper
from moca.engine.layer_decay import LayerDepthOptimWrapperConstructor

__all__ = ['AutocastDtypeHook', 'AutocastOptimWrapper', 'LayerDepthOptimWrapperConstructor']
