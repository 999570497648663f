"""The demo's downstream configs train on its data, and sheets are drawn from what they leave."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from mmdet.evaluation import CocoMetric
from PIL import Image

from moca.errors import UserError
from moca.records.run_reading import read_runs
from moca.results.report.commands import command_of
from moca.results.report.drawings import confusion_of
from moca.results.report.run_files import read_run_files
from moca.transfer.finished import load_finished
from moca.transfer.run import prepare_training
from moca.visualize.errors import breakdowns
from moca.visualize.predictions import class_ious, validated
from tools.demo.write import DataSettings, write_data
from tools.leaderboard import main as leaderboard
from tools.train import main as train
from tools.train import parse_args
from tools.visualize import main as visualize

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('demo') / 'data'
    settings = DataSettings(images=1, streets_train=2, streets_val=2, things_train=4, things_val=2)
    write_data(root, settings)
    return root


@pytest.fixture(scope='module')
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One step of each config, as the demo runs them but for the number of steps."""
    folders = {}
    for name, part in (('linear-bn', 'streets'), ('finetune', 'streets'), ('mask-rcnn', 'things')):
        folders[name] = tmp_path_factory.mktemp(name)
        # after one step nothing would be sure enough to be an object
        options = ['model.test_cfg.rcnn.score_thr=0.0'] if name == 'mask-rcnn' else []
        code = train(
            [
                str(REPOSITORY / 'configs' / 'demo' / f'{name}.py'),
                *('--data-root', str(data / part), '--work-dir', str(folders[name])),
                *('--cfg-options', 'train_cfg.max_iters=1', 'train_dataloader.batch_size=2'),
                *options,
            ]
        )
        assert code == 0
    return folders


def test_configs_train_and_record_what_they_measured(runs):
    for name, metrics in (('linear-bn', ['mIoU_present']), ('mask-rcnn', ['bbox_mAP', 'segm_mAP'])):
        record = json.loads((runs[name] / 'run.json').read_text())
        assert record['main_metrics'] == metrics
        assert set(metrics) <= set(record['metrics'])
        assert record['arch'] == 'vit_128x4_patch8'
        assert record['published'] is None
        assert record['title'].startswith('Demo')


def test_segmentation_sheet_shows_images_and_truth(runs, data, tmp_path):
    out = tmp_path / 'sheet.png'
    folders = [str(runs['linear-bn']), str(runs['finetune'])]
    assert visualize(['segmentation', *folders, '--out', str(out), '--count', '2']) == 0
    sheet = np.asarray(Image.open(out).convert('RGB')).astype(int)
    # Two rows of four images twice as wide as high, under a heading and above a legend.
    assert 1.2 < sheet.shape[1] / sheet.shape[0] < 4.5
    # The colors of the classes in the truth are in the legend at least.
    labels = np.asarray(Image.open(next((data / 'streets' / 'gtFine' / 'val').rglob('*.png'))))
    assert 10 in labels  # sky
    assert (np.abs(sheet - [70, 130, 180]).sum(axis=-1) < 6).sum() > 50


def test_detection_sheet(runs, tmp_path):
    out = tmp_path / 'sheet.png'
    folder = str(runs['mask-rcnn'])
    assert visualize(['detection', folder, folder, '--out', str(out), '--count', '2']) == 0
    assert Image.open(out).size[0] > 200


def test_sheets_of_images_without_labels(runs, data, tmp_path):
    wide, tall = tmp_path / 'in' / 'a.png', tmp_path / 'in' / 'b.jpg'
    wide.parent.mkdir()
    source = Image.open(next((data / 'streets' / 'leftImg8bit' / 'val').rglob('*.png')))
    source.save(wide)
    source.convert('RGB').crop((0, 0, 64, 128)).save(tall)
    for command, run in (('segmentation', 'linear-bn'), ('detection', 'mask-rcnn')):
        out = tmp_path / f'{command}.html'
        images = ('--images', str(wide.parent), '--out', str(out))
        assert visualize([command, str(runs[run]), *images]) == 0
        assert out.read_bytes().startswith(b'<!DOCTYPE html>')


