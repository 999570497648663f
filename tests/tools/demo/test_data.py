"""The generated data sets, read back by the libraries that define their formats."""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from moca.errors import UserError
from tools.demo import objects
from tools.demo.canvas import Canvas
from tools.demo.palette import Palette
from tools.demo.scenes import KINDS, draw_scene
from tools.demo.street import TRAIN_IDS
from tools.demo.things import CATEGORIES, draw_things
from tools.demo.write import DataSettings, is_current, write_data

SMALL = DataSettings(
    images=10,
    image_size=48,
    streets_train=6,
    streets_val=3,
    street_height=64,
    things_train=20,
    things_val=3,
    thing_size=96,
)


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('demo') / 'data'
    write_data(root, SMALL)
    return root


def _digests(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob('*')) if path.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_same_settings_give_the_same_bytes_and_another_seed_others(root, tmp_path):
    write_data(tmp_path / 'again', SMALL)
    assert _digests(tmp_path / 'again') == _digests(root)
    other = DataSettings(**{**SMALL.__dict__, 'seed': 1})
    write_data(tmp_path / 'other', other)
    differing = {k for k, v in _digests(tmp_path / 'other').items() if _digests(root)[k] != v}
    assert len(differing) == len(_digests(root))


def test_more_images_leave_the_first_ones_as_they_were(root, tmp_path):
    more = DataSettings(**{**SMALL.__dict__, 'streets_train': 8})
    write_data(tmp_path / 'more', more)
    before, after = _digests(root / 'streets'), _digests(tmp_path / 'more' / 'streets')
    assert before.items() <= after.items()
    assert len(after) == len(before) + 4


def test_imagefolder_has_a_folder_for_each_kind_of_scene(root):
    from torchvision.datasets import ImageFolder

    folder = ImageFolder(str(root / 'images' / 'train'))
    assert folder.classes == sorted(KINDS)
    assert len(folder) == 10
    assert {image.size for image, _ in folder} == {(48, 48)}


def test_mmseg_reads_the_streets_as_cityscapes(root):
    from mmengine.registry import init_default_scope
    from mmseg.datasets import CityscapesDataset

    init_default_scope('mmseg')
    for split, count in (('train', 6), ('val', 3)):
        dataset = CityscapesDataset(
            data_root=str(root / 'streets'),
            data_prefix=dict(img_path=f'leftImg8bit/{split}', seg_map_path=f'gtFine/{split}'),
            pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')],
        )
        assert len(dataset) == count
        for sample in dataset:
            assert sample['img'].shape == (64, 128, 3)
            assert sample['gt_seg_map'].shape == (64, 128)
            assert set(np.unique(sample['gt_seg_map'])) <= {*TRAIN_IDS.values(), 255}
    classes = CityscapesDataset.METAINFO['classes']
    assert {classes[number]: number for number in TRAIN_IDS.values()} == TRAIN_IDS


def test_pycocotools_agrees_with_boxes_areas_and_ids(root):
    from mmdet.datasets import CocoDataset

    coco = COCO(root / 'things' / 'annotations' / 'instances_train2017.json')
    names = [category['name'] for category in coco.loadCats(coco.getCatIds())]
    assert names == list(CocoDataset.METAINFO['classes'])
    # Spot checks against instances_val2017.json: ids on both sides of the ten gaps.
    ids = {c['name']: c['id'] for c in coco.loadCats(coco.getCatIds())}
    assert (ids['person'], ids['stop sign'], ids['sports ball']) == (1, 13, 37)
    assert (ids['tv'], ids['refrigerator'], ids['toothbrush']) == (72, 82, 90)
    annotations = coco.loadAnns(coco.getAnnIds())
    assert {coco.loadCats(a['category_id'])[0]['name'] for a in annotations} == set(CATEGORIES)
    assert any(a['iscrowd'] for a in annotations)
    for annotation in annotations:
        mask = coco.annToMask(annotation)
        rows, columns = np.nonzero(mask)
        assert annotation['area'] == len(rows)
        x, y, width, height = annotation['bbox']
        assert (x, y) == (columns.min(), rows.min())
        assert (x + width, y + height) == (columns.max() + 1, rows.max() + 1)
        assert isinstance(annotation['segmentation'], dict) == bool(annotation['iscrowd'])


