"""Every downstream config, built as tools/train.py builds it: one step and one prediction."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from mmcv.ops import RoIAlign
from mmengine.config import Config
from mmengine.runner import Runner

from moca.engine.amp import fast_bfloat16
from moca.transfer.overrides import set_statistics
from moca.transfer.run import prepare_training
from moca.transfer.run_record import percent_metrics
from tests.configs.helpers import (
    OTHER_VITS,
    REPOSITORY,
    shrink,
    train_args,
    write_ade20k,
    write_cityscapes,
    write_coco,
    write_coco_semantic,
    write_nyu,
    write_own_coco,
    write_panoptic,
    write_voc,
)
from tests.depth.rooms import write_rooms

CONFIGS = sorted(
    path.relative_to(REPOSITORY)
    for task in ('segmentation', 'detection', 'depth')
    for path in (REPOSITORY / 'configs' / task).rglob('*.py')
)
# Each config on one of the other ViTs in turn; `pytest -m slow` takes all of them.
CASES = [
    pytest.param(
        (config, kind),
        id=f'{config}, {kind}',
        marks=[] if number % len(OTHER_VITS) == place else pytest.mark.slow,
    )
    for number, config in enumerate(CONFIGS)
    for place, kind in enumerate(OTHER_VITS)
]
HALF = [127.5, 127.5, 127.5]


@pytest.fixture(scope='module')
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp('data')
    return {
        'segmentation': write_cityscapes(root / 'cityscapes'),
        'detection': write_panoptic(write_coco(root / 'coco')),
        'ade20k': write_ade20k(root / 'ade20k'),
        'voc': write_voc(root / 'voc'),
        'coco-semantic': write_coco_semantic(root / 'coco-semantic'),
        'own-coco': write_own_coco(root / 'own-coco'),
        'own_linear': write_rooms(root / 'rooms', 4, 2),
        'nyu_linear': write_nyu(root / 'nyu'),
    }


@pytest.fixture(params=CASES)
def runner(request: Any, roots: dict[str, Path], tmp_path: Path) -> Runner:
    """A runner with an initialized model and a built optimizer."""
    path, kind = request.param
    config = REPOSITORY / path
    _, task, *folders, _ = path.parts
    data = folders[0] if folders else path.stem
    root = roots[data] if data in roots else roots[task]
    # a detector's step takes minutes where a CPU only emulates bfloat16; one shows that it works
    emulated = task == 'detection' and not fast_bfloat16() and 'own-coco' not in data
    amp = [] if emulated else ['--amp']
    cfg, _ = prepare_training(train_args(config, '--data-root', root, *amp, '--work-dir', tmp_path))
    if kind == 'other statistics':
        set_statistics(cfg, [0.5] * 3, [0.5] * 3, 'the checkpoint')
        assert cfg.model.data_preprocessor.mean == cfg.model.data_preprocessor.std == HALF
    runner = Runner.from_cfg(shrink(cfg, arch=OTHER_VITS[kind]))
    if kind == 'other statistics':
        assert runner.model.data_preprocessor.mean.flatten().tolist() == HALF
    runner.model.init_weights()
    runner.optim_wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    return runner


def test_there_are_configs() -> None:
    assert len(CONFIGS) >= 12


def test_step_and_prediction(runner: Runner) -> None:
    cfg: Config = runner.cfg
    model, backbone = runner.model, runner.model.backbone
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch = next(iter(runner.build_dataloader(cfg.train_dataloader)))
    # A schedule that warms up from nothing would not move the weights in a first step.
    for group in runner.optim_wrapper.param_groups:
        group['lr'] = 1e-3
    types = record_types(model)
    contiguous = record_roi_align(model)
    with_gradient: set[str] = set()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(
                lambda _, name=name: with_gradient.add(name)
            )
    losses = model.train_step(batch, runner.optim_wrapper)
    assert all(torch.isfinite(value).all() for value in losses.values())
    if 'dtype' in cfg.optim_wrapper:  # --amp reaches the backbone
        assert types['qkv'] == torch.bfloat16
    assert types['losses'] == {torch.float32}

    after = model.state_dict()
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert any(not name.startswith('backbone.') for name in changed)
    if backbone.frozen:
        assert not any(name.startswith('backbone.') for name in changed | trained)
    # DDP waits for the gradient of every trainable parameter; none may be unused.
    assert trained == with_gradient

    data = runner.build_dataloader(cfg.val_dataloader)
    evaluator = runner.build_evaluator(cfg.val_evaluator)
    evaluator.dataset_meta = data.dataset.metainfo
    model.eval()
    with torch.no_grad():
        for batch in data:
            outputs = model.val_step(batch)
            evaluator.process(data_samples=outputs, data_batch=batch)
            check_prediction(outputs[0], cfg)
    # Compiled mmcv reads a map as if it were; what it makes of other strides is silently wrong.
    assert all(contiguous)
    assert bool(contiguous) == ('roi_head' in cfg.model)
    metrics = percent_metrics(evaluator.evaluate(len(data.dataset)), cfg.protocol.task)
    best = {f'{name}_best' for name in cfg.protocol.get('best', ())}  # of a run, not of one test
    for name in set(cfg.protocol.metrics) - best:
        value = metrics[name]
        assert value is not None
        assert 0 <= value <= 100


def test_frozen_is_deterministic_and_fine_tuning_drops_paths(runner: Runner) -> None:
    backbone = runner.model.backbone
    runner.model.train()
    backbone.blocks[-1].drop_path1.drop_prob = 0.9  # if it acts at all, it shows
    images = torch.randn(8, 3, 32, 32, device=backbone.patch_embed.proj.weight.device)
    first, second = backbone(images)[-1], backbone(images)[-1]
    drops = runner.cfg.model.backbone.get('drop_path_rate', 0.0) > 0 and not backbone.frozen
    assert torch.equal(first, second) != drops
    published = runner.cfg.protocol.source != 'ours'
    if published and not runner.cfg.model.type.startswith('MaskTransformer'):  # EoMT alone has none
        assert drops != backbone.frozen
    assert first.requires_grad != backbone.frozen


def check_prediction(sample: Any, cfg: Config) -> None:
    """Check the form of one prediction on an image of the generated data."""
    height, width = sample.metainfo['ori_shape']
    if cfg.protocol.task == 'segmentation':
        labels = sample.pred_sem_seg.data
        assert labels.shape == (1, height, width)
        assert 0 <= labels.min() <= labels.max() < cfg.model.decode_head.num_classes
    elif cfg.model.test_cfg.get('panoptic_on'):
        assert sample.pred_panoptic_seg.sem_seg.shape == (1, height, width)
    elif cfg.protocol.task == 'depth':
        depth = sample.pred_depth_map.data
        assert depth.shape == (1, height, width)
        assert 1e-3 <= depth.min() <= depth.max() <= 10
    else:
        found = sample.pred_instances
        assert len(found) <= 100
        assert found.masks.shape[1:] == (height, width)
        assert found.bboxes.dtype == found.scores.dtype == torch.float32


def record_roi_align(model: torch.nn.Module) -> list[bool]:
    """Note of each feature map that mmcv's RoIAlign is to be given whether it is contiguous."""
    found: list[bool] = []
    for module in model.modules():
        if isinstance(module, RoIAlign):
            module.register_forward_pre_hook(
                lambda _, inputs: found.append(inputs[0].is_contiguous())
            )
    return found


