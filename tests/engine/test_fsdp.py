"""Sharded parameters: the same run as with whole ones, and checkpoints that go either way."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import Runner
from safetensors.torch import load_file
from torch import Tensor

from moca.checkpoints import inspect_checkpoint
from moca.checkpoints.reading import read_file
from moca.engine.fsdp import ShardedStrategy, runner_of
from moca.errors import UserError
from tests.configs.helpers import REPOSITORY
from tests.engine.sharded_runs import CONFIG, process
from tests.images.photographs import save_photographs
from tests.processes import run_processes
from tools.pretrain import configure, parse_args

WHOLE = 'strategy=None'
# DINOv3's positions and a gated MLP
ROTARY = [
    f'model.backbone.arch.{option}' for option in ('rope.base=100.', 'mlp=swiglu', 'mlp_hidden=64')
]
PARTS = ['train_dataloader.batch_size=2', 'optim_wrapper.accumulative_counts=2']


@pytest.fixture(scope='module')
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of finished runs, named after the keys below."""
    folder = tmp_path_factory.mktemp('runs')
    save_photographs(folder / 'images', count=16)
    (folder / 'config.py').write_text(CONFIG)
    recorded = load_file(REPOSITORY / 'tests' / 'data' / 'moca_tiny.safetensors')
    state = {k.removeprefix('state.'): v for k, v in recorded.items() if k.startswith('state.')}
    torch.save({'model': state, 'args': argparse.Namespace()}, folder / 'released.pth')
    command_lines = {
        'whole': ['--cfg-options', WHOLE],
        'sharded': [],
        'sharded from sharded': ['--resume', f'{folder}/sharded/iter_2.pth'],
        'sharded from whole': ['--resume', f'{folder}/whole/iter_2.pth'],
        'whole from sharded': [
            *('--resume', f'{folder}/sharded/iter_2.pth', '--cfg-options', WHOLE)
        ],
        'whole, in parts': ['--cfg-options', *PARTS, WHOLE],
        'sharded, in parts': ['--cfg-options', *PARTS],
        'whole, rotary': ['--cfg-options', *ROTARY, WHOLE],
        'sharded, rotary': ['--cfg-options', *ROTARY],
        'sharded, bfloat16': ['--amp', '--cfg-options', 'model.backbone.grad_checkpoint=True'],
        'sharded from released': ['--cfg-options', f'load_from={folder}/released.pth'],
    }
    run_processes(process, (2, str(folder), command_lines))
    return folder


def facts(runs: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads((runs / f'{name}_{rank}.json').read_text()) for rank in range(2)]


def checkpoint(runs: Path, name: str, step: int = 4) -> dict[str, Any]:
    return read_file(runs / name / f'iter_{step}.pth')


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor], atol: float) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=atol, msg=name)


