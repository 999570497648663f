"""Training with sharded parameters: mmengine's FSDP strategy, made to fit pre-training."""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.distributed as dist
from mmengine._strategy import BaseStrategy, FSDPStrategy
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import get_world_size, is_distributed
from mmengine.logging import print_log
from mmengine.model import MMFullyShardedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS, STRATEGIES
from mmengine.runner import FlexibleRunner, Runner
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

from moca.engine.hooks import named_hooks
from moca.engine.same_run import SameOnAllProcesses
from moca.errors import UserError

# What a moving average reads and writes, beside the blocks.
_AVERAGED = ('student.', 'teacher.', 'projector.', 'teacher_projector.')


def runner_of(cfg: Config) -> Any:
    """The runner of a config: mmengine's `FlexibleRunner` where a ``strategy`` is to be used.

    A run without a launcher has nobody to share parameters with, and takes the plain `Runner`.

    Raises:
        UserError: A hook is to look at an encoder whose parameters are sharded.
    """
    runner = _build(cfg)
    runner.register_hook(SameOnAllProcesses())
    return runner


def _build(cfg: Config) -> Any:
    if not cfg.get('strategy'):
        return Runner.from_cfg(cfg)
    if cfg.get('launcher', 'none') == 'none':
        print_log(f'strategy={cfg.strategy.type}: one process, nothing is sharded.', 'current')
        return Runner.from_cfg(cfg)
    for field, hook in named_hooks(cfg):
        if getattr(HOOKS.get(hook['type']), 'runs_encoder', False):
            raise UserError(
                f'{field}: {hook["type"]} runs the encoder on one process, or not equally '
                'often on all, and would wait for ever for the shards of the others. Leave it out '
                '(no --knn) and evaluate the checkpoints, or keep the parameters whole with '
                '--cfg-options strategy=None.'
            )
    return FlexibleRunner.from_cfg(cfg)


