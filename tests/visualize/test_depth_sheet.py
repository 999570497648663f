"""Depth maps with one scale: of runs' predictions, and of the data of a config."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from moca.depth.drawing import color_depth, depth_sheet
from moca.visualize import depth as sheets
from tests.configs.helpers import REPOSITORY
from tests.depth.rooms import write_rooms
from tools import prepare_data


def test_near_is_red_far_is_blue_and_no_depth_is_black() -> None:
    colors = color_depth(np.array([[1.0, 5.0, 0.0, 99.0]]), 1, 5)
    near, far, none, beyond = colors[0].astype(int)
    assert near[0] > near[2]
    assert far[2] > far[0]
    assert none.tolist() == [0, 0, 0]
    assert beyond.tolist() == far.tolist()


def test_all_maps_of_a_sheet_have_the_scale_below() -> None:
    """Equal depths have equal colors in maps of other ranges; the scale names the whole range."""
    image = np.zeros((2, 3, 3), np.uint8)
    first, second = np.full((2, 3), 2.0), np.full((2, 3), 8.0)
    second[0, 0] = 2.0
    figure = depth_sheet([[image, first], [image, second], [image, None]], ['a', 'b'], 'c')
    drawn = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    assert (drawn[1][0, 0] == drawn[3][0, 0]).all()
    assert (drawn[1][1, 1] != drawn[3][1, 1]).any()
    assert figure.axes[-1].get_xlim() == (2, 8)


def test_runs_are_drawn_beside_the_truth(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def finished(folder: Path, task: str) -> Any:
        assert task == 'depth'
        about = dict(title='Depth', arch='vit', iterations=3, train_images=4, folder=folder)
        run = SimpleNamespace(**about, metrics=dict(rmse=0.4567))
        return SimpleNamespace(run=run, label=folder.name, classes=(), dataset=Images())

    class Images(list[int]):
        data_root = 'here'

        def __len__(self) -> int:
            return 5

    def predictions(run: Any, sources: list[Any]) -> Any:
        for source in sources:
            maps = {
                name: SimpleNamespace(data=torch.full((1, 4, 6), value))
                for name, value in (('gt_depth_map', 2.0), ('pred_depth_map', 3.0))
            }
            about = dict(img_path=f'rooms/{source}.png')
            yield np.zeros((4, 6, 3), np.uint8), SimpleNamespace(**maps, metainfo=about)

    monkeypatch.setattr(sheets, 'load_finished', finished)
    monkeypatch.setattr('moca.visualize.predictions.predict', predictions)
    kept: list[Any] = []
    original = sheets.depth_sheet
    monkeypatch.setattr(
        sheets, 'depth_sheet', lambda *args: (kept.append(args), original(*args))[1]
    )
    out = tmp_path / 'sheet.html'
    sheets.depth_predictions_sheet([Path('a'), Path('b')], out, 2)
    rows, titles, heading, names = kept[0]
    assert names == [['0.png'], ['4.png']]
    assert titles == ['image', 'truth', 'a: RMSE 0.457 m', 'b: RMSE 0.457 m']
    assert [[np.max(part) for part in row] for row in rows] == [[0, 2, 3, 3]] * 2
    assert 'Depth: vit, 3 steps on 4 images' in heading
    assert 'data:image/png;base64' in out.read_text()


def test_data_with_depth_are_looked_through(tmp_path: Path, capsys: Any) -> None:
    root, out = write_rooms(tmp_path / 'rooms', 3, 2), tmp_path / 'sheet.png'
    config = str(REPOSITORY / 'configs/depth/own_linear.py')
    command = ['check', config, '--data-root', str(root), '--out', str(out), '--count', '2']
    assert prepare_data.main(command) == 0
    output = capsys.readouterr().out
    stored = [cv2.imread(str(p), cv2.IMREAD_UNCHANGED) for p in (root / 'depth/val').iterdir()]
    median = np.median([depth[depth > 0] for depth in stored]) / 1000
    (row,) = re.findall(r'│ val .*', output)
    assert float(row.split('│')[5]) == pytest.approx(median, rel=0.01)
    assert '140 x 112' in row
    assert '98.2%' in row  # of 112 rows, two have no depth
    assert out.stat().st_size > 0
    for path in (root / 'depth/train').iterdir():
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED) // 1000)
    (root / 'depth/val/room_001.png').unlink()
    assert prepare_data.main(command) == 2
    said = capsys.readouterr()
    assert 'look like meters' in said.out
    assert 'room_001.png: the file is missing' in said.out
    assert '2 faults' in said.err
