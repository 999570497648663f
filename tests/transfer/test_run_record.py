"""run.json: metrics in percent, and whose run it is."""

from __future__ import annotations

import copy
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mmengine.config import Config

from moca.errors import UserError
from moca.records.run_json import changes_of_protocol
from moca.records.run_reading import read_runs
from moca.transfer.run import known_fields, protocol_config
from moca.transfer.run_record import (
    RunRecordHook,
    check_earlier_run,
    file_digest,
    kinds_of,
    percent_metrics,
)
from tests.configs.helpers import REPOSITORY, train_args

RECORD: dict[str, Any] = dict(
    protocol='driving_linear_bn',
    checkpoint=dict(
        name='moca/epoch_9', path='/runs/moca/epoch_9.pth', branch='teacher', sha256='a1'
    ),
    arch='vit_tiny_patch16',
)


def test_detection_metrics_are_percent() -> None:
    metrics = {'coco/bbox_mAP': 0.516, 'coco/segm_mAP': 0.459, 'coco/bbox_mAP_s': -1.0, 'time': 3.0}
    assert percent_metrics(metrics, 'detection') == {
        'bbox_mAP': 51.6,
        'segm_mAP': 45.9,
        'bbox_mAP_s': None,
    }


def test_a_class_without_objects_has_no_ap() -> None:
    # CocoMetric(classwise=True); JSON has no NaN
    found = percent_metrics({'coco/car_precision': float('nan')}, 'detection')
    assert found['car_precision'] is None


def test_a_detector_that_detects_nothing_has_ap_0() -> None:
    # CocoMetric logs an error and returns an empty dict.
    assert percent_metrics({}, 'detection') == {'bbox_mAP': 0.0, 'segm_mAP': 0.0}
    boxes = kinds_of(dict(type='CocoMetric', metric=['bbox']))
    assert percent_metrics({}, 'detection', boxes) == {'bbox_mAP': 0.0}
    assert kinds_of([dict(metric='segm'), dict(type='CocoMetric')]) == ('bbox', 'segm')


def test_segmentation_metrics_are_plain_numbers() -> None:
    metrics = {'mIoU': np.float64(48.512), 'mAcc': np.float32('nan')}
    assert percent_metrics(metrics, 'segmentation') == {'mIoU': 48.51, 'mAcc': None}


def write_record(folder: Path, status: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'run.json').write_text(json.dumps(dict(RECORD, status=status)))


def test_a_run_that_has_started_is_recorded_as_unfinished(tmp_path: Path) -> None:
    write_record(tmp_path, 'finished')  # an earlier run of the same: its results are void now
    runner = SimpleNamespace(work_dir=str(tmp_path), seed=3, iter=0, _resume=False)
    RunRecordHook(RECORD).before_train(runner)
    content = json.loads((tmp_path / 'run.json').read_text())
    assert content == dict(RECORD, status='running', seed=3)
    runs, (omission,) = read_runs([tmp_path])
    assert runs == []
    assert omission.reason == "not finished: its status is 'running'"


def test_a_result_that_is_there_is_kept_when_the_run_starts_again(tmp_path: Path) -> None:
    earlier = dict(RECORD, status='finished', finished_at='2026-01-02T03:04:05+00:00', metrics={})
    (tmp_path / 'run.json').write_text(json.dumps(earlier))
    runner = SimpleNamespace(work_dir=str(tmp_path), seed=3, iter=0, _resume=False)
    for _ in range(2):
        RunRecordHook(RECORD).before_train(runner)
    assert json.loads((tmp_path / 'run.json').read_text())['status'] == 'running'
    (kept,) = tmp_path.glob('run_*.json')
    assert kept.name == 'run_2026-01-02T03-04-05+00-00.json'
    assert json.loads(kept.read_text()) == earlier
    assert read_runs([tmp_path])[0] == []  # it is no run of the leaderboard's


def other_path(record: dict[str, Any]) -> None:
    record['checkpoint'].update(path='/runs/moca/epoch_10.pth')