def assert_close_to_scale(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    """Averages of small gradients and smaller squares, each held against its own largest value."""
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        error = (ours[name] - value).abs().max()
        assert error <= 1e-3 * value.abs().max(), name


@pytest.mark.parametrize(
    ('sharded', 'whole'),
    [
        ('sharded', 'whole'),
        ('sharded, in parts', 'whole, in parts'),
        ('sharded, rotary', 'whole, rotary'),
    ],
)
class TestSameRun:
    def test_losses_and_gradient_norm(self, runs: Path, sharded: str, whole: str) -> None:
        ours, theirs = (checkpoint(runs, name)['message_hub'] for name in (sharded, whole))
        for name in ('loss', 'kl_image', 'kl_dense', 'grad_norm', 'normalizer'):
            values = [
                torch.as_tensor(hub['log_scalars'][f'train/{name}'].data[0])
                for hub in (ours, theirs)
            ]
            assert len(values[0]) == 4
            torch.testing.assert_close(*values, rtol=1e-5, atol=0)

    def test_weights(self, runs: Path, sharded: str, whole: str) -> None:
        for step in (1, 2, 4):
            states = [checkpoint(runs, name, step)['state_dict'] for name in (sharded, whole)]
            assert_equal(*states, atol=1e-5)

    def test_optimizer(self, runs: Path, sharded: str, whole: str) -> None:
        ours, theirs = (checkpoint(runs, name)['optimizer'] for name in (sharded, whole))
        # learning rates, weight decay, and which parameters each group has
        assert ours['param_groups'] == theirs['param_groups']
        assert len(ours['param_groups']) == 6
        assert ours['state'].keys() == theirs['state'].keys()
        for number, state in theirs['state'].items():
            assert_close_to_scale(ours['state'][number], state)

    def test_codebook_on_every_process(self, runs: Path, sharded: str, whole: str) -> None:
        first, second, other = (
            torch.load(runs / f'{name}.codebook')
            for name in (f'{sharded}_0', f'{sharded}_1', f'{whole}_0')
        )
        assert_equal(second, first, atol=0)
        assert_equal(first, other, atol=1e-6)


def test_the_runs_were_no_trivial_ones(runs: Path) -> None:
    early, late = (checkpoint(runs, 'sharded', step)['state_dict'] for step in (1, 4))
    for name in ('student.blocks.3.mlp.fc1.weight', 'student.cls_token', 'decoder.mask_token'):
        assert (late[name] - early[name]).abs().max() > 1e-3
    for name in ('blocks.3.mlp.fc1.weight', 'cls_token', 'norm.weight'):
        moved = (late[f'teacher.{name}'] - early[f'teacher.{name}']).abs().max()
        assert 1e-6 < moved < (late[f'student.{name}'] - early[f'student.{name}']).abs().max()


def test_what_a_process_holds(runs: Path) -> None:
    sharded, whole = facts(runs, 'sharded'), facts(runs, 'whole')
    assert [f['runner'] for f in (*sharded, *whole)] == ['FlexibleRunner'] * 2 + ['Runner'] * 2
    state = checkpoint(runs, 'whole')['state_dict']
    kept = {
        branch: sum(
            value.numel()
            for name, value in state.items()
            if name.startswith(f'{branch}.') and '.blocks.' not in name
        )
        for branch in ('student', 'teacher')
    }
    # what both hold counts twice, all else once
    total = sum(f['parameters'] for f in sharded)
    assert total == whole[0]['parameters'] + kept['student'] + kept['teacher']
    # AdamW has two numbers for each trained one; the positions are not trained
    trained = kept['student'] - state['student.pos_embed'].numel()
    assert sum(f['optimizer'] for f in sharded) == whole[0]['optimizer'] + 2 * trained
    assert max(f['optimizer'] for f in sharded) < 0.6 * whole[0]['optimizer']


@pytest.mark.parametrize(
    ('resumed', 'uninterrupted', 'atol'),
    [
        ('sharded from sharded', 'sharded', 0),  # bit for bit
        ('sharded from whole', 'whole', 1e-5),
        ('whole from sharded', 'sharded', 1e-5),
    ],
)
def test_resume(runs: Path, resumed: str, uninterrupted: str, atol: float) -> None:
    assert not (runs / resumed / 'iter_2.pth').exists()
    ours, theirs = checkpoint(runs, resumed), checkpoint(runs, uninterrupted)
    assert_equal(ours['state_dict'], theirs['state_dict'], atol)
    for number, state in theirs['optimizer']['state'].items():
        if atol == 0:
            assert_equal(ours['optimizer']['state'][number], state, 0)
        else:
            assert_close_to_scale(ours['optimizer']['state'][number], state)


def test_one_process_resumes_a_run_of_two_where_it_is_asked_to(runs: Path) -> None:
    def runner(name: str, *options: str) -> Any:
        command = [f'{runs}/config.py', '--data-root', f'{runs}/images', '--resume']
        command += [f'{runs}/sharded/iter_2.pth', '--work-dir', f'{runs}/{name}', *options]
        fields = ['train_dataloader.batch_size=8', WHOLE]  # as many images a step
        return runner_of(configure(parse_args([*command, '--cfg-options', *fields])))

    with pytest.raises(UserError, match=r'a run of 2 processes; this one has 1\..*-approximately'):
        runner('refused').train()
    runner('one', '--resume-approximately').train()
    assert (runs / 'one' / 'iter_4.pth').is_file()


def test_bfloat16_and_recomputed_blocks(runs: Path) -> None:
    ours, theirs = (
        checkpoint(runs, name)['message_hub']['log_scalars']['train/loss'].data[0]
        for name in ('sharded, bfloat16', 'whole')
    )
    torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), rtol=0.02, atol=0)


