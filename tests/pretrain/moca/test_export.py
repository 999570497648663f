"""Released MOCA files: into our model and out again, bit for bit; and what the tool refuses."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from safetensors.torch import load_file
from torch import Tensor

from moca.checkpoints import inspect_checkpoint
from moca.checkpoints.reading import read_file
from moca.errors import UserError
from tests.backbone.helpers import TINY, save, timm_vit
from tests.checkpoints import families
from tests.configs.helpers import REPOSITORY
from tests.images.photographs import save_photographs
from tools import checkpoint, pretrain

RECORDING = REPOSITORY / 'tests' / 'data' / 'moca_tiny.json'
State = dict[str, Tensor]


@pytest.fixture(scope='module')
def state() -> State:
    """The tensors of a model of the released code, under its own names."""
    recorded = load_file(RECORDING.with_suffix('.safetensors'))
    return {k.removeprefix('state.'): v for k, v in recorded.items() if k.startswith('state.')}


@pytest.fixture(scope='module')
def released(state: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as the authors release them."""
    content = {
        'model': state,
        'optimizer': {'state': {0: {'exp_avg': torch.ones(2)}}, 'param_groups': [{'lr': 1e-3}]},
        'epoch': 199,
        'args': argparse.Namespace(model='moca_vit_base_patch16_dec2', output_dir=Path('out')),
        'scaler': {'scale': 65536.0, '_growth_tracker': 3},
    }
    return save(content, tmp_path_factory.mktemp('released') / 'moca_v1p0.pth')


@pytest.fixture(scope='module')
def configure(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Config]:
    """A function that configures as tools/pretrain.py does, for the recording's architecture."""
    folder = tmp_path_factory.mktemp('config')
    save_photographs(folder / 'images', count=8)
    settings = json.loads(RECORDING.read_text())['model']
    path = folder / 'tiny.py'
    path.write_text(f"""
_base_ = ['{REPOSITORY}/configs/pretrain/moca_v1p0.py']
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, patch_size=8, embed_dim=32, depth=4, num_heads=4), img_size=48
    ),
    decoder=dict(dim=24, depth=2, num_heads=4),
    num_words={settings['num_words']},
    early_layer=2,
    skip_offset=1,
)
train_dataloader = dict(
    batch_size=4, num_workers=0, persistent_workers=False, dataset=dict(views=dict(size=48))
)
train_cfg = dict(max_epochs=3)
default_hooks = dict(
    schedule=dict(_delete_=True, type='PretrainSchedule', warmup_epochs=1, momentum=0.9)
)
""")

    def configure(work_dir: Path, *options: str) -> Config:
        command = [str(path), '--data-root', str(folder / 'images'), '--work-dir', str(work_dir)]
        return pretrain.configure(
            pretrain.parse_args([*command, *(['--cfg-options', *options] if options else [])])
        )

    return configure


@pytest.fixture(scope='module')
def run(released: Path, configure: Callable[..., Config], tmp_path_factory: Any) -> Path:
    """The work dir of a run that started from the released file and saved before its first step."""
    work_dir = tmp_path_factory.mktemp('runs') / 'started'
    runner = Runner.from_cfg(configure(work_dir, f'load_from={released}'))

    class Stop(Exception):
        pass

    def save_and_stop(runner: Runner) -> None:
        meta = dict(epoch=2, iter=4)
        runner.save_checkpoint(str(work_dir), 'iter_4.pth', meta=meta, by_epoch=False)
        raise Stop

    runner.register_hook(dict(type='EmptyCacheHook', priority='LOWEST'))
    runner._hooks[-1].before_train = save_and_stop
    with pytest.raises(Stop):
        runner.train()
    return work_dir


def export(*arguments: str | Path) -> int:
    return checkpoint.main(['export', *map(str, arguments)])


def assert_same(ours: State, theirs: State) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name].dtype == value.dtype, name
        assert ours[name].shape == value.shape, name
        assert torch.equal(ours[name], value), name


