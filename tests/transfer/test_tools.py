"""tools/train.py and tools/test.py from end to end on tiny data, and their refusals."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from mmengine.config import Config

from moca.engine.amp import fast_bfloat16
from tests.configs.helpers import REPOSITORY, write_cityscapes, write_coco
from tools import test, train

PROBE = REPOSITORY / 'configs/segmentation/driving/linear-bn.py'
DETECTOR = REPOSITORY / 'configs/detection/coco/mask-rcnn_sfp.py'
WORKERS = [
    f'{split}_dataloader.{option}'
    for split in ('train', 'val', 'test')
    for option in ('num_workers=0', 'persistent_workers=False')
]


@pytest.fixture(scope='module')
def driving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cityscapes(tmp_path_factory.mktemp('driving'))


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in timm's format, in the folder of a run."""
    path = tmp_path_factory.mktemp('runs') / 'pretrained' / 'epoch_3.pth'
    path.parent.mkdir()
    torch.manual_seed(1)
    torch.save(timm.create_model('vit_tiny_patch16_224', num_classes=0).state_dict(), path)
    return path


def run_tool(*arguments: str | Path, processes: int = 1) -> subprocess.CompletedProcess[str]:
    """Run tools/train.py as a user does, by torchrun for several processes."""
    launch = ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={processes}']
    return subprocess.run(
        [
            sys.executable,
            *(launch if processes > 1 else []),
            'tools/train.py',
            *map(str, arguments),
        ],
        cwd=REPOSITORY,
        env=os.environ | {'PYTHONPATH': str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=600,  # of one that hangs
        check=False,
    )


def probe_options(iterations: int) -> list[str]:
    return [
        '--cfg-options',
        *WORKERS,
        'train_dataloader.batch_size=2',
        f'train_cfg.max_iters={iterations}',
        'default_hooks.checkpoint.interval=2',
        'train_dataloader.dataset.pipeline.2.scale=(128,64)',
        'train_dataloader.dataset.pipeline.3.crop_size=(48,96)',
        'val_dataloader.dataset.pipeline.1.scale=(128,64)',
        'test_dataloader.dataset.pipeline.1.scale=(128,64)',
        'model.data_preprocessor.size=(48,96)',
        'model.backbone.img_size=(48,96)',
    ]


def read_record(work_dir: Path) -> dict[str, Any]:
    return json.loads((work_dir / 'run.json').read_text())


def test_probe_is_trained_resumed_and_tested(
    driving: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ['--arch', 'vit_tiny_patch16', '--data-root', str(driving)]
    common += ['--amp'] if fast_bfloat16() else []
    arguments = [str(PROBE), *common, '--checkpoint', str(checkpoint), '--work-dir', str(tmp_path)]
    done = run_tool(*arguments, '--seed', '7', *probe_options(2))
    assert done.returncode == 0, done.stderr
    assert 'backbone parameters (100%)' in done.stdout
    record = read_record(tmp_path)
    assert record['status'] == 'finished'
    assert (record['protocol'], record['task']) == ('driving_linear_bn', 'segmentation')
    assert record['checkpoint'] == dict(
        name='pretrained/epoch_3',
        path=str(checkpoint),
        branch='encoder',
        sha256=hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        mean=[0.485, 0.456, 0.406],
        std=[0.229, 0.224, 0.225],
        normalized_by=None,
    )
    assert (record['arch'], record['seed']) == ('vit_tiny_patch16', 7)
    assert (record['train_images'], record['val_images'], record['iterations']) == (4, 2, 2)
    assert record['config'] == 'linear-bn.py'
    assert {'mIoU', 'mIoU_present', 'aAcc'} <= record['metrics'].keys()

    # Under another name it would be another row of the leaderboard.
    other = [*arguments, '--name', 'other']
    assert train.main([*other, '--resume', *probe_options(3)]) == 2
    assert "the run to resume has checkpoint.name 'pretrained/epoch_3'" in capsys.readouterr().err
    assert train.main([*other, *probe_options(3)]) == 2
    assert "another run's results" in capsys.readouterr().err
    assert read_record(tmp_path) == record

    assert train.main([*arguments, '--seed', '7', '--resume', *probe_options(3)]) == 0
    said = capsys.readouterr().out
    assert 'other settings, which now change: train_cfg.max_iters: 2 -> 3. ' in said
    assert ', from step 2 on (iter_2.pth), ' in said
    reading = f'Loads checkpoint by local backend from path: {tmp_path}/iter_2.pth'
    assert reading not in said
    assert any(reading in log.read_text() for log in tmp_path.glob('*/*.log'))
    resumed = read_record(tmp_path)
    assert resumed['iterations'] == 3
    assert resumed['seconds'] > record['seconds']
    assert [path.name for path in tmp_path.glob('*.pth')] == ['iter_3.pth']

    # the config beside the run, which was resumed, names a checkpoint that is gone
    own = str(tmp_path / PROBE.name)
    assert Config.fromfile(own).load_from
    assert test.main([own, str(tmp_path / 'iter_3.pth'), '--work-dir', str(tmp_path / 'own')]) == 0
    capsys.readouterr()
    run = str(tmp_path / 'iter_3.pth')
    assert test.main([str(PROBE), run, *common, *probe_options(3)]) == 0
    plain = capsys.readouterr().out
    assert f'{resumed["metrics"]["mIoU_present"]:.2f}' in plain
    augmented = [str(PROBE), run, '--tta', *common, *probe_options(3)]
    assert test.main([*augmented, 'tta.ratios=[1.0]', 'tta.flip=False']) == 0
    assert capsys.readouterr().out.splitlines()[-6:] == plain.splitlines()[-6:]  # the table
    assert test.main(augmented) == 0
    assert 'mIoU_present' in capsys.readouterr().out
    # Another architecture: nothing may be loaded halfway.
    assert test.main([str(PROBE), run, '--data-root', str(driving), *probe_options(3)]) == 2
    assert 'is of another model than the config' in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason='about processes without a GPU')
def test_two_processes_on_cpus(driving: Path, tmp_path: Path) -> None:
    done = run_tool(
        *(PROBE, '--arch', 'vit_tiny_patch16', '--data-root', driving, '--work-dir', tmp_path),
        *('--launcher', 'pytorch', *probe_options(2)),
        processes=2,
    )
    assert done.returncode == 0, done.stderr
    assert '1 SyncBN layers are plain BN' in done.stdout
    assert read_record(tmp_path)['iterations'] == 2


def test_detector_is_trained_from_random_weights(tmp_path: Path) -> None:
    root, work_dir = write_coco(tmp_path / 'coco'), tmp_path / 'run'
    done = run_tool(
        *(DETECTOR, '--arch', 'vit_tiny_patch16', '--data-root', root, '--work-dir', work_dir),
        '--cfg-options',
        *WORKERS,
        'train_dataloader.batch_size=2',
        'train_cfg.max_iters=2',
        'model.train_cfg.rpn_proposal.max_per_img=50',
        'model.test_cfg.rpn.max_per_img=50',
        'train_dataloader.dataset.pipeline.2.scale=(128,128)',
        'train_dataloader.dataset.pipeline.3.crop_size=(128,128)',
        'val_dataloader.dataset.pipeline.1.scale=(128,128)',
        'model.data_preprocessor.pad_size_divisor=128',
        'model.backbone.img_size=128',
    )
    assert done.returncode == 0, done.stderr
    assert "batch is 2 and the recipe's is 64" in done.stdout
    record = read_record(work_dir)
    assert record['checkpoint'] == dict(name='random init', path=None, branch=None)
    assert record['task'] == 'detection'
    assert 0 <= record['metrics']['bbox_mAP'] <= 100
    assert 0 <= record['metrics']['segm_mAP'] <= 100


def test_faults_are_found_in_order(
    driving: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Config, then checkpoint, then data: each is one line and exit status 2."""
    config = ['--cfg-options', 'model.backbone.frozn=True']
    weights = ['--checkpoint', str(checkpoint)]  # a ViT-Ti/16 for a ViT-B/16
    data = ['--data-root', str(tmp_path)]  # an empty folder
    for arguments, message in (
        ([*data, *weights, *config], r"no argument 'frozn'. Did you mean 'frozen'?"),
        ([*data, *weights], f'{checkpoint}: does not fit the backbone'),
        ([*data, *weights, '--arch', 'vit_tiny_patch16'], 'leftImg8bit/train: no such folder'),
        (['--data-root', str(driving), '--name', 'x'], 'give --checkpoint as well'),
        ([*data, '--arch', 'vit_tony_patch16'], "'vit_tony_patch16' is no timm ViT"),
        ([*data, '--launcher', 'slurm'], 'no SLURM_PROCID'),
    ):
        assert train.main([str(PROBE), '--work-dir', str(tmp_path / 'run'), *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count('\n') == 1
    assert not (tmp_path / 'run').exists()


def test_a_pretrained_backbone_is_not_a_run(
    driving: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(PROBE), str(checkpoint), '--data-root', str(driving)]
    assert test.main(arguments) == 2
    assert 'not a checkpoint of a run' in capsys.readouterr().err


def test_a_work_dir_is_taken_for_its_checkpoint(
    driving: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(dict(weights={}), tmp_path / 'iter_7.pth')
    assert test.main([str(PROBE), str(tmp_path), '--data-root', str(driving)]) == 2
    assert 'iter_7.pth: not a checkpoint of a run' in capsys.readouterr().err
