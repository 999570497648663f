"""In-context predictions beside truth: which files are drawn, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from moca import figures
from moca.errors import UserError
from moca.evaluation.dense.kept import FOLDER, KeptPredictions
from moca.images.files import evenly_spread
from moca.visualize import untrained
from tests.configs.helpers import REPOSITORY, write_cityscapes
from tools.visualize import main


def finished(folder: Path, root: Path, maps: torch.Tensor) -> Path:
    """A work dir as in-context segmentation leaves it: config, record, predictions."""
    folder.mkdir()
    base = REPOSITORY / 'configs' / 'dense' / 'in-context_driving.py'
    (folder / 'run.py').write_text(
        f"_base_ = '{base}'\n"
        f"evaluation = dict(train=dict(data_root='{root}'), val=dict(data_root='{root}'))\n"
    )
    record = dict(
        status='finished',
        task='dense',
        title='In-context',
        config='run.py',
        checkpoint=dict(name=folder.name),
        metrics=dict(mIoU_present=12.3),
    )
    (folder / 'run.json').write_text(json.dumps(record))
    kept = KeptPredictions(folder, len(maps), 2)
    for part in maps.split(3):
        kept.add(part)
    return folder


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cityscapes(tmp_path_factory.mktemp('data') / 'driving', train=1, val=5)


def test_kept_predictions_are_those_of_evenly_spread_images(tmp_path: Path) -> None:
    kept = KeptPredictions(tmp_path, 5, 2)
    for part in torch.arange(5).view(5, 1, 1).expand(5, 4, 4).split(2):
        kept.add(part)
    files = sorted((tmp_path / FOLDER).glob('*.png'))
    assert [int(path.stem) for path in files] == evenly_spread(5, 2)
    for path in files:
        assert (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) == int(path.stem)).all()
    nothing = KeptPredictions(tmp_path / 'none', 5, 0)
    nothing.add(torch.zeros(5, 4, 4))
    assert not (tmp_path / 'none').exists()


def test_the_sheet_shows_image_truth_and_each_run(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sky, car = torch.full((5, 8, 8), 10), torch.full((5, 8, 8), 13)
    folders = [finished(tmp_path / 'a', root, sky), finished(tmp_path / 'b', root, car)]
    drawn: list[Any] = []
    sheet = figures.sheet

    def watched(rows: Any, titles: Any, *args: Any, **options: Any) -> Any:
        drawn.append((rows, titles, options['names']))
        return sheet(rows, titles, *args, **options)

    monkeypatch.setattr(untrained.figures, 'sheet', watched)
    out = tmp_path / 'sheet.html'
    main(['segmentation', *map(str, folders), '--out', str(out), '--count', '4'])
    assert out.read_text().lower().startswith('<!doctype html>')
    ((rows, titles, names),) = drawn
    assert [name.endswith('_leftImg8bit.png') for (name,) in names] == [True] * 2
    assert names[0] != names[1]
    assert titles == ['image', 'truth', 'a: mIoU_present 12.3', 'b: mIoU_present 12.3']
    assert len(rows) == 2  # as many as were kept
    for image, truth, first, second in rows:
        assert image.shape == truth.shape == first.shape == second.shape == (64, 128, 3)
        assert not np.array_equal(first, second)
        # a car where there is one in the truth, and everywhere in the second run's map
        row, _ = np.argwhere((truth == second).all(2)).mean(0)
        assert 16 <= row < 48


def test_runs_that_cannot_be_drawn_are_refused(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished(tmp_path / 'a', root, torch.zeros(5, 8, 8))
    out = str(tmp_path / 'sheet.png')
    for path in (folder / FOLDER).glob('*'):
        path.unlink()
    with pytest.raises(UserError, match='kept predictions'):
        untrained.untrained_sheet([folder], Path(out), 2)
    assert main(['segmentation', str(folder), '--images', str(root), '--out', out]) == 2
    assert 'Leave it out' in capsys.readouterr().err