def test_released_file_round_trips_through_a_run(run: Path, state: State, tmp_path: Path) -> None:
    target = tmp_path / 'whole.pth'
    assert export(run, target, '--to', 'moca') == 0
    content = read_file(target)
    assert set(content) == {'model', 'epoch', 'args', 'scaler', 'meta'}
    assert_same(content['model'], state)
    # what the released code's tools do with the others
    assert content['epoch'] + 1 == 2  # it goes on with the epoch after
    torch.amp.GradScaler('cpu').load_state_dict(content['scaler'])
    args = content['args']
    assert (args.kappa, args.num_words, args.mask_ratio) == (3.0, 64, [0.55, 0.75])
    assert (args.alpha, args.weight_decay, args.lr_wgen, args.blr) == (0.9, 0.05, 1e-4, 1.5e-4)
    assert content['meta']['method'] == 'MOCAPretrain'
    assert content['meta']['step'] == '4'


def test_settings_of_the_run_reach_the_file(
    run: Path, state: State, configure: Callable[..., Config], tmp_path: Path
) -> None:
    content = read_file(run / 'iter_4.pth')
    cfg = configure(tmp_path / 'run', 'model.kappa=5.5', 'model.backbone.arch=vit_base_patch16')
    content['meta']['cfg'] = cfg.pretty_text
    scaler = {'scale': 1024.0, 'growth_factor': 2.0}
    content['optimizer']['loss_scaler'] = scaler
    assert export(save(content, tmp_path / 'a.pth'), tmp_path / 'b.pth', '--to', 'moca') == 0
    written = read_file(tmp_path / 'b.pth')
    for name in ('encoder_pred.scale', 'decoder_pred.scale'):
        assert torch.equal(written['model'][name], torch.tensor([5.5]))
        assert written['model'][name].dtype == state[name].dtype
    assert written['args'].model == 'moca_vit_base_patch16_dec2'
    assert written['scaler'] == scaler


def test_released_file_round_trips_as_it_is(released: Path, tmp_path: Path) -> None:
    assert export(released, tmp_path / 'again.pth', '--to', 'moca') == 0
    before, after = read_file(released), read_file(tmp_path / 'again.pth')
    assert_same(after.pop('model'), before.pop('model'))
    after.pop('meta')
    assert str(after) == str(before)


@pytest.mark.parametrize('branch', ['teacher', 'student'])
@pytest.mark.parametrize('to', ['moca', 'timm', 'safetensors'])
def test_one_branch_is_the_prefix_stripped(
    run: Path, state: State, branch: str, to: str, tmp_path: Path
) -> None:
    target = tmp_path / ('a.safetensors' if to == 'safetensors' else 'a.pth')
    assert export(run, target, '--branch', branch, '--to', to) == 0
    prefix = {'teacher': 'encoder_teacher.', 'student': 'encoder.'}[branch]
    expected = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    content = load_file(target) if to == 'safetensors' else torch.load(target)['model']
    assert_same(content, expected)


