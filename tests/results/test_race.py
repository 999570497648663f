"""A race: equal terms, teachers first, only what is missing runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from moca.errors import UserError
from moca.results.race import RacePlan, make_race
from tests.configs.helpers import REPOSITORY
from tests.results.raced import leave_checkpoint
from tools import leaderboard, pretrain

METHODS = ('moma', 'can', 'mae', 'macrl', 'moca')
CONFIGS = [REPOSITORY / f'configs/pretrain/{name}_tiny-imagenet.py' for name in METHODS]


def here(folder: Path, *configs: Path, **fields: Any) -> RacePlan:
    """A race in a folder that holds the images as well; nothing but their number counts."""
    images = folder / 'images'
    if not images.is_dir():
        images.mkdir(parents=True)
        for number in range(1024):  # twice MACRL's bank
            (images / f'{number}.png').touch()
    return RacePlan(configs, **{'folder': folder, 'data_root': str(images), **fields})


def test_teachers_come_first_and_hand_over_their_last_checkpoint(tmp_path: Path) -> None:
    options = ('randomness.seed=3', 'macrl_tiny-imagenet:model.bank_size=64')
    race = make_race(here(tmp_path, *CONFIGS, epochs=7, cfg_options=options))
    order = [each.title.removesuffix('_tiny-imagenet') for each in race]
    assert order == ['can', 'mae', 'macrl', 'moca', 'moma']  # the plan's but for the student
    for each in race:
        cfg = pretrain.configure(pretrain.parse_args(list(each.arguments)))
        assert cfg.train_cfg.max_epochs == 7
        assert cfg.randomness.seed == 3
        assert cfg.model.get('bank_size', 64) == 64
        assert Path(cfg.work_dir) == each.folder
        assert each.checkpoint == each.folder / 'epoch_7.pth'
    teachers = pretrain.configure(pretrain.parse_args(list(race[order.index('moma')].arguments)))
    files = {name: each.checkpoint for name, each in teachers.model.teachers.items()}
    assert files == {
        'moco': str(race[order.index('macrl')].checkpoint),
        'mae': str(race[order.index('mae')].checkpoint),
    }


def test_an_encoder_for_all_is_the_teachers_as_well(tmp_path: Path) -> None:
    race = make_race(here(tmp_path, *CONFIGS, arch='vit_small_patch8_224'))
    for each in race:
        cfg = pretrain.configure(pretrain.parse_args(list(each.arguments)))
        encoders = [cfg.model.backbone, *(cfg.model.get('teachers') or {}).values()]
        assert {encoder.arch for encoder in encoders} == {'vit_small_patch8_224'}


def test_a_teacher_from_outside_stays_as_the_config_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r'model\.teachers\.mo.*is no file, and no config of this'):
        make_race(here(tmp_path, CONFIGS[0]))
    for name in ('mae', 'macrl'):
        leave(Path(f'work_dirs/{name}_tiny-imagenet/epoch_100.pth'))
    (race,) = make_race(here(tmp_path, CONFIGS[0]))
    cfg = pretrain.configure(pretrain.parse_args(list(race.arguments)))
    assert cfg.model.teachers == Config.fromfile(str(CONFIGS[0])).model.teachers
    assert race.teachers == tuple(Path(each.checkpoint) for each in cfg.model.teachers.values())


def leave(file: Path, content: bytes = b'') -> None:
    file.parent.mkdir(parents=True)
    file.write_bytes(content)


@pytest.mark.parametrize(
    'names', ['demo/pretrain_{}', 'pretrain/{}_tiny-imagenet', 'pretrain/{}_cifar']
)
def test_all_five_configs_of_a_size_can_race(names: str, tmp_path: Path) -> None:
    configs = [REPOSITORY / f'configs/{names.format(method)}.py' for method in METHODS]
    name = Path(names.format('macrl')).name
    race = make_race(here(tmp_path, *configs, cfg_options=[f'{name}:model.bank_size=512']))
    files = {each.title: each.checkpoint for each in race}
    moma, macrl, mae = (Path(names.format(name)).name for name in ('moma', 'macrl', 'mae'))
    (teachers,) = (each.teachers for each in race if each.title == moma)
    assert set(teachers) == {files[macrl], files[mae]}


def test_unequal_terms_are_refused(tmp_path: Path) -> None:
    def race(*configs: Path, **changes: Any) -> None:
        make_race(here(tmp_path, *configs, **changes))

    def changed(name: str, text: str) -> Path:
        path = tmp_path / f'{name}.py'
        path.write_text(f'_base_ = {str(CONFIGS[2])!r}\n{text}\n')
        return path

    can = CONFIGS[1]
    shorter = changed('shorter', 'train_cfg = dict(max_epochs=3)')
    with pytest.raises(UserError, match=r'max_epochs is 100 in can.*, 3 in shorter.*--epochs'):
        race(can, shorter)
    race(can, shorter, epochs=5)
    larger = changed('larger', 'train_dataloader = dict(batch_size=64)')
    with pytest.raises(UserError, match=r'\.batch_size is 32 in can.*, 64 in larger'):
        race(can, larger)
    race(can, larger, cfg_options=['train_dataloader.batch_size=16'])
    elsewhere = changed('elsewhere', "train_dataloader = dict(dataset=dict(data_root='there'))")
    with pytest.raises(UserError, match=r'data_root is .* there in elsewhere.*--data-root'):
        race(can, elsewhere, data_root=None)
    race(can, elsewhere)
    for field, value in (
        ('train_dataloader.dataset.limit', 9),
        ('model.backbone.arch', 'vit_small_patch8'),
        ('model.backbone.img_size', 32),
        ('randomness.seed', 3),
        ('default_hooks.logger.interval', 5),
    ):
        with pytest.raises(UserError, match=rf'{field} is {value} in can_.*, \S+ in mae_'):
            race(can, CONFIGS[2], cfg_options=[f'{can.stem}:{field}={value}'])
    race(can, CONFIGS[2])
    parts = changed('parts', 'optim_wrapper = dict(accumulative_counts=4)')
    with pytest.raises(UserError, match=r'accumulative_counts is None in can.*, 4 in parts'):
        race(can, parts)
    with pytest.raises(UserError, match='same file name'):
        race(CONFIGS[2], changed(CONFIGS[2].stem, ''))


def test_what_cannot_run_is_refused(tmp_path: Path) -> None:
    def race(config: Path, **changes: Any) -> None:
        make_race(here(tmp_path, config, **changes))

    with pytest.raises(UserError, match='data/tiny-imagenet-200/train does not exist'):
        race(CONFIGS[2], data_root=None)
    with pytest.raises(UserError, match=r"no config of this race is called 'mae'.*mae_tiny"):
        race(CONFIGS[2], cfg_options=['mae:model.mask_ratio=.5'])
    with pytest.raises(UserError, match='a race has no checkpoint'):
        race(CONFIGS[2], arch='auto')
    with pytest.raises(UserError, match='--knn-val needs --knn'):
        race(CONFIGS[2], knn_val=str(tmp_path))
    with pytest.raises(UserError, match='data_root absent does not exist'):
        race(CONFIGS[2], data_root='absent')
    with pytest.raises(UserError, match=r'linear\.py: no config of pre-training'):
        race(REPOSITORY / 'configs/segmentation/cityscapes/linear.py')
    with pytest.raises(UserError, match='--accumulate two: give auto or a whole number'):
        race(CONFIGS[2], accumulate='two')
    with pytest.raises(UserError, match=r'batch of 32 is no multiple of 32 images x 3 processes'):
        race(CONFIGS[2], accumulate='auto', processes=3)
    with pytest.raises(UserError, match="Did you mean 'mask_ratio'"):
        race(CONFIGS[2], cfg_options=['model.mask_rato=.5'])
    with pytest.raises(UserError, match='the schedule sets the rate'):
        race(CONFIGS[2], cfg_options=['optim_wrapper.optimizer.lr=1e-2'])
    with pytest.raises(UserError, match=r'model\.mask_ratio=0\.99 leaves none'):
        race(CONFIGS[2], cfg_options=['model.mask_ratio=.99'])
    with pytest.raises(UserError, match='batch_size: a contrastive loss'):
        race(CONFIGS[1], cfg_options=['train_dataloader.batch_size=1'])
    with pytest.raises(UserError, match=r'model\.bank_size=512 for 500 images.*bank_size=96\.'):
        race(CONFIGS[3], cfg_options=['train_dataloader.dataset.limit=500'])
    race(
        CONFIGS[3],
        cfg_options=[
            'train_dataloader.dataset.limit=500',
            'macrl_tiny-imagenet:model.bank_size=96',
        ],
    )
    race(CONFIGS[1], cfg_options=['train_dataloader.batch_size=1'], processes=2)
    with pytest.raises(UserError, match='is no timm ViT'):
        race(CONFIGS[2], cfg_options=['model.backbone.arch=vit_tny_patch8'])
    with pytest.raises(UserError, match='by_epoch=False'):
        race(CONFIGS[2], cfg_options=['default_hooks.checkpoint.by_epoch=False'])


def test_teachers_of_each_other_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    leave(Path('work_dirs/macrl_tiny-imagenet/epoch_100.pth'))
    configs = []
    for name, other in (('one', 'two'), ('two', 'one')):
        configs.append(tmp_path / f'{name}.py')
        configs[-1].write_text(
            f'_base_ = {str(CONFIGS[0])!r}\n'
            f"model = dict(teachers=dict(mae=dict(checkpoint='work_dirs/{other}/epoch_1.pth')))\n"
        )
    with pytest.raises(UserError, match='teachers of each other'):
        make_race(here(tmp_path, *configs))


def test_what_was_run_before_counts_as_a_racer(tmp_path: Path) -> None:
    """It is resumed, or passes for the result: on other terms it would spoil the table."""
    options = ['default_hooks.logger.interval=5']
    (race,) = make_race(here(tmp_path, CONFIGS[2], epochs=7, seed=3, cfg_options=options))
    cfg = pretrain.configure(pretrain.parse_args(list(race.arguments)))
    leave_checkpoint(race.folder / 'epoch_1.pth', cfg=cfg)
    assert make_race(here(tmp_path, CONFIGS[2], epochs=7, seed=3, cfg_options=options)) == [race]
    for change, message in (
        (dict(epochs=9), r'max_epochs is 9 in mae.*, 7 in \S*/mae_tiny-imagenet: .*--work-dir'),
        (dict(seed=4), r'randomness\.seed is 4 in mae.*, 3 in '),
        (dict(accumulate='4'), r'accumulative_counts is 4 in mae.*, None in '),
        (dict(cfg_options=[]), r'logger\.interval is 10 in mae.*, 5 in '),
    ):
        given: dict[str, Any] = dict(epochs=7, seed=3, cfg_options=options)
        with pytest.raises(UserError, match=message):
            make_race(here(tmp_path, CONFIGS[2], **{**given, **change}))
    make_race(here(tmp_path / 'elsewhere', CONFIGS[2], epochs=9))


def test_two_methods_race_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for name in ('x', 'y'):
        (tmp_path / 'data' / name).mkdir(parents=True)
        for number in range(20):
            image = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / 'data' / name / f'{number}.png'), image)
    data, out, drawn = str(tmp_path / 'data'), tmp_path / 'race.md', tmp_path / 'race.png'
    leave(Path('work_dirs/macrl_tiny-imagenet/epoch_100.pth'), b'broken')
    arguments = ['race', str(CONFIGS[0]), str(CONFIGS[2]), '--data-root', data, '--knn', data]
    arguments += ['--epochs', '1', '--work-dir', str(tmp_path / 'race'), '--markdown', str(out)]
    arguments += ['--plot', str(drawn), '--cfg-options', 'train_dataloader.num_workers=0']
    arguments += ['train_dataloader.persistent_workers=False', 'default_hooks.knn.k=(1,)']
    assert leaderboard.main([*arguments, '--dry-run']) == 0
    mae, moma = capsys.readouterr().out.splitlines()
    assert mae.startswith('python tools/pretrain.py')
    assert 'mae_tiny-imagenet.py' in mae
    assert f'model.teachers.mae.checkpoint={tmp_path}/race/mae_tiny-imagenet/epoch_1.pth' in moma

    # MOMA's other teacher is broken: its run fails, MAE's table is shown all the same
    assert leaderboard.main(arguments) == 2
    said = capsys.readouterr()
    assert '1 of 2 runs failed: moma_tiny-imagenet' in said.err
    assert 'macrl_tiny-imagenet/epoch_100.pth' in said.out
    assert [line.split(' | ')[0] for line in out.read_text().splitlines()[2:3]] == [
        '| mae_tiny-imagenet'
    ]
    assert drawn.stat().st_size > 0

    # as if killed between the last checkpoint and its accuracy: the next call completes it
    (log,) = tmp_path.glob('race/mae_tiny-imagenet/*/vis_data/scalars.json')
    first, *lines = log.read_text().splitlines()
    assert 'knn' in first
    log.write_text('\n'.join([first, *(line for line in lines if 'knn' not in line)]))
    assert leaderboard.main([*arguments, '--dry-run']) == 0
    assert '#' not in capsys.readouterr().out
    leaderboard.main(arguments)
    capsys.readouterr()
    assert leaderboard.main([*arguments, '--dry-run']) == 0
    mae, moma = capsys.readouterr().out.splitlines()
    assert mae.startswith('# finished: ')
    assert not moma.startswith('#')
