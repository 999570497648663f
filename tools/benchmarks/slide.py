"""How fast images are segmented by sliding windows and what that needs, beside mmseg's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from mmseg.structures import SegDataSample

from moca.checkpoints.reading import read_file
from moca.engine.checkpoints import check_fit
from moca.engine.memory import keep_freed_memory
from moca.errors import UserError
from tools.benchmarks.measure import peak_bytes, take_turns
from tools.benchmarks.segmentor_models import mmseg_segmentor, what_mmseg_lacks
from tools.benchmarks.table import OURS, Table, Version, quiet

THEIRS, THEIR_SLIDE = 'mmseg', 'mmseg, our ViT'


@dataclass(frozen=True)
class Workload:
    """What is segmented.

    Attributes:
        images: how many.
        size: height and width of generated images; None to take those of the test set.
        dtype: ``float32``, ``bfloat16`` or ``float16``, the latter two by autocast.
        device: where to run.
    """

    images: int
    size: tuple[int, int] | None
    dtype: str
    device: torch.device


@quiet()
def measure_slide(cfg: Config, work: Workload, checkpoint: str | Path | None) -> Table:
    """Segment the same images by mmseg's sliding window and ours, in turn, one at a time.

    mmseg's runs twice: with its own ViT, where that has all that the architecture needs, and with
    ours. All have the same weights. Loading images is not measured.

    Args:
        cfg: of a segmentation protocol.
        work: what to segment.
        checkpoint: of a run of `cfg`; None for random weights.

    Raises:
        UserError: if the config has no sliding window, or the checkpoint is of another model.
    """
    if (cfg.model.get('test_cfg') or {}).get('mode') != 'slide' or work.images < 1:
        raise UserError(f"{cfg.filename}: needs test_cfg.mode='slide', and 1 image or more.")
    if work.device.type == 'cpu':
        keep_freed_memory()  # as in every run of the tools; all versions gain
    init_default_scope('mmseg')
    ours = _our_segmentor(cfg, checkpoint)
    models = {THEIR_SLIDE: mmseg_segmentor(cfg, ours, own_backbone=False), OURS: ours}
    lacks = what_mmseg_lacks(ours.backbone)
    if not lacks:
        models = {THEIRS: mmseg_segmentor(cfg, ours, own_backbone=True), **models}
    images, metainfo = _images(cfg, work)
    found: dict[str, list[SegDataSample]] = {name: [] for name in models}
    calls = {
        name: _call(model.to(work.device).eval(), images, work, found[name])
        for name, model in models.items()
    }
    seconds = take_turns(calls, work.images, work.device)
    versions = {
        name: Version(
            seconds[name],
            peak_bytes(call, work.device),
            None if metainfo is None else _score(cfg, metainfo, found[name]),
            _agreement(found[name], found[OURS]),
        )
        for name, call in calls.items()
    }
    sizes = sorted({tuple(image['inputs'][0].shape[1:]) for image in images})
    shown = ', '.join(f'{height} x {width}' for height, width in sizes[:3])
    title = (
        f'{Path(cfg.filename).stem}, {cfg.model.backbone.arch}, {work.dtype}, {work.device}: '
        f'{work.images} images of {shown}{", ..." if len(sizes) > 3 else ""} in windows of '
        f'{cfg.model.test_cfg.crop_size} every {cfg.model.test_cfg.stride}; each by every version, '
        'in turn; medians'
    )
    if lacks:
        title += f"\nwithout mmseg's own ViT, which lacks {lacks}"
    return Table(title, 1, versions)


def _our_segmentor(cfg: Config, checkpoint: str | Path | None) -> Any:
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    if checkpoint is None:
        model.init_weights()
        return model
    state = read_file(checkpoint).get('state_dict')
    if state is None:
        raise UserError(f'{checkpoint}: not a checkpoint of a run of tools/train.py.')
    check_fit(model, state, str(checkpoint))
    model.load_state_dict(state)
    return model


def _images(cfg: Config, work: Workload) -> tuple[list[dict[str, Any]], Any]:
    """The data of each image, and what the test set says of its classes if they are its."""
    if work.size is not None:
        generator = torch.Generator().manual_seed(0)
        about = dict(ori_shape=work.size, img_shape=work.size)
        made = []
        for _ in range(work.images):
            # blobs of 32 pixels, so that neighbors have something in common
            coarse = torch.rand(1, 3, *(-(-side // 32) for side in work.size), generator=generator)
            image = F.interpolate(255 * coarse, work.size, mode='bilinear')[0].byte()
            made.append(dict(inputs=[image], data_samples=[SegDataSample(metainfo=about)]))
        return made, None
    loader = dict(cfg.test_dataloader, batch_size=1, num_workers=0, persistent_workers=False)
    loader = Runner.build_dataloader(loader)
    if len(loader) < work.images:
        raise UserError(f'--images {work.images}: the test set has {len(loader)}.')
    return list(islice(loader, work.images)), loader.dataset.metainfo


def _call(
    model: Any, images: list[dict[str, Any]], work: Workload, found: list[SegDataSample]
) -> Callable[[int], object]:
    """Predict an image by its number, from 1; 0 is the first, whose result is not kept."""
    dtype = getattr(torch, work.dtype)

    @torch.no_grad()
    def call(number: int) -> None:
        image = images[max(number - 1, 0)]
        data = dict(image, data_samples=[sample.clone() for sample in image['data_samples']])
        with torch.autocast(work.device.type, dtype, enabled=dtype != torch.float32):
            (sample,) = model.test_step(data)
        if number:
            sample.pop('seg_logits', None)
            found.append(sample)

    return call


def _score(cfg: Config, metainfo: Any, samples: list[SegDataSample]) -> float:
    evaluator = Evaluator(cfg.test_evaluator)
    evaluator.dataset_meta = metainfo
    evaluator.process(samples)
    return float(evaluator.evaluate(len(samples))['mIoU'])


def _agreement(found: list[SegDataSample], reference: list[SegDataSample]) -> float:
    """The share of pixels that have the same class."""
    pairs = zip(found, reference, strict=True)
    same = torch.cat([(a.pred_sem_seg.data == b.pred_sem_seg.data).flatten() for a, b in pairs])
    return same.double().mean().item()
