"""Images of features through a training: what is drawn, what is kept, what a resume does."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from moca.engine.config_check import check_config
from moca.errors import UserError
from moca.evaluation.components import turned_onto
from moca.pretrain.monitors.features import (
    FeatureFigures,
    Moment,
    add_features_hook,
    load_moment,
    moments_of,
)
from moca.records.run_logs import read_curves
from tests.images.photographs import save_photographs
from tests.results.short_run import train


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('images')
    save_photographs(folder, count=20)
    return folder


@pytest.fixture(scope='module')
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    work_dir = tmp_path_factory.mktemp('run')
    runner, _ = train(images, work_dir, hooks=[dict(type='FeatureFigures', interval=1)])
    return work_dir, runner


def test_every_moment_is_kept_and_drawn(run: Any, images: Path) -> None:
    work_dir, runner = run
    found = moments_of(work_dir)
    assert list(found) == [0, 1, 2, 3]
    first, last = load_moment(found[0]), load_moment(found[3])
    assert (last.epoch, last.branch) == (3, 'teacher')
    # 20 images: the 1st, 7th, 14th and 20th, 48 x 64 cut to 48 x 48
    paths = sorted(images.rglob('*.jpg'))
    for shown, number in zip(last.images, (0, 6, 13, 19), strict=True):
        assert np.array_equal(shown, np.asarray(Image.open(paths[number]))[:, 8:56])
    assert np.array_equal(first.images, last.images)

    # the space of the scores is that of the features' first three singular vectors
    normal = (last.images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    inputs = torch.tensor(normal, dtype=torch.float32).permute(0, 3, 1, 2)
    with torch.no_grad():
        (maps,) = runner.model.teacher.eval()(inputs)
    tokens = maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1]).numpy()
    left, _, _ = np.linalg.svd(tokens - tokens.mean(0), full_matrices=False)
    scores = last.scores.reshape(-1, 3)
    within = left[:, :3] @ (left[:, :3].T @ scores)
    np.testing.assert_allclose(within, scores, atol=0.02)

    # and they lie as near to the moment before as turning can bring them
    before = torch.from_numpy(load_moment(found[2]).scores).flatten(0, 2)
    again = turned_onto(torch.from_numpy(scores), before)
    np.testing.assert_allclose(again.numpy(), scores, atol=1e-3)

    strip = cv2.imread(str(found[3].with_suffix('.png')))[..., ::-1]
    assert strip.shape == (2 * 144, 4 * 144, 3)  # 48 pixels, three times as large
    assert np.array_equal(strip[:144:3, :144:3], last.images[0])
    colors = (255 * last.colors()[1] + 0.5).astype(np.uint8)
    assert np.array_equal(strip[144::24, 144:288:24], colors)
    assert not list(found[3].parent.glob('.*'))


def test_a_resumed_run_goes_on_with_the_colors_of_the_earlier_piece(
    run: Any, images: Path, tmp_path: Path
) -> None:
    work_dir = tmp_path / 'copy'
    shutil.copytree(run[0], work_dir)
    (piece,) = work_dir.glob('*/vis_data')
    piece.parent.rename(work_dir / '20000101_000000')
    (work_dir / 'epoch_3.pth').unlink()
    # the earlier piece had its red where blue is, and the other way round
    before = load_moment(moments_of(work_dir)[2])
    dataclasses.replace(before, scores=before.scores[..., ::-1].copy()).save(
        work_dir / '20000101_000000' / 'vis_data' / 'features'
    )
    train(images, work_dir, '--resume', hooks=[dict(type='FeatureFigures', interval=1)])
    found = moments_of(work_dir)
    assert list(found) == [0, 1, 2, 3]
    assert ['20000101_000000' in str(path) for path in found.values()] == [True] * 3 + [False]
    expected = load_moment(moments_of(run[0])[3])
    # rounding depends on where memory lies, and close components magnify it
    got = load_moment(found[3]).scores
    np.testing.assert_allclose(got, expected.scores[..., ::-1], atol=0.02)


def test_pieces_are_joined_the_later_one_wins(tmp_path: Path) -> None:
    def write(piece: str, *epochs: int) -> None:
        for epoch in epochs:
            moment = Moment(
                epoch,
                'teacher',
                np.zeros((1, 8, 8, 3), np.uint8),
                np.zeros((1, 2, 2, 3), np.float32),
            )
            moment.save(tmp_path / piece / 'vis_data' / 'features')

    write('20260101_000000', 0, 5, 10)
    write('20260102_000000', 5, 15)
    pieces = {epoch: path.parts[-4] for epoch, path in moments_of(tmp_path).items()}
    assert pieces == {0: '20260101_000000', 5: '20260102_000000', 15: '20260102_000000'}
    write('20260103_000000', 0)
    assert list(moments_of(tmp_path)) == [0]


def test_tensorboard_gets_images_scores_and_losses(tmp_path: Path) -> None:
    folder = tmp_path / 'images'
    save_photographs(folder, count=24)
    options = ['--log-to', 'tensorboard', '--features', '--knn', str(folder)]
    train(folder, tmp_path, *options)
    (events,) = tmp_path.glob('*/vis_data/events.out.tfevents.*')
    log = EventAccumulator(str(events)).Reload()
    assert {'kl_image', 'kl_dense', 'words_in_use', 'normalizer', 'lr'} <= set(
        log.Tags()['scalars']
    )
    assert [event.step for event in log.Scalars('knn/top1_k20')] == [0, 18]
    shown = log.Images('teacher features')
    assert [event.step for event in shown] == [0, 18]
    decoded = cv2.imdecode(np.frombuffer(shown[-1].encoded_image_string, np.uint8), 1)
    expected = cv2.imread(str(moments_of(tmp_path)[3].with_suffix('.png')))
    assert np.array_equal(decoded, expected)
    # and the files that curves are drawn from
    assert {'kl_image', 'knn/top1_k20'} <= set(read_curves(tmp_path))


def test_a_folder_of_ones_own_and_a_broken_image(images: Path, tmp_path: Path) -> None:
    folder = tmp_path / 'mine'
    save_photographs(folder, count=4)
    broken = folder / 'class0' / '0000.jpg'
    broken.write_bytes(b'')
    options = ['--features', str(folder), '--cfg-options', 'default_hooks.features.count=2']
    train(images, tmp_path / 'run', *options)
    moment = load_moment(moments_of(tmp_path / 'run')[3])
    for shown, name in zip(moment.images, ('class0/0002.jpg', 'class1/0003.jpg'), strict=True):
        assert np.array_equal(shown, np.asarray(Image.open(folder / name))[:, 8:56])


def test_bad_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'FeatureFigures.images .*nowhere: no such folder'):
        FeatureFigures(str(tmp_path / 'nowhere'))
    with pytest.raises(UserError, match=r'FeatureFigures.count is 0'):
        FeatureFigures(count=0)
    with pytest.raises(UserError, match=r'FeatureFigures.interval is 0'):
        FeatureFigures(interval=0)


def test_a_config_gets_one_hook() -> None:
    cfg = Config(dict(default_hooks=dict(corrupt=dict(type='CorruptImages'))))
    add_features_hook(cfg)
    add_features_hook(cfg, 'there', interval=5)
    check_config(cfg)
    expected = dict(type='FeatureFigures', images='there', interval=5)
    assert cfg.default_hooks == dict(corrupt=dict(type='CorruptImages'), features=expected)
