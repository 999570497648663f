"""Curves of runs: pieces joined, panels and axes as the logs say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from moca.errors import UserError
from moca.pretrain.monitors.features import Moment
from moca.records.run_logs import number_piece, pieces_of, read_curves
from moca.visualize import curves
from moca.visualize.curves import curves_sheet
from tools.visualize import main as visualize


def piece(
    work_dir: Path, name: str, rows: list[dict[str, float]], resumed: bool | None = None
) -> Path:
    folder = work_dir / name / 'vis_data'
    folder.mkdir(parents=True)
    lines = [json.dumps(row) for row in rows]
    (folder / 'scalars.json').write_text('\n'.join(lines) + '\n')
    if resumed is not None:
        (folder / 'config.py').write_text(f"load_from = None\nresume = {resumed}\nwork_dir = 'x'\n")
    return folder


def rows(first: int, last: int, interval: int = 10, **values: float) -> list[dict[str, float]]:
    return [dict(values, step=step) for step in range(first, last + 1, interval)]


def test_a_later_piece_replaces_the_steps_that_it_took_again(tmp_path: Path) -> None:
    # cut at step 52 with a checkpoint at 25; the second one was cut at once, the third goes on
    early = [dict(knn=5.0, step=0), *rows(10, 50, loss=1.0), dict(knn=6.0, step=50)]
    piece(tmp_path, '20260101_000000', early, resumed=False)
    piece(tmp_path, '20260101_000001', [], resumed=True)
    late = [*rows(30, 40, loss=2.0)]
    piece(tmp_path, '20260101_000002', late, resumed=True)
    found = read_curves(tmp_path)
    assert found['loss'][0].tolist() == [10, 20, 30, 40]
    assert found['loss'][1].tolist() == [1, 1, 2, 2]
    assert found['knn'][0].tolist() == [0]

    # at the very step of the checkpoint, what only the earlier one says stays
    third = [dict(knn=7.0, step=40), *rows(50, 60, loss=3.0)]
    piece(tmp_path, '20260101_000003', third, resumed=True)
    found = read_curves(tmp_path)
    assert found['loss'][1].tolist() == [1, 1, 2, 2, 3, 3]
    assert dict(zip(*(a.tolist() for a in found['knn']), strict=True)) == {0: 5, 40: 7}


def test_a_new_run_in_an_old_folder_stands_alone(tmp_path: Path) -> None:
    piece(tmp_path, '20260101_000000', rows(10, 50, loss=1.0, momentum=0.9), resumed=False)
    piece(tmp_path, '20260102_000000', rows(20, 40, interval=20, loss=2.0), resumed=False)
    piece(tmp_path, '20260103_000000', rows(40, 60, loss=3.0), resumed=True)
    assert [path.parent.name[:8] for path in pieces_of(tmp_path)] == ['20260102', '20260103']
    found = read_curves(tmp_path)
    assert set(found) == {'loss'}
    assert found['loss'][0].tolist() == [20, 40, 50, 60]


def test_starts_are_in_order_though_the_clock_has_gone_back(tmp_path: Path) -> None:
    piece(tmp_path, '20260103_000000', rows(10, 50, loss=1.0), resumed=False)  # unnumbered
    for time, first in (('20260102_000000', 40), ('20260101_000000', 60)):
        piece(tmp_path, time, rows(first, first + 10, loss=float(first)), resumed=True)
        number_piece(tmp_path / time)
    assert [path.parent.name[6:8] for path in pieces_of(tmp_path)] == ['03', '02', '01']
    steps, values = read_curves(tmp_path)['loss']
    assert steps.tolist() == [10, 20, 30, 40, 50, 60, 70]
    assert values.tolist() == [1, 1, 1, 40, 40, 60, 60]


def test_a_line_cut_by_a_kill_is_left_out_and_a_broken_one_named(tmp_path: Path) -> None:
    folder = piece(tmp_path, '20260101_000000', rows(10, 30, loss=1.0))
    log = folder / 'scalars.json'
    log.write_text(log.read_text()[:-6])
    assert read_curves(tmp_path)['loss'][0].tolist() == [10, 20]
    log.write_text('{"loss": 1, "st\n{"loss": 1.0, "step": 20}\n')
    with pytest.raises(UserError, match=r'scalars.json: line 1 is no JSON'):
        read_curves(tmp_path)


def test_a_folder_without_a_log_is_an_error(tmp_path: Path, capsys: Any) -> None:
    command = ['curves', str(tmp_path), '--out', str(tmp_path / 'curves.png')]
    assert visualize(command) == 2
    assert 'no scalars.json of a run' in capsys.readouterr().err
    piece(tmp_path, '20260101_000000', rows(10, 30, data_time=1.0))
    assert visualize(command) == 2
    assert 'no curve to draw' in capsys.readouterr().err


MOCA: dict[str, float] = dict(
    loss=3.0, kl_image=4.0, kl_dense=2.0, words_in_use=300.0, words_per_image=80.0
)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Figures, instead of being written."""
    seen: list[Any] = []
    monkeypatch.setattr(curves, 'save_figure', lambda figure, out: seen.append(figure))
    return seen


