"""The Python of the documents is run."""

from __future__ import annotations

import doctest
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from moca.engine.cli import read_config

ROOT = Path(__file__).parents[2]


def test_the_python_of_the_page(
    run_of: Callable[[str], Path], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run_of('segmentation'), tmp_path / 'work_dirs/probe')
    shutil.copy(images / 'a/0.png', tmp_path / 'street.png')
    monkeypatch.chdir(tmp_path)
    page = ROOT / 'docs/predicting.md'
    text = page.read_text().replace('```', '')  # the fence would be taken for output
    parsed = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    runner = doctest.DocTestRunner(verbose=False)
    said: list[str] = []
    found = runner.run(parsed, out=said.append)
    assert found.attempted > 8
    assert not found.failed, ''.join(said)


def block_of(page: str) -> str:
    (block,) = re.findall(r'```python\n(.*?)```', (ROOT / f'docs/{page}.md').read_text(), re.DOTALL)
    return str(block)


def test_inferencers_of_the_page(
    run_of: Callable[[str], Path], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'work_dirs/RUN').mkdir(parents=True)
    for name, other in (('iter_1.pth', 'iter_80000.pth'), ('segmentation.py', 'linear-bn.py')):
        shutil.copy(run_of('segmentation') / name, tmp_path / 'work_dirs/RUN' / other)
    shutil.copy(images / 'a/0.png', tmp_path / 'image.png')
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(block_of('openmmlab'), names)
    assert names['labels'].shape == (1, 48, 64)
    assert len(list(tmp_path.glob('out/vis/*'))) == len(list(tmp_path.glob('out/pred/*'))) == 1


def test_images_are_turned_as_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    (tmp_path / 'phone/day').mkdir(parents=True)
    for name, exif in (('turned', turned), ('upright', Image.Exif())):
        Image.new('RGB', (30, 20)).save(tmp_path / f'phone/day/{name}.jpg', exif=exif)
    monkeypatch.chdir(tmp_path)
    exec(block_of('images'), {})
    for name, size in (('turned', (20, 30)), ('upright', (30, 20))):
        with Image.open(f'phone/day/{name}.jpg') as image:
            assert (image.size, image.getexif().get(0x0112, 1)) == (size, 1)


def test_the_panoptic_config_of_the_page(tmp_path: Path) -> None:
    (tmp_path / 'mine.py').write_text(block_of('mask_transformers'))
    cfg = read_config(tmp_path / 'mine.py')
    data = cfg.val_dataloader.dataset
    assert (data.type, data.metainfo.thing_classes) == ('PanopticDataset', ('car', 'person'))
    assert (data.data_root, cfg.protocol.published) == ('DIR', None)
    assert cfg.protocol.task == 'detection'
