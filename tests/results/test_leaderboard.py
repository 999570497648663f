"""The leaderboard against tables worked out by hand."""

import io
import json
import os
import re
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from moca.errors import UserError
from moca.records.metrics import lower_is_better
from moca.records.run_reading import read_runs
from moca.results import tables
from moca.results.leaderboard import build_leaderboard
from moca.results.published import published_results
from tools.leaderboard import main

RUN = dict(
    status='finished',
    protocol='cityscapes_linear',
    title='Cityscapes linear',
    published='cityscapes_linear_2975',
    main_metrics=['mIoU'],
    task='segmentation',
    checkpoint=dict(name='MOCA', path='moca.pth', branch='teacher'),
    arch='vit_base_patch16',
    seed=0,
    train_images=2975,
    val_images=500,
    iterations=80000,
    seconds=100.0,
    metrics=dict(mIoU=60.0, aAcc=90.0),
    finished_at='2025-01-01T00:00:00+00:00',
    config='linear.py',
)
RANDOM = dict(name='random init', path=None, branch=None)


def _write(folder: Path, **changes: object) -> None:
    folder.mkdir(parents=True)
    (folder / 'run.json').write_text(json.dumps({**RUN, **changes}))


@pytest.fixture
def work_dirs(tmp_path: Path) -> Path:
    """Three seeds of MOCA, two of random init, one of another data size, one detection run."""
    for seed, value in enumerate((60.0, 61.0, 62.6)):
        _write(tmp_path / f'moca_{seed}', seed=seed, metrics=dict(mIoU=value))
    for seed, value in enumerate((20.0, 22.0)):
        _write(tmp_path / f'r_{seed}', seed=seed, metrics=dict(mIoU=value), checkpoint=RANDOM)
    _write(tmp_path / 'few', train_images=100, metrics=dict(mIoU=50.0))
    _write(
        tmp_path / 'coco',
        protocol='coco',
        title='COCO',
        published=None,
        main_metrics=['bbox_mAP', 'segm_mAP'],
        task='detection',
        metrics=dict(bbox_mAP=1.25, segm_mAP=None),
        train_images=150,
        val_images=75,
        iterations=10,
    )
    return tmp_path


def _frame(*roots: Path) -> pd.DataFrame:
    return tables.frame(build_leaderboard(*read_runs(list(roots))))


def test_means_and_deviations_over_seeds(work_dirs):
    table = _frame(work_dirs)
    ours = table[table.origin == 'ours'].set_index(['checkpoint', 'protocol', 'train_images'])
    # (60 + 61 + 62.6) / 3 = 61.2; deviations -1.2, -.2, 1.4: sqrt((1.44 + .04 + 1.96) / 2) = 1.3115
    moca = ours.loc[('MOCA', 'cityscapes_linear', 2975)].squeeze()
    assert moca['mean'] == pytest.approx(61.2)
    assert moca['std'] == pytest.approx(1.311488, abs=1e-6)
    assert (moca['n'], moca['seeds']) == (3, '0 1 2')
    random = ours.loc[('random init', 'cityscapes_linear', 2975)].squeeze()
    assert (random['mean'], random['std'], random['n']) == (21.0, pytest.approx(2**0.5), 2)
    # Runs on 100 images are not averaged with those on 2975.
    few = ours.loc[('MOCA', 'cityscapes_linear', 100)].squeeze()
    assert (few['mean'], few['n']) == (50.0, 1)
    assert pd.isna(few['std'])
    # A metric without a value has no cell.
    assert table[table.protocol == 'coco'].metric.tolist() == ['bbox_mAP']


def test_published_rows_stand_only_beside_runs_of_their_size(work_dirs):
    table = _frame(work_dirs)
    theirs = table[table.origin == 'published']
    assert set(theirs.train_images) == {2975}
    assert set(theirs.iterations) == {80000}
    values = theirs.set_index('checkpoint')['mean'].to_dict()
    assert values == {'MAE': 40.6, 'DINO': 55.5, 'iBOT': 59.3, 'MOCA': 60.1}
    assert set(theirs.source) == {'moca-fig1'}
    assert theirs.reading_error.tolist() == [0.1] * 4


def test_published_results_get_their_own_column_where_sizes_differ(tmp_path):
    _write(tmp_path / 'a', train_images=160, val_images=40)
    board = build_leaderboard(*read_runs([tmp_path]))
    assert [(c.train_images, c.iterations) for c in board.columns] == [(160, 80000), (2975, None)]
    ours, theirs = board.columns
    assert {row.source for row, column in board.cells if column == ours} == {None}
    assert {row.source for row, column in board.cells if column == theirs} == {'moca-fig1'}
    assert 'published' in tables.heading(theirs)


