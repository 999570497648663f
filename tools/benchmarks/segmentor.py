"""How fast a training step of a segmentation protocol is and what it needs, beside mmseg's own."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from moca.engine.memory import keep_freed_memory
from moca.errors import UserError
from tools.benchmarks.segmentor_models import mmseg_segmentor, what_mmseg_lacks
from tools.benchmarks.table import (
    OURS,
    Table,
    measure_versions,
    quiet,
    training_step,
    training_wrapper,
)

THEIRS = 'mmseg'

# Source: mmsegmentation, configs/vit/vit_vit-b16_mln_upernet_8xb2-160k_ade20k-512x512.py
_THEIR_PARAMWISE = dict(
    custom_keys={name: dict(decay_mult=0.0) for name in ('pos_embed', 'cls_token', 'norm')}
)


@quiet()
def measure_training(
    cfg: Config, batch: int, steps: int, dtype: str, device: torch.device, real: bool
) -> Table:
    """Take training steps of a protocol by mmseg's own parts and ours, in turn, on one batch.

    mmseg's has its `VisionTransformer`, `UPerHead` and `EncoderDecoder`, the weights of ours, and
    the optimizer settings of its ViT configs. A third version is ours with the backbone frozen, or
    not frozen where the protocol freezes it: what freezing saves. Loading is not measured.

    Args:
        cfg: of a segmentation protocol.
        batch: images a step, each of the crop's size.
        steps: how many to time of each version, after one that is not.
        dtype: ``float32``, ``bfloat16`` or ``float16``, the latter two by autocast.
        device: where to run.
        real: take the batch from the training set, else make images up.

    Raises:
        UserError: if a number is not positive, or the batch is too small for a batch norm.
    """
    if (cfg.get('model') or {}).get('type') == 'MaskTransformerSegmentor':
        raise UserError(f'{cfg.filename}: mmseg has no such network. Choose the benchmark eomt.')
    if batch < 1 or steps < 1:
        raise UserError(f'--batch-size {batch} and --steps {steps} must be 1 or more.')
    if device.type == 'cpu':
        keep_freed_memory()  # as in every run of the tools; all versions gain
    init_default_scope('mmseg')
    flipped = copy.deepcopy(cfg)
    flipped.model.backbone.frozen = not cfg.model.backbone.get('frozen', False)
    ours = build_segmentor(cfg)
    lacks = what_mmseg_lacks(ours.backbone)
    other = f'{OURS}, {"" if flipped.model.backbone.frozen else "not "}frozen'
    built = {
        THEIRS: (mmseg_segmentor(cfg, ours, own_backbone=lacks is None), _their_optimizer(cfg)),
        OURS: (ours, cfg),
        other: (build_segmentor(flipped), flipped),
    }
    data = _batch(cfg, batch, real)
    calls = {}
    for name, (model, settings) in built.items():
        model = model.to(device).train()
        calls[name] = training_step(model, training_wrapper(model, settings, dtype, device), data)
    try:
        versions = measure_versions(calls, steps, device)
    except ValueError as error:
        if 'more than 1 value per channel' not in str(error):
            raise
        raise UserError(
            f'--batch-size {batch}: the head normalizes maps that it has pooled to one value over '
            'the batch. Give 2 or more.'
        ) from error
    height, width = data['inputs'][0].shape[1:]
    title = (
        f'{Path(cfg.filename).stem}, {cfg.model.backbone.arch}, {dtype}, {device}: training steps '
        f'of {batch} crops of {height} x {width}; {steps} of each version, in turn; medians'
    )
    if lacks:
        title += f"\nmmseg's has our ViT, since its own lacks {lacks}"
    return Table(title, batch, versions)


def build_segmentor(cfg: Config) -> Any:
    """The segmentor of a config, with the same random weights each time."""
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model


def _their_optimizer(cfg: Config) -> Config:
    cfg = copy.deepcopy(cfg)
    cfg.optim_wrapper.pop('constructor', None)
    cfg.optim_wrapper.optimizer.pop('fused', None)
    cfg.optim_wrapper.paramwise_cfg = copy.deepcopy(_THEIR_PARAMWISE)
    return cfg


def _batch(cfg: Config, batch: int, real: bool) -> dict[str, Any]:
    if real:
        loader = dict(cfg.train_dataloader, batch_size=batch)
        loader.update(num_workers=0, persistent_workers=False)
        return next(iter(Runner.build_dataloader(loader)))
    return made_up_labels(cfg, batch)


def made_up_labels(cfg: Config, batch: int, present: int | None = None) -> dict[str, Any]:
    """Noise with labels of all classes, or of some (`present`) alone, and some ignored."""
    height, width = cfg.model.data_preprocessor['size']
    classes = cfg.model.decode_head.num_classes
    generator = torch.Generator().manual_seed(0)
    made: dict[str, Any] = dict(inputs=[], data_samples=[])
    for _ in range(batch):
        image = torch.randint(256, (3, height, width), generator=generator, dtype=torch.uint8)
        # blobs of 32 pixels, some rows ignored
        labels = torch.randint(
            present or classes, (height // 32 + 1, width // 32 + 1), generator=generator
        )
        labels = labels.repeat_interleave(32, 0).repeat_interleave(32, 1)[:height, :width]
        labels[: height // 8] = 255
        made['inputs'].append(image)
        made['data_samples'].append(SegDataSample(gt_sem_seg=PixelData(data=labels[None])))
    return made
