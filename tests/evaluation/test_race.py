"""A race: equal terms, teachers first, only what is missing runs, the table as logged."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from moca.errors import UserError
from moca.evaluation.race import RacePlan, Racer, make_race
from moca.evaluation.race_table import race_markdown, read_standings
from tests.configs.helpers import REPOSITORY
from tools import leaderboard, pretrain

METHODS = ('moma', 'can', 'mae', 'macrl', 'moca')
CONFIGS = [REPOSITORY / f'configs/pretrain/{name}_tiny-imagenet.py' for name in METHODS]


def ran(folder: Path, first: float, last: float, accuracies: list[float], steps: int = 40) -> None:
    """Leave what a run of some steps leaves, with a k-NN accuracy in equal distances."""
    logs = folder / '20260101_000000' / 'vis_data'
    logs.mkdir(parents=True)
    rows = [dict(loss=first, time=0.5, step=10), dict(loss=last, time=0.7, step=steps)]
    between = steps / max(1, len(accuracies) - 1)
    rows += [
        {'knn/top1_k10': value, 'knn/top1_k20': value + 1, 'step': round(number * between)}
        for number, value in enumerate(accuracies)
    ]
    (logs / 'scalars.json').write_text('\n'.join(map(json.dumps, rows)))
    (folder / 'epoch_2.pth').write_bytes(b'')


def racer(folder: Path, name: str, watched: bool = True) -> Racer:
    return Racer(name, folder / name, (), folder / name / 'epoch_2.pth', watched)


def test_teachers_come_first_and_hand_over_their_last_checkpoint(tmp_path: Path) -> None:
    race = make_race(
        RacePlan(CONFIGS, epochs=7, folder=tmp_path, cfg_options=('randomness.seed=3',))
    )
    order = [each.title.removesuffix('_tiny-imagenet') for each in race]
    assert sorted(order) == sorted(METHODS)
    assert order.index('moma') > max(order.index('mae'), order.index('macrl'))
    for each in race:
        cfg = pretrain.configure(pretrain.parse_args(list(each.arguments)))
        assert cfg.train_cfg.max_epochs == 7
        assert cfg.randomness.seed == 3
        assert Path(cfg.work_dir) == each.folder
        assert each.checkpoint == each.folder / 'epoch_7.pth'
    teachers = pretrain.configure(pretrain.parse_args(list(race[order.index('moma')].arguments)))
    files = {name: each.checkpoint for name, each in teachers.model.teachers.items()}
    assert files == {
        'moco': str(race[order.index('macrl')].checkpoint),
        'mae': str(race[order.index('mae')].checkpoint),
    }


def test_a_teacher_from_outside_stays_as_the_config_has_it() -> None:
    (race,) = make_race(RacePlan([CONFIGS[0]]))
    assert not any('checkpoint' in argument for argument in race.arguments)


def test_unequal_terms_are_refused(tmp_path: Path) -> None:
    shorter = tmp_path / 'shorter.py'
    shorter.write_text(f'_base_ = {str(CONFIGS[2])!r}\ntrain_cfg = dict(max_epochs=3)\n')
    with pytest.raises(UserError, match=r'max_epochs is 100 in can.*, 3 in shorter.*--epochs'):
        make_race(RacePlan([CONFIGS[1], shorter]))
    make_race(RacePlan([CONFIGS[1], shorter], epochs=5))
    larger = tmp_path / 'larger.py'
    larger.write_text(f'_base_ = {str(CONFIGS[2])!r}\ntrain_dataloader = dict(batch_size=64)\n')
    with pytest.raises(UserError, match=r'\.batch_size is 32 in can.*, 64 in larger'):
        make_race(RacePlan([CONFIGS[1], larger]))
    make_race(RacePlan([CONFIGS[1], larger], cfg_options=['train_dataloader.batch_size=16']))
    again = tmp_path / CONFIGS[2].name
    again.write_text(f'_base_ = {str(CONFIGS[2])!r}\n')
    with pytest.raises(UserError, match='same file name'):
        make_race(RacePlan([CONFIGS[2], again]))


def test_teachers_of_each_other_are_refused(tmp_path: Path) -> None:
    configs = []
    for name, other in (('one', 'two'), ('two', 'one')):
        configs.append(tmp_path / f'{name}.py')
        configs[-1].write_text(
            f'_base_ = {str(CONFIGS[0])!r}\n'
            f"model = dict(teachers=dict(mae=dict(checkpoint='work_dirs/{other}/epoch_1.pth')))\n"
        )
    with pytest.raises(UserError, match='teachers of each other'):
        make_race(RacePlan(configs))


def test_a_folder_of_another_length_is_refused(tmp_path: Path) -> None:
    plan = RacePlan([CONFIGS[2]], epochs=7, folder=tmp_path)
    (race,) = make_race(plan)
    race.folder.mkdir()
    cfg = Config.fromfile(str(CONFIGS[2]))
    cfg.train_cfg.max_epochs = 9
    cfg.dump(race.folder / CONFIGS[2].name)
    with pytest.raises(UserError, match=r'has a run of 9 epochs, not 7.*--work-dir'):
        make_race(plan)


def test_finished_is_what_has_a_checkpoint_and_its_last_accuracy(tmp_path: Path) -> None:
    assert not racer(tmp_path, 'absent').finished
    ran(tmp_path / 'whole', 9, 3, [5, 20])
    assert racer(tmp_path, 'whole').finished
    ran(tmp_path / 'blind', 9, 3, [])
    assert not racer(tmp_path, 'blind').finished
    assert racer(tmp_path, 'blind', watched=False).finished
    ran(tmp_path / 'killed', 9, 3, [5])  # between its last step and the accuracy
    assert not racer(tmp_path, 'killed').finished


def test_the_table_has_first_and_last_values_the_best_first(tmp_path: Path) -> None:
    ran(tmp_path / 'a', 9, 3, [5.0, 31.0, 20.0])
    ran(tmp_path / 'b', 0.5, 0.25, [6.0, 25.0])
    standings = read_standings([racer(tmp_path, name) for name in ('a', 'b', 'absent')])
    first, _, b, a, *rest = race_markdown(standings, 500).splitlines()
    assert first == '| method | steps | s/step | loss | k-NN top1_k10, % | k-NN top1_k20, % |'
    assert b == '| b | 40 | 0.60 | 0.5 → 0.25 | 6.0 → 25.0 | 7.0 → 26.0 |'
    assert a == '| a | 40 | 0.60 | 9 → 3 | 5.0 → 20.0 | 6.0 → 21.0 |'
    # sqrt(.26 * .74 / 500) = 1.96 %
    assert 'up to 2.0 points' in '\n'.join(rest)
    unwatched = race_markdown(read_standings([racer(tmp_path, 'a')]), None)
    assert 'points' not in unwatched


def test_two_methods_race_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    for name in ('x', 'y'):
        (tmp_path / 'data' / name).mkdir(parents=True)
        for number in range(20):
            picture = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / 'data' / name / f'{number}.png'), picture)
    data, out, drawn = str(tmp_path / 'data'), tmp_path / 'race.md', tmp_path / 'race.png'
    arguments = ['race', str(CONFIGS[0]), str(CONFIGS[2]), '--data-root', data, '--knn', data]
    arguments += ['--epochs', '1', '--work-dir', str(tmp_path / 'race'), '--markdown', str(out)]
    arguments += ['--plot', str(drawn), '--cfg-options', 'train_dataloader.num_workers=0']
    arguments += ['train_dataloader.persistent_workers=False', 'custom_hooks.2.k=(1,)']
    assert leaderboard.main([*arguments, '--dry-run']) == 0
    mae, moma = capsys.readouterr().out.splitlines()
    assert mae.startswith('python tools/pretrain.py')
    assert 'mae_tiny-imagenet.py' in mae
    assert 'teachers.moco' not in moma
    assert 'model.teachers.mae.checkpoint=' in moma

    # MOMA's other teacher is in no race here: its run fails, MAE's table is shown all the same
    assert leaderboard.main(arguments) == 2
    said = capsys.readouterr()
    assert '1 of 2 runs failed: moma_tiny-imagenet' in said.err
    assert 'model.teachers.moco.checkpoint' in said.out
    assert [line.split(' | ')[0] for line in out.read_text().splitlines()[2:3]] == [
        '| mae_tiny-imagenet'
    ]
    assert drawn.stat().st_size > 0
    assert leaderboard.main([*arguments, '--dry-run']) == 0
    mae, moma = capsys.readouterr().out.splitlines()
    assert mae.startswith('# finished: ')
    assert not moma.startswith('#')