def test_terminal_markdown_and_csv_tell_the_same(work_dirs, tmp_path_factory, capsys):
    out = tmp_path_factory.mktemp('out')
    files = [f'--{kind}={out / name}' for kind, name in
             (('markdown', 'a.md'), ('csv', 'a.csv'), ('plot', 'a.png'))]  # fmt: skip
    assert main(['show', str(work_dirs), *files]) == 0
    capsys.readouterr()
    console = Console(file=io.StringIO(), width=240)
    tables.show(build_leaderboard(*read_runs([work_dirs])), console)
    printed = console.file.getvalue()
    written = (out / 'a.md').read_text()
    for text in ('61.2 ± 1.3 (3)', '21.0 ± 1.4 (2)', 'published [moca-fig1]', 'Cityscapes linear'):
        assert text in printed
        assert text in written
    rows = [line for line in written.splitlines() if line.startswith('|')]
    assert len({line.count('|') for line in rows}) == 1
    moca = next(line for line in rows if 'measured here' in line and 'MOCA' in line)
    cells = [cell.strip() for cell in moca.strip('|').split('|')]
    # the larger of MOCA's and random init's; alone in its column, 50.0 is no best
    assert cells == ['MOCA', 'teacher', 'vit_base_patch16', '50.0', '**61.2 ± 1.3 (3)**', '1.2',
                     '–', 'measured here']  # fmt: skip
    saved = pd.read_csv(out / 'a.csv')
    assert saved.loc[(saved.n == 3) & (saved.origin == 'ours'), 'mean'].tolist() == [
        pytest.approx(61.2)
    ]
    assert (out / 'a.png').read_bytes().startswith(b'\x89PNG')


def test_a_wide_table_splits_between_protocols(work_dirs):
    board = build_leaderboard(*read_runs([work_dirs]))
    names = [column.protocol for column in board.columns]
    assert names == ['cityscapes_linear', 'cityscapes_linear', 'coco', 'coco']

    def split(at_once):
        tables_of = tables.beside(board.columns, at_once)
        assert [column for columns in tables_of for column in columns] == board.columns
        return [len(columns) for columns in tables_of]

    assert [split(n) for n in (4, 3, 2, 1)] == [[4], [2, 2], [2, 2], [1, 1, 1, 1]]
    assert [len(c) for c in tables.beside(board.columns * 2, 3)] == [2, 2, 2, 2]
    console = Console(file=io.StringIO(), width=tables.NAMES_WIDTH + 3 * tables.COLUMN_WIDTH)
    tables.show(board, console)
    first, second = console.file.getvalue().split('COCO', 1)
    assert first.count('Cityscapes linear') == 2
    assert 'Cityscapes linear' not in second.split('In percent')[0]