CHANGES = [
    (lambda r: r.update(protocol='cityscapes_linear'), r'protocol .*driving.*cityscapes_linear'),
    (other_path, r'checkpoint\.path .*epoch_9\.pth.*epoch_10\.pth.*'),
    (lambda r: r['checkpoint'].update(branch='student'), r"branch 'teacher'.*'student'"),
    (lambda r: r['checkpoint'].update(name='mine'), r"name 'moca/epoch_9'.*'mine'"),
    (lambda r: r['checkpoint'].update(path=None), r'checkpoint\.path .*None'),
    (lambda r: r.update(subset=dict(images=100, fold=2)), r"subset None.*'fold': 2"),
    (lambda r: r.update(ema=dict(momentum=0.1)), r"ema None.*'momentum': 0\.1"),
    (lambda r: r.update(arch='vit_base_patch16'), r"arch 'vit_tiny_patch16'.*'vit_base_patch16'"),
]


@pytest.mark.parametrize(('change', 'message'), CHANGES)
@pytest.mark.parametrize('status', ['running', 'finished'])
def test_only_the_same_run_is_resumed(
    status: str, change: Callable[[dict[str, Any]], object], message: str, tmp_path: Path
) -> None:
    write_record(tmp_path, status)
    cfg = Config(dict(work_dir=str(tmp_path), resume=True, load_from=str(tmp_path / 'iter_2.pth')))
    check_earlier_run(cfg, RECORD)
    record = copy.deepcopy(RECORD)
    change(record)
    with pytest.raises(UserError, match=message) as caught:
        check_earlier_run(cfg, record)
    assert str(tmp_path / 'run.json') in str(caught.value)
    assert 'that it was started with' in str(caught.value)
    # a checkpoint of that run, taken to another folder
    cfg.work_dir = str(tmp_path / 'elsewhere')
    with pytest.raises(UserError, match=message):
        check_earlier_run(cfg, record)


@pytest.mark.parametrize(('change', 'message'), CHANGES)
def test_results_of_another_run_are_not_replaced(
    change: Callable[[dict[str, Any]], object], message: str, tmp_path: Path
) -> None:
    cfg = Config(dict(work_dir=str(tmp_path), resume=False))
    record = copy.deepcopy(RECORD)
    change(record)
    check_earlier_run(cfg, record)  # an empty folder
    write_record(tmp_path, 'running')
    check_earlier_run(cfg, record)  # no results to lose
    write_record(tmp_path, 'finished')
    check_earlier_run(cfg, RECORD)  # the same once more
    with pytest.raises(UserError, match=f"another run's results.*{message}.*--work-dir"):
        check_earlier_run(cfg, record)


@pytest.mark.parametrize('resume', [True, False])
def test_a_checkpoint_that_was_written_anew_is_another(resume: bool, tmp_path: Path) -> None:
    write_record(tmp_path, 'finished')
    record = copy.deepcopy(RECORD)
    record['checkpoint'].update(sha256='f0')
    with pytest.raises(UserError, match=r'another file of the name .*epoch_9\.pth.*written anew'):
        check_earlier_run(Config(dict(work_dir=str(tmp_path), resume=resume)), record)


def test_a_record_without_the_content_of_its_checkpoint_says_nothing_of_it(tmp_path: Path) -> None:
    earlier = copy.deepcopy(RECORD)
    del earlier['checkpoint']['sha256']
    (tmp_path / 'run.json').write_text(json.dumps(dict(earlier, status='finished')))
    check_earlier_run(Config(dict(work_dir=str(tmp_path), resume=True)), RECORD)


def test_the_digest_is_sha_256(tmp_path: Path) -> None:
    (tmp_path / 'a').write_bytes(b'abc')  # FIPS 180-2, appendix B.1
    digest = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
    assert file_digest(tmp_path / 'a') == digest


def test_an_unreadable_record_is_named(tmp_path: Path) -> None:
    (tmp_path / 'run.json').write_text('{"status": "fin')
    with pytest.raises(UserError, match=r'run\.json: cannot be read'):
        check_earlier_run(Config(dict(work_dir=str(tmp_path), resume=True)), RECORD)


