"""Pictures of videos, correspondences and boxes, through tools/visualize.py."""

from __future__ import annotations

import io
import re
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from PIL import Image, ImageSequence

from moca.evaluation.backbones import NamedBackbone
from moca.evaluation.dense.lost import box_around
from moca.visualize import videos
from moca.visualize.correspondences import RIGHT, WRONG, draw_matches
from moca.visualize.discoveries import draw_discovery
from tests.evaluation.dense.test_video_protocol import Pieces
from tests.evaluation.dense.trees import moving_video, save, write_davis, write_spair
from tools import visualize


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('data')
    write_davis(root / 'davis', {'one': moving_video(0, 5)})
    write_spair(root / 'spair', images=1)
    return root


@pytest.fixture(autouse=True)
def backbones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two names for a backbone that finds again what moves."""
    model: Any = Pieces(8).eval()
    model.norm = torch.nn.Identity()
    found = [NamedBackbone(name, model) for name in ('ours', 'theirs')]
    monkeypatch.setattr('moca.evaluation.backbones.load_backbones', lambda *_, **__: found)


def draw(*arguments: Any, code: int = 0) -> None:
    assert visualize.main([*map(str, arguments)]) == code


def video(root: Path) -> list[Any]:
    folder = root / 'davis'
    frames, mask = folder / 'JPEGImages/480p/one', folder / 'Annotations/480p/one/00000.png'
    given = ['--frames', frames, '--mask', mask, '--short-side', 64]
    return ['video', '-c', 'a', 'b', *given]


def test_a_video_is_a_strip_an_animation_and_a_page(root: Path, tmp_path: Path) -> None:
    draw(*video(root), '--count', 3, '--out', tmp_path / 'strip.png')
    with Image.open(tmp_path / 'strip.png') as strip:
        assert strip.width > strip.height
    draw(*video(root), '--out', tmp_path / 'moving.gif')
    with Image.open(tmp_path / 'moving.gif') as moving:
        assert moving.size == (2 * 96, 64)
        frames = [np.array(frame.convert('RGB')) for frame in ImageSequence.Iterator(moving)]
    assert len(frames) == 5
    draw(*video(root), '--out', tmp_path / 'page.html')
    images = re.findall(r'data:image/(\w+);base64,([^"]+)"', (tmp_path / 'page.html').read_text())
    assert [kind for kind, _ in images] == ['png', 'gif']
    with Image.open(io.BytesIO(b64decode(images[1][1]))) as moving:
        assert moving.n_frames == 5


def test_objects_are_colored_and_the_rest_is_as_it_was() -> None:
    frame = np.full((2, 3, 3), 100, np.uint8)
    labels = np.array([[0, 1, 0], [0, 0, 2]], np.uint8)
    drawn = videos.over(frame, labels)
    assert (drawn[labels == 0] == 100).all()
    assert (drawn[0, 1] != 100).any()
    assert (drawn[0, 1] != drawn[1, 2]).any()


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        (['--preset', 'dinov2'], 'give one of dino, dinov3-s'),
        (['--short-side', '0'], 'short_side=0'),
        (['--out', 'x.mp4'], 'must end in .png, .pdf, .svg, .html, .gif'),
    ],
)
def test_wrong_arguments(
    change: list[str], text: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(*video(root), '--out', tmp_path / 'a.png', *change, code=2)
    assert text in capsys.readouterr().err


def test_a_mask_of_another_size_and_one_frame(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / 'mask.png', np.zeros((32, 32), np.uint8), palette=True)
    draw(*video(root), '--mask', tmp_path / 'mask.png', '--out', tmp_path / 'a.png', code=2)
    assert '32 x 32 pixels, which' in capsys.readouterr().err
    save(tmp_path / 'frames/0.jpg', np.zeros((64, 96, 3), np.uint8))
    draw(*video(root), '--frames', tmp_path / 'frames', '--out', tmp_path / 'a.png', code=2)
    assert 'one frame is no video' in capsys.readouterr().err


def test_correspondences(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ['correspondence', '-c', 'a', 'b', '--data-root', root / 'spair', '--size', 64]
    draw(*given, '--count', 2, '--out', tmp_path / 'pairs.html')
    assert 'data:image/png' in (tmp_path / 'pairs.html').read_text()
    draw(*given, '--category', 'dog', '--out', tmp_path / 'a.png', code=2)
    assert 'Give one of bus, cat' in capsys.readouterr().err


def test_lines_run_from_keypoints_to_where_they_are_found() -> None:
    figure, axis = plt.subplots()
    points = np.array([[1, 2], [3, 4]])
    draw_matches(axis, points, points + 1.0, np.array([True, False]), points, 10)
    lines = [line for line in axis.lines if len(line.get_xdata()) == 2]
    assert [line.get_color() for line in lines] == [RIGHT, WRONG]
    assert list(lines[0].get_xdata()) == [1, 12]
    assert list(lines[0].get_ydata()) == [2, 3]
    plt.close(figure)


def test_boxes_with_their_seeds(root: Path, tmp_path: Path) -> None:
    images = root / 'spair/JPEGImages/cat'
    given = ['discovery', '-c', 'a', 'b', '--images', images, '--size', 64]
    for features in ('keys', 'output'):
        draw(*given, '--features', features, '--out', tmp_path / f'{features}.png')
    assert (tmp_path / 'keys.png').read_bytes() != (tmp_path / 'output.png').read_bytes()


def test_a_box_and_its_seed_by_hand() -> None:
    class Found:
        seed = (1, 2)
        box = box_around(np.ones((3, 4), bool), (1, 2), (40, 60), 16)

    figure, axis = plt.subplots()
    draw_discovery(axis, Found(), 16)  # type: ignore[arg-type]
    drawn = [(*p.get_xy(), p.get_width(), p.get_height()) for p in axis.patches]
    assert drawn == [(-0.5, -0.5, 60, 40), (31.5, 15.5, 16, 16)]
    plt.close(figure)