@pytest.mark.parametrize(
    ('command', 'option', 'file', 'message'),
    [
        ('show', 'csv', 'absent/a.csv', r'absent/a\.csv: the folder .*absent does not exist'),
        ('show', 'plot', 'a.jpg', r'--plot .*a\.jpg: the name must end in \.png'),
        ('race', 'plot', 'a', r'--plot .*a: the name must end in \.png'),
        ('race', 'markdown', 'absent/a.md', r'absent/a\.md: the folder .*absent does not exist'),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_anything_runs(
    command, option, file, message, tmp_path, capsys
):
    # neither the work dir nor the config is there: whoever looked at them would say so
    assert main([command, str(tmp_path / 'nothing'), f'--{option}={tmp_path / file}']) == 2
    assert re.search(message, capsys.readouterr().err)


def test_newest_of_two_equal_runs_counts_and_is_named(tmp_path):
    _write(tmp_path / 'old', metrics=dict(mIoU=10.0))
    _write(tmp_path / 'new', metrics=dict(mIoU=30.0), finished_at='2025-02-01T00:00:00+00:00')
    board = build_leaderboard(*read_runs([tmp_path]))
    assert [cell.values for row, cell in _ours(board)] == [(30.0,)]
    assert any('old' in note and 'newer one counts' in note for note in board.notes)


KNN_CLS = dict(
    protocol='imagenet_knn_cls',
    title='k-NN',
    published='imagenet_knn_cls',
    main_metrics=['top1'],
    task='image',
    train_images=1_281_167,
    val_images=50_000,
    iterations=0,
)
OTHER_K = {'evaluation.k': [10, 200], 'loading.batch_size': 8}


@pytest.mark.parametrize(
    'known',
    [
        dict(changes='evaluation.k=[10,200]', options=dict(cfg_options=OTHER_K)),
        dict(options=dict(cfg_options=OTHER_K)),  # of a record that does not name them
    ],
)
def test_a_run_whose_options_change_the_measurement_has_a_column_of_its_own(tmp_path, known):
    workers = dict(cfg_options={'loading.num_workers': 2, 'evaluation.bank.data_root': 'there'})
    _write(tmp_path / 'plain', **KNN_CLS, metrics=dict(top1=70.0), options=workers)
    _write(tmp_path / 'other', **KNN_CLS, metrics=dict(top1=75.0), **known)
    board = build_leaderboard(*read_runs([tmp_path]))
    assert not board.notes  # neither replaces the other
    plain, other = board.columns
    assert (plain.changes, other.changes) == ('', 'evaluation.k=[10,200]')
    assert {c: cell.values for (row, c), cell in board.cells.items() if row.source is None} == {
        plain: (70.0,),
        other: (75.0,),
    }
    assert {column for row, column in board.cells if row.source} == {plain}
    assert 'with evaluation.k=[10,200]' in tables.heading(other)
    assert set(tables.frame(board).changes.dropna()) == {'evaluation.k=[10,200]'}
    # beside a changed run alone there is nothing published
    board = build_leaderboard(*read_runs([tmp_path / 'other']))
    assert [row.source for row in board.rows] == [None]


def _ours(board):
    return [(row, cell) for (row, _), cell in board.cells.items() if row.source is None]


def test_checkpoints_of_one_name_but_two_files_are_two_rows(tmp_path):
    _write(tmp_path / 'a', checkpoint=dict(name='MOCA', path='a.pth', branch='teacher'))
    _write(tmp_path / 'b', checkpoint=dict(name='MOCA', path='b.pth', branch='teacher'))
    board = build_leaderboard(*read_runs([tmp_path]))
    assert sorted(row.name for row, _ in _ours(board)) == ['MOCA (a.pth)', 'MOCA (b.pth)']


def test_runs_that_cannot_be_counted_are_listed_with_the_reason(work_dirs):
    before = len(read_runs([work_dirs])[0])
    _write(work_dirs / 'failed', status='failed')
    _write(work_dirs / 'bare', metrics={})
    _write(work_dirs / 'text', seed='zero')
    (work_dirs / 'torn').mkdir()
    (work_dirs / 'torn' / 'run.json').write_text('{"status": "fin')
    record = {key: value for key, value in RUN.items() if key != 'arch'}
    (work_dirs / 'short').mkdir()
    (work_dirs / 'short' / 'run.json').write_text(json.dumps(record))
    for name, config in (('running', 'protocol = dict(\n    name="x")'), ('pretrain', 'model = 1')):
        (work_dirs / name / '20250101_120000').mkdir(parents=True)
        (work_dirs / name / 'config.py').write_text(config)
    runs, omissions = read_runs([work_dirs])
    assert len(runs) == before
    reasons = {omission.folder.name: omission.reason for omission in omissions}
    assert set(reasons) == {'failed', 'bare', 'text', 'torn', 'short', 'running'}
    assert "status is 'failed'" in reasons['failed']
    assert 'no metric mIoU' in reasons['bare']
    assert 'wrong kind' in reasons['text']
    assert 'cannot be read' in reasons['torn']
    assert "'arch'" in reasons['short']
    assert 'not finished' in reasons['running']
    board = build_leaderboard(runs, omissions)
    for reason in reasons.values():
        assert reason in tables.markdown(board)


def test_logs_of_a_test_are_no_run(work_dirs):
    for place in ('moca_0/test', 'moca_0/other'):
        folder = work_dirs / place
        (folder / '20250101_000000').mkdir(parents=True)
        (folder / 'linear.py').write_text('protocol = dict(name="cityscapes_linear")')
    _, omissions = read_runs([work_dirs])
    assert [omission.folder.name for omission in omissions] == ['other']


def test_a_run_found_under_two_roots_counts_once(work_dirs):
    runs, _ = read_runs([work_dirs, work_dirs / 'few'])
    assert len(runs) == len(read_runs([work_dirs])[0])


def test_nothing_to_show_is_an_error_that_helps(tmp_path, capsys):
    with pytest.raises(UserError, match=r'no run of a protocol.*tools/train\.py'):
        read_runs([tmp_path])
    with pytest.raises(UserError, match='no such folder'):
        read_runs([tmp_path / 'missing'])
    assert main(['show', str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith('error: ')
    assert main(['show', os.fspath(tmp_path), '--csv', str(tmp_path / 'no' / 'a.csv')]) == 2


def test_published_results_have_sources_and_plausible_values():
    library = published_results()
    assert {r['source'] for r in library['results']} == set(library['sources'])
    assert {r['evidence'] for r in library['results']} == set(library['evidence'])
    tasks = {r['task'] for r in library['results']}
    assert set(library['images']) <= tasks
    for result in library['results']:
        if result['metric'] != 'hours':
            assert 0 < result['value'] < (1 if lower_is_better(result['metric']) else 100)
        assert ('values' in result) == ('over' in result)
    keys = [(r['task'], r['metric'], r['method'], r['arch']) for r in library['results']]
    assert len(keys) == len(set(keys))


def test_one_reason_of_many_runs_is_said_once_with_their_number() -> None:
    runs = [(f'run{n}', 'run.json has no result') for n in range(7)]
    lines = tables.counted_lines([*runs[:3], ('other', 'is damaged'), *runs[3:]])
    assert lines == [
        '7 times: run.json has no result (run0, run1, run2, run3, run4 and 2 more)',
        'other: is damaged',
    ]
