"""How fast a training step of a detection protocol is and what it needs, beside a plain version."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from mmengine.structures import InstanceData

from moca.engine.memory import keep_freed_memory
from moca.errors import UserError
from tools.benchmarks.detector_memory import backbone_bytes, free_bytes
from tools.benchmarks.detector_models import share_parameters, straightforward, with_recomputation
from tools.benchmarks.measure import peak_bytes
from tools.benchmarks.table import (
    OURS,
    Table,
    fits_gpu,
    measure_versions,
    quiet,
    training_step,
    training_wrapper,
)

PLAIN, KEPT = 'plain', f'{OURS}, activations kept'

# Over what a version is expected to need [our choice]: an allocator holds more than its tensors. A
# plain step at 1024 px, counted at 13.4 GiB, was killed when the process had 24.
MARGIN = 2.0


@quiet()
def measure_detector(
    cfg: Config, size: int, batch: int, steps: int, dtype: str, device: torch.device, real: bool
) -> Table:
    """Take training steps of a protocol's detector and of a plain version, in turn, on one batch.

    Ours has the protocol's windows, fused attention and gradient checkpointing; a third version
    keeps its activations. The plain one attends over the whole image in every block by
    ``softmax(q k^T) v`` and keeps everything. All have the same weights and optimizer, but
    the plain one has no relative positions, as the title says of protocols that have them; loading
    is not measured. What has no room is left out, and the title says so: on a GPU a version which
    runs out of memory, on a CPU one that keeps its activations and would need more than there is.

    Args:
        cfg: of a detection protocol.
        size: sides of the images in pixels.
        batch: images a step.
        steps: how many to time of each version, after one that is not.
        dtype: ``float32``, ``bfloat16`` or ``float16``, the latter two by autocast.
        device: where to run.
        real: take the batch from the training set, resized, else make images up.

    Raises:
        UserError: if a number is not positive, or the protocol is none of detection.
    """
    if min(batch, steps, size) < 1:
        raise UserError(
            f'--batch-size {batch}, --steps {steps} and --size {size} must be 1 or more.'
        )
    if cfg.protocol.task != 'detection':
        raise UserError(f'{cfg.filename}: no detector. Choose a config of configs/detection.')
    if 'roi_head' not in (cfg.get('model') or {}):
        raise UserError(f'{cfg.filename}: no plain version is known. Choose the benchmark eomt.')
    if device.type == 'cpu':
        keep_freed_memory()  # as in every run of the tools; all versions gain
    init_default_scope('mmdet')
    cfg = of_size(cfg, size)
    free = free_bytes()
    configs = {
        PLAIN: straightforward(cfg),
        OURS: with_recomputation(cfg, True),
        KEPT: with_recomputation(cfg, False),
    }
    ours = build_detector(configs[OURS]).to(device)
    wrapper = training_wrapper(ours, cfg, dtype, device)
    data = (
        _real_batch(cfg, size, batch)
        if real
        else made_up_objects(_number_of_classes(cfg.model.roi_head), size, batch)
    )
    calls = {}
    for name, version in configs.items():
        model = ours if name == OURS else build_detector(version).to(device)
        share_parameters(model, ours)
        calls[name] = training_step(model, wrapper, data)
    title = (
        f'{Path(cfg.filename).stem}, {cfg.model.backbone.arch}, {dtype}, {device}: training steps '
        f'of {batch} images of {size} x {size}; {steps} of each version, in turn; medians'
    )
    if cfg.model.backbone.get('rel_pos'):
        title += f'\n{PLAIN}: without relative positions'
    left_out: dict[str, str] = {}
    if device.type == 'cuda':
        left_out = _beyond_gpu(calls, device)
    elif device.type == 'cpu' and free is not None:
        backbones = {
            name: backbone_bytes(version.model.backbone, batch, size, dtype)
            for name, version in configs.items()
        }
        left_out = _beyond_memory(peak_bytes(calls[OURS], device), backbones, free)
    for name, reason in left_out.items():
        del calls[name]
        title += f'\n{name}: left out, {reason}'
    return Table(title, batch, measure_versions(calls, steps, device))


def _beyond_gpu(
    calls: Mapping[str, Callable[[int], object]], device: torch.device
) -> dict[str, str]:
    """Versions that run out of a GPU's memory, with the reason.

    Raises:
        UserError: ours is one of them.
    """
    reason = f'it does not fit {torch.cuda.get_device_name(device)}'
    found = {name: reason for name, call in calls.items() if not fits_gpu(call)}
    if OURS in found:
        raise UserError('No version fits the GPU: take a smaller --size or --batch-size.')
    return found


def _beyond_memory(peak: int, backbones: Mapping[str, int], free: int) -> dict[str, str]:
    """Versions that would need more than is free, with the reason.

    Args:
        peak: bytes that our step needs, as measured.
        backbones: bytes that each version's backbone needs.
        free: bytes.
    """
    found = {}
    for name in (PLAIN, KEPT):  # ours as measured, with the version's backbone in its place
        need = peak - backbones[OURS] + backbones[name]
        if MARGIN * need > free:
            found[name] = (
                f'it needs about {need / 2**30:.1f} GiB, with a margin {MARGIN:g} times that, and '
                f'{free / 2**30:.1f} are free; a smaller --size compares all'
            )
    return found


def of_size(cfg: Config, size: int) -> Config:
    """The config for square images of one size, padded to it."""
    cfg = copy.deepcopy(cfg)
    cfg.model.data_preprocessor.pad_size_divisor = size
    cfg.model.backbone.img_size = size
    return cfg


def build_detector(cfg: Config) -> Any:
    """The detector of a config, with the same random weights each time."""
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return revert_sync_batchnorm(model).train()  # as a Runner of one process does


def _real_batch(cfg: Config, size: int, batch: int) -> dict[str, Any]:
    loader = copy.deepcopy(cfg.train_dataloader)
    loader.update(batch_size=batch, num_workers=0, persistent_workers=False)
    loader.dataset.pipeline = [
        dict(type='LoadReadableImage', skip=True),
        dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
        dict(type='Resize', scale=(size, size), keep_ratio=True),
        dict(type='PackDetInputs'),
    ]
    return next(iter(Runner.build_dataloader(loader, seed=0)))


def made_up_objects(classes: int, size: int, batch: int, objects: int = 8) -> dict[str, Any]:
    """Noise with boxes of all sizes; an image of train2017 has 7.3 objects (860,001 / 118,287)."""
    generator = torch.Generator().manual_seed(0)
    made: dict[str, Any] = dict(inputs=[], data_samples=[])
    for _ in range(batch):
        corners = torch.rand(objects, 2, 2, generator=generator).sort(dim=1).values * (size - 8)
        boxes = torch.cat((corners[:, 0], corners[:, 1] + 8), dim=1)
        masks = torch.zeros(objects, size, size, dtype=torch.uint8)
        for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
            mask[top:bottom, left:right] = 1
        shape = (size, size)
        about = dict(img_shape=shape, ori_shape=shape, pad_shape=shape, scale_factor=(1.0, 1.0))
        sample = DetDataSample(metainfo=about)
        sample.gt_instances = InstanceData(
            bboxes=boxes,
            labels=torch.randint(classes, (objects,), generator=generator),
            masks=BitmapMasks(masks.numpy(), size, size),
        )
        made['data_samples'].append(sample)
        image = torch.randint(256, (3, *shape), generator=generator, dtype=torch.uint8)
        made['inputs'].append(image)
    return made


def _number_of_classes(roi_head: Any) -> int:
    heads = roi_head.bbox_head
    return (heads[0] if isinstance(heads, list | tuple) else heads).num_classes
