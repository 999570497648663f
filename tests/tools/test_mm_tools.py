"""What users of OpenMMLab look for in tools/, each once on a tiny run."""

from __future__ import annotations

import csv
import pickle
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from moca.engine.checkpoints import latest_checkpoint
from moca.transfer.run import prepare_training, train
from tests.configs.helpers import REPOSITORY, shrink, train_args, write_cityscapes, write_coco
from tools import (
    analyze_logs,
    browse_dataset,
    confusion_matrix,
    get_flops,
    predict,
    test,
    visualize,
)

PROBE = REPOSITORY / 'configs/segmentation/driving/linear-bn.py'
DETECTOR = REPOSITORY / 'configs/detection/small-coco/mask-rcnn_sfp.py'


def trained(config: Path, data: Path, folder: Path) -> Path:
    options = ['--data-root', data, '--work-dir', folder, '--seed', '0']
    # both libraries have a data set of Cityscapes, and the run before leaves its scope behind
    scope = Config.fromfile(config).default_scope
    with DefaultScope.overwrite_default_scope(scope):
        cfg, record = prepare_training(train_args(config, *options))
    shrink(cfg, 8)
    cfg.train_cfg.update(max_iters=3, val_interval=3)
    cfg.default_hooks.logger.interval = 1
    cfg.param_scheduler[0].update(begin=0, end=2)
    cfg.param_scheduler[1].update(begin=2, end=3)
    train(cfg, record)
    return folder


