"""SPair-71k from end to end: pairs with a known answer, and annotations that are wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moca.errors import UserError
from moca.evaluation.dense.correspondence import ALIGNS
from moca.evaluation.dense.spair import MapsOfImages, SPair
from moca.evaluation.dense.spair_data import read_spair
from moca.evaluation.protocol import EvaluationRun
from tests.evaluation.dense.test_video_protocol import Pieces
from tests.evaluation.dense.trees import texture, write_spair, write_spair_image


class Colors(Pieces):
    """A backbone whose features are colors of a patch and those around it, mirrored or not."""

    def tokens(self, images: torch.Tensor, *_: Any, **__: Any) -> Any:
        means = torch.nn.functional.avg_pool2d(images, self.patch_size)
        around = torch.nn.functional.unfold(means, 5, padding=2).unflatten(1, (3, 5, 5))
        around = torch.cat([around + around.flip(3), (around - around.flip(3)).abs()], dim=1)
        patches = around.flatten(1, 3).transpose(1, 2)
        patches = patches - patches.mean(1, keepdim=True)
        return super().tokens(images)._replace(patches=patches, intermediate=(patches,))


def measured(root: Path, **settings: Any) -> Any:
    evaluation = SPair(str(root), **{'size': 80, **settings})
    evaluation.prepare()
    return evaluation.run(Colors(4).eval(), EvaluationRun())


@pytest.mark.parametrize('align', ALIGNS)
def test_a_pair_of_the_same_image_is_right(align: Any, tmp_path: Path) -> None:
    root = write_spair(tmp_path, mirrored=False)
    metrics = measured(root, align=align).metrics
    assert metrics['PCK'] == 100
    assert metrics['PCK_viewpoint0'] == metrics['PCK_viewpoint1'] == 100
    assert np.isnan(metrics['PCK_viewpoint2'])  # which no pair has


def test_mirrored_pairs_mislead_positions(tmp_path: Path) -> None:
    root = write_spair(tmp_path)
    evaluation = SPair(str(root), size=80)
    evaluation.prepare()
    assert (evaluation.train_images, evaluation.val_images) == (0, 4)  # two of each class
    assert evaluation.run(Colors(4).eval(), EvaluationRun()).metrics['PCK_centered'] > 90

    class Positions(Colors):
        def tokens(self, images: torch.Tensor, *_: Any, **__: Any) -> Any:
            found = super().tokens(images)
            places = torch.eye(found.patches.shape[1])[None]
            return found._replace(patches=places, intermediate=(places,))

    assert evaluation.run(Positions(4).eval(), EvaluationRun()).metrics['PCK'] < 10


def test_features_of_an_image_are_computed_once(tmp_path: Path) -> None:
    root = write_spair(tmp_path, images=1)
    evaluation = SPair(str(root), size=80, norm='final')
    evaluation.prepare()
    image = next(iter(evaluation.data.images.values()))
    maps = MapsOfImages(Colors(4).eval(), 80)
    assert maps.raw(image) is maps.raw(image)
    assert maps.unit(image, False).norm(dim=0).allclose(torch.ones(20, 20), atol=1e-5)


def test_the_order_of_files_decides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_spair(tmp_path, images=4)
    drawn = SPair(str(root), pairs=2)
    drawn.prepare()
    listing = Path.glob
    monkeypatch.setattr(Path, 'glob', lambda *a: iter(sorted(listing(*a), reverse=True)))
    again = SPair(str(root), pairs=2)
    again.prepare()
    names = [[pair.name for pair in group] for group in drawn.groups.values()]
    assert names == [[pair.name for pair in group] for group in again.groups.values()]
    assert all(len(group) <= 2 for group in names)


def test_keypoints_outside_the_image_are_left_out(tmp_path: Path) -> None:
    root = write_spair(tmp_path, images=1)
    points = {'0': [10, 12], '1': [80, 20], '2': [30, -1], '3': None}
    write_spair_image(root, 'cat', 'p0', texture(60, 80, 0), points)
    data = read_spair(root, 'test', 'root')
    assert data.images['cat', 'p0'].points[:, 2].tolist() == [1, 0, 0, 0]
    assert data.images['cat', 'p0'].size == (60, 80)


def test_a_pair_without_common_keypoints_counts_nothing(tmp_path: Path) -> None:
    root = write_spair(tmp_path, images=1, mirrored=False)
    points = {'0': None, '1': None, '2': None, '3': [5, 5]}
    write_spair_image(root, 'cat', 'p0', texture(60, 80, 0), points)
    assert measured(root).metrics['PCK'] == 100  # of the other class


def test_other_layouts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'looked for .*PairAnnotation/test/\*.json'):
        read_spair(tmp_path, 'test', 'evaluation.data_root')
    root = write_spair(tmp_path, images=1)
    pair = sorted((root / 'PairAnnotation/test').glob('*'))[0]
    content = json.loads(pair.read_text())
    for change, text in (
        ({'trg_bndbox': [5, 5, 5, 9]}, 'is no box'),
        ({'trg_bndbox': [5, 5, float('nan'), 9]}, 'is no box'),
        ({'trg_bndbox': [5, 5, 9, float('inf')]}, 'is no box'),
        ({'trg_imsize': [80, float('inf'), 3]}, 'not a pair of SPair-71k'),
        ({'filename': 'p0'}, 'not a pair of SPair-71k'),
        ({'viewpoint_variation': None}, 'not a pair of SPair-71k'),
    ):
        pair.write_text(json.dumps({**content, **change}))
        with pytest.raises(UserError, match=text):
            read_spair(root, 'test', 'root')
    pair.write_text(json.dumps(content))
    write_spair_image(root, 'cat', 'm0', texture(60, 80, 0), {'0': [1, 1]})
    with pytest.raises(UserError, match='need the same numbers'):
        read_spair(root, 'test', 'root')
    (root / 'ImageAnnotation/cat/m0.json').write_text('{}')
    with pytest.raises(UserError, match=r'm0\.json: not an annotation'):
        read_spair(root, 'test', 'root')
    (root / 'JPEGImages/bus/p0.jpg').unlink()
    with pytest.raises(UserError, match='1 of 4 files are missing'):
        read_spair(root, 'test', 'root')


def test_settings_out_of_range() -> None:
    for settings in ({'size': 0}, {'norm': 'first'}, {'align': 'center'}, {'pairs': True}):
        with pytest.raises(UserError, match='evaluation'):
            SPair('x', **settings)
