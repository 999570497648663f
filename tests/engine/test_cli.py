"""The command line of the tools: configs, options, launchers, resume."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from moca.engine.cli import add_common_arguments, apply_common, main_guard, read_config
from moca.engine.distributed import replace_sync_bn
from moca.errors import UserError
from tools import leaderboard, pretrain, train

CONFIG = """
custom_imports = dict(imports=['moca'])
model = dict(
    type='EncoderDecoder',
    backbone=dict(type='PlainViT', arch='vit_tiny_patch16', frozen=True),
    decode_head=dict(type='LinearSegHead', in_channels=192, num_classes=19),
)
train_dataloader = dict(dataset=dict(pipeline=[dict(type='Resize', scale=(8, 8))]))
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1.0))
"""

ENVIRONMENTS = {
    'pytorch': ['RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT'],
    'slurm': ['SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'],
    'mpi': [
        'OMPI_COMM_WORLD_RANK',
        'OMPI_COMM_WORLD_SIZE',
        'OMPI_COMM_WORLD_LOCAL_RANK',
        'MASTER_ADDR',
    ],
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / 'probe.py'
    path.write_text(CONFIG)
    return path


def arguments(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_common_arguments(parser)
    return parser.parse_args(argv)


def test_options_are_applied(config: Path) -> None:
    args = arguments(
        '--cfg-options',
        'optim_wrapper.optimizer.lr=0.5',
        'train_dataloader.dataset.pipeline.0.scale=(4,4)',
    )
    cfg = read_config(config, args.cfg_options)
    assert cfg.optim_wrapper.optimizer.lr == 0.5
    assert cfg.train_dataloader.dataset.pipeline[0].scale == (4, 4)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (("'PlainViT', arch", "'PlainViT', archh"), r"model\.backbone.*PlainViT.*'archh'.*'arch'"),
        (
            ("'PlainViT'", "'PlainVit'"),
            r"model\.backbone\.type: there is no 'PlainVit'.*'PlainViT'",
        ),
        (('num_classes', 'num_clases'), r"LinearSegHead.*'num_clases'.*'num_classes'"),
        (('lr=1.0)', 'lr=1.0),'), None),  # a comma more is still a config
        (('lr=1.0)', 'lr=1.0'), 'cannot be read'),
        (("'moca'", "'mocca'"), 'cannot be read.*mocca'),
    ],
)
def test_faults_of_a_config(config: Path, change: tuple[str, str], message: str | None) -> None:
    config.write_text(CONFIG.replace(*change))
    if message is None:
        read_config(config)
        return
    with pytest.raises(UserError, match=message) as error:
        read_config(config)
    assert 'probe' in str(error.value)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('modle.backbone.frozen=False', "'modle'.*'model'"),
        ('model.backbone.frozn=False', "'frozn'.*'frozen'"),
        ('train_dataloader.dataset.pipeline.7.scale=1', 'pipeline.7'),
    ],
)
def test_faults_of_options(config: Path, option: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_config(config, arguments('--cfg-options', option).cfg_options)


def test_option_without_value_ends_in_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match='2'):
        arguments('--cfg-options', 'lr')
    assert 'KEY=VALUE' in capsys.readouterr().err


def test_missing_config_names_its_neighbor(config: Path) -> None:
    with pytest.raises(UserError, match=r"prob\.py: no such config.*'probe\.py'"):
        read_config(config.with_name('prob.py'))


@pytest.mark.parametrize('launcher', list(ENVIRONMENTS))
def test_launcher_without_its_environment(
    config: Path, launcher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for names in ENVIRONMENTS.values() for name in names]:
        monkeypatch.delenv(name, raising=False)
    first, *others = ENVIRONMENTS[launcher]
    monkeypatch.setenv(first, '0')
    command = {'pytorch': 'torchrun', 'slurm': 'srun', 'mpi': 'mpirun'}[launcher]
    with pytest.raises(UserError, match=f'has no {", ".join(others)}.*{command}'):
        apply_common(read_config(config), arguments('--launcher', launcher))


@pytest.mark.skipif(torch.cuda.is_available(), reason='what happens without a GPU')
def test_slurm_without_gpu(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENTS['slurm']:
        monkeypatch.setenv(name, '1')
    with pytest.raises(UserError, match='needs a GPU'):
        apply_common(read_config(config), arguments('--launcher', 'slurm'))


def test_work_dir_and_resume(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def resumed(*argv: str) -> tuple[bool, str | None]:
        cfg = apply_common(read_config(config), arguments(*argv))
        assert cfg.work_dir == 'work_dirs/probe'
        return bool(cfg.get('resume')), cfg.get('load_from')

    monkeypatch.chdir(tmp_path)
    checkpoint = Path('work_dirs/probe/iter_3.pth')
    assert resumed() == (False, None)
    assert resumed('--resume') == (False, None)
    with pytest.raises(UserError, match=r'iter_3\.pth: no such file'):
        resumed('--resume', str(checkpoint))
    checkpoint.parent.mkdir(parents=True)
    torch.save({}, checkpoint)
    assert resumed('--resume', str(checkpoint)) == (True, str(checkpoint))
    assert resumed('--resume') == (True, str(checkpoint))


def test_resuming_approximately_is_for_runs_by_epochs(config: Path) -> None:
    def cfg_of(*argv: str, loop: str = 'ExactEpochLoop') -> Config:
        cfg = read_config(config)
        cfg.train_cfg = dict(type=loop)
        return apply_common(cfg, arguments(*argv))

    assert 'approximately' not in cfg_of('--resume').train_cfg
    assert cfg_of('--resume', '--resume-approximately').train_cfg.approximately
    with pytest.raises(UserError, match='needs --resume'):
        cfg_of('--resume-approximately')
    with pytest.raises(UserError, match='for runs by epochs'):
        cfg_of('--resume', '--resume-approximately', loop='IterBasedTrainLoop')


def test_sync_bn_is_replaced_wherever_it_is() -> None:
    cfg = Config(dict(model=dict(a=dict(type='SyncBN', eps=1), b=[dict(n=dict(type='SyncBN'))])))
    assert replace_sync_bn(cfg) == 2
    assert cfg.model.to_dict() == dict(a=dict(type='BN', eps=1), b=[dict(n=dict(type='BN'))])


@pytest.mark.parametrize(
    ('tool', 'arguments', 'message'),
    [
        (pretrain, ['CONFIG', '--seed', '-1'], "--seed: '-1' is no whole number from 0 to"),
        (train, ['CONFIG', '--seed', '99999999999'], "--seed: '99999999999' is no whole"),
        (leaderboard, ['race', 'CONFIG', '--seed', 'x'], "--seed: 'x' is no whole number"),
        (
            leaderboard,
            ['race', 'CONFIG', '--gpus', '0'],
            "--gpus: '0' is no whole number from 1",
        ),
    ],
)
def test_numbers_out_of_range_end_in_usage(
    tool: Any, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        tool.parse_args(arguments)
    assert message in capsys.readouterr().err


def test_guard_prints_one_line_and_returns_two(capsys: pytest.CaptureFixture[str]) -> None:
    @main_guard
    def main(fail: bool) -> None:
        if fail:
            raise UserError('the file is missing: fetch it')

    assert main(False) == 0
    assert main(True) == 2
    assert capsys.readouterr().err == 'error: the file is missing: fetch it\n'


def test_names_from_files_neither_break_the_line_nor_reach_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @main_guard
    def main() -> None:
        raise UserError('a\n\x1b[2Jb\udcff é: no such file.')

    assert main() == 2
    assert capsys.readouterr().err == 'error: a \\x1b[2Jb\\udcff é: no such file.\n'


@pytest.mark.parametrize(('error', 'code'), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)])
def test_an_interrupt_is_one_line(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    @main_guard
    def main() -> None:
        raise error

    assert main() == code
    said = capsys.readouterr().err
    assert said.startswith('Interrupted.')
    assert said.count('\n') == 1
