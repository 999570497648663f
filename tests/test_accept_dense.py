"""The acceptance of dense protocols: its generated data are what they say, and misses are seen."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.accept_dense import trees
from tests.accept_dense.__main__ import Acceptance, main
from tests.accept_dense.checks import mean_depth_rmse
from tests.depth.rooms import write_rooms
from tests.evaluation.dense.trees import save, texture


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four photos of COCO with an object of a quarter each, and one with a small object."""
    root = tmp_path_factory.mktemp('coco')
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(5):
        save(root / f'train2017/{number}.jpg', texture(120, 160, number))
        images.append(dict(id=number, file_name=f'{number}.jpg', height=120, width=160))
        side = (80, 60) if number else (8, 6)
        x, y, right, low = 70, 20, 70 + side[0], 20 + side[1]
        annotations.append(
            dict(
                id=number,
                image_id=number,
                category_id=1 + number % 2,
                iscrowd=0,
                area=side[0] * side[1],
                bbox=[x, y, *side],
                segmentation=[[x, y, right, y, right, low, x, low]],
            )
        )
    kinds = [dict(id=1, supercategory='animal'), dict(id=2, supercategory='vehicle')]
    path = root / 'annotations/instances_train2017.json'
    path.parent.mkdir()
    path.write_text(json.dumps(dict(images=images, annotations=annotations, categories=kinds)))
    return root


def test_objects_of_the_right_size_are_cut_out(data: Path) -> None:
    found = trees.cut_outs(data)
    assert [thing.category for thing in found] == ['vehicle', 'animal'] * 2
    assert all(thing.mask.sum() == pytest.approx(80 * 60, rel=0.05) for thing in found)


def test_clips_move_a_patch_a_frame(data: Path, tmp_path: Path) -> None:
    root = trees.write_clips(tmp_path / 'clips', trees.cut_outs(data), clips=2, frames=4)
    for clip in sorted((root / 'Annotations/480p').iterdir()):
        masks = [np.array(Image.open(path)) for path in sorted(clip.iterdir())]
        assert {mask.shape for mask in masks} == {trees.FRAME}
        columns = [np.flatnonzero(mask.any(0)).mean() for mask in masks]
        steps = {round(abs(after - before)) for before, after in pairwise(columns)}
        assert min(steps) >= trees.SPEED[0]
        assert max(steps) <= trees.SPEED[1]
        assert len({int(mask.sum()) for mask in masks}) == 1  # nothing leaves the frame


@pytest.mark.parametrize('how', ['mirrored', 'cells'])
def test_keypoints_of_a_pair_show_the_same_pixels(how: str, data: Path, tmp_path: Path) -> None:
    root = trees.write_pairs(tmp_path / how, trees.cut_outs(data), how)
    pairs = sorted((root / 'PairAnnotation/test').iterdir())
    assert len(pairs) == 4
    for path in pairs:
        about = json.loads(path.read_text())
        _, source, target = about['filename'].split(':')[0].split('-')
        points, colors = [], []
        for name in (source, target):
            folder = f'{about["category"]}/{name}'
            image = np.array(Image.open(root / f'JPEGImages/{folder}.jpg')).astype(int)
            assert max(image.shape) == trees.SIDE
            kps = json.loads((root / f'ImageAnnotation/{folder}.json').read_text())['kps']
            points.append(np.array(list(kps.values())))
            x, y = points[-1].round().astype(int).clip(0, (image.shape[1] - 1, 251)).T
            colors.append(image[y, x])
        assert np.abs(colors[0] - colors[1]).mean() < 12
        left, top, right, low = about['trg_bndbox']
        inside = (points[1] >= (left - 1, top - 1)).all(1) & (points[1] <= (right, low)).all(1)
        assert inside.all()
        if how == 'cells':
            assert (points[0] % trees.PATCH == trees.PATCH // 2).all()
        else:  # where a keypoint was is not where it is
            assert (np.abs(points[0][:, 0] - points[1][:, 0]) > 20).mean() > 0.8


def test_the_mean_depth_has_the_deviation_of_depth(tmp_path: Path) -> None:
    write_rooms(tmp_path, 1, 1, (8, 10))
    for folder, rows in (('train', [1000, 3000]), ('val', [2500, 0])):
        path = next((tmp_path / 'depth' / folder).iterdir())
        Image.fromarray(np.array([rows] * 2, np.uint16)).save(path)
    assert mean_depth_rmse(tmp_path) == pytest.approx(0.5)


def test_a_wrong_order_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = {'real': 0.9, 'random': 0.6}

    def score(_: Acceptance, model: str, *__: Any, **___: Any) -> dict[str, float]:
        return {'rmse': scores[model]}

    monkeypatch.setattr(Acceptance, 'score', score)
    monkeypatch.setattr('tests.accept_dense.__main__.write_rooms', lambda root, *_: root)
    monkeypatch.setattr('tests.accept_dense.__main__.mean_depth_rmse', lambda _: 1.0)
    monkeypatch.setattr(Acceptance, 'made', lambda self, *_: self.out)
    words = [str(tmp_path), str(tmp_path), '--only', 'depth']
    assert main(words) == 1
    assert 'NO' in capsys.readouterr().out
    scores['real'] = 0.5
    assert main(words) == 0