@STRATEGIES.register_module()
class ShardedStrategy(FSDPStrategy):
    """Every transformer block is a unit whose weights, gradients and optimizer state are shared
    out over the processes; what is left of the model is one more unit.

    Checkpoints are whole and the same as without sharding: any tool reads them, and a run may be
    resumed with or without it (by another number of processes with ``--resume-approximately``).
    mmengine's own strategy cannot serve: it passes arguments in the order of torch 2.0, clips each
    process's shard by the shard's own norm, lets the constructor of the optimizer see flattened
    shards (whose single dimension would exempt them from weight decay), and needs a GPU. What it
    gathers to be saved, `AtomicCheckpointHook` takes and writes.

    Every process keeps what the student and the teacher have beside their blocks, and their
    projectors: the moving average is taken shard by shard, which takes equal shards of equal parts.

    Args:
        kwargs: Those of mmengine's ``BaseStrategy``.

    Raises:
        UserError: With float16, whose loss scale would differ between processes.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(state_dict_cfg='full', **kwargs)
        # moving to a CPU is also torch's way of copying; what is there already it would overwrite
        # or free
        offload = get_device() != 'cpu'
        self.state_dict_config.offload_to_cpu = offload
        self.optim_state_dict_config.offload_to_cpu = offload

    def prepare(self, model: Any, *, optim_wrapper: Any = None, **kwargs: Any) -> Any:
        """Build, initialize and shard the model; build the optimizer."""
        if not is_distributed():
            raise UserError('strategy: start the tool by a launcher (--launcher pytorch).')
        self._optim_wrapper_cfg = optim_wrapper
        return super().prepare(model, optim_wrapper=optim_wrapper, **kwargs)

    # ------------------------------------------------------------------ model and optimizer

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        device = torch.device(get_device())
        if device.type == 'cuda':
            device = torch.device('cuda', torch.cuda.current_device())
        model.to(device)
        # parameter groups by the parameters' own shapes
        self._whole_wrapper = BaseStrategy.build_optim_wrapper(self, self._optim_wrapper_cfg, model)
        shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
        whole = _whole_parameters(model)
        for parameter in whole:
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(_average_gradient)
        sharded = MMFullyShardedDataParallel(
            model,
            device_id=device,
            auto_wrap_policy=ModuleWrapPolicy({Block}),
            use_orig_params=True,
            ignored_states=whole,
        )
        with warnings.catch_warnings():
            # torch points to functions that mmengine does not know
            warnings.simplefilter('ignore', FutureWarning)
            MMFullyShardedDataParallel.set_state_dict_type(
                sharded, self.state_dict_type, self.state_dict_config, self.optim_state_dict_config
            )
        sharded.whole_shapes = shapes  # for `check_fit`
        sharded.replicated = whole  # for `whole_tensors`
        return sharded

    def build_optim_wrapper(self, optim_wrapper: Any, model: Any = None) -> OptimWrapper:
        """The optimizer made for the whole model, over the shards, and a clip over all of them."""
        wrapper = self._whole_wrapper
        if getattr(getattr(wrapper, 'scaler', None), 'is_enabled', lambda: False)():
            raise UserError(
                'strategy: float16 is not supported with sharded parameters. Use float32 '
                '(--no-amp) or a GPU with bfloat16.'
            )
        shards = {_plain(name): parameter for name, parameter in model.named_parameters()}
        for group in wrapper.optimizer.param_groups:
            group['params'] = [shards[self.id_to_name[id(p)]] for p in group['params']]

        def clip(parameters: Any, max_norm: float, norm_type: float = 2.0) -> Tensor:
            return model.clip_grad_norm_(max_norm, norm_type)

        if wrapper.clip_grad_kwargs:
            wrapper.clip_func = clip
        return wrapper

    # ------------------------------------------------------------------ checkpoints

    def optim_state_dict(self) -> dict[str, Any]:
        """Return the state of the whole parameters by number, as without sharding; on rank 0."""
        state = MMFullyShardedDataParallel.optim_state_dict(
            self.model, self.optim_wrapper.optimizer
        )
        return _renamed(state, {name: i for i, name in enumerate(self._names())}) if state else {}

    def load_optim_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take this process's shards of what :meth:`optim_state_dict` gave."""
        named = _renamed(state_dict, dict(enumerate(self._names())))
        shards = MMFullyShardedDataParallel.optim_state_dict_to_load(
            self.model, self.optim_wrapper.optimizer, named
        )
        self.optim_wrapper.optimizer.load_state_dict(shards)

    def _names(self) -> list[str]:
        """Names of the optimizer's parameters, in its order."""
        names = {id(p): _plain(name) for name, p in self.model.named_parameters()}
        groups = self.optim_wrapper.optimizer.param_groups
        return [names[id(parameter)] for group in groups for parameter in group['params']]


def _whole_parameters(model: nn.Module) -> list[nn.Parameter]:
    blocks = {id(p) for m in model.modules() if isinstance(m, Block) for p in m.parameters()}
    return [
        parameter
        for name, parameter in model.named_parameters()
        if name.startswith(_AVERAGED) and id(parameter) not in blocks
    ]


def _renamed(state: dict[str, Any], names: dict[Any, Any]) -> dict[str, Any]:
    """An optimizer's state under other keys for its parameters."""
    return {
        'state': {names[key]: value for key, value in state['state'].items()},
        'param_groups': [
            {**group, 'params': [names[key] for key in group['params']]}
            for group in state['param_groups']
        ],
    }


def _plain(name: str) -> str:
    return name.replace('_fsdp_wrapped_module.', '')


def _average_gradient(parameter: Tensor) -> None:
    """Average the gradient of what FSDP leaves alone; several backward passes may add up in it."""
    assert parameter.grad is not None
    dist.all_reduce(parameter.grad)
    parameter.grad /= get_world_size()
