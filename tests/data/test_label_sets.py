"""Label maps as people have them: what leaves nothing to learn is refused, what is right is not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from moca import figures
from moca.data import report
from moca.data.pair_check import DECODED
from moca.data.survey import check_data, survey
from moca.errors import UserError
from moca.images.files import evenly_spread
from moca.transfer.protocol import check_segmentation

H, W = 8, 12


def write(
    root: Path,
    names: Iterable[str] = ('0', '1', '2'),
    values: Iterable[int] = (0, 1),
    ending: str = '.png',
) -> None:
    """Images, and label maps whose columns hold the values in turn, in `images` and `labels`."""
    for name in names:
        for part in ('images', 'labels'):
            (root / part / name).parent.mkdir(parents=True, exist_ok=True)
        image = np.random.default_rng(0).integers(0, 255, (H, W, 3), dtype=np.uint8)
        Image.fromarray(image).save(root / 'images' / f'{name}{ending}')
        label = np.resize(np.array(list(values), np.uint8), (H, W))
        Image.fromarray(label).save(root / 'labels' / f'{name}.png')


def dataset(root: Path, classes: Any = ('ground', 'object'), **more: Any) -> dict[str, Any]:
    load = {key: more.pop(key) for key in ('ids', 'ignore_ids') if key in more}
    known: dict[str, Any] = dict(
        type='BaseSegDataset',
        metainfo=dict(classes=classes),
        data_root=str(root),
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        img_suffix='.png',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadCheckedAnnotations', num_classes=len(classes), **load),
        ],
    )
    return {**known, **more}


def config(*parts: dict[str, Any], split: str = 'train') -> Config:
    whole = parts[0] if len(parts) == 1 else dict(type='ConcatDataset', datasets=list(parts))
    return Config({f'{split}_dataloader': dict(dataset=whole), 'default_scope': 'mmseg'})


def check(*parts: dict[str, Any], split: str = 'train') -> None:
    check_data(config(*parts, split=split), [split])


def faults(*parts: dict[str, Any], split: str = 'train') -> list[str]:
    """What a look at every file finds."""
    found = survey(config(*parts, split=split), lambda items, count, title: items)
    return [fault for part in found for fault in part.faults]


# ---------------------------------------------------------------- classes that are there


@pytest.mark.parametrize('split', ['train', 'val', 'test'])
@pytest.mark.parametrize(
    ('values', 'options', 'message'),
    [
        ((0, 255), {}, r'nothing but class 0 \(ground\).*ids=\[0, 255\]'),
        ((0,), {}, r'nothing but class 0 \(ground\)'),
        ((255,), {}, r'what is ignored occurs.*ids=\[0, 255\]'),
        ((0, 1), dict(reduce_zero_label=True), r'nothing but class 0.*reduce_zero_label=True'),
        ((4, 9), dict(ids=[4, 5], ignore_ids=[9]), r'nothing but class 0.*ids and ignore_ids'),
    ],
)
def test_two_classes_have_to_be_seen(
    values: tuple[int, ...], options: dict[str, Any], message: str, split: str, tmp_path: Path
) -> None:
    write(tmp_path, values=values)
    with pytest.raises(UserError, match=message):
        check(dataset(tmp_path, **options), split=split)
    assert len(faults(dataset(tmp_path, **options), split=split)) == 1


def test_black_and_white_masks_with_their_ids(tmp_path: Path) -> None:
    write(tmp_path, values=(0, 255))
    check(dataset(tmp_path, ids=[0, 255]))
    (found,) = survey(config(dataset(tmp_path, ids=[0, 255])), lambda items, count, title: items)
    assert not found.faults
    assert found.pixels[:2].tolist() == [3 * H * W // 2] * 2
    assert found.pixels.sum() == 3 * H * W


def test_a_second_class_may_be_rare(tmp_path: Path) -> None:
    """It is in one file, which the first look passes over."""
    names = [f'{i:03d}' for i in range(DECODED + 40)]
    write(tmp_path, names, values=(0,))
    passed_over = next(i for i in range(60, 72) if i not in evenly_spread(72, DECODED))
    write(tmp_path, [names[passed_over]], values=(0, 1))
    check(dataset(tmp_path))


# ---------------------------------------------------------------- parts of a data set


def test_several_endings_in_one_data_set_are_refused(tmp_path: Path) -> None:
    write(tmp_path, ['a'], ending='.png')
    with pytest.raises(
        UserError, match=r"img_suffix=\('\.png', '\.bmp'\): one ending .*ConcatDataset"
    ):
        check(dataset(tmp_path, img_suffix=('.png', '.bmp')))


def test_parts_of_other_endings_are_all_looked_at(tmp_path: Path) -> None:
    """One folder, two kinds of images; and the second kind has the fault."""
    write(tmp_path, ['a'], ending='.png')
    write(tmp_path, ['b'], ending='.bmp')
    parts = dataset(tmp_path), dataset(tmp_path, img_suffix='.bmp')
    check(*parts)
    found = survey(config(*parts), lambda items, count, title: items)
    assert [(part.name, len(part.right), part.orphans) for part in found] == [
        ('train', 1, []),
        ('train, part 2', 1, []),
    ]
    Image.fromarray(np.full((H, W), 7, np.uint8)).save(tmp_path / 'labels/b.png')
    with pytest.raises(UserError, match=r'labels/b\.png: holds 7'):
        check(*parts)
    assert len(faults(*parts)) == 1


def test_parts_read_by_other_rules_are_all_looked_at(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(UserError, match=r'\.png: holds 0, 1, which'):
        check(dataset(tmp_path), dataset(tmp_path, ids=[5, 6]))


def test_parts_need_two_classes_only_together(tmp_path: Path) -> None:
    write(tmp_path / 'a', values=(0,))
    write(tmp_path / 'b', values=(1,))
    check(dataset(tmp_path / 'a'), dataset(tmp_path / 'b'))
    assert not faults(dataset(tmp_path / 'a'), dataset(tmp_path / 'b'))
    with pytest.raises(UserError, match='nothing but class 1'):
        check(dataset(tmp_path / 'b'))


def test_endings_that_are_spelt_otherwise(tmp_path: Path) -> None:
    write(tmp_path, ['a'], ending='.png')
    write(tmp_path, ['b'], ending='.PNG')
    with pytest.raises(UserError, match=r'1 \.PNG'):
        check(dataset(tmp_path))
    assert any('1 .PNG' in fault for fault in faults(dataset(tmp_path)))
    check(dataset(tmp_path), dataset(tmp_path, img_suffix='.PNG'))  # a part for each


def test_labeled_images_of_other_endings_are_not_lost(tmp_path: Path) -> None:
    write(tmp_path, ['a'], ending='.png')
    write(tmp_path, ['a', 'unlabeled'], ending='.bmp')  # a copy, and one to be labeled later
    (tmp_path / 'labels/unlabeled.png').unlink()
    check(dataset(tmp_path))
    (found,) = survey(config(dataset(tmp_path)), lambda items, count, title: items)
    assert (found.faults, len(found.notes)) == ([], 1)
    assert re.search(r'images: 1 images; left out .*: 2 \.bmp$', found.notes[0])
    write(tmp_path, ['deep/b', 'c'], ending='.bmp')
    write(tmp_path, ['d'], ending='.tif')
    lost = r'2 \.bmp, 1 \.tif with label maps, such as c\.bmp.*ConcatDataset.*ann_file'
    with pytest.raises(UserError, match=lost):
        check(dataset(tmp_path))
    (fault,) = faults(dataset(tmp_path))
    assert re.search(lost, fault)
    (tmp_path / 'images/unlabeled.bmp').unlink()
    check(*(dataset(tmp_path, img_suffix=end) for end in ('.png', '.bmp', '.tif')))
    (tmp_path / 'names.txt').write_text('a')
    check(dataset(tmp_path, ann_file='names.txt'))


def test_a_label_map_beside_the_images_is_no_image(tmp_path: Path) -> None:
    write(tmp_path, ['a', 'b'], ending='.jpg')
    for path in (tmp_path / 'labels').iterdir():
        path.rename(tmp_path / 'images' / path.name)
    (tmp_path / 'images/b.jpg').unlink()
    together = dataset(tmp_path, img_suffix='.jpg')
    together['data_prefix']['seg_map_path'] = together['data_prefix']['img_path']
    check(together)


def test_the_sheet_names_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / 'a', ['0', 'deep/0'])
    write(tmp_path / 'b', ['1'])
    parts = dataset(tmp_path / 'a'), dataset(tmp_path / 'b')
    found = survey(config(*parts), lambda items, count, title: items)
    drawn: list[Any] = []
    original = figures.sheet

    def watched(rows: Any, titles: Any, *args: Any, **options: Any) -> Any:
        drawn.append((titles, options['names']))
        return original(rows, titles, *args, **options)

    monkeypatch.setattr(figures, 'sheet', watched)
    assert report.sheet(found, tmp_path / 'sheet.png', 2)
    ((titles, names),) = drawn
    assert titles[::2] == ['train', 'train, part 2']
    assert [list(row)[::2] for row in names] == [['0.png', '1.png'], ['deep/0.png', '']]


def test_a_suffix_is_more_than_an_ending(tmp_path: Path) -> None:
    write(tmp_path, ['a_rgb'], ending='.png')
    write(tmp_path, ['a_infrared', 'b_rgb'], ending='.bmp')
    (tmp_path / 'labels/b_rgb.png').rename(tmp_path / 'labels/b_class.png')
    (tmp_path / 'labels/a_rgb.png').rename(tmp_path / 'labels/a_class.png')
    named = dict(img_suffix='_rgb.png', seg_map_suffix='_class.png')
    with pytest.raises(UserError, match=r'1 \.bmp with label maps, such as b_rgb\.bmp'):
        check(dataset(tmp_path, **named))
    (tmp_path / 'labels/b_class.png').unlink()
    check(dataset(tmp_path, **named))


# ---------------------------------------------------------------- names, colors, lists


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(type='CityscapesDataset'), r"none called 'ground', 'object'.*'BaseSegDataset'"),
        (dict(metainfo=dict(classes='water')), r"'water' is one text.*\('water',\)"),
        (dict(metainfo=dict(classes=('a', 'a'))), r"'a' occurs twice"),
        (dict(metainfo=dict(classes=('a', ''))), r"'' is no name"),
        (dict(metainfo={}), 'does not know its classes'),
        (
            dict(metainfo=dict(classes=('a', 'b'), palette=[[0, 0, 0]])),
            'palette: 1 colors for 2 classes',
        ),
        (
            dict(metainfo=dict(classes=('a', 'b'), palette=[[0, 0, 0], [0, 300, 0]])),
            r'\[0, 300, 0\] is no color',
        ),
        (dict(seg_map_suffix='.npy'), r"seg_map_suffix='\.npy'.*PNG of one channel"),
        (dict(img_dir='images'), r'img_dir.*data_prefix=dict\(img_path'),
        (dict(split='train.txt'), r'split.*ann_file'),
        (dict(data_prefix=dict(img_path='images')), 'seg_map_path names no folder'),
    ],
)
def test_fields_of_a_data_set(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(UserError, match=message):
        check({**dataset(tmp_path), **change})


def test_names_in_a_file_and_some_of_known_classes(tmp_path: Path) -> None:
    write(tmp_path)
    names = tmp_path / 'names.txt'
    names.write_text('ground\nobject\n')
    check(dataset(tmp_path) | dict(metainfo=dict(classes=str(names))))
    names.write_text('ground\n\nobject\n')
    with pytest.raises(UserError, match=r"names\.txt .*'' is no name"):
        check(dataset(tmp_path) | dict(metainfo=dict(classes=str(names))))
    some = dataset(tmp_path, ('sidewalk', 'road'), type='CityscapesDataset', seg_map_suffix='.png')
    check(some)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'0\n1\n\n', r'names\.txt, line 3: blank'),
        (b'\n0\n', r'line 1: blank'),
        (b'\xef\xbb\xbf0\n1\n', 'byte order mark'),
        ('0\n1\n'.encode('utf-16'), 'not text in UTF-8'),
        (b'0\n1.png\n', r"line 2: '1\.png' stands with its ending"),
        (b'0.png 0.png\n', r'line 1: .* names two files'),
        (b'images/0.png,labels/0.png\n', r'line 1: .* names two files'),
        (b'', 'the list is empty'),
        (b'0\n7\n', r'files are missing.*images/7\.png'),
    ],
)
def test_lists_that_mmseg_would_misread(content: bytes, message: str, tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / 'names.txt').write_bytes(content)
    with pytest.raises(UserError, match=message):
        check(dataset(tmp_path, ann_file='names.txt'))


@pytest.mark.parametrize('content', [b'0\n2', b'2\r\n0\r\n', b'0 \n 1\n2\n'])
def test_lists_that_are_right(content: bytes, tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / 'names.txt').write_bytes(content)
    check(dataset(tmp_path, ann_file='names.txt'))


def test_names_that_occur_twice_are_told(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / 'names.txt').write_text('0\n1\n0\n')
    data = config(dataset(tmp_path, ann_file='names.txt'))
    (found,) = survey(data, lambda items, count, title: items)
    assert not found.faults
    assert any("1 names occur more than once, such as '0'" in note for note in found.notes)


def test_a_test_set_without_label_maps_is_looked_at(tmp_path: Path) -> None:
    write(tmp_path)
    data = dataset(tmp_path, data_prefix=dict(img_path='images'))
    check(data, split='test')
    (found,) = survey(config(data, split='test'), lambda items, count, title: items)
    assert not found.faults
    assert found.sizes == {(W, H): 3}
    for split in ('train', 'val'):
        assert 'seg_map_path names no folder' in faults(data, split=split)[0]


# ---------------------------------------------------------------- the model that goes with it


def model(change: Callable[[Config], Any] = lambda cfg: None) -> Config:
    cfg = config(dataset(Path('data')))
    cfg.train_dataloader.dataset.pipeline.append(dict(type='RandomCrop', crop_size=(64, 96)))
    cfg.model = dict(
        data_preprocessor=dict(size=(64, 96)),
        backbone=dict(img_size=(64, 96)),
        decode_head=dict(num_classes=2),
    )
    change(cfg)
    return cfg


def test_one_class_is_refused_with_the_recipe_for_two() -> None:
    one = model(lambda cfg: cfg.model.decode_head.update(num_classes=1))
    with pytest.raises(UserError, match=r'num_classes=1: .*Name two.*out_channels=1'):
        check_segmentation(one)


@pytest.mark.parametrize(
    ('change', 'named'),
    [
        (lambda cfg: None, ''),
        (lambda cfg: cfg.model.backbone.update(img_size=64), 'img_size is 64 x 64'),
        (lambda cfg: cfg.model.data_preprocessor.update(size=(350, 476)), 'size is 350 x 476'),
        (
            lambda cfg: cfg.train_dataloader.dataset.pipeline.append(
                dict(type='Resize', scale=(128, 32), keep_ratio=False)
            ),
            'crops are 32 x 128, but model.data_preprocessor.size is 64 x 96 and model.backbone',
        ),
        (
            lambda cfg: cfg.train_dataloader.dataset.pipeline.append(
                dict(type='RedrawEmpty', transforms=[dict(type='RandomCrop', crop_size=(32, 32))])
            ),
            'crops are 32 x 32, but model.data_preprocessor.size',
        ),
    ],
)
def test_crops_and_model_of_other_sizes_are_told(
    change: Any, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(
        'moca.transfer.protocol.print_log', lambda text, *args, **kwargs: lines.append(text)
    )
    check_segmentation(model(change))
    assert len(lines) == bool(named)
    if named:
        assert named in lines[0]
        assert 'Set model.' in lines[0]