def record_types(model: Any) -> dict[str, Any]:
    """Return a dict which fills with the types of activations and losses in the next step."""
    types: dict[str, Any] = {}
    qkv = model.backbone.blocks[0].attn.qkv
    qkv.register_forward_hook(lambda *args: types.update(qkv=args[-1].dtype))
    original = model.parse_losses

    def parse_losses(losses: dict[str, Any]) -> Any:
        flat = [
            v for value in losses.values() for v in (value if isinstance(value, list) else [value])
        ]
        types['losses'] = {value.dtype for value in flat}
        return original(losses)

    model.parse_losses = parse_losses
    return types


def files_deep(path: Path) -> int:
    """How many files of this project one has to open to know all of a config."""
    found = re.search(r"^_base_ = (\[.*?\]|'.*?')", path.read_text(), re.MULTILINE | re.DOTALL)
    names = re.findall(r"'([^']+)'", found[1]) if found else []
    ours = (path.parent / name for name in names if '::' not in name)
    return 1 + max((files_deep(base) for base in ours), default=0)


def test_configs_are_at_most_three_files_deep() -> None:
    files = sorted((REPOSITORY / 'configs').rglob('*.py'))
    assert not [path.name for path in files if files_deep(path) > 3]
    assert max(map(files_deep, files)) == 3  # it counts
