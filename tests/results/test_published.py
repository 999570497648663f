"""Published results in the leaderboard: evidence, splits, presets and units."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from moca.errors import UserError
from moca.records.run_reading import read_runs
from moca.results import tables
from moca.results.leaderboard import Cell, Leaderboard, build_leaderboard, sorted_by
from moca.results.published import published_markdown, published_results
from tests.results.test_leaderboard import RUN

KNN = dict(
    protocol='imagenet_knn',
    title='ImageNet k-NN',
    published='imagenet_knn',
    main_metrics=['top1', 'top5'],
    task='image',
    train_images=1281167,
    val_images=50000,
    iterations=0,
    metrics=dict(top1=70.0, top5=88.0),
)
DEPTH = dict(
    protocol='nyu_linear',
    title='NYUv2 linear depth',
    published='nyu_linear',
    main_metrics=['rmse'],
    task='depth',
    train_images=24231,
    val_images=654,
    metrics=dict(rmse=0.5123),
)


def board_of(folder: Path, *records: dict[str, object]) -> Leaderboard:
    """The table of some runs, each with what it differs in from a linear probe."""
    for number, record in enumerate(records):
        (folder / str(number)).mkdir()
        (folder / str(number) / 'run.json').write_text(json.dumps({**RUN, **record}))
    return build_leaderboard(*read_runs([folder]))


def shown(board: Leaderboard) -> str:
    console = Console(file=io.StringIO(), width=240)
    tables.show(board, console)
    return console.file.getvalue()


def results(task: str, metric: str) -> dict[tuple[str, str], dict[str, object]]:
    """Published results of a task by method and architecture."""
    found = (
        r for r in published_results()['results'] if (r['task'], r['metric']) == (task, metric)
    )
    return {(r['method'], r['arch']): r for r in found}


def test_the_ten_low_shot_scores_of_moca_have_the_published_deviations():
    """Mean and deviation of splits as the release prints them: 55.23 +- .14, 63.94 +- .27, ..."""
    printed = {'1shot': (55.23, 0.14), '2shot': (63.94, 0.27), '5shot': (69.74, 0.12)}
    for split, (mean, deviation) in printed.items():
        result = results(f'imagenet_lowshot_{split}', 'top1')['MOCA-v1.0', 'vit_base_patch16']
        cell = Cell(tuple(result['values']), over=result['over'], population=True)
        assert (round(cell.mean, 2), round(cell.deviation, 2)) == (mean, deviation)
        assert result['value'] == pytest.approx(mean, abs=0.005)
    sample = Cell((55.226, 55.400, 55.064))
    assert round(sample.deviation, 2) == 0.17  # n - 1: what is printed of our seeds
    percent = results('imagenet_lowshot_1pct', 'top1')['MOCA-v1.0', 'vit_base_patch16']
    assert percent['value'] == 72.438


def test_a_column_of_splits_says_which_deviation_it_prints(tmp_path):
    lowshot = dict(KNN, protocol='imagenet_lowshot_1shot', published='imagenet_lowshot_1shot',
                   train_images=1000)  # fmt: skip
    text = shown(board_of(tmp_path, lowshot))
    assert '55.2 ± 0.1 (3)' in text
    assert 'mean ± sample standard deviation over probe seeds' in text
    assert '± of published rows is the population standard deviation' in text


def test_the_splits_of_a_run_have_their_population_deviation(tmp_path):
    one = dict(KNN, protocol='own_1shot', published=None, main_metrics=['top1'],
               metrics=dict(top1=60.0),
               settings=dict(top1_of_splits={'1shot': [50, 60, 70]}))  # fmt: skip
    several = dict(one, protocol='own', main_metrics=['top1_1shot', 'top1_1pct'],
                   metrics=dict(top1_1shot=20.0, top1_1pct=30.0),
                   settings=dict(top1_of_splits={'1shot': [10, 30], '1pct': [30]}))  # fmt: skip
    text = shown(board_of(tmp_path, one, several))
    assert '60.0 ± 8.2 (3)' in text  # 10.0 of the sample
    assert '20.0 ± 10.0 (2)' in text
    assert '30.0 ±' not in text
    assert 'Measured over splits: mean ± population standard deviation' in text


def test_seeds_of_a_run_with_splits_have_the_deviation_of_the_sample(tmp_path):
    runs = [
        dict(KNN, published=None, seed=seed, metrics=dict(top1=value), main_metrics=['top1'],
             settings=dict(top1_of_splits={'1shot': [value, value + 9]}))
        for seed, value in enumerate((60.0, 70.0))
    ]  # fmt: skip
    text = shown(board_of(tmp_path, *runs))
    assert '65.0 ± 7.1 (2)' in text
    assert 'Measured over splits' not in text


def test_values_are_marked_with_how_they_were_read(tmp_path):
    lowshot = dict(KNN, protocol='imagenet_lowshot_1pct', published='imagenet_lowshot_1pct',
                   train_images=12811)  # fmt: skip
    text = shown(board_of(tmp_path, lowshot))
    assert '51.1 [F]' in text  # MAE, off the figure
    assert '72.4 ' in text  # MOCA-v1.0, in its README
    assert '72.4 [' not in text
    assert '[F] read off a figure' in text
    assert '[S]' not in text  # nothing here is second-hand
    table = published_markdown()
    assert all(
        f'{letter}: {said}' in table for letter, said in published_results()['evidence'].items()
    )


def test_training_free_runs_stand_beside_published_results(tmp_path):
    board = board_of(
        tmp_path,
        KNN,
        dict(KNN, checkpoint=dict(name='random init'), metrics=dict(top1=3.0, top5=9.0)),
    )
    assert [(c.iterations, c.metric) for c in board.columns] == [(0, 'top1'), (0, 'top5')]
    assert tables.heading(board.columns[0]).endswith('no training')
    assert {row.source for row in board.rows} == {None, 'moca-readme'}
    assert '77.5*' in shown(board)  # the best of ten temperatures, as a remark says
    assert 'temperature 0.04, the best of ten' in shown(board)


def test_smaller_is_better_where_the_metric_is_an_error(tmp_path):
    worse = dict(DEPTH, checkpoint=dict(name='random init'), metrics=dict(rmse=0.9))
    board = board_of(tmp_path, worse, DEPTH)
    (column,) = board.columns
    best = {row.name: tables.is_best(board, row, column) for row in board.rows if not row.source}
    assert best == {'MOCA': True, 'random init': False}
    assert 'rmse (m) ↓' in shown(board)
    assert '0.512' in shown(board)
    assert 'In percent (but rmse)' in shown(board)
    assert '| **0.512** |' in tables.markdown(board)
    ordered = sorted_by(board, 'rmse')
    ours = [row.name for row in ordered.rows if row.source is None]
    assert ours == ['MOCA', 'random init']
    theirs = [row.arch for row in ordered.rows if row.source == 'dinov3']
    assert (theirs[0], theirs[-1]) == ('vit_7b_patch16_dinov3', 'ConvNeXt-T')  # .309 to .448
    with pytest.raises(UserError, match=r'--sort mIoU: no such column. There are nyu_linear:rmse'):
        sorted_by(board, 'mIoU')


def test_larger_is_better_elsewhere(tmp_path):
    board = board_of(
        tmp_path, KNN, dict(KNN, checkpoint=dict(name='b'), metrics=dict(top1=71.0, top5=89.0))
    )
    ordered = sorted_by(board, 'imagenet_knn:top1')
    assert [row.name for row in ordered.rows if row.source is None] == ['b', 'MOCA']


PRESETS = [
    # what must never share a column: VOS presets, banks, sizes and norm rules, methods of a box
    ['davis_dino', 'davis_dinov3_s', 'davis_dinov3_m', 'davis_dinov3_l', 'davis_unstated_preset'],
    ['in_context_voc_1024e2', 'in_context_voc_1024e3', 'in_context_voc_1024e4'],
    ['spair_dinov3', 'spair_eupe'],
    ['lost_voc07', 'lost_voc12', 'lost_coco20k'],
]


@pytest.mark.parametrize('presets', PRESETS, ids=lambda presets: presets[0])
def test_presets_never_share_a_column(presets, tmp_path):
    runs = [
        dict(KNN, protocol=task, title=task, published=task, main_metrics=['score'],
             metrics=dict(score=1.5))
        for task in presets
    ]  # fmt: skip
    board = board_of(tmp_path, *runs)
    for column in board.columns:
        measured = {row.source for row, other in board.cells if other == column}
        assert measured
        values = {cell.mean for (_, other), cell in board.cells.items() if other == column}
        theirs = {
            r['value'] for r in published_results()['results']
            if (r['task'], r['metric']) == (column.protocol, column.metric)
        }  # fmt: skip
        assert values - {1.5} == theirs
    assert {column.protocol for column in board.columns} == set(presets)


def test_approximate_search_is_marked():
    for bank in (2, 3, 4):
        for result in results(f'in_context_voc_1024e{bank}', 'mIoU_source').values():
            assert 'approximate' in result['remark']


def test_pairs_of_the_whole_test_set_stand_beside_the_published_ones(tmp_path):
    run = dict(KNN, protocol='spair_dinov3', published='spair_dinov3', main_metrics=['PCK'],
               metrics=dict(PCK=40.0), train_images=0, counted='pairs')  # fmt: skip
    few, whole = tmp_path / 'few', tmp_path / 'whole'
    few.mkdir()
    whole.mkdir()
    board = board_of(few, dict(run, val_images=7))
    assert [column.val_images for column in board.columns] == [7, 12_234]
    board = board_of(whole, dict(run, val_images=12_234))
    (column,) = board.columns
    assert '0 / 12,234 pairs' in tables.heading(column)
    values = {c.mean for (row, _), c in board.cells.items() if row.name == 'DINOv3'}
    assert values == {50.4, 55.2, 57.2, 61.3, 56.3, 58.7}


def test_the_documents_show_the_published_results():
    assert published_markdown() in Path('docs/published.md').read_text()