def shown(figure: Any) -> dict[str, list[tuple[str, str, list[float], list[float]]]]:
    """Color, style, x and y of each line, by the panel's title."""
    return {
        axis.get_title(): [
            (line.get_color(), line.get_linestyle(), *(list(d) for d in line.get_data()))
            for line in axis.get_lines()
        ]
        for axis in figure.axes
        if axis.axison
    }


def test_runs_lie_over_each_other_by_epoch(tmp_path: Path, figures: list[Any]) -> None:
    for name, steps in (('a', 40), ('b', 20)):  # steps of five epochs, another batch size
        knn = [
            {'knn/top1_k20': 9.0, 'knn/top1_k5': 8.0, 'epoch': epoch, 'step': epoch * steps // 5}
            for epoch in (0, 5)
        ]
        work_dir = tmp_path / name / 'run'
        piece(work_dir, '20260101_000000', [*rows(steps // 4, steps, steps // 4, **MOCA), *knn])
    curves_sheet([tmp_path / 'a/run', tmp_path / 'b/run'], tmp_path / 'curves.png')
    panels = shown(figures[0])
    assert list(panels) == ['losses', 'words of the codebook', 'k-NN top-1, %']
    quarters = [1.25, 2.5, 3.75, 5.0]
    assert panels['losses'] == [
        (color, style, quarters, [value] * 4)
        for color in ('C0', 'C1')
        for style, value in (('-', 4.0), ('--', 2.0))
    ]
    few_first = [(line[1], line[3]) for line in panels['k-NN top-1, %']]
    assert few_first == [('-', [8.0, 8.0]), ('--', [9.0, 9.0])] * 2
    assert {axis.get_xlabel() for axis in figures[0].axes} == {'epoch'}
    assert [text.get_text() for text in figures[0].legends[0].get_texts()] == ['a/run', 'b/run']


def test_a_curve_looks_the_same_whatever_was_logged_and_when(
    tmp_path: Path, figures: list[Any]
) -> None:
    sheets = [
        ['kl_image', 'kl_dense', 'contrastive', 'loss_b', 'loss_a'],
        ['loss_a', 'loss_b', 'contrastive', 'kl_dense', 'kl_image'],
        ['contrastive', 'kl_dense', 'loss_a', 'loss_b'],
        ['kl_dense'],
    ]
    values = dict(kl_image=1.0, kl_dense=2.0, contrastive=3.0, loss_a=4.0, loss_b=5.0)
    looks = []
    for number, names in enumerate(sheets):
        content = [dict({name: values[name] for name in names}, step=step) for step in (10, 20)]
        piece(tmp_path / str(number), '20260101_000000', content)
        curves_sheet([tmp_path / str(number)], tmp_path / 'curves.png')
        lines = figures[number].axes[0].get_lines()
        legend = figures[number].axes[0].get_legend()
        if legend is not None:
            handles = [line._unscaled_dash_pattern for line in legend.get_lines()]
            assert handles == [line._unscaled_dash_pattern for line in lines]
        looks.append({line.get_ydata()[0]: line._unscaled_dash_pattern for line in lines})
    first = looks[0]
    assert len({str(style) for style in first.values()}) == 5
    assert looks[1] == first
    for name in ('kl_dense', 'contrastive'):  # losses that a sheet knows
        assert looks[2][values[name]] == first[values[name]]
    assert looks[3] == {2.0: first[2.0]}


def test_without_knn_the_axis_counts_steps(tmp_path: Path, figures: list[Any]) -> None:
    values = dict(loss=3.0, grad_norm=2.0, lr=1e-3, momentum=0.99, assignment_entropy=4.0)
    piece(tmp_path, '20260101_000000', rows(10, 30, **values))
    curves_sheet([tmp_path], tmp_path / 'curves.png')
    panels = shown(figures[0])
    titles = ['loss', 'assignment entropy', 'gradient norm', 'learning rate', 'teacher momentum']
    assert list(panels) == titles
    assert panels['loss'][0][2:] == ([10, 20, 30], [3.0] * 3)
    assert panels['gradient norm'][0][3] == [2.0] * 3
    assert [a.get_xlabel() for a in figures[0].axes] == ['', '', 'step', 'step', 'step', '']


def test_the_tool_writes_curves_and_progress(tmp_path: Path) -> None:
    folder = piece(tmp_path, '20260101_000000', rows(10, 30, **MOCA))
    scores = np.random.default_rng(0).standard_normal((3, 2, 2, 3)).astype(np.float32)
    for epoch in range(0, 55, 5):
        moment = Moment(epoch, 'teacher', np.zeros((3, 8, 8, 3), np.uint8), scores)
        moment.save(folder / 'features')
    sizes = {}
    for command, options in (('curves', []), ('progress', ['--count', '2'])):
        out = tmp_path / f'{command}.png'
        assert visualize([command, str(tmp_path), '--out', str(out), *options]) == 0
        image = cv2.imread(str(out))
        assert image.std() > 10
        sizes[command] = image.shape[:2]
    height, width = sizes['progress']
    assert width > 3 * height  # two rows of an image and eight of the eleven moments


def test_progress_needs_images(tmp_path: Path, capsys: Any) -> None:
    assert visualize(['progress', str(tmp_path), '--out', str(tmp_path / 'p.png')]) == 2
    assert 'FeatureFigures hook' in capsys.readouterr().err