def test_start_from_a_released_file(runs: Path) -> None:
    # at the first step the rate of all but the prototypes is 0, and the teacher moves after it
    state = checkpoint(runs, 'sharded from released', 1)['state_dict']
    released = read_file(runs / 'released.pth')['model']
    for name, value in released.items():
        if name.startswith('encoder.'):
            assert torch.equal(state[name.replace('encoder.', 'student.', 1)], value), name


def test_checkpoints_are_like_any_run_s(runs: Path) -> None:
    info = inspect_checkpoint(runs / 'sharded' / 'iter_4.pth')
    assert (info.family, info.branch, info.depth) == ('pre-training run', 'teacher', 4)
    names = {path.name for path in (runs / 'sharded').glob('*.pth*')}
    assert names == {f'iter_{step}.pth' for step in (1, 2, 3, 4)}  # nothing half written
    assert not list((runs / 'sharded').glob('.*partial'))


class TestChoice:
    def config(self, tmp_path: Path, *options: str) -> Config:
        (tmp_path / 'config.py').write_text(CONFIG)
        save_photographs(tmp_path / 'images', count=8)
        command = [str(tmp_path / 'config.py'), '--data-root', str(tmp_path / 'images')]
        return configure(parse_args([*command, '--work-dir', str(tmp_path / 'run'), *options]))

    def test_one_process_shards_nothing(self, tmp_path: Path) -> None:
        assert isinstance(runner_of(self.config(tmp_path)), Runner)

    def test_hooks_that_run_the_encoder_alone_are_refused(self, tmp_path: Path) -> None:
        cfg = self.config(tmp_path)
        cfg.launcher = 'pytorch'
        cfg.default_hooks.knn = dict(type='KNNMonitor', bank='nowhere')
        with pytest.raises(UserError, match=r'KNNMonitor runs the encoder.*strategy=None'):
            runner_of(cfg)

    def test_without_processes(self, tmp_path: Path) -> None:
        strategy = ShardedStrategy(
            work_dir=str(tmp_path), env_kwargs=dict(launcher='none', randomness=dict(seed=0))
        )
        with pytest.raises(UserError, match='start the tool by a launcher'):
            strategy.prepare(dict(type='MOCAPretrain'), optim_wrapper=dict())


def test_config_has_the_released_size() -> None:
    cfg = Config.fromfile(str(REPOSITORY / 'configs/pretrain/moca_v1p0_vit-large.py'))
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    blocks, decoder = model.student.blocks, model.decoder.blocks
    assert (len(blocks), model.student.embed_dims, blocks[0].attn.num_heads) == (24, 1024, 16)
    assert (len(decoder), decoder[0].norm1.weight.numel(), decoder[0].attn.num_heads) == (
        2,
        512,
        16,
    )
    assert model.early_index == 19  # the fourth block before the last
    # 24 blocks of 12 C^2 + 13 C, patches, class token, positions, norm
    width = 1024
    encoder = 24 * (12 * width**2 + 13 * width) + (768 + 1) * width + (1 + 197 + 2) * width
    assert sum(p.numel() for p in model.teacher.parameters()) == encoder