def test_the_same_file_by_another_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_record(tmp_path, 'running')
    monkeypatch.chdir('/')
    record = copy.deepcopy(RECORD)
    record['checkpoint']['path'] = 'runs/../runs/moca/epoch_9.pth'
    check_earlier_run(Config(dict(work_dir=str(tmp_path), resume=True)), record)


def test_the_best_of_several_validations_is_kept_across_a_resume(tmp_path: Path) -> None:
    def runner(iteration: int, resume: bool) -> SimpleNamespace:
        cfg = Config(dict(protocol=dict(best=['mIoU'])))
        return SimpleNamespace(
            work_dir=str(tmp_path), seed=3, iter=iteration, max_iters=30, cfg=cfg, _resume=resume
        )

    hook = RunRecordHook(RECORD)
    hook.before_train(runner(0, False))
    for iteration, value in ((10, 50.0), (20, 48.0)):
        hook.after_val_epoch(runner(iteration, False), dict(mIoU=value, aAcc=90.0))
    assert hook.metrics == dict(mIoU=48.0, aAcc=90.0, mIoU_best=50.0)
    resumed = RunRecordHook(RECORD)
    resumed.before_train(runner(20, True))
    resumed.after_val_epoch(runner(30, True), dict(mIoU=49.0))
    assert resumed.metrics == dict(mIoU=49.0, mIoU_best=50.0)
    anew = RunRecordHook(RECORD)
    anew.before_train(runner(0, False))
    anew.after_val_epoch(runner(30, False), dict(mIoU=47.0))
    assert anew.metrics == dict(mIoU=47.0, mIoU_best=47.0)


def test_the_record_keeps_the_command_line_as_it_was_given() -> None:
    config = REPOSITORY / 'configs/imagenet/knn.py'
    args = train_args(config, '--note', "it's <b>", '--arch', 'vit_tiny_patch16')
    command = known_fields(protocol_config(args), args, {})['command']
    assert shlex.split(command) == [
        *('tools/train.py', str(config), '--note', "it's <b>", '--arch', 'vit_tiny_patch16')
    ]


@pytest.mark.parametrize(
    ('options', 'changes'),
    [
        ({'evaluation.preset': 'dinov3-m'}, 'evaluation.preset=dinov3-m'),
        (
            {'evaluation.feature': 'cls_prenorm', 'evaluation.C': 400},
            'evaluation.C=400 evaluation.feature=cls_prenorm',
        ),
        ({'evaluation.k': [10, 20]}, 'evaluation.k=[10,20]'),
        ({'model.feature': 'avg'}, 'model.feature=avg'),
        ({'model.decode_head.num_blocks': 4}, 'model.decode_head.num_blocks=4'),
        ({'model.backbone.frozen': False}, 'model.backbone.frozen=False'),
        # places, loading, memory, rates, length, the weights' own
        ({'evaluation.subsets': 'lists', 'evaluation.bank.data_root': 'there'}, ''),
        ({'loading.batch_size': 8, 'train_dataloader.num_workers': 2}, ''),
        ({'model.backbone.grad_checkpoint': True, 'val_evaluator.classwise': True}, ''),
        ({'optim_wrapper.optimizer.lr': 1e-3, 'model.backbone.drop_path_rate': 0.1}, ''),
        ({'train_cfg.max_iters': 5, 'model.head.num_classes': 7}, ''),
        ({'model.backbone.arch.init_values': 0.5, 'model.data_preprocessor.mean': [0, 0, 0]}, ''),
    ],
)
def test_options_that_change_what_is_measured(options: dict[str, Any], changes: str) -> None:
    assert changes_of_protocol(options, {}) == changes


@pytest.mark.parametrize(
    ('arch', 'changes'),
    [('vit_small_patch16', ''), ('vit_base_patch16', 'model.feature=cls*4')],
)
def test_what_a_protocol_asks_of_a_size_is_no_change(arch: str, changes: str) -> None:
    # iBOT's linear probe of a ViT-S takes class tokens of four blocks
    args = train_args(
        REPOSITORY / 'configs/imagenet/linear.py',
        *('--arch', arch, '--cfg-options', 'model.feature=cls*4'),
    )
    assert known_fields(protocol_config(args), args, {})['changes'] == changes
