"""What mmengine lacks: mixed precision on CPUs, layer decay, safe checkpoints, launch checks."""

from moca.engine.accumulate import AccumulatingIterLoop
from moca.engine.amp import AutocastDtypeHook, AutocastOptimWrapper
from moca.engine.backends import MLflowRunBackend
from moca.engine.batch_norm import RecomputeBatchNorm
from moca.engine.bf16_gradients import Bf16Gradients
from moca.engine.checkpoints import AtomicCheckpointHook
from moca.engine.config_text import format_once
from moca.engine.ema import AveragedWeights, TrainedWeightsEMA
from moca.engine.epoch_loop import ExactEpochLoop
from moca.engine.epoch_order import EpochShuffle
from moca.engine.exact_steps import ExactSampler, SeedDraws, SeedSteps
from moca.engine.fsdp import ShardedStrategy
from moca.engine.layer_decay import LayerDepthOptimWrapperConstructor
from moca.engine.rate_schedule import RateSchedule
from moca.engine.schedules import DepthMomentum, DepthRate, WarmupCosineLR
from moca.engine.watch import WatchTraining

__all__ = [
    'AccumulatingIterLoop',
    'AtomicCheckpointHook',
    'AutocastDtypeHook',
    'AutocastOptimWrapper',
    'AveragedWeights',
    'Bf16Gradients',
    'DepthMomentum',
    'DepthRate',
    'EpochShuffle',
    'ExactEpochLoop',
    'ExactSampler',
    'LayerDepthOptimWrapperConstructor',
    'MLflowRunBackend',
    'RateSchedule',
    'RecomputeBatchNorm',
    'SeedDraws',
    'SeedSteps',
    'ShardedStrategy',
    'TrainedWeightsEMA',
    'WarmupCosineLR',
    'WatchTraining',
]

format_once()
