"""What a mask transformer costs beside UPerNet and Mask R-CNN on the same ViT and images."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from moca.backbone.arch import vit_dimensions
from moca.engine.cli import read_config
from moca.engine.memory import keep_freed_memory
from moca.errors import UserError
from moca.transfer.overrides import set_arch
from tools.benchmarks.detector import build_detector, made_up_objects, of_size
from tools.benchmarks.segmentor import build_segmentor, made_up_labels
from tools.benchmarks.table import (
    Version,
    measure_versions,
    quiet,
    training_step,
    training_wrapper,
)

_CONFIGS = Path(__file__).parents[2] / 'configs'
_PRESENT = 10
"""Classes in an image of ADE20K: 10.5 on average (Zhou et al., IJCV 2019). The loss of a mask
transformer grows with them."""

PAIRS = {
    'semantic': {
        'EoMT': 'segmentation/ade20k/eomt.py',
        'UPerNet': 'segmentation/ade20k/upernet.py',
    },
    'instance': {
        'EoMT': 'detection/coco/eomt_instance.py',
        'Mask R-CNN': 'detection/coco/mask-rcnn_1x.py',
    },
}


@dataclass(frozen=True)
class Costs:
    """Figures of both networks of a task.

    Attributes:
        task: ``semantic`` or ``instance``.
        batch: Images a turn.
        training, inference: By network.
    """

    task: str
    batch: int
    training: dict[str, Version]
    inference: dict[str, Version]

    def __str__(self) -> str:
        rows = []
        for name in self.training:
            cells = [f'{self.task:10}{name:12}']
            for versions in (self.training, self.inference):
                version = versions[name]
                cells.append(f'{self.batch / version.median:12.3f}{version.bytes / 2**20:12.1f}')
            rows.append(''.join(cells))
        first, second = self.training
        ratios = [
            f'{v[second].median / v[first].median:12.3f}{v[first].bytes / v[second].bytes:12.3f}'
            for v in (self.training, self.inference)
        ]
        rows.append(f'{"":10}{"ratio":12}' + ''.join(ratios))
        return '\n'.join(rows)


HEADING = f'{"":22}{"train im/s":>12}{"peak MiB":>12}{"test im/s":>12}{"peak MiB":>12}'


@quiet()
def measure_eomt(
    task: str, arch: str, size: int, batch: int, steps: int, dtype: str, device: torch.device
) -> Costs:
    """Take training steps, and then predict, with both networks of a task in turn.

    Both are those of their protocols at another size, from random weights. The mask transformer
    predicts as after training, without masks.

    Args:
        task: ``semantic`` or ``instance``.
        arch: A timm name.
        size: Sides of the images in pixels.
        batch: Images a turn.
        steps: Timed turns of each, after one that is not.
        dtype: ``float32``, ``bfloat16`` or ``float16``, the latter two by autocast.
        device: Where to run.

    Raises:
        UserError: A number is not positive, or the size is not of whole patches.
    """
    if min(batch, steps, size) < 1:
        raise UserError('--batch-size, --steps and --size must be 1 or more.')
    patch = vit_dimensions(arch).patch_size
    if size % patch:
        raise UserError(f'--size {size}: not a multiple of the patches of {arch} ({patch} pixels).')
    if device.type == 'cpu':
        keep_freed_memory()
    training: dict[str, Callable[[int], Any]] = {}
    inference: dict[str, Callable[[int], Any]] = {}
    for name, path in PAIRS[task].items():
        cfg = read_config(_CONFIGS / path)
        set_arch(cfg, arch)
        init_default_scope(cfg.default_scope)
        model, data = (
            _semantic(cfg, size, batch) if task == 'semantic' else _instance(cfg, size, batch)
        )
        model = model.to(device)
        wrapper = training_wrapper(model, cfg, dtype, device)
        training[name] = _in_mode(model, True, training_step(model, wrapper, data))
        inference[name] = _in_mode(model, False, _prediction(model, data, dtype, device))
    trained = measure_versions(training, steps, device)
    return Costs(task, batch, trained, measure_versions(inference, steps, device))


def _semantic(cfg: Config, size: int, batch: int) -> tuple[Any, dict[str, Any]]:
    cfg = copy.deepcopy(cfg)
    cfg.model.data_preprocessor.size = (size, size)
    cfg.model.backbone.img_size = (size, size)
    if cfg.model.type == 'MaskTransformerSegmentor':
        cfg.model.test_cfg.size = size
    else:
        cfg.model.test_cfg = dict(mode='whole')
    return build_segmentor(cfg), made_up_labels(cfg, batch, _PRESENT)


def _instance(cfg: Config, size: int, batch: int) -> tuple[Any, dict[str, Any]]:
    cfg = of_size(cfg, size)
    return build_detector(cfg), made_up_objects(80, size, batch)


def _in_mode(model: Any, training: bool, call: Callable[[int], Any]) -> Callable[[int], Any]:
    def turn(number: int) -> Any:
        model.train(training)
        if not training and hasattr(model, 'network'):
            model.network.set_mask_probs([0.0] * model.network.num_blocks)
        elif hasattr(model, 'network'):
            model.network.set_mask_probs([1.0] * model.network.num_blocks)
        return call(number)

    return turn


def _prediction(
    model: Any, data: dict[str, Any], dtype: str, device: torch.device
) -> Callable[[int], Any]:
    half = dtype != 'float32'

    @torch.no_grad()
    def predict(_: int) -> Any:
        samples = [sample.clone() for sample in data['data_samples']]
        for sample, image in zip(samples, data['inputs'], strict=True):
            shape = tuple(image.shape[1:])
            sample.set_metainfo(dict(ori_shape=shape, img_shape=shape, scale_factor=(1.0, 1.0)))
        with torch.autocast(device.type, getattr(torch, dtype) if half else None, enabled=half):
            return model.test_step(dict(inputs=list(data['inputs']), data_samples=samples))

    return predict