def test_the_data_set_of_a_run_is_not_needed_for_other_images(runs, data, tmp_path):
    folder = tmp_path / 'run'
    shutil.copytree(runs['linear-bn'], folder)
    config = folder / 'linear-bn.py'
    config.write_text(config.read_text().replace(str(data), '/nowhere'))
    (tmp_path / 'in').mkdir()
    Image.new('RGB', (64, 48)).save(tmp_path / 'in' / 'a.png')
    out = tmp_path / 'a.png'
    command = ['segmentation', str(folder), '--out', str(out)]
    assert visualize([*command, '--images', str(tmp_path / 'in')]) == 0


def test_ious_of_classes_agree_with_the_runs_own_mean(runs):
    from mmseg.evaluation import IoUMetric

    finished = load_finished(runs['linear-bn'], 'segmentation')
    ious = class_ious(validated(finished, IoUMetric).results)
    recorded = finished.run.metrics['mIoU_present']
    assert np.nanmean(ious) == pytest.approx(recorded, abs=0.02)
    with pytest.raises(UserError, match='PresentIoUMetric; CocoMetric is needed'):
        validated(finished, CocoMetric)


def test_errors_agree_with_the_runs_own_ap(runs, tmp_path):
    finished = load_finished(runs['mask-rcnn'], 'detection')
    found = breakdowns(finished)
    assert list(found) == ['bbox', 'segm']
    for kind, breakdown in found.items():
        recorded = finished.run.metrics[f'{kind}_mAP']
        # recorded with three digits of a fraction
        assert breakdown.mean(breakdown.ap)[0] == pytest.approx(recorded, abs=0.06)
    out = tmp_path / 'errors.png'
    folders = [str(runs['mask-rcnn'])] * 2
    assert visualize(['detection', *folders, '--errors', '--out', str(out)]) == 0
    assert Image.open(out).size[0] > 1000


def test_a_report_draws_runs_and_counts_what_they_confuse(runs, tmp_path):
    folders = [str(runs['linear-bn']), str(runs['mask-rcnn'])]
    out = tmp_path / 'report.html'
    options = ['--pictures', '1', '--validate', '--out', str(out)]
    assert leaderboard(['report', *folders, *options]) == 0
    page = out.read_text()
    # features of the random weights, predictions of two runs, errors of one
    assert page.count('src="data:image/webp;base64,') == 4
    assert 'No picture' not in page
    assert 'Largest confusions' in page
    # what the page names measures the same again
    files = read_run_files(runs['mask-rcnn'])
    words = shlex.split(command_of(files.record, str(runs['mask-rcnn'] / 'mask-rcnn.py')))
    place = words.index('NEW')
    assert words[1] == 'tools/train.py'
    _, record = prepare_training(parse_args([*words[2:place], str(tmp_path), *words[place + 1 :]]))
    assert record == {key: value for key, value in files.record.items() if key in record} | {
        'options': {**files.record['options'], 'data_root': None},
        'command': record['command'],
    }
    figures = read_run_files(runs['linear-bn']).classes
    finished = read_runs([runs['linear-bn']])[0][0]
    counts = confusion_of(finished, 'segmentation')
    assert {name for name, iou in counts.ious.items() if iou == iou} <= figures.keys()
    for name, iou in counts.ious.items():
        assert iou == pytest.approx(figures[name]['IoU'], abs=0.05, nan_ok=True), name


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (
            ['detection', 'mask-rcnn', '--errors', '--images', '.', '--out', 'a.png'],
            '--errors needs truth',
        ),
        (
            ['segmentation', 'linear-bn', '--images', 'nowhere', '--out', 'a.png'],
            'nowhere: no such folder',
        ),
        (['segmentation', 'linear-bn', '--out', 'a.txt'], 'must end in'),
        (['segmentation', 'linear-bn', '--out', 'a.png', '--count', '0'], 'at least one'),
        (['detection', 'linear-bn', '--out', 'a.png'], 'a run of segmentation, not of detection'),
        (['segmentation', 'nowhere', '--out', 'a.png'], 'no such folder'),
    ],
)
def test_wrong_requests_are_errors_that_name_the_remedy(runs, arguments, message, capsys, tmp_path):
    given = [str(runs.get(a, a)) if a in (*runs, 'nowhere') else a for a in arguments]
    given = [str(tmp_path / a) if a.startswith('a.') else a for a in given]
    assert visualize(given) == 2
    assert message in capsys.readouterr().err
