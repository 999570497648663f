"""What is accepted can be read, what is not ends in one line that names the file: odd inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image

from moca.data.coco_survey import coco_survey
from moca.data.survey import check_data, survey
from moca.errors import UserError
from moca.transfer.overrides import set_data_root
from moca.transfer.protocol import check_segmentation, read_by_one_reader
from tests import odd_files
from tests.configs.helpers import REPOSITORY, shrink
from tests.detection import own_coco
from tools import prepare_data, pretrain, train

PROBE = REPOSITORY / 'configs/segmentation/driving/linear-bn.py'
Odd = tuple[str, bytes]


def sampled(odd: Iterable[Odd], step: int) -> list[Any]:
    """All of them, of which every `step`-th is not slow."""
    return [
        pytest.param(data, id=name, marks=[] if place % step == 0 else [pytest.mark.slow])
        for place, (name, data) in enumerate(odd)
    ]


def refusal(read: Callable[[], object], name: str) -> str | None:
    """The line of a refusal, which has the name of the file in it; None if all went well."""
    line = None
    try:
        read()
    except UserError as error:
        line = str(error)
    assert line is None or (name in line and '\n' not in line), line
    return line


def read_all(dataset: dict[str, Any], loading: int) -> None:
    """Read every image of a data set, and its labels, as training does."""
    init_default_scope('mmseg' if 'Cityscapes' in str(dataset['type']) else 'mmdet')
    steps = list(dataset['pipeline'])[:loading]
    for step in steps:
        step.pop('skip', None)
    built = DATASETS.build({**dataset, 'pipeline': steps, 'filter_cfg': None, 'test_mode': True})
    for place in range(len(built)):
        built[place]


def agree(cfg: Config, name: str, look: Any, loading: int) -> None:
    """The quick check lets nothing pass that the long one accepts and a run cannot read."""
    found = look(cfg, lambda items, count, title: items)
    faults = [fault for part in found for fault in part.faults]
    assert all('\n' not in fault for fault in faults)
    refused = refusal(lambda: check_data(cfg), name)
    if refused or faults:
        assert faults, refused
        assert any(name in fault for fault in faults), faults
        return
    assert refusal(lambda: read_all(cfg.train_dataloader.dataset, loading), name) is None


@pytest.fixture(scope='module')
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return own_coco.write(tmp_path_factory.mktemp('coco'))


@pytest.fixture(scope='module')
def text(coco: Path) -> str:
    return (coco / 'annotations/train.json').read_text()


@pytest.fixture
def put() -> Any:
    """Return a function that puts bytes into a file, which is restored afterwards."""
    kept: dict[Path, bytes] = {}

    def replace(path: Path, data: bytes) -> Path:
        kept.setdefault(path, path.read_bytes())
        path.write_bytes(data)
        return path

    yield replace
    for path, data in kept.items():
        path.write_bytes(data)


@pytest.mark.parametrize('data', sampled(odd_files.images(), 3))
def test_images_of_detection(coco: Path, put: Any, data: bytes) -> None:
    put(coco / 'images/train1.png', data)
    agree(own_coco.config(coco), 'train1.png', coco_survey, 1)


@pytest.mark.parametrize('part', range(4))
def test_annotation_files(coco: Path, text: str, put: Any, part: int) -> None:
    """A quarter of them each, all in one call, since they are many and quick."""
    cfg = own_coco.config(coco)
    for name, data in list(odd_files.annotation_files(text))[part::4]:
        path = put(coco / 'annotations/train.json', data)
        try:
            agree_on_annotations(cfg, path)
        except Exception as error:
            raise AssertionError(name) from error


def agree_on_annotations(cfg: Config, path: Path) -> None:
    """As `agree`, without a look at the pixels; the name of an image may be what is wrong."""
    folder = path.parents[1].name
    if refusal(lambda: check_data(cfg, splits=('train',)), folder) is None:
        read_all(cfg.train_dataloader.dataset, 2)


@pytest.fixture(scope='module')
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('street')
    for split in ('train', 'val'):
        for number in range(2):
            for folder, suffix, mode in (
                ('leftImg8bit', 'leftImg8bit', 'RGB'),
                ('gtFine', 'gtFine_labelTrainIds', 'L'),
            ):
                path = root / folder / split / 'a' / f'a_{number}_{suffix}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                image = odd_files.pixels()
                if mode == 'L':
                    image = Image.new('L', odd_files.SIZE, 13)
                    image.paste(0, (0, 0, 40, 40))
                image.save(path)
    return root


def probe(root: Path) -> Config:
    cfg = Config.fromfile(PROBE)
    set_data_root(cfg, root)
    check_segmentation(cfg)
    read_by_one_reader(cfg)
    return cfg


@pytest.mark.parametrize('data', sampled(odd_files.label_maps(), 2))
def test_label_maps(street: Path, put: Any, data: bytes) -> None:
    put(street / 'gtFine/train/a/a_0_gtFine_labelTrainIds.png', data)
    agree(probe(street), 'a_0_', survey, 2)


@pytest.mark.parametrize('data', sampled(odd_files.images(), 9))
def test_images_of_segmentation(street: Path, put: Any, data: bytes) -> None:
    put(street / 'leftImg8bit/train/a/a_0_leftImg8bit.png', data)
    agree(probe(street), 'a_0_', survey, 2)


# ---------------------------------------------------------------- whole commands


def ends_well(code: int, capsys: Any, name: str) -> None:
    """Exit 0, or 2 and one line that names the file."""
    captured = capsys.readouterr()
    if code == 0:
        return
    assert code == 2
    (line,) = [line for line in captured.err.splitlines() if line.startswith('error')]
    assert name in line
    assert 'Traceback' not in captured.err


@pytest.mark.parametrize('damage', ['whole', 'half'])
def test_checking(coco: Path, street: Path, put: Any, capsys: Any, damage: str) -> None:
    data = odd_files.DAMAGES[damage](odd_files.encode(odd_files.pixels(), 'PNG') or b'')
    for config, root, name in (
        (own_coco.CONFIG, coco, 'images/train2.png'),
        (PROBE, street, 'leftImg8bit/train/a/a_1_leftImg8bit.png'),
    ):
        put(root / name, data)
        arguments = ['check', str(config), '--data-root', str(root), '--count', '1']
        code = prepare_data.main([*arguments, '--out', str(root / 'sheet.jpg')])
        assert code == (0 if damage == 'whole' else 2)
        ends_well(code, capsys, Path(name).name)


def test_training_on_ids_of_other_kinds(tmp_path: Path, capsys: Any) -> None:
    def change(content: Any) -> None:
        for row in content['annotations']:
            row.update(id=str(row['id'] - 1), image_id=float(row['image_id']), iscrowd=None)

    root = own_coco.write(tmp_path / 'data', change, ('train', 'val'))
    cfg = shrink(own_coco.config(root))
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.dump(str(tmp_path / 'own.py'))
    code = train.main([str(tmp_path / 'own.py'), '--work-dir', str(tmp_path / 'run')])
    assert code == 0
    assert '6 ids of annotations numbered anew' in capsys.readouterr().out


@pytest.mark.parametrize('damage', ['half', 'text'])
def test_pretraining_beside_a_broken_image(tmp_path: Path, capsys: Any, damage: str) -> None:
    folder = tmp_path / 'images'
    folder.mkdir()
    for number in range(5):
        odd_files.pixels().save(folder / f'{number}.png')
    broken = folder / 'broken.png'
    whole = (folder / '0.png').read_bytes()
    broken.write_bytes(b'no image' if damage == 'text' else whole[: len(whole) // 2])
    options = [
        'model.backbone.img_size=32',
        'model.decoder.dim=32',
        'model.decoder.depth=1',
        'train_cfg.max_epochs=1',
        'default_hooks.schedule.warmup_epochs=0',
        'train_dataloader.batch_size=2',
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
    ]
    arguments = [str(REPOSITORY / 'configs/pretrain/mae_cifar.py'), '--data-root', str(folder)]
    code = pretrain.main(
        [*arguments, '--work-dir', str(tmp_path / 'run'), '--cfg-options', *options]
    )
    said = capsys.readouterr()
    assert code in (0, 2)
    assert 'broken.png' in said.out + said.err