@pytest.fixture(scope='module')
def segmented(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run of segmentation, and its data."""
    root = tmp_path_factory.mktemp('segmentation')
    data = write_cityscapes(root / 'data')
    return trained(PROBE, data, root / 'run'), data


@pytest.fixture(scope='module')
def detected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run of detection, and its data."""
    root = tmp_path_factory.mktemp('detection')
    data = write_coco(root / 'data')
    return trained(DETECTOR, data, root / 'run'), data


def run_test(run: Path, *options: str | Path) -> int | None:
    (config,) = run.glob('*.py')
    return test.main([str(config), str(latest_checkpoint(run)), *map(str, options)])


def test_a_segmentors_predictions_are_drawn_and_kept(
    segmented: tuple[Path, Path], tmp_path: Path
) -> None:
    run, _ = segmented
    out = tmp_path / 'labels'
    show = ['--show-dir', tmp_path / 'show']
    assert run_test(run, *show, '--out', out, '--work-dir', tmp_path / 'test') in (None, 0)
    drawn = sorted((tmp_path / 'show').rglob('test_*.png'))
    assert len(drawn) == 2
    assert cv2.imread(str(drawn[0])).shape == (64, 2 * 128, 3)  # truth beside the prediction
    kept = sorted(out.rglob('*.png'))
    assert len(kept) == 2
    assert cv2.imread(str(kept[0]), cv2.IMREAD_UNCHANGED).shape == (64, 128)


def test_a_detectors_predictions_are_drawn_and_kept(
    detected: tuple[Path, Path], tmp_path: Path
) -> None:
    run, _ = detected
    out, show = tmp_path / 'found.pkl', ['--show-dir', tmp_path / 'show']
    assert run_test(run, *show, '--out', out, '--work-dir', tmp_path / 'test') in (None, 0)
    assert len(list((tmp_path / 'show').glob('*.jpg'))) == 2
    found = pickle.loads(out.read_bytes())
    assert len(found) == 2
    assert {'bboxes', 'scores', 'labels', 'masks'} <= set(found[0]['pred_instances'])


def test_boxes_are_merged_over_scales_and_flips(
    detected: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: list[str] = []
    monkeypatch.setattr('moca.transfer.tta.print_log', lambda text, *_: lines.append(text))
    assert run_test(detected[0], '--tta', '--work-dir', tmp_path) in (None, 0)
    assert lines == ['--tta: masks are not merged; boxes alone are evaluated.']
    table = capsys.readouterr().out.splitlines()[-4:]
    assert 'bbox_mAP' in ''.join(table)
    assert 'segm_mAP' not in ''.join(table)


def test_no_file_for_predictions(
    detected: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_test(detected[0], '--out', 'found.json', '--work-dir', tmp_path) == 2
    assert 'ends in .pkl' in capsys.readouterr().err


def test_pixels_are_confused(segmented: tuple[Path, Path], tmp_path: Path) -> None:
    run, data = segmented
    out = tmp_path / 'a.csv'
    assert confusion_matrix.main([str(run), '--out', str(out)]) in (None, 0)
    rows = list(csv.reader(out.open()))
    counts = np.array([row[1:] for row in rows[1:]], np.int64)
    labels = np.concatenate(
        [cv2.imread(str(p), -1).ravel() for p in data.glob('gtFine/val/*/*TrainIds.png')]
    )
    assert counts.sum(1).tolist() == [int((labels == number).sum()) for number in range(19)]
    assert confusion_matrix.main([str(run), '--out', str(out), '--score-thr', '0']) == 2
    drawn = tmp_path / 'a.png'
    confusion_matrix.write(counts, rows[0][1:], drawn)
    assert drawn.stat().st_size > 1000


def test_boxes_are_confused(detected: tuple[Path, Path], tmp_path: Path) -> None:
    run, out = detected[0], tmp_path / 'a.csv'
    assert confusion_matrix.main([str(run), '--out', str(out), '--score-thr', '1']) in (None, 0)
    rows = {row[0]: row[1:] for row in csv.reader(out.open())}
    for name in ('person', 'car'):  # nothing has that score: all are missed, in both images
        assert list(map(int, rows[name]))[-1] == 2
        assert sum(map(int, rows[name])) == 2


@pytest.mark.parametrize(('config', 'kind'), [(PROBE, 'segmented'), (DETECTOR, 'detected')])
def test_data_are_browsed(
    config: Path, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    data = request.getfixturevalue(kind)[1]
    options = ['--data-root', str(data), '--count', '2', '--out', str(tmp_path)]
    assert browse_dataset.main([str(config), *options]) in (None, 0)
    drawn = sorted(path.stem for path in tmp_path.glob('*.png'))
    assert [name[:6] for name in drawn] == ['00000_', '00001_']
    images = {path.stem for path in data.rglob('*.*')}
    assert {name[6:] for name in drawn} <= images


def test_costs_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    options = ['--arch', 'vit_tiny_patch16', '--shape', '32', '48', '--cfg-options']
    options += ['model.decode_head.num_classes=19']
    assert get_flops.main([str(PROBE), *options]) in (None, 0)
    said = capsys.readouterr().out
    assert len(said.splitlines()) == 4
    assert re.search(r'^Counted as nothing: .*\bgelu, .*\bsoftmax\b', said, re.MULTILINE)
    millions = float(re.search(r'Multiply-adds: ([\d.]+)M', said)[1])  # type: ignore[index]
    width, tokens = 192, 6 + 1
    block = 12 * width**2 * tokens + 2 * tokens**2 * width  # projections, MLP; products
    embedding = 6 * width * 3 * 16**2
    expected = 12 * block + embedding + 6 * width * 19
    assert millions == pytest.approx(expected / 1e6, rel=0.02)  # norms are a percent
    assert get_flops.main([str(PROBE), '--arch', 'auto']) == 2
    assert '--arch auto: there is no checkpoint' in capsys.readouterr().err


@pytest.mark.parametrize('text', ['7', '-0.1', 'nan', 'many'])
def test_scores_are_shares(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    for parse, arguments in (
        (predict.parse_args, ['run', 'a.png', '--out', 'o', '--score']),
        (confusion_matrix.parse_args, ['run', '--out', 'a.csv', '--score-thr']),
        (confusion_matrix.parse_args, ['run', '--out', 'a.csv', '--tp-iou-thr']),
        (visualize.parse_args, ['detection', 'run', '--out', 'a.png', '--score']),
    ):
        with pytest.raises(SystemExit):
            parse([*arguments[:-1], f'{arguments[-1]}={text}'])
        assert f"'{text}' is no number from 0 to 1" in capsys.readouterr().err


def test_logs_are_read(
    segmented: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = str(segmented[0]), tmp_path / 'loss.png'
    assert analyze_logs.main(['plot_curve', run, '--keys', 'loss', '--out', str(out)]) in (None, 0)
    assert out.stat().st_size > 1000
    assert analyze_logs.main(['cal_train_time', run]) in (None, 0)
    assert re.search(r'\d\.\d{4} s a step on average', capsys.readouterr().out)
    assert analyze_logs.main(['plot_curve', run, '--keys', 'lost', '--out', str(out)]) == 2
    assert 'has logged no lost, but' in capsys.readouterr().err
