"""The siblings of MOCA through the parts that all methods share, and what they refuse."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import Runner

from moca.engine.checkpoints import latest_checkpoint
from moca.errors import UserError
from moca.pretrain.mae import MAEPretrain
from moca.pretrain.moca.export import export
from moca.pretrain.training.check import check_run
from moca.visualize.curves import curves_sheet
from tests.configs.helpers import REPOSITORY
from tests.configs.pretraining import tiny


@pytest.mark.parametrize('name', ['mae', 'can', 'macrl', 'moma'])
def test_a_method_is_watched_exported_and_drawn_like_moca(
    name: str, images: Path, tmp_path: Path
) -> None:
    folders = [tmp_path / 'bank', tmp_path / 'queries']  # the same images
    for number, path in enumerate(sorted(images.iterdir())):
        for folder in folders:
            target = folder / str(number % 2) / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    run = tmp_path / 'run'
    options = ('--amp', '--knn', str(folders[0]), '--knn-val', str(folders[1]), '--features')
    cfg = tiny(f'configs/demo/pretrain_{name}.py', images, run, *options)
    cfg.default_hooks.knn.k = (1, 3)
    runner = Runner.from_cfg(cfg)
    runner.train()
    branch = 'teacher' if name == 'macrl' else 'student'
    log = next(run.glob('*/*.log')).read_text()
    assert f'k-NN of the {branch} after 2 epochs: knn/top1_k1 100.00 %' in log
    assert next(run.glob('*/vis_data/features/epoch_0002.png')).stat().st_size
    curves_sheet([run], tmp_path / 'curves.png')
    assert (tmp_path / 'curves.png').stat().st_size

    saved, out = latest_checkpoint(run), tmp_path / 'encoder.safetensors'
    export(run, saved, out)
    dimensions = dict(cfg.model.backbone.arch, img_size=64, num_classes=0)
    vit = timm.create_model('vit_tiny_patch16_224', checkpoint_path=str(out), **dimensions)
    for key, value in getattr(runner.model, branch).state_dict().items():
        assert torch.equal(vit.state_dict()[key], value), key
    with pytest.raises(UserError, match='Only a run of MOCAPretrain'):
        export(run, saved, tmp_path / 'whole.pth', to='moca')


# found in the config, the checkpoints and the folder alone
EARLY: list[tuple[str, dict[str, Any], str]] = [
    ('can_tiny-imagenet', {'train_dataloader.batch_size': 1}, 'batch_size: a contrastive loss'),
    ('can_tiny-imagenet', {'optim_wrapper.accumulative_counts': 2}, r'\(--accumulate\)'),
    ('macrl_tiny-imagenet', {'optim_wrapper.accumulative_counts': 2}, r'\(--accumulate\)'),
    ('macrl_tiny-imagenet', {'model.bank_size': 18}, r'model\.bank_size=18'),
    ('mae_tiny-imagenet', {'train_dataloader.dataset.views.size': 32}, 'views of 32 x 32'),
    ('mae_tiny-imagenet', {'model.mask_ratio': 0.99}, r'model\.mask_ratio=0\.99 leaves none'),
    (
        'moma_tiny-imagenet',
        {'model.teachers.mae.checkpoint': 'absent.pth'},
        r'model\.teachers\.mae\.checkpoint: absent\.pth is no file',
    ),
    (
        'moma_moco-to-mae',
        {'model.backbone.init_cfg.checkpoint': 'absent.pth'},
        r'model\.backbone\.init_cfg\.checkpoint: absent\.pth is no file',
    ),
    (
        'macrl_tiny-imagenet',
        {'default_hooks.schedule.momentum': None},
        r'momentum=None, but MACRLPretrain has a teacher',
    ),
    (
        'can_tiny-imagenet',
        {'default_hooks.schedule.base_lr': 'abc'},
        r"base_lr='abc': give a number",
    ),
    ('mae_tiny-imagenet', {'train_cfg.max_epochs': 1.5}, r'max_epochs=1\.5: give a whole number'),
    (
        'can_tiny-imagenet',
        {'model.projector': dict(hidden_dim=0)},
        r'model\.projector\.hidden_dim=0: give a whole number',
    ),
    (
        'moma_tiny-imagenet',
        {'model.teachers.mae.arch.patch_size': 16},
        r'model\.teachers\.mae: its patches of 16 pixels',
    ),
]
# and what the run itself would not say so well
EARLY_ALONE: list[tuple[str, dict[str, Any], str]] = [
    (
        'mae_tiny-imagenet',
        {'optim_wrapper.optimizer.weight_decay': None},
        r'optimizer\.weight_decay=None: give a number',
    ),
    ('moca_tiny-imagenet', {'model.skip_offset': 7}, 'skip_offset=7 leaves no central'),
    ('mae_tiny-imagenet', {'train_dataloader.batch_size': 0}, 'batch_size=0: give a whole'),
    ('can_tiny-imagenet', {'train_dataloader.batch_size': 'x'}, "batch_size='x': give a whole"),
    (
        'mae_tiny-imagenet',
        {'optim_wrapper.accumulative_counts': 'two'},
        "accumulative_counts='two': give a whole",
    ),
    (
        'mae_tiny-imagenet',
        {'model.backbone.init_cfg': dict(type='ViTCheckpoint')},
        'init_cfg has no checkpoint: give --checkpoint',
    ),
]
# found when weights are read or images counted
LATE: list[tuple[str, dict[str, Any], str]] = [
    (
        'moma_tiny-imagenet',
        {'model.teachers.mae.arch.embed_dim': 64},
        r'model\.teachers\.mae\.arch: .* does not fit',
    ),
    (
        'macrl_tiny-imagenet',
        {'model.bank_size': 64},
        r'model\.bank_size=64 for 10 images.*bank_size=4\.',
    ),
    ('mae_tiny-imagenet', {'train_cfg.max_epochs': 0}, r'train_cfg\.max_epochs=0: give'),
]


@pytest.mark.parametrize(('name', 'changes', 'message'), [*EARLY, *LATE])
def test_what_a_method_cannot_use_is_refused_before_the_first_step(
    name: str, changes: dict[str, Any], message: str, images: Path, tmp_path: Path
) -> None:
    cfg = tiny(f'configs/pretrain/{name}.py', images, tmp_path)
    cfg.merge_from_dict(changes)

    def build_and_train() -> None:
        runner = Runner.from_cfg(cfg)
        runner.model.forward = None  # nobody gets so far
        runner.train()

    with pytest.raises(UserError, match=message):
        build_and_train()


@pytest.mark.parametrize(('name', 'changes', 'message'), [*EARLY, *EARLY_ALONE])
def test_most_of_it_before_anything_is_logged(
    name: str, changes: dict[str, Any], message: str, images: Path, tmp_path: Path
) -> None:
    cfg = tiny(f'configs/pretrain/{name}.py', images, tmp_path)
    cfg.merge_from_dict(changes)
    with pytest.raises(UserError, match=message):
        check_run(cfg)


def test_so_is_a_labeled_folder(images: Path, tmp_path: Path) -> None:
    for options, message in (
        (('--knn', str(tmp_path / 'absent')), r'KNNMonitor\.bank .*absent: no such folder'),
        (('--knn', str(images)), 'labeled folder has one'),
    ):
        cfg = tiny('configs/pretrain/mae_tiny-imagenet.py', images, tmp_path, *options)
        with pytest.raises(UserError, match=message):
            check_run(cfg)


@pytest.mark.parametrize(('name', 'views'), [('mae_tiny-imagenet', 2), ('can_tiny-imagenet', 1)])
def test_views_that_the_method_does_not_take_are_refused(
    name: str, views: int, images: Path, tmp_path: Path
) -> None:
    cfg = tiny(f'configs/pretrain/{name}.py', images, tmp_path)
    cfg.train_dataloader.dataset.views.views = [{}] * views
    with pytest.raises(UserError, match=rf'views\.views has {views} views'):
        Runner.from_cfg(cfg).train()


class Popping(MAEPretrain):
    """Takes its own config apart."""

    def __init__(self, head: dict[str, Any], **others: Any) -> None:
        super().__init__(**others)
        self.head = torch.nn.Linear(head.pop('dim'), 1)


class Counting(MAEPretrain):
    """Needs numbers to be built."""

    def __init__(self, **others: Any) -> None:
        super().__init__(**others)
        self.rates = torch.linspace(0, 1, 3).numpy()


class Asking(MAEPretrain):
    """Asks for the images before they are counted."""

    def check_batch(self, images: int, size: int | None) -> None:
        assert self.num_images // images


@pytest.mark.parametrize('method', [Popping, Counting, Asking])
def test_anothers_method_is_left_to_the_run(
    method: type, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = tiny('configs/pretrain/mae_tiny-imagenet.py', images, tmp_path)
    monkeypatch.setitem(MODELS.module_dict, 'Another', method)
    cfg.model.type = 'Another'
    if method is Popping:
        cfg.model.head = dict(dim=4)
    check_run(cfg)
    assert isinstance(Runner.from_cfg(cfg).model, method)


@pytest.mark.parametrize(
    'path', sorted(REPOSITORY.glob('configs/*/*macrl*.py')), ids=lambda path: path.stem
)
def test_the_bank_of_a_recipe_turns_over_in_whole_steps(path: Path) -> None:
    cfg = Config.fromfile(str(path))
    assert cfg.model.bank_size % cfg.auto_scale_lr.base_batch_size == 0