def test_polygons_cover_the_painted_objects():
    rng = np.random.default_rng(5)
    from tools.demo.coco import annotation

    overlaps = []
    for _ in range(20):
        scene = draw_things(rng, 96, 96)
        for instance in scene.instances:
            found = annotation(instance)
            if found is None:
                continue
            truth = instance.mask[::2, ::2]
            image = np.zeros(truth.shape, np.uint8)
            corners = [np.reshape(p, (-1, 2)) - 0.5 for p in found['segmentation']]
            cv2.fillPoly(image, [np.round(c).astype(np.int32) for c in corners], 1)
            overlaps.append((image.astype(bool) & truth).sum() / (image.astype(bool) | truth).sum())
    assert len(overlaps) > 30
    assert np.mean(overlaps) > 0.85


@pytest.mark.parametrize('draw', [objects.person, objects.tree])
def test_painting_an_object_changes_the_image_where_the_label_says(draw):
    rng = np.random.default_rng(3)
    canvas = Canvas(64, 96)
    canvas.colors[:] = 2.0  # no palette holds this color
    sprite = draw(rng, Palette(rng), 90, 3.0)
    canvas.paint(sprite, 120, 30, train_id=11, instance=canvas.new_instance('person'))
    painted = (canvas.colors != 2.0).any(axis=-1)
    assert painted.any()
    np.testing.assert_array_equal(painted, canvas.labels == 11)
    np.testing.assert_array_equal(painted, canvas.owner == 1)
    scene = canvas.finish(np.zeros((64, 96, 3), np.uint8))
    np.testing.assert_array_equal(scene.labels == 11, painted[::2, ::2])
    np.testing.assert_array_equal(scene.instances[0].mask, painted)


def test_every_class_occurs_and_none_fills_the_set():
    shares = np.zeros(256)
    for number in range(25):
        scene = draw_scene(np.random.default_rng(number), 64, 128, list(KINDS)[number % 5])
        shares += np.bincount(scene.labels.ravel(), minlength=256)
    shares /= shares.sum()
    assert set(np.flatnonzero(shares)) == {*TRAIN_IDS.values(), 255}
    assert shares.max() < 0.5


def test_color_does_not_tell_the_classes_apart():
    """Between-class variance of mean color must be a small part of the whole (one-way ANOVA)."""
    means: dict[int, list[np.ndarray]] = {}
    for number in range(60):
        scene = draw_scene(np.random.default_rng(number), 64, 128, list(KINDS)[number % 5])
        for train_id in TRAIN_IDS.values():
            region = scene.labels == train_id
            if region.sum() > 60:
                means.setdefault(train_id, []).append(scene.image[region].mean(axis=0))
    everything = np.concatenate([np.stack(v) for v in means.values()])
    total = ((everything - everything.mean(axis=0)) ** 2).sum(axis=0)
    between = sum(
        len(v) * (np.mean(v, axis=0) - everything.mean(axis=0)) ** 2 for v in means.values()
    )
    assert (between / total < 0.25).all()


def test_stamp_names_the_settings_and_an_unknown_folder_is_left_alone(root, tmp_path):
    assert is_current(root, SMALL)
    assert not is_current(root, DataSettings())
    assert not is_current(tmp_path / 'missing', SMALL)
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'thesis.tex').write_text('x')
    with pytest.raises(UserError, match='choose another folder'):
        write_data(tmp_path / 'mine', SMALL)
    assert (tmp_path / 'mine' / 'thesis.tex').exists()


def test_an_interrupted_run_leaves_the_old_data_and_no_stamp_of_the_new(tmp_path):
    target = tmp_path / 'data'
    write_data(target, SMALL)

    def interrupt(done: int, total: int) -> None:
        assert total == SMALL.total
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_data(target, DataSettings(**{**SMALL.__dict__, 'seed': 9}), interrupt)
    assert is_current(target, SMALL)
    assert json.loads((target / 'demo-data.json').read_text())['seed'] == 0


def test_settings_out_of_bounds_are_named():
    with pytest.raises(UserError, match='streets_val is 0'):
        DataSettings(streets_val=0)
