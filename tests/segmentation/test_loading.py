"""Checked loading of label maps: mmseg's result where they are right, the file's name where not."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmseg.datasets.transforms import LoadAnnotations
from numpy.typing import NDArray
from PIL import Image

from moca.data.pair_check import DECODED
from moca.errors import UserError
from moca.images.files import evenly_spread
from moca.segmentation import LoadCheckedAnnotations
from moca.segmentation.label_files import header_fault
from tests.configs.helpers import REPOSITORY, write_cityscapes
from tools.train import main as train


def about(path: Path, size: tuple[int, int] | None = None, **more: Any) -> dict[str, Any]:
    """What a data set and LoadImageFromFile tell of an image."""
    known = dict(seg_map_path=str(path), seg_fields=[], reduce_zero_label=False, label_map=None)
    return known | ({} if size is None else dict(ori_shape=size)) | more


def save(path: Path, values: NDArray[Any], **options: Any) -> Path:
    Image.fromarray(values, **options).save(path)
    return path


def random_labels(high: int) -> NDArray[np.uint8]:
    random = np.random.default_rng(0)
    labels = random.integers(0, high, (9, 7)).astype(np.uint8)
    labels[random.random((9, 7)) < 0.2] = 255
    labels[0, :high] = range(min(high, 7))
    return labels


@pytest.mark.parametrize(
    ('high', 'data_set'),
    [
        (6, {}),
        (7, dict(reduce_zero_label=True)),
        # the data set's classes 0 to 7, of which the model has three
        (8, dict(label_map={0: 255, 1: 2, 2: 255, 3: 0, 4: 1, 5: 255, 6: 255, 7: 255})),
        (8, dict(reduce_zero_label=True, label_map={i: (i + 1) % 3 for i in range(7)})),
    ],
)
def test_equals_mmseg_where_labels_are_right(
    high: int, data_set: dict[str, Any], tmp_path: Path
) -> None:
    path = save(tmp_path / 'a.png', random_labels(high))
    classes = 3 if 'label_map' in data_set else 6
    ours = LoadCheckedAnnotations(num_classes=classes)(about(path, (9, 7), **data_set))
    theirs = LoadAnnotations()(about(path, (9, 7), **data_set))
    assert ours['seg_fields'] == theirs['seg_fields']
    assert ours['gt_seg_map'].dtype == theirs['gt_seg_map'].dtype
    np.testing.assert_array_equal(ours['gt_seg_map'], theirs['gt_seg_map'])


def test_ids_of_the_files() -> None:
    values = np.array([[7, 40, 200], [0, 255, 7]])
    rule = LoadCheckedAnnotations(ids=[40, 7, 200], ignore_ids=[0]).rule({})
    assert rule.convert(values).tolist() == [[1, 0, 2], [255, 255, 1]]
    with pytest.raises(ValueError, match='holds 1, which'):
        rule.convert(np.array([[1]]))


def test_black_and_white_masks() -> None:
    values = np.array([[0, 255], [255, 0]], np.uint8)
    rule = LoadCheckedAnnotations(ids=[0, 255]).rule({})
    assert rule.convert(values).tolist() == [[0, 1], [1, 0]]
    assert rule.values == (0, 255)
    rule = LoadCheckedAnnotations(ids=[255, 0], ignore_ids=[128]).rule({})
    assert rule.convert(np.array([[0, 255, 128]])).tolist() == [[1, 0, 255]]
    # sixteen bits of white
    rule = LoadCheckedAnnotations(ids=[0, 65535]).rule({})
    assert rule.convert(np.array([[0, 65535]], np.uint16)).tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ('values', 'kind'), [([0, 1, 65535], np.uint16), ([0, 1, -1], np.int32), ([0, 1, 300], '>u2')]
)
def test_void_beyond_eight_bits(values: list[int], kind: Any) -> None:
    void = values[-1]
    found = LoadCheckedAnnotations(num_classes=2, ignore_ids=[void]).rule({})
    assert found.convert(np.array([values, [255, 0, 1]], kind)).tolist() == [
        [0, 1, 255],
        [255, 0, 1],
    ]
    with pytest.raises(ValueError, match=rf'holds {void}, which.*void, give ignore_ids=\[{void}\]'):
        LoadCheckedAnnotations(num_classes=2).rule({}).convert(np.array([values], kind))


@pytest.mark.parametrize(
    'data_set',
    [
        {},
        dict(reduce_zero_label=True),
        dict(label_map={0: 255, 1: 2, 2: 255, 3: 0, 4: 1}),
        dict(reduce_zero_label=True, label_map={0: 1, 1: 2, 2: 0}),
        dict(ids=[40, 255, 7]),
    ],
)
def test_values_are_the_inverse(data_set: dict[str, Any]) -> None:
    ids = data_set.pop('ids', None)
    rule = LoadCheckedAnnotations(num_classes=3, ids=ids).rule(data_set)
    assert rule.convert(np.array([rule.values])).tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
    ('classes', 'found', 'advice'),
    [
        (2, [0, 1, 2], 'reduce_zero_label=True'),
        (2, [1, 2], 'reduce_zero_label=True'),
        (2, [0, 2], r'ids=\[0, 2\]'),
        (2, [0, 128, 255], r'ids=\[0, 128\]'),
        (2, [128, 255], r'ids=\[128, 255\]'),
        (2, [0, 65535], r'ids=\[0, 65535\]'),  # as void, it would leave one class
        (2, [2], 'Check num_classes'),
        (3, [0, 3], 'Check num_classes'),
        (3, [0, 1, 3], 'reduce_zero_label=True'),
        (3, [0, 65535], 'Check num_classes'),
    ],
)
def test_advice_leads_to_two_classes_or_more(classes: int, found: list[int], advice: str) -> None:
    """What a message advises is tried on the same file."""
    values = np.array([found])
    with pytest.raises(ValueError, match=advice) as error:
        LoadCheckedAnnotations(num_classes=classes).rule({}).convert(values)
    text = str(error.value)
    options: dict[str, Any] = dict(num_classes=classes)
    if 'ids=[' in text:
        options['ids'] = [int(v) for v in text.split('ids=[')[1].split(']')[0].split(',')]
    elif 'reduce_zero_label' not in text:
        return
    rule = LoadCheckedAnnotations(**options).rule(
        dict(reduce_zero_label='reduce_zero_label=True' in text)
    )
    assert len(set(rule.convert(values).ravel().tolist()) - {255}) >= 2


def test_lossy_files_are_refused(tmp_path: Path) -> None:
    """A lossy file of one value decodes right, and is refused all the same."""
    image = Image.fromarray(np.ones((16, 16), np.uint8))
    lossy: dict[str, dict[str, Any]] = {
        'a.jpg': dict(quality=100),
        'a.webp': dict(quality=90),
        'a.jp2': {},
        'a.tif': dict(compression='jpeg'),
        'named.png': dict(format='JPEG'),  # the content counts, not the name
    }
    for name, options in lossy.items():
        image.save(tmp_path / name, **options)
        with pytest.raises(UserError, match=rf'{name}: is a .*(JPEG|WebP).*PNG'):
            LoadCheckedAnnotations(num_classes=2)(about(tmp_path / name))
        assert 'is a' in (header_fault(tmp_path / name, tmp_path / name) or '')
    alpha = Image.fromarray(np.full((16, 16, 4), 128, np.uint8))  # an extended file: VP8X first
    alpha.save(tmp_path / 'alpha.webp', quality=50)
    assert 'lossy WebP' in (header_fault(tmp_path / 'alpha.webp', tmp_path / 'a.jpg') or '')
    image.save(tmp_path / 'kept.tif', compression='tiff_lzw')
    image.save(tmp_path / 'kept.png')
    for name in ('kept.tif', 'kept.png'):
        loaded = LoadCheckedAnnotations(num_classes=2)(about(tmp_path / name, (16, 16)))
        assert (loaded['gt_seg_map'] == 1).all()
    colors = image.convert('RGB')
    colors.save(tmp_path / 'kept.webp', lossless=True)
    assert 'holds colors' in (header_fault(tmp_path / 'kept.webp', tmp_path / 'a.jpg') or '')


def test_palette_and_other_depths_are_read_as_numbers(tmp_path: Path) -> None:
    labels = random_labels(6)
    palette = Image.fromarray(labels)
    palette.putpalette([i % 256 for i in range(768)])
    palette.save(tmp_path / 'palette.png')
    save(tmp_path / 'deep.png', labels.astype(np.uint16))
    save(tmp_path / 'wide.tif', labels.astype(np.int32))
    for name in ('palette.png', 'deep.png', 'wide.tif'):
        loaded = LoadCheckedAnnotations(num_classes=6)(about(tmp_path / name, (9, 7)))
        np.testing.assert_array_equal(loaded['gt_seg_map'], labels)
        assert loaded['gt_seg_map'].dtype == np.uint8


COLORS = np.zeros((9, 7, 3), np.uint8)
DEEP = np.full((9, 7), 256, np.uint16)  # mmseg makes class 0 of it


@pytest.mark.parametrize(
    ('values', 'size', 'classes', 'message'),
    [
        (random_labels(7), (9, 7), 6, r'holds 6, which.*6 classes.*reduce_zero_label=True'),
        (random_labels(8), (9, 7), 6, r'holds 6, 7, which.*ignore_ids'),
        (np.full((9, 7), 26, np.uint8), (9, 7), 19, r'holds 26.*prepare_data\.py cityscapes'),
        (random_labels(6), (18, 14), 6, r'is 7 x 9, its image 14 x 18'),
        (random_labels(6), (7, 9), 6, r'is 7 x 9, its image 9 x 7'),
        (COLORS, (9, 7), 6, r'holds colors \(9 x 7 x 3\), not class numbers.*one channel'),
        (DEEP, (9, 7), 6, r'holds 256, which'),
    ],
)
def test_wrong_labels_are_named(
    values: NDArray[Any], size: tuple[int, int], classes: int, message: str, tmp_path: Path
) -> None:
    path = save(tmp_path / 'a.png', values)
    with pytest.raises(UserError, match=f'{path}: {message}'):
        LoadCheckedAnnotations(num_classes=classes)(about(path, size))


def test_palette_of_colors_is_named(tmp_path: Path) -> None:
    """Colors saved with a palette: indices of the palette pass for classes if they fit."""
    colors = np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(colors).convert('P', palette=Image.Palette.ADAPTIVE).save(tmp_path / 'a.png')
    with pytest.raises(UserError, match=rf'{tmp_path}/a\.png: holds .* and \d+ more, which'):
        LoadCheckedAnnotations(num_classes=19)(about(tmp_path / 'a.png', (20, 20)))


def test_broken_file_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / 'a.png', random_labels(6))
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UserError, match=r'a\.png: cannot be read as a label map'):
        LoadCheckedAnnotations(num_classes=6)(about(path))


def test_a_map_that_is_ignored_throughout_is_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str] = []
    monkeypatch.setattr(
        'moca.segmentation.loading.print_log',
        lambda text, logger, level: texts.append(text) if level == logging.WARNING else None,
    )
    load = LoadCheckedAnnotations(num_classes=6)
    paths = [tmp_path / f'{i}.png' for i in range(3)]
    for path, values in zip(
        paths, (random_labels(6), *2 * [np.full((9, 7), 255, np.uint8)]), strict=True
    ):
        load(about(save(path, values)))
    assert len(texts) == 1
    assert f'{paths[1]}: every pixel is ignored' in texts[0]


@pytest.mark.filterwarnings('ignore:`reduce_zero_label` will be deprecated:UserWarning')
@pytest.mark.parametrize(
    ('options', 'data_set', 'message'),
    [
        ({}, {}, 'needs num_classes or ids'),
        (dict(num_classes=254), {}, '2 to 253 classes'),
        (dict(num_classes=3, ids=[1, 2]), {}, '2 ids for 3 classes'),
        (dict(ids=[1, 1]), {}, 'different values'),
        (dict(ids=[1, 70000]), {}, r'different values.*70000'),
        (dict(ids=[1, -1]), {}, r'different values.*-1'),
        (dict(num_classes=1), {}, r'a single class.*num_classes=2.*ids=\[0, 255\]'),
        (dict(ids=[0]), {}, 'a single class'),
        # classes that no value would stand for
        (dict(num_classes=3, ignore_ids=[0]), {}, r'ignore_ids=\[0\].*classes \[0\].*never'),
        (dict(ids=[4, 9], ignore_ids=[9, 3]), {}, r'ignore_ids=\[9\].*classes \[1\]'),
        (dict(ids=[0, 255], ignore_ids=[255]), {}, r'ignore_ids=\[255\].*classes \[1\]'),
        (dict(num_classes=2, ignore_ids=[2]), dict(reduce_zero_label=True), r'classes \[1\]'),
        (dict(num_classes=3), dict(label_map={0: 1, 1: 255, 2: 0}), r'classes \[2\] of 3'),
        (dict(ids=[7, 8]), dict(label_map={0: 1, 1: 0}), 'Leave ids out'),
        (dict(num_classes=3, ignore_ids=['void']), {}, "whole numbers; not .'void'"),
        (dict(ids=[1, 2]), dict(reduce_zero_label=True), 'leave reduce_zero_label out'),
        (dict(num_classes=3, reduce_zero_label=True), {}, r'True in LoadAnn.*False in the data'),
    ],
)
def test_contradictions(
    options: dict[str, Any], data_set: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = save(tmp_path / 'a.png', np.ones((2, 2), np.uint8))
    with pytest.raises(UserError, match=message):
        LoadCheckedAnnotations(**options)(about(path, **data_set))


def test_a_worker_s_error_ends_the_tool_with_the_file_s_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong label map that the look before the run has passed over."""
    root = write_cityscapes(tmp_path / 'data', train=40)
    labels = sorted((root / 'gtFine/train').rglob('*.png'))
    passed_over = sorted(set(range(40)) - set(evenly_spread(40, DECODED)))
    wrong = labels[passed_over[0]]
    save(wrong, np.full((64, 128), 19, np.uint8))
    config = tmp_path / 'config.py'
    arch = dict(_delete_=True, patch_size=16, embed_dim=32, depth=1, num_heads=2)
    config.write_text(
        f"_base_ = '{REPOSITORY}/configs/segmentation/driving/linear-bn.py'\n"
        f'model = dict(backbone=dict(arch={arch}))\n'
        'train_dataloader = dict(batch_size=40)\n'
    )
    arguments = ['--data-root', str(root), '--work-dir', str(tmp_path / 'run')]
    assert train([str(config), *arguments, '--cfg-options', 'log_level=ERROR']) == 2
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith(f'error: {wrong}: holds 19, which is neither')
