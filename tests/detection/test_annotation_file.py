"""Annotation files that are written in ways of their own: what is accepted scores as it should."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from moca.data.survey import check_data
from moca.detection import NormalizedCoco
from moca.detection.annotation_file import read_annotation_file
from moca.errors import UserError
from tests.detection.own_coco import Content, config, perfect_scores, write

IDS = {'images': ('id',), 'categories': ('id',), 'annotations': ('id', 'image_id', 'category_id')}


def each_id(content: Content, change: Any, only: str = '') -> None:
    for table, keys in IDS.items():
        for row in content[table]:
            for key in keys:
                if only in (table if key == 'id' else key):
                    row[key] = change(row[key])


def each_annotation(**fields: Any) -> Any:
    return lambda content: [row.update(fields) for row in content['annotations']]


def without_crowd(content: Content) -> None:
    for row in content['annotations']:
        del row['iscrowd']


def from_zero(content: Content) -> None:
    each_id(content, lambda number: number - 1)


def half_polygons(content: Content) -> None:
    for row in content['annotations']:
        row['segmentation'] += [[1, 1, 5], [2, 2, 9, 9], []]


def category_twice(content: Content) -> None:
    content['categories'].append(dict(content['categories'][0]))


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (from_zero, '4 ids of annotations numbered anew, from 1'),
        (lambda c: each_id(c, str), '2 ids of images read as whole numbers'),
        (lambda c: each_id(c, float), '2 ids of categories read as whole numbers'),
        (lambda c: each_id(c, '{:04d}'.format), '2 ids of categories numbered anew, from 1'),
        (lambda c: each_id(c, 'x{}'.format), '4 ids of annotations numbered anew, from 1'),
        (lambda c: each_id(c, str, 'image_id'), '4 annotations whose image_id is read as a whole'),
        (lambda c: each_id(c, lambda n: n + 10**30), '2 ids of images numbered anew, from 1'),
        (lambda c: each_id(c, lambda n: -n), '4 ids of annotations numbered anew, from 1'),
        (each_annotation(iscrowd=None), "4 annotations whose 'iscrowd' is absent or null"),
        (each_annotation(iscrowd=False), ''),
        (each_annotation(iscrowd='0'), ''),
        (without_crowd, "4 annotations whose 'iscrowd' is absent or null"),
        (half_polygons, '12 polygons of fewer than three points or half a point left out'),
        (category_twice, '1 repeated categories left out'),
    ],
)
def test_other_ways_of_writing_score_alike(tmp_path: Path, change: Any, said: str) -> None:
    root = write(tmp_path, change)
    check_data(config(root), splits=('val',))
    scores = perfect_scores(root)
    assert (scores['coco/bbox_mAP'], scores['coco/segm_mAP']) == (1, 1)
    changes = read_annotation_file(root / 'annotations/val.json').describe_changes()
    assert said in changes if said else not changes


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16', 'utf-32'])
def test_encodings_of_json(tmp_path: Path, encoding: str) -> None:
    file = write(tmp_path) / 'annotations/val.json'
    file.write_bytes(file.read_text().encode(encoding))
    check_data(config(tmp_path), splits=('val',))
    assert perfect_scores(tmp_path)['coco/bbox_mAP'] == 1


@pytest.mark.parametrize(
    'prefix', ['sub\\{}', 'C:\\data\\pictures\\{}', '/nowhere/pictures/{}', '//host/share/{}']
)
def test_file_names_of_another_system(tmp_path: Path, prefix: str) -> None:
    def change(content: Content) -> None:
        for row in content['images']:
            row['file_name'] = prefix.format(row['file_name'])

    root = write(tmp_path, change)
    if prefix.startswith('sub'):
        shutil.move(root / 'images', root / 'sub')
        (root / 'images').mkdir()
        shutil.move(root / 'sub', root / 'images')
    check_data(config(root), splits=('val',))
    assert perfect_scores(root)['coco/segm_mAP'] == 1


def test_folders_below_those_of_another_system_stay(tmp_path: Path) -> None:
    names = ['C:\\all\\a\\1.png', 'C:\\all\\b\\1.png']
    rows = [dict(id=n, width=9, height=9, file_name=name) for n, name in enumerate(names)]
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(dict(images=rows, annotations=[], categories=[])))
    assert [row['file_name'] for row in read_annotation_file(path).images] == ['a/1.png', 'b/1.png']


def test_absolute_names_of_files_that_are_here_stay(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        for row in content['images']:
            row['file_name'] = str(tmp_path / 'images' / row['file_name'])

    root = write(tmp_path, change)
    check_data(config(root), splits=('val',))
    assert perfect_scores(root)['coco/segm_mAP'] == 1
    assert not read_annotation_file(root / 'annotations/val.json').changes


def test_results_name_images_and_categories_as_the_file_does(tmp_path: Path) -> None:
    root = write(tmp_path / 'data', lambda c: each_id(c, 'x{}'.format))
    prefix = tmp_path / 'out/found'
    assert perfect_scores(root, format_only=True, outfile_prefix=str(prefix)) == {}
    wanted = [
        (row['image_id'], row['category_id'], row['bbox'])
        for row in json.loads((root / 'annotations/val.json').read_text())['annotations']
    ]
    for kind in ('bbox', 'segm'):
        found = json.loads(Path(f'{prefix}.{kind}.json').read_text())
        assert [(row['image_id'], row['category_id'], row['bbox']) for row in found] == wanted


def test_what_mmdet_writes_of_a_file_that_needs_no_change(tmp_path: Path) -> None:
    file = write(tmp_path) / 'annotations/val.json'
    content = json.loads(file.read_text())
    coco = NormalizedCoco(file)
    assert coco.written == {}
    assert coco.dataset == dict(content, info={}, licenses=[])
    assert coco.get_cat_ids(cat_names=['car']) == [2]
    assert [row['id'] for row in coco.load_anns(coco.get_ann_ids(img_ids=[2]))] == [3, 4]


def first(table: str, **fields: Any) -> Any:
    return lambda content: content[table][0].update(fields)


def lacking(table: str, field: str) -> Any:
    return lambda content: content[table][0].pop(field) and None


MALFORMED = {
    r'images\[0\]\.id=None: no id': first('images', id=None),
    r'images\[0\]\.id=\[1\]: no id': first('images', id=[1]),
    r'annotations\[0\]\.id=True: no id': first('annotations', id=True),
    r'annotations\[0\]\.id=1\.5: no id': first('annotations', id=1.5),
    r'annotations\[0\]\.category_id=\{\}: no id': first('annotations', category_id={}),
    r'annotations\[0\]\.bbox=None: not four numbers': first('annotations', bbox=None),
    r"annotations\[0\]\.bbox=\['1'.*: not four numbers": first('annotations', bbox=['1'] * 4),
    r'annotations\[0\]\.bbox=\[1000.*\.\.\.: not four': first('annotations', bbox=[10**400] * 4),
    r"annotations\[0\]\.area='9': not a number": first('annotations', area='9'),
    r"annotations\[0\]\.iscrowd='maybe': neither 0 nor 1": first('annotations', iscrowd='maybe'),
    r'annotations\[0\]\.iscrowd=\[\]: neither 0 nor 1': first('annotations', iscrowd=[]),
    r'annotations\[0\]\.segmentation has a coordinate that no image has': first(
        'annotations', segmentation=[[1, 1, float('nan'), 1, 9, 9]]
    ),
    r'annotations\[0\]\.segmentation has a coordinate .*far beyond': first(
        'annotations', segmentation=[[1, 1, 1e12, 1, 9, 9]]
    ),
    r'annotations\[0\] has no area': lacking('annotations', 'area'),
    r'annotations\[0\] has no image_id': lacking('annotations', 'image_id'),
    r'images\[0\] has no height': lacking('images', 'height'),
    r'images\[0\] has no file_name': lacking('images', 'file_name'),
    r'images\[0\]\.width=0: not a whole number of pixels': first('images', width=0),
    r'images\[0\]\.width=9\.5: not a whole number of pixels': first('images', width=9.5),
    r'images\[0\]\.width=True: not a number': first('images', width=True),
    r"images\[0\]\.file_name='a\\x00b': not a file name": first('images', file_name='a\0b'),
    r'images\[0\]\.file_name=7: not a file name': first('images', file_name=7),
    r"categories\[0\]\.name='\\ud800': not a name": first('categories', name='\ud800'),
    r"categories\[1\], 'car', has the id 2 of 'person'": first('categories', id=2),
    r"'images' is an object": lambda c: c.update(images={}),
    r"'annotations' is a text": lambda c: c.update(annotations='none'),
    r"'categories' is absent": lambda c: c.pop('categories') and None,
    r'annotations\[0\] is a number, not an object': lambda c: c['annotations'].insert(0, 7),
    r'2 images and 0 annotations': lambda c: c.update(annotations=None),
}


@pytest.mark.parametrize('message', MALFORMED)
def test_malformed_files_end_in_a_line(tmp_path: Path, message: str) -> None:
    root = write(tmp_path, MALFORMED[message])
    with pytest.raises(UserError, match=rf'^{root}/annotations/val\.json: .*{message}') as caught:
        check_data(config(root), splits=('val',))
    assert '\n' not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (b'[]', 'a list at the top'),
        (b'null', 'null at the top'),
        (b'"abc"', 'a text at the top'),
        (b'', 'no JSON, or cut short'),
        (b'{"images": [{"id": 1,', 'no JSON, or cut short'),
        (b'{"images": ["\xe4\xf6"]}', 'no JSON, or cut short'),  # Latin-1
        (b'[' * 100_000, 'too deeply nested'),
        (b'{"images": [' + b'9' * 5000 + b']}', 'no JSON, or cut short'),
        (b'\x89PNG\r\n\x1a\n\0\0\0', 'no JSON, or cut short'),
    ],
)
def test_files_of_something_else(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / 'a.json'
    path.write_bytes(text)
    with pytest.raises(UserError, match=rf'^{path}: not a COCO instances file.*{message}'):
        read_annotation_file(path)
