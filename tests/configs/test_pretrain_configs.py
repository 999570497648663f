"""Every pre-training config runs as tools/pretrain.py runs it, and resumes bit for bit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode

from moca.backbone import PlainViT
from moca.backbone.positions import sincos_positions
from moca.checkpoints import load_checkpoint
from moca.engine.amp import AutocastOptimWrapper
from moca.engine.checkpoints import latest_checkpoint
from moca.errors import CheckpointMismatch, UserError
from moca.pretrain.training.check import check_run
from tests.configs.helpers import REPOSITORY
from tests.configs.pretraining import tiny
from tests.pretrain.tiny import METHODS, random_views, tiny_method
from tools.pretrain import configure, main, parse_args

CONFIGS = sorted(
    path.relative_to(REPOSITORY)
    for pattern in ('configs/pretrain/*.py', 'configs/demo/pretrain*.py')
    for path in REPOSITORY.glob(pattern)
)


def test_there_are_configs() -> None:
    methods = {Config.fromfile(str(REPOSITORY / path)).model.type for path in CONFIGS}
    assert methods == {*METHODS}
    assert len(CONFIGS) >= 22


@pytest.mark.parametrize('config', CONFIGS, ids=str)
def test_config_trains_and_its_encoder_loads(config: Path, images: Path, tmp_path: Path) -> None:
    cfg = tiny(config, images, tmp_path, '--amp')
    check_run(cfg)
    assert not any(tmp_path.glob('*'))  # it writes nothing
    runner = Runner.from_cfg(cfg)
    before = {name: p.clone() for name, p in runner.model.named_parameters()}
    runner.train()
    assert runner.iter == 4  # 2 epochs of 10 // 4 batches
    moved = [n for n, p in runner.model.named_parameters() if not torch.equal(p, before[n])]
    assert any(n.startswith('student.blocks.5') for n in moved)
    student = runner.model.student
    assert torch.equal(student.pos_embed, sincos_positions(student.grid, 32))
    assert len(cfg.train_dataloader.dataset.views.views) == runner.model.num_views
    backbone = PlainViT(cfg.model.backbone.arch, img_size=cfg.model.backbone.img_size)
    # without a branch it is the one that the run is judged by
    info = load_checkpoint(backbone, latest_checkpoint(tmp_path))
    assert info.family == 'pre-training run'
    assert info.branch == ('teacher' if hasattr(runner.model, 'teacher') else 'student')
    for name, value in getattr(runner.model, info.branch).state_dict().items():
        assert torch.equal(backbone.state_dict()[name], value), name


@pytest.mark.parametrize(
    ('name', 'accumulate'),
    [
        ('moca_v1p0', '1'),
        ('moca_v1p0', '2'),
        ('mae_tiny-imagenet', '2'),
        ('can_tiny-imagenet', '1'),
        ('macrl_tiny-imagenet', '1'),
        ('moma_tiny-imagenet', '2'),
    ],
)
def test_a_resumed_run_ends_bit_for_bit_like_an_uninterrupted_one(
    images: Path, tmp_path: Path, name: str, accumulate: str
) -> None:
    def settings(folder: str, *options: str) -> Config:
        config = f'configs/pretrain/{name}.py'
        cfg = tiny(config, images, tmp_path / folder, '--accumulate', accumulate, *options)
        cfg.train_dataloader.batch_size = 4 // int(accumulate)
        return cfg

    whole = Runner.from_cfg(settings('whole'))
    whole.train()

    def part(*options: str) -> Config:
        cfg = settings('parts', *options)
        # in the middle of an epoch
        cfg.default_hooks.checkpoint.update(by_epoch=False, interval=1)
        return cfg

    class Cut(Exception):
        pass

    first = Runner.from_cfg(part())

    def cut(runner: Runner, **_: object) -> None:
        if runner.iter == 2:
            raise Cut

    first.register_hook(dict(type='EmptyCacheHook'))
    first._hooks[-1].after_train_iter = cut
    with pytest.raises(Cut):
        first.train()
    torch.rand(17)  # another process would have other random numbers
    second = Runner.from_cfg(part('--resume'))
    second.train()
    assert second.iter == whole.iter
    for name, value in whole.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], value), name


@pytest.mark.parametrize('name', ['moca_tiny-imagenet', 'mae_tiny-imagenet'])
def test_a_run_starts_from_an_encoder_of_any_file(name: str, images: Path, tmp_path: Path) -> None:
    other = PlainViT(dict(patch_size=8, embed_dim=32, depth=6, num_heads=2), img_size=32)
    other.init_weights()
    save_file(other.state_dict(), tmp_path / 'a.safetensors')
    file = str(tmp_path / 'a.safetensors')
    config = f'configs/pretrain/{name}.py'
    assert configure(parse_args([config, '--checkpoint', file])).model.backbone.init_cfg == dict(
        type='ViTCheckpoint', checkpoint=file, branch=None, prefix=None, trust=False, grid=None
    )
    cfg = tiny(config, images, tmp_path / 'run', '--checkpoint', file)
    cfg.model.backbone.init_cfg.checkpoint = file
    check_run(cfg)
    model = Runner.from_cfg(cfg).model
    model.init_weights()
    for branch in {'student', 'teacher'} & {key for key, _ in model.named_children()}:
        for key, value in getattr(model, branch).state_dict().items():
            if key != 'pos_embed':  # 4 x 4 in the file, 8 x 8 here
                assert torch.equal(value, other.state_dict()[key]), key
    cfg.model.backbone.arch.embed_dim = 64
    with pytest.raises(CheckpointMismatch, match='does not fit the backbone'):
        check_run(cfg)


def test_schedules_of_v1_reach_every_parameter_group(images: Path, tmp_path: Path) -> None:
    cfg = tiny('configs/pretrain/moca_v1p0.py', images, tmp_path, '--seed', '5')
    cfg.train_cfg.max_epochs = 4
    runner = Runner.from_cfg(cfg)
    seen: list[dict[str, Any]] = []

    class Watch(Hook):
        priority = 'LOWEST'

        def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
            groups = {
                g['name']: (g['lr'], g['weight_decay'])
                for g in runner.optim_wrapper.optimizer.param_groups
            }
            model = runner.model
            seen.append(dict(groups, momentum=model.momentum, step=model.step, seed=model.seed))

    runner.register_hook(Watch())
    runner.train()
    # 8 steps of 4 images; 2 of warm-up; the cosine ends at epoch int(1.25 * 4) = 5, step 10
    assert [s['step'] for s in seen] == list(range(8))
    peak = 1.5e-4 * 4 / 256
    for step, values in enumerate(seen):
        cosine = (1 + math.cos(math.pi * (step - 2) / 8)) / 2
        rate = peak * (step / 2 if step < 2 else cosine)
        half = (1 - math.cos(math.pi * step / 8)) / 2
        assert values['main, decayed'] == pytest.approx((rate, 0.05 + 0.15 * half))
        assert values['main, not decayed'] == pytest.approx((rate, 0.0))
        for name in ('image_prototypes', 'dense_prototypes'):
            assert values[f'{name}, decayed'] == (1e-4, 0.05)
            assert values[f'{name}, not decayed'] == (1e-4, 0.0)
        assert values['momentum'] == pytest.approx(0.994 + 0.006 * half)
        assert values['seed'] == 5


def test_parts_of_a_batch_train_like_the_whole(images: Path, tmp_path: Path) -> None:
    def run(name: str, batch_size: int, *options: str) -> tuple[Runner, list[dict[str, Any]]]:
        cfg = tiny('configs/pretrain/moca_v1p0.py', images, tmp_path / name, *options)
        cfg.train_dataloader.batch_size = batch_size
        # steps that move student and teacher far, in proportion to their gradients
        cfg.default_hooks.schedule.update(base_lr=1.0, warmup_epochs=0.5, momentum=0.9)
        cfg.optim_wrapper.optimizer = dict(type='SGD', lr=0.0, weight_decay=0.05)
        cfg.optim_wrapper.clip_grad = None
        runner, seen = Runner.from_cfg(cfg), []

        class Keep(Hook):
            def after_train_iter(self, *_: Any, outputs: Any = None, **__: Any) -> None:
                seen.append({name: value.clone() for name, value in outputs.items()})

        runner.register_hook(Keep())
        start = runner.model.teacher.state_dict()['norm.weight'].clone()
        runner.train()
        assert not torch.allclose(
            runner.model.teacher.state_dict()['norm.weight'], start, atol=1e-5
        )
        return runner, seen

    whole, expected = run('whole', 4)
    parts, seen = run('parts', 2, '--accumulate', '2')
    assert parts.iter == whole.iter == 4  # steps, not batches
    assert parts.model.codebook.updates.item() == 4
    for step in range(4):
        assert seen[step].keys() == expected[step].keys()
        for name, value in expected[step].items():
            torch.testing.assert_close(seen[step][name], value, rtol=1e-4, atol=1e-6, msg=name)
    same = dict(parts.model.state_dict())
    for name, value in whole.model.state_dict().items():
        if 'bn.' in name:
            continue  # training does not read BatchNorm's running averages
        torch.testing.assert_close(same[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_accumulate_auto_reaches_the_recipes_batch(images: Path, tmp_path: Path) -> None:
    cfg = tiny('configs/pretrain/moca_v1p0.py', images, tmp_path, '--accumulate', 'auto')
    assert cfg.optim_wrapper.accumulative_counts == 8  # 2048 / 256
    options = ('--accumulate', 'auto', '--cfg-options', 'train_dataloader.batch_size=100')
    with pytest.raises(UserError, match=r'batch of 2048 .* 100 .*batch_size=128'):
        tiny('configs/pretrain/moca_v1p0.py', images, tmp_path, *options)
    with pytest.raises(UserError, match='--accumulate 0'):
        tiny('configs/pretrain/moca_v1p0.py', images, tmp_path, '--accumulate', '0')


def test_epochs_keep_the_share_of_the_warm_up(images: Path, tmp_path: Path) -> None:
    config, folder = str(REPOSITORY / 'configs/pretrain/moca_v1p0.py'), str(images)
    cfg = configure(parse_args([config, '--data-root', folder, '--epochs', '100']))
    assert cfg.train_cfg.max_epochs == 100
    assert cfg.default_hooks.schedule.warmup_epochs == 15
    with pytest.raises(UserError, match='--epochs 0'):
        configure(parse_args([config, '--data-root', folder, '--epochs', '0']))


def test_views_and_positions_have_the_size_that_is_given(images: Path) -> None:
    config = str(REPOSITORY / 'configs/pretrain/moca_small.py')
    cfg = configure(parse_args([config, '--data-root', str(images), '--img-size', '96']))
    assert DATASETS.build(cfg.train_dataloader.dataset)[0]['view1'].shape[-2:] == (96, 96)
    assert MODELS.build(cfg.model.backbone).pos_embed.shape[1] == 1 + 6 * 6


def test_what_no_step_could_be_made_of_is_refused_before_the_first(
    images: Path, tmp_path: Path
) -> None:
    def refused(message: str, **changes: Any) -> None:
        cfg = tiny('configs/pretrain/moca_v1p0.py', images, tmp_path)
        cfg.merge_from_dict({name.replace('__', '.'): value for name, value in changes.items()})
        runner = Runner.from_cfg(cfg)
        runner.model.forward = None  # nobody gets so far
        with pytest.raises(UserError, match=message):
            runner.train()

    refused('words_per_step=8 needs', model__words_per_step=8)
    refused('views of 160 x 160 pixels', train_dataloader__dataset__views__size=160)
    refused('max_norm=0 would make every', optim_wrapper__clip_grad__max_norm=0)
    refused('warmup_epochs', custom_hooks=[dict(type='PretrainSchedule', warmup_epochs=2)])


def test_a_config_of_another_kind_is_refused() -> None:
    path = str(REPOSITORY / 'configs/segmentation/driving/linear-bn.py')
    with pytest.raises(UserError, match=r'linear-bn\.py: no config of pre-training .*train\.py'):
        configure(parse_args([path]))


def test_compiling_without_a_compiler_is_refused(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.delenv('CXX', raising=False)
    cfg = tiny('configs/pretrain/moca_v1p0.py', images, tmp_path, '--compile')
    with pytest.raises(UserError, match=r'--compile: .* no g\+\+'):
        Runner.from_cfg(cfg).train()


@pytest.mark.gpu
@pytest.mark.parametrize('name', METHODS)
def test_no_step_waits_for_a_gpu(name: str) -> None:
    model = tiny_method(name).cuda().train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)
    wrapper = AutocastOptimWrapper(optimizer=optimizer)
    batch = {key: view.cuda() for key, view in random_views(model).items()}
    model.train_step(batch, wrapper)  # the first one makes the optimizer's state
    torch.cuda.set_sync_debug_mode('error')
    try:
        model.train_step(batch, wrapper)
    finally:
        torch.cuda.set_sync_debug_mode('default')


def test_no_step_reads_a_number_from_the_device(images: Path, tmp_path: Path) -> None:
    cfg = tiny('configs/pretrain/moca_v1p0.py', images, tmp_path)
    reads: dict[int, int] = {}

    class CountReads(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            if func is torch.ops.aten._local_scalar_dense.default:
                reads[runner.iter] = reads.get(runner.iter, 0) + 1
            return func(*args, **(kwargs or {}))

    runner = Runner.from_cfg(cfg)
    with CountReads():
        runner.train()
    # of numbers made on the host: at each step which view gives new words, and the loader's seed
    assert reads == {0: 2, 1: 1, 2: 1, 3: 1}


def test_resume_from_another_codebook_is_an_error(images: Path, tmp_path: Path) -> None:
    config = 'configs/pretrain/moca_v0p9.py'
    cfg = tiny(config, images, tmp_path)
    cfg.train_cfg.max_epochs = 2
    Runner.from_cfg(cfg).train()
    other = tiny(config, images, tmp_path, '--resume')
    other.model.num_words = 128
    with pytest.raises(UserError, match=r'codebook\.words \(\[64, 32\] in the file'):
        Runner.from_cfg(other).train()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['configs/pretrain/absent.py'], 'absent.py: no such config file'),
        (['CONFIG', '--data-root', 'nowhere'], 'data_root nowhere does not exist'),
        (['CONFIG', '--arch', 'vit_bse_patch16'], 'is no timm ViT. Near names: vit_base_patch16'),
        (['CONFIG', '--launcher', 'pytorch'], 'the environment has no RANK'),
        (['CONFIG', '--cfg-options', 'model.num_wrds=64'], "Did you mean 'num_words'"),
        (['CONFIG', '--cfg-options', 'model.decoder.dpth=3'], "Did you mean 'depth'"),
        (['CONFIG', '--cfg-options', 'max_epochs=5'], 'Set the field that it was used in'),
        (['CONFIG', '--cfg-options', 'optim_wrapper.optimizer.lr=1'], 'Set that of a batch of 256'),
        (['CONFIG', '--cfg-options', 'load_from=a.safetensors'], 'give --checkpoint'),
        (['CONFIG', '--data-root', '.', '--checkpoint', 'absent.pth'], 'absent.pth: no such'),
        (['CONFIG', '--cfg-options', 'model.skip_offset=7'], 'skip_offset=7 leaves no central'),
    ],
)
def test_mistakes_end_in_one_line_and_status_2(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.delenv('RANK', raising=False)
    arguments = ['configs/pretrain/moca_small.py' if a == 'CONFIG' else a for a in arguments]
    assert main([*arguments, '--work-dir', str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert 'Traceback' not in error
