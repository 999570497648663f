"""Training beside a moving average of the weights, which is what is validated and saved."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import EMAHook
from mmengine.model import MomentumAnnealingEMA
from mmengine.registry import HOOKS, MODELS
from torch import nn

from moca.command_line import EMA_MOMENTUM as MOMENTUM
from moca.errors import UserError


@MODELS.register_module()
class TrainedWeightsEMA(MomentumAnnealingEMA):
    """The moving average of a model's trained weights and of the statistics of its norms.

    After step n, from 1 on, the average moves by ``max(momentum, 10 / (9 + n))`` of the way to the
    weights, so that those of the beginning are forgotten: it is over the last tenth of a short run
    [the rule is mmengine's, with gamma 100; 10 is our choice, near the 9 / (10 + n) of
    TensorFlow's ExponentialMovingAverage]. Frozen weights are the model's own tensors: they take
    neither memory nor time.

    Args:
        model: what is averaged.
        momentum: share of the newest weights.
        gamma: steps after which the average begins to forget.
    """

    def __init__(self, model: nn.Module, momentum: float = MOMENTUM, gamma: int = 10) -> None:
        super().__init__(model, momentum, gamma, update_buffers=True)
        self.share_frozen(model)

    def share_frozen(self, model: nn.Module) -> None:
        """Take over what is frozen, and average the rest."""
        frozen = {k: value for k, value in model.named_parameters() if not value.requires_grad}
        for name, parameter in frozen.items():
            owner, _, leaf = name.rpartition('.')
            setattr(self.module.get_submodule(owner), leaf, parameter)
        state = self.module.state_dict()
        self.avg_parameters = {k: value for k, value in state.items() if k not in frozen}


@HOOKS.register_module()
class AveragedWeights(EMAHook):
    """mmengine's `EMAHook` with `TrainedWeightsEMA`.

    Validation sees the average, and a checkpoint's ``state_dict`` is the average, so that testing
    and images take it as well; the weights that training goes on with are its
    ``ema_state_dict``.

    Args:
        momentum: of `TrainedWeightsEMA`.

    Raises:
        UserError: a checkpoint to resume from was written without this hook.
    """

    def __init__(self, momentum: float = MOMENTUM) -> None:
        super().__init__('TrainedWeightsEMA', momentum=momentum)
        self._built = False

    def before_run(self, runner: Any) -> None:
        """Make the average, once: mmengine calls this before training and before validation."""
        if not self._built:
            super().before_run(runner)
            self._built = True

    def before_train(self, runner: Any) -> None:
        """Share what is frozen by now: weights were initialized or loaded since `before_run`."""
        super().before_train(runner)
        self.ema_model.share_frozen(self.src_model)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Save the average, and beside it what training goes on with, without what is frozen."""
        super().before_save_checkpoint(runner, checkpoint)
        kept = {'steps', *(f'module.{name}' for name in self.ema_model.avg_parameters)}
        state = checkpoint['ema_state_dict']
        checkpoint['ema_state_dict'] = {key: state[key] for key in state if key in kept}

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Go on with both on resuming."""
        if runner._resume and 'ema_state_dict' not in checkpoint:
            raise UserError(
                'the checkpoint to resume from has no averaged weights: it is of a run without '
                '--ema. Leave --ema out, or start a new run with --work-dir.'
            )
        super().after_load_checkpoint(runner, checkpoint)
