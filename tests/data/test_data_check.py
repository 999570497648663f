"""Faults of data are found before anything is built, and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from moca.data.survey import check_data
from moca.errors import UserError
from moca.images.files import broken_images
from moca.transfer.overrides import set_data_root
from tests.configs.helpers import REPOSITORY, write_ade20k, write_cityscapes, write_coco

IMAGE = 'leftImg8bit/train/aachen/aachen_000001_000019_leftImg8bit.png'
LABEL = 'gtFine/val/aachen/aachen_000001_000019_gtFine_labelTrainIds.png'
ANNOTATIONS = 'annotations/instances_train2017.json'


def cityscapes(root: Path) -> Config:
    cfg = Config.fromfile(REPOSITORY / 'configs/segmentation/cityscapes/linear.py')
    set_data_root(cfg, write_cityscapes(root, train=3, val=2))
    return cfg


def coco(root: Path) -> Config:
    cfg = Config.fromfile(REPOSITORY / 'configs/detection/coco/mask-rcnn_sfp.py')
    set_data_root(cfg, write_coco(root, train=3, val=2))
    return cfg


def test_intact_data_passes(tmp_path: Path) -> None:
    check_data(cityscapes(tmp_path / 'cityscapes'), ('train', 'val', 'test'))
    check_data(coco(tmp_path / 'coco'), ('train', 'val', 'test'))


def empty(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


def halve(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ('path', 'damage', 'message'),
    [
        ('gtFine/val', shutil.rmtree, r'gtFine/val: no such folder.*val_dataloader.*--data-root'),
        ('leftImg8bit/train', empty, r'leftImg8bit/train: the folder is empty'),
        ('leftImg8bit/train/aachen', empty, r"leftImg8bit/train: no images.*'_leftImg8bit\.png'"),
        (LABEL, Path.unlink, rf'1 of 2 files are missing, the label maps.*{LABEL}'),
        (IMAGE, halve, rf'{IMAGE}: a broken image .*1 of 6'),
        (LABEL, lambda path: path.write_bytes(b''), rf'{LABEL}: a broken image \(the file is em'),
    ],
)
def test_faults_of_pairs(
    tmp_path: Path, path: str, damage: Callable[[Path], object], message: str
) -> None:
    cfg = cityscapes(tmp_path)
    damage(tmp_path / path)
    with pytest.raises(UserError, match=message):
        check_data(cfg)


def repaint(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), change(labels))

    return damage


def colorful(path: Path) -> None:
    """Cityscapes' *_color.png under the name of the labels."""
    labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(path), np.dstack([labels] * 4))


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (repaint(lambda label: np.where(label == 13, 26, label)), r'holds 26.*labelIds'),
        (repaint(lambda label: np.where(label == 13, 77, label)), r'holds 77, which'),
        (repaint(lambda label: label[:, :64]), r'is 64 x 64, its image 128 x 64'),
        (colorful, r'holds colors \(RGBA\), not class numbers'),
    ],
)
def test_wrong_labels_are_found_before_the_run(
    tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    cfg = cityscapes(tmp_path)
    damage(tmp_path / LABEL)
    with pytest.raises(UserError, match=rf'{LABEL}: {message}.*1 of 2 label maps'):
        check_data(cfg)


def test_labels_that_are_ignored_everywhere(tmp_path: Path) -> None:
    cfg = cityscapes(tmp_path)
    nothing = repaint(lambda label: np.full_like(label, 255))
    paths = sorted((tmp_path / 'gtFine/val').rglob('*.png'))
    nothing(paths[0])
    check_data(cfg)  # some images are: loading says so
    nothing(paths[1])
    with pytest.raises(UserError, match=r'every pixel is ignored \(255\), in this and all 2'):
        check_data(cfg)
    paths[0].unlink()
    next((tmp_path / 'leftImg8bit/val').rglob(f'{paths[0].name.split("_gt")[0]}*')).unlink()
    with pytest.raises(UserError, match=r'\(255\), in this, the only label map of val_data'):
        check_data(cfg)


def test_ade20k_without_the_shift_of_its_labels(tmp_path: Path) -> None:
    """As mmseg's plain data set over ADE20K's folder, with 150 classes and heads of 150."""
    cfg = Config.fromfile(REPOSITORY / 'configs/segmentation/ade20k/upernet.py')
    set_data_root(cfg, write_ade20k(tmp_path))
    check_data(cfg)
    cfg.train_dataloader.dataset.update(
        type='BaseSegDataset', metainfo=dict(classes=[str(i) for i in range(150)])
    )
    with pytest.raises(UserError, match=r'\.png: holds 150, .*reduce_zero_label=True'):
        check_data(cfg)
    cfg.train_dataloader.dataset.reduce_zero_label = True
    check_data(cfg)


def test_an_image_that_exif_says_to_turn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Phones write an image as the sensor saw it, and a tag that says how to turn it.

    The tag is ignored: label maps are of the image as stored, and of another size otherwise.
    """
    cfg = Config.fromfile(REPOSITORY / 'configs/segmentation/ade20k/upernet.py')
    set_data_root(cfg, write_ade20k(tmp_path))
    path = next((tmp_path / 'images/training').iterdir())
    image = Image.open(path)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path, exif=exif)
    assert cv2.imread(str(path)).shape == (96, 64, 3), 'as OpenCV turns it'
    check_data(cfg)
    assert f'1 of 4 images, such as {path}, have EXIF data' in capsys.readouterr().out
    image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    assert cv2.imread(str(path)).shape == (64, 96, 3)
    with pytest.raises(UserError, match=r'is 96 x 64, its image 64 x 96 .*EXIF orientation is 6'):
        check_data(cfg)
    exif[0x0112] = 1
    image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    with pytest.raises(UserError, match=r'is 96 x 64, its image 64 x 96') as caught:
        check_data(cfg)
    assert 'EXIF' not in str(caught.value)


@pytest.mark.parametrize(
    ('launcher', 'variable'),
    [('pytorch', 'RANK'), ('slurm', 'SLURM_PROCID'), ('mpi', 'OMPI_COMM_WORLD_RANK')],
)
def test_one_process_looks_for_all(
    launcher: str, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = cityscapes(tmp_path)
    (tmp_path / LABEL).unlink()
    cfg.launcher = launcher
    monkeypatch.setenv(variable, '3')
    check_data(cfg)
    monkeypatch.setenv(variable, '0')
    with pytest.raises(UserError, match='are missing'):
        check_data(cfg)
    # four runs of one process each, started side by side by slurm
    cfg.launcher = 'none'
    monkeypatch.setenv(variable, '3')
    with pytest.raises(UserError, match='are missing'):
        check_data(cfg)


def test_label_ids_without_train_ids(tmp_path: Path) -> None:
    cfg = cityscapes(tmp_path)
    label = tmp_path / LABEL
    label.rename(label.with_name(label.name.replace('labelTrainIds', 'labelIds')))
    with pytest.raises(UserError, match=rf'tools/prepare_data\.py cityscapes {tmp_path}'):
        check_data(cfg)


def edit(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return damage


@pytest.mark.parametrize(
    ('path', 'damage', 'message'),
    [
        ('val2017', shutil.rmtree, r'val2017: no such folder.*val_dataloader'),
        (ANNOTATIONS, Path.unlink, rf'{ANNOTATIONS}: no such annotation file'),
        (ANNOTATIONS, halve, rf'{ANNOTATIONS}: not a COCO instances file'),
        (ANNOTATIONS, edit(lambda c: c.pop('categories')), "'categories' is absent"),
        (ANNOTATIONS, edit(lambda c: c['annotations'].clear()), '3 images and 0 annotations'),
        (ANNOTATIONS, edit(lambda c: c['categories'].pop(1)), r"no category 'bicycle' \(1 of 80"),
        ('train2017/000000000002.jpg', Path.unlink, r'1 of 3 files are missing.*0002\.jpg'),
        ('train2017/000000000002.jpg', halve, r'0002\.jpg: a broken image'),
    ],
)
def test_faults_of_coco(
    tmp_path: Path, path: str, damage: Callable[[Path], object], message: str
) -> None:
    cfg = coco(tmp_path)
    damage(tmp_path / path)
    with pytest.raises(UserError, match=message):
        check_data(cfg)


def test_a_file_that_serves_training_and_evaluation_is_checked_for_both(tmp_path: Path) -> None:
    cfg = coco(tmp_path)
    for name in ('ann_file', 'data_prefix'):
        cfg.val_dataloader.dataset[name] = cfg.train_dataloader.dataset[name]
    check_data(cfg)
    # training passes over it, pycocotools stumbles
    edit(lambda c: c['annotations'][0].update(segmentation=[[1, 1, 5, 5]]))(tmp_path / ANNOTATIONS)
    check_data(cfg, splits=['train'])
    with pytest.raises(UserError, match='fewer than three points'):
        check_data(cfg)


def test_intact_images_with_bytes_behind_their_end(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    paths = [tmp_path / name for name in ('a.png', 'b.jpg', 'c.png', 'd.jpg', 'e.jpg')]
    for path in paths:
        cv2.imwrite(str(path), image)
        path.write_bytes(path.read_bytes() + bytes(10_000))
    for path in paths[2:4]:
        halve(path)  # still thousands of zeros, but now behind a half image
        path.write_bytes(path.read_bytes()[:500])
    assert [path.name for path, _ in broken_images(paths)] == ['c.png', 'd.jpg']
