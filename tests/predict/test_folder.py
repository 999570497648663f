"""Folders of predictions: what tools/predict.py writes, resumes and refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

import moca
from moca.detection.panoptic_file import read_ids, read_panoptic_file
from moca.errors import UserError
from moca.predict import overlay_video
from moca.predict.inputs import find_inputs, read_video
from moca.predict.overlay_video import frame_rate, join_overlays
from moca.predict.writers import category_ids, detection_rows, label_map, write_classes
from tools.predict import main

RunOf = Callable[[str], Path]
NAMES = ('a/0', 'a/1', 'b/0')


def write_film(path: Path, frames: int = 3) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 5, (64, 48))
    for number in range(frames):
        writer.write(np.full((48, 64, 3), 60 * number, np.uint8))
    writer.release()
    return path


@pytest.fixture(scope='module')
def masks(run_of: RunOf, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp('out') / 'masks'
    assert main([str(run_of('segmentation')), str(images), '--out', str(out), '--batch', '2']) == 0
    return out


def test_label_maps_have_the_values_and_folders_of_the_data(
    masks: Path, run_of: RunOf, images: Path
) -> None:
    model = moca.load(run_of('segmentation'))
    for name in NAMES:
        found: Any = model.predict(images / f'{name}.png')
        written = np.asarray(Image.open(masks / 'masks' / f'{name}.png'))
        assert written.dtype == np.uint8
        assert np.array_equal(written, found.mask + 1)  # ADE20K's own: 0 is other
        overlay = Image.open(masks / 'overlays' / f'{name}.jpg')
        assert overlay.size == written.shape[::-1]
    made_by = json.loads((masks / 'predict.json').read_text())
    assert made_by['classes'][:2] == ['wall', 'building']


def test_what_is_done_is_not_done_again(
    masks: Path, run_of: RunOf, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, given = tmp_path / 'out', tmp_path / 'given'
    shutil.copytree(images, given)
    command = [str(run_of('segmentation')), str(given), '--out', str(out), '--no-overlays']
    assert main(command) == 0
    first = (out / 'masks/a/0.png').stat().st_mtime_ns
    (out / 'masks/a/1.png').unlink()
    (out / '.records/a/1.json').unlink()  # as if stopped before
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(given / 'b/0.png')  # another image now
    capsys.readouterr()
    assert main(command) == 0
    assert '2 images predicted, 1 were done before' in capsys.readouterr().out
    assert (out / 'masks/a/0.png').stat().st_mtime_ns == first
    assert Image.open(out / 'masks/b/0.png').size == (32, 32)
    assert (out / 'masks/a/1.png').read_bytes() == (masks / 'masks/a/1.png').read_bytes()
    assert main([*command, '--tta']) == 2
    assert 'tta False instead of True' in capsys.readouterr().err
    assert main([str(run_of('depth')), *command[1:]]) == 2
    assert "task 'segmentation' instead of 'depth'" in capsys.readouterr().err


def test_a_folder_with_other_files_is_left_alone(
    run_of: RunOf, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'notes.txt').write_text('mine')
    assert main([str(run_of('depth')), str(images), '--out', str(tmp_path)]) == 2
    assert 'holds other files' in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ['notes.txt']


def test_broken_files_are_named_and_the_others_done(
    run_of: RunOf, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, out = tmp_path / 'given', tmp_path / 'out'
    shutil.copytree(images, given)
    (given / 'a/2.png').write_bytes((given / 'a/0.png').read_bytes()[:200])
    (given / 'none.mp4').write_bytes(b'no film')
    film = write_film(given / 'film.avi')
    patterns = [str(given / '**/*.png'), str(given / 'none.mp4'), str(film)]
    command = [str(run_of('depth')), *patterns, '--out', str(out)]
    assert main(command) == 2
    err = capsys.readouterr().err
    assert 'a/2.png' in err
    assert 'none.mp4: no frame of it can be decoded' in err
    assert '2 of 6 files could not be read; all others are done' in err
    for name in (*NAMES, 'film/000000', 'film/000002'):
        meters = np.asarray(Image.open(out / 'depth' / f'{name}.png'))
        assert meters.dtype == np.uint16 or meters.dtype == np.int32
        assert (out / 'overlays' / f'{name}.jpg').is_file()
    shown = list(read_video(out / 'overlays/film/overlays.mp4'))
    for place, frame in enumerate(shown):
        drawn = cv2.imread(str(out / f'overlays/film/{place:06d}.jpg'))[..., ::-1]
        assert np.abs(frame.astype(float) - drawn).mean() < 8  # what compressing costs
    assert len(shown) == 3
    assert frame_rate(out / 'overlays/film/overlays.mp4') == frame_rate(film) == 5
    assert len(list((out / 'overlays/film').iterdir())) == 4  # nothing half-written
    found: Any = moca.load(run_of('depth')).predict(images / 'a/0.png')
    written = cv2.imread(str(out / 'depth/a/0.png'), cv2.IMREAD_UNCHANGED)
    assert written.dtype == np.uint16
    assert np.abs(written - found.meters * 1000).max() <= 0.51
    (given / 'a/2.png').unlink()
    (given / 'none.mp4').unlink()
    assert main([command[0], *patterns[::2], '--out', str(out)]) == 0
    assert '0 images predicted, 4 were done before' in capsys.readouterr().out


def test_detections_are_a_file_of_coco(run_of: RunOf, images: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    options = ['--out', str(out), '--score', '0']
    assert main([str(run_of('detection')), str(images), *options]) == 0
    coco = COCO(out / 'detections.json')
    assert [row['file_name'] for row in coco.loadImgs(coco.getImgIds())] == [
        f'{name}.png' for name in NAMES
    ]
    model = moca.load(run_of('detection'))
    for image in coco.imgs.values():
        found: Any = model.predict(images / image['file_name'])
        rows = coco.loadAnns(coco.getAnnIds(image['id']))
        assert len(rows) == len(found.boxes) > 0
        for place, row in enumerate(rows):
            left, top, right, bottom = found.boxes[place]
            assert row['bbox'] == pytest.approx([left, top, right - left, bottom - top], abs=2e-3)
            assert coco.cats[row['category_id']]['name'] == found.classes[found.labels[place]]
            assert np.array_equal(coco.annToMask(row), found.masks[place])
    assert Image.open(out / 'overlays/b/0.jpg').size == (40, 70)


def test_panoptic_files_are_read_by_the_suites_own_reader(
    run_of: RunOf, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / 'out'
    assert main([str(run_of('panoptic')), str(images), '--out', str(out)]) == 0
    file = read_panoptic_file(out / 'panoptic.json')
    assert [image.file_name for image in file.images] == [f'{name}.png' for name in NAMES]
    model = moca.load(run_of('panoptic'))
    for image in file.images:
        found: Any = model.predict(images / image.file_name)
        assert np.array_equal(read_ids(out / 'panoptic' / image.png), found.ids)
        assert [segment.id for segment in image.segments] == [s.id for s in found.segments]
    assert sum(row['isthing'] for row in file.categories) == 80
    assert (out / 'overlays/a/0.jpg').is_file()


def test_classes_of_images_are_a_table(run_of: RunOf, images: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    assert main([str(run_of('image')), str(images / 'a'), '--out', str(out)]) == 0
    head, *rows = (out / 'classes.csv').read_text().splitlines()
    assert head.startswith('file,class1,score1,class2,score2')
    assert [row.split(',')[0] for row in rows] == ['0.png', '1.png']
    found: Any = moca.load(run_of('image')).predict(images / 'a/1.png')
    assert rows[1].split(',')[1] == found.classes[found.label]
    assert not (out / 'overlays').exists()
    write_classes(tmp_path / 'none.csv', [])
    assert (tmp_path / 'none.csv').read_text() == 'file\n'


def test_inputs_have_names_of_their_own(tmp_path: Path) -> None:
    for name in ('in/x/1.png', 'in/x/1.jpg', 'in/y/1.png', 'other/1.png', 'in/x/a.mp4'):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (4, 4)).save(path, format='png')
    found, root = find_inputs([tmp_path / 'in'])
    assert root == tmp_path / 'in'
    assert [item.name for item in found] == ['x/1.jpg', 'x/1.png', 'y/1']
    found, root = find_inputs(
        [str(tmp_path / 'in/*/1.png'), str(tmp_path / 'other/1.png'), tmp_path / 'in/x/a.mp4']
    )
    assert root == tmp_path
    assert [item.name for item in found] == ['in/x/1', 'in/y/1', 'other/1', 'in/x/a']
    assert [item.is_video for item in found] == [False, False, False, True]
    (tmp_path / 'none').mkdir()
    for given, why in (
        ('none', 'no image in there'),
        ('none/*.png', 'no file has such a name'),
        ('nowhere', 'no such file or folder'),
    ):
        with pytest.raises(UserError, match=why):
            find_inputs([tmp_path / given])


def test_frames_of_a_film(tmp_path: Path) -> None:
    frames = list(read_video(write_film(tmp_path / 'film.avi')))
    assert [round(float(frame.mean()), -1) for frame in frames] == [0, 60, 120]


def test_without_an_encoder_the_frames_remain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new('RGB', (16, 16)).save(tmp_path / '000000.jpg')
    monkeypatch.setattr(overlay_video, 'CODECS', {'none': 'none'})
    assert 'this OpenCV writes no MP4' in join_overlays(tmp_path, tmp_path / 'a.mp4', 1)[0]
    assert join_overlays(tmp_path, tmp_path / 'a.mp4', 2) == []
    monkeypatch.undo()
    assert 'its frames per second' in join_overlays(tmp_path, tmp_path / 'a.mp4', 1)[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ['000000.jpg', 'overlays.mp4']


def test_a_film_that_the_disk_keeps_half_of_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        Image.new('RGB', (16, 16)).save(tmp_path / f'{number:06}.jpg')
    kept = cv2.VideoWriter

    class Full:
        """OpenCV's, which says nothing when frames get lost."""

        fourcc = kept.fourcc

        def __init__(self, *given: Any) -> None:
            self._inner, self._room = kept(*given), 1
            self.isOpened, self.release = self._inner.isOpened, self._inner.release

        def write(self, frame: Any) -> None:
            if self._room:
                self._inner.write(frame)
            self._room = 0

    monkeypatch.setattr(cv2, 'VideoWriter', Full)
    with pytest.raises(UserError, match=r'1 of 3 frames were kept.*Make room'):
        join_overlays(tmp_path, tmp_path / 'a.mp4', 3)
    assert not list(tmp_path.glob('*.mp4'))


def test_values_beyond_a_byte_take_two() -> None:
    mask = np.array([[0, 1], [2, 1]])
    assert label_map(mask, (7, 255, 0)).tolist() == [[7, 255], [0, 255]]
    assert label_map(mask, (7, 256, 0)).dtype == np.uint16


def test_categories_are_those_of_the_data_set(tmp_path: Path) -> None:
    def trained(*classes: str) -> Any:
        dataset = dict(data_root=str(tmp_path), ann_file='val.json')
        return SimpleNamespace(dataset=dataset, classes=classes)

    (tmp_path / 'val.json').write_text(
        json.dumps({'categories': [{'id': 90, 'name': 'cat'}, {'id': 3, 'name': 'dog'}]})
    )
    assert category_ids(trained('dog', 'cat')) == [3, 90]
    assert category_ids(trained('dog', 'cow')) == [1, 2]


def test_boxes_without_masks() -> None:
    from moca.predict.results import Detections

    found = Detections(
        np.array([[1, 2, 4, 8]], np.float32), np.array([1]), np.array([0.5]), None, ('a', 'b')
    )
    assert detection_rows(found) == [
        dict(label=1, bbox=[1.0, 2.0, 3.0, 6.0], score=0.5, iscrowd=0, area=18.0)
    ]