class TestNames:
    """What is written where, if the command line does not say."""

    def names(self, folder: Path) -> set[str]:
        return {path.name for path in folder.iterdir()}

    def test_beside_the_run(self, released: Path, tmp_path: Path) -> None:
        work_dir = tmp_path / 'moca_v1.0'
        work_dir.mkdir()
        (work_dir / 'epoch_9.pth').write_bytes(released.read_bytes())
        assert export(work_dir) == 0
        assert export(work_dir, '--to', 'timm', '--branch', 'student') == 0
        assert export(work_dir, '--to', 'moca') == 0
        assert export(work_dir / 'epoch_9.pth') == 0
        assert self.names(tmp_path) == {
            *('moca_v1.0', 'moca_v1.0_teacher.safetensors'),
            *('moca_v1.0_student.pth', 'moca_v1.0_moca.pth'),
        }
        assert self.names(work_dir) == {'epoch_9.pth', 'epoch_9_teacher.safetensors'}

    def test_folder_one_stands_in(
        self, released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / 'run').mkdir()
        (tmp_path / 'run' / 'iter_9.pth').write_bytes(released.read_bytes())
        monkeypatch.chdir(tmp_path / 'run')
        assert export('.') == 0
        assert self.names(tmp_path) == {'run', 'run_teacher.safetensors'}

    def test_format_by_suffix(self, released: Path, tmp_path: Path) -> None:
        assert export(released, tmp_path / 'a.safetensors') == 0
        assert export(released, tmp_path / 'b.pth', '--branch', 'student') == 0
        notes = inspect_checkpoint(tmp_path / 'b.pth').notes
        assert notes['branch'] == 'student'

    @pytest.mark.parametrize(
        ('arguments', 'message'),
        [
            (['a.pth'], 'a.pth: say --to timm for one encoder'),
            (['a.pth', '--to', 'safetensors'], 'a.pth: choose a name that ends in .safetensors'),
            (['a.safetensors', '--to', 'moca'], 'choose a name that ends in .pth'),
            (['a.bin', '--to', 'timm'], 'choose a name that ends in .pth'),
            (['exists.pth', '--to', 'moca'], 'exists.pth: exists already'),
        ],
    )
    def test_refused(
        self,
        released: Path,
        arguments: list[str],
        message: str,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path('exists.pth').write_bytes(b'mine')
        assert export(released, *arguments) == 2
        assert message in capsys.readouterr().err
        assert Path('exists.pth').read_bytes() == b'mine'
        assert self.names(tmp_path) == {'exists.pth'}
        if 'exists' in message:
            assert export(released, *arguments, '--force') == 0
            assert inspect_checkpoint('exists.pth').family == 'MOCA'


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (lambda model: families.own_run(model, model), 'Only a run of MOCAPretrain'),
        (lambda model: families.dino(model, model), 'Only a run of MOCAPretrain'),
        (lambda model: families.ONE_ENCODER['MOCA'](model), 'there are no tensors student.'),
    ],
)
def test_what_is_no_whole_moca(
    content: Callable[..., Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = save(content(timm_vit(TINY)), tmp_path / 'a.pth')
    assert export(source, '--to', 'moca') == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ['a.pth']


def test_run_with_a_part_missing(run: Path, tmp_path: Path) -> None:
    content = read_file(run / 'iter_4.pth')
    content['state_dict'] = {
        k: v for k, v in content['state_dict'].items() if not k.startswith('teacher.')
    }
    source = save(content, tmp_path / 'a.pth')
    assert export(source, '--to', 'moca') == 2
    assert not (tmp_path / 'a_moca.pth').exists()


def test_inspect_shows_where_a_file_came_from(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(run, tmp_path / 'a.safetensors', '--branch', 'student')
    capsys.readouterr()
    assert checkpoint.main(['inspect', str(tmp_path / 'a.safetensors')]) == 0
    shown = capsys.readouterr().out
    for fact in ('started/iter_4.pth', 'MOCAPretrain', 'student', 'embed_dim'):
        assert fact in shown


class TestStart:
    """``load_from``: going on from a released file."""

    def test_training_goes_on(
        self, released: Path, configure: Callable[..., Config], tmp_path: Path
    ) -> None:
        runner = Runner.from_cfg(configure(tmp_path, f'load_from={released}'))
        words = read_file(released)['model']['bow_extractor.bow_extractor.0._embedding']
        pointer = int(read_file(released)['model']['bow_extractor.bow_extractor.0._embedding_ptr'])
        runner.train()
        assert runner.iter == 6  # from the start of the schedules
        kept = torch.ones(len(words), dtype=torch.bool)
        kept[(pointer + np.arange(6 * 4)) % len(words)] = False
        assert torch.equal(runner.model.codebook.words[kept], words[kept])
        assert not torch.equal(runner.model.codebook.words[~kept], words[~kept])

    @pytest.mark.parametrize(
        ('option', 'message'),
        [
            ('model.kappa=4.0', r'scale is 3, but model\.kappa is 4\. Set model\.kappa=3'),
            ('model.num_words=128', r'codebook\.words \(\[64, 32\] in the file, \[128, 32\] here'),
        ],
    )
    def test_other_settings_are_refused(
        self,
        released: Path,
        configure: Callable[..., Config],
        option: str,
        message: str,
        tmp_path: Path,
    ) -> None:
        with pytest.raises(UserError, match=message):
            Runner.from_cfg(configure(tmp_path, f'load_from={released}', option)).train()

    def test_code_is_refused(
        self, released: Path, configure: Callable[..., Config], tmp_path: Path
    ) -> None:
        class Touch:
            def __reduce__(self) -> Any:
                return Path.touch, (tmp_path / 'victim',)

        bad = save({**read_file(released), 'args': Touch()}, tmp_path / 'bad.pth')
        with pytest.raises(UserError, match='would run code'):
            configure(tmp_path, f'load_from={bad}')
        assert not (tmp_path / 'victim').exists()

    def test_own_run_still_loads(
        self, run: Path, configure: Callable[..., Config], tmp_path: Path
    ) -> None:
        cfg = configure(tmp_path, f'load_from={run / "iter_4.pth"}')
        runner = Runner.from_cfg(cfg)
        runner.train()
        assert runner.iter == 6
