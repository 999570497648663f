"""LOST from end to end: keys of every kind of ViT, boxes of VOC and COCO."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from moca.backbone import PlainViT
from moca.errors import UserError
from moca.evaluation.dense.box_data import read_coco, read_voc
from moca.evaluation.dense.keys import keys_and_features, which_keys
from moca.evaluation.dense.lost import overlaps
from moca.evaluation.dense.object_discovery import LOST, discoveries, shrunk
from moca.evaluation.protocol import EvaluationRun
from tests.evaluation.dense.trees import texture, write_coco_boxes, write_voc_boxes

SMALL: dict[str, Any] = dict(patch_size=8, embed_dim=16, depth=2, num_heads=2, img_size=32)


@pytest.mark.parametrize(
    ('extra', 'prefix'),
    [
        (dict(class_token=False, global_pool='avg'), 0),
        (dict(), 1),
        (dict(reg_tokens=4), 5),
    ],
)
def test_keys_are_those_of_patches(extra: dict[str, Any], prefix: int) -> None:
    torch.manual_seed(0)
    model = PlainViT({**SMALL, **extra}, frozen=True).eval()
    assert model.num_prefix_tokens == prefix
    images = torch.randn(2, 3, 24, 40)
    keys, features = keys_and_features(model, images)
    assert keys.shape == features.shape == (2, 16, 3, 5)
    # by the definition: rows D to 2 D of the layer, on what the last block's first norm gives
    seen: list[torch.Tensor] = []
    handle = model.blocks[-1].norm1.register_forward_hook(lambda *args: seen.append(args[2]))
    model.tokens(images)
    handle.remove()
    layer = model.blocks[-1].attn.qkv
    expected = seen[0] @ layer.weight[16:32].T + layer.bias[16:32]
    expected = expected[:, prefix:].transpose(1, 2).unflatten(2, (3, 5))
    torch.testing.assert_close(keys, expected, rtol=1e-5, atol=1e-5)


def test_a_marked_patch_moves_one_cell() -> None:
    """Keys of the first block depend on their own patch alone."""
    model = PlainViT({**SMALL, 'depth': 1, 'reg_tokens': 4}, frozen=True).eval()
    plain = torch.zeros(1, 3, 24, 40)
    marked = plain.clone()
    marked[..., 8:16, 24:32] = 1
    difference = keys_and_features(model, marked)[0] - keys_and_features(model, plain)[0]
    assert difference.abs().sum(1)[0].nonzero().tolist() == [[1, 3]]


def test_keys_of_rotary_positions_are_not_rotated() -> None:
    arch = {**SMALL, 'pos_embed': 'none', 'rope': dict(base=100.0)}
    model = PlainViT(arch, frozen=True).eval()
    assert which_keys(model).endswith('before rotary positions')
    patch = model.patch_size
    images = torch.zeros(1, 3, 3 * patch, 4 * patch)
    keys, _ = keys_and_features(model, images)
    assert keys.shape[2:] == (3, 4)


def test_images_are_padded_with_the_mean_color() -> None:
    model = PlainViT(SMALL, frozen=True).eval()
    keys, output = discoveries(model, Image.fromarray(texture(45, 61, 0)))
    assert keys.scores.shape == output.scores.shape == (6, 8)
    assert keys.box[2] <= 61
    assert keys.box[3] <= 45


def test_boxes_of_voc(tmp_path: Path) -> None:
    boxes = {'a': [[1, 1, 64, 48], [5, 6, 10, 12]], 'b': [[2, 2, 3, 3]], 'c': []}
    images = read_voc(write_voc_boxes(tmp_path, boxes), 'trainval', 'root')
    # difficult ones count, and images without objects do not
    assert [image.path.stem for image in images] == ['a', 'b']
    assert images[0].boxes.tolist() == [[0, 0, 64, 48], [4, 5, 10, 12]]
    for box in images[0].boxes:
        assert overlaps(tuple(box), box[None]) == [1.0]


def test_boxes_of_coco(tmp_path: Path) -> None:
    root = write_coco_boxes(tmp_path)
    where = root / 'annotations/instances_train2014.json', root / 'train2014'
    images = read_coco(*where, root / 'coco_20k_filenames.txt', 'root')
    assert len(images) == 2
    # corners are rounded: 8.4 and 38.4, 8.6 and 28.6
    assert images[0].boxes.tolist() == [[8, 9, 38, 29]]
    assert len(read_coco(*where, None, 'root')) == 2  # the third has a crowd alone


def test_baselines_by_hand(tmp_path: Path) -> None:
    # the whole image, its middle, and a corner
    boxes = {'a': [[1, 1, 64, 48]], 'b': [[13, 10, 50, 38]], 'c': [[1, 1, 10, 10]]}
    evaluation = LOST(str(write_voc_boxes(tmp_path, boxes)))
    evaluation.prepare()
    assert evaluation.val_images == 3
    torch.manual_seed(0)
    result = evaluation.run(PlainViT(SMALL, frozen=True).eval(), EvaluationRun())
    assert result.metrics['CorLoc_whole'] == pytest.approx(100 / 3)
    assert result.metrics['CorLoc_centered'] == pytest.approx(100 / 3)
    assert 0 <= result.metrics['CorLoc'] <= 100


def test_large_images_are_shrunk_with_their_boxes() -> None:
    image = Image.fromarray(np.zeros((50, 100, 3), np.uint8))
    small, scale = shrunk(image, 40)
    assert (small.size, scale) == ((40, 20), 0.4)
    assert shrunk(image, 100) == (image, 1.0)
    assert shrunk(image, None) == (image, 1.0)


def test_other_layouts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'looked for .*ImageSets/Main/trainval.txt'):
        read_voc(tmp_path, 'trainval', 'evaluation.data_root')
    root = write_voc_boxes(tmp_path / 'voc', {'a': [[1, 1, 9, 9]]})
    (root / 'Annotations/a.xml').write_text('<annotation><object/></annotation>')
    with pytest.raises(UserError, match=r'a\.xml: not an annotation'):
        read_voc(root, 'trainval', 'root')
    sides = '<xmin>1</xmin><ymin>1</ymin><xmax>nan</xmax><ymax>9</ymax>'
    (root / 'Annotations/a.xml').write_text(
        f'<annotation><object><bndbox>{sides}</bndbox></object></annotation>'
    )
    with pytest.raises(UserError, match=r'a\.xml: not an annotation .*a box of .*nan'):
        read_voc(root, 'trainval', 'root')
    (root / 'Annotations/a.xml').write_text('<annotation/>')
    with pytest.raises(UserError, match='none of 1 images has an object'):
        read_voc(root, 'trainval', 'root')
    (root / 'JPEGImages/a.jpg').unlink()
    with pytest.raises(UserError, match='1 of 2 files are missing'):
        read_voc(root, 'trainval', 'root')


def test_wrong_files_of_coco_are_refused(tmp_path: Path) -> None:
    root = write_coco_boxes(tmp_path)
    file, images = root / 'annotations/instances_train2014.json', root / 'train2014'
    with pytest.raises(UserError, match=r'looked for .*other.json'):
        read_coco(root / 'other.json', images, None, 'root')
    names = root / 'names.txt'
    names.write_text('train2014/unknown.jpg\n')
    with pytest.raises(UserError, match='1 of 1 names are not in'):
        read_coco(file, images, names, 'root')
    with pytest.raises(UserError, match='no list of images'):
        read_coco(file, images, root / 'missing.txt', 'root')
    with pytest.raises(UserError, match='files are missing'):
        read_coco(file, root, None, 'root')
    content = json.loads(file.read_text())
    del content['annotations'][0]['bbox']
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match='an annotation has no box'):
        read_coco(file, images, None, 'root')
    file.write_text('[]')
    with pytest.raises(UserError, match='not a file of COCO'):
        read_coco(file, images, None, 'root')


@pytest.mark.parametrize(
    ('table', 'row', 'text'),
    [
        ('annotations', 3, 'TypeError: no object; in 3'),
        ('annotations', dict(image_id=0, bbox=[1, 2, float('nan'), 4]), 'a box of .*nan'),
        ('annotations', dict(image_id=0, bbox=[1, 2, float('inf'), 4]), 'a box of .*inf'),
        ('annotations', dict(image_id=0, bbox=[1, 2, 'x', 4]), "ValueError: .*'x'"),
        ('annotations', dict(image_id=0, bbox=7), 'TypeError'),
        ('annotations', dict(image_id=[0], bbox=[1, 2, 3, 4]), 'TypeError'),
        ('images', 'a.jpg', "TypeError: no object; in 'a.jpg'"),
        ('images', dict(id=9, file_name=9), 'file_name is no text'),
    ],
)
def test_rows_of_coco_of_another_kind_are_refused(
    table: str, row: Any, text: str, tmp_path: Path
) -> None:
    root = write_coco_boxes(tmp_path)
    file = root / 'annotations/instances_train2014.json'
    content = json.loads(file.read_text())
    content[table].append(row)
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=text):
        read_coco(file, root / 'train2014', None, 'root')
    file.write_text(json.dumps({**content, table: None}))
    with pytest.raises(UserError, match='not a file of COCO'):
        read_coco(file, root / 'train2014', None, 'root')


def test_settings_out_of_range() -> None:
    for settings in ({'candidates': 0}, {'longest': -1}):
        with pytest.raises(UserError, match='give a whole number from 1 up'):
            LOST('x', **settings)
