"""DAVIS from end to end: what is read, what is refused, and videos with a known answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from torch import Tensor

from moca.backbone import PlainViT
from moca.errors import UserError
from moca.evaluation.dense.davis import VideoPropagation, chosen_preset, propagated
from moca.evaluation.dense.video_data import read_davis
from moca.evaluation.dense.video_metric import score_video
from moca.evaluation.protocol import EvaluationRun
from tests.evaluation.dense.trees import moving_video, save, texture, write_davis

PATCH = 8


class Pieces(PlainViT):
    """A backbone whose patch features are the patches' own pixels: what moves is found again."""

    def __init__(self, patch: int = PATCH) -> None:
        arch: Any = dict(patch_size=patch, embed_dim=8, depth=1, num_heads=1, img_size=32)
        super().__init__(arch, frozen=True)

    def tokens(self, images: Tensor, *_: Any, **__: Any) -> Any:
        side = self.patch_size
        pieces = torch.nn.functional.unfold(images, side, stride=side).transpose(1, 2)
        pieces = pieces - pieces.mean(2, keepdim=True)
        return super().tokens(images)._replace(patches=pieces, intermediate=(pieces,))


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    logger = MMLogger.get_current_instance()
    for level in ('info', 'warning'):
        monkeypatch.setattr(logger, level, lambda text, *_: said.append(str(text)))
    monkeypatch.setattr(logger, 'log', lambda _level, text, *_: said.append(str(text)))
    return said


def half(height: int = 64, width: int = 128) -> np.ndarray:
    """The right half of a frame is the object, cut at a border of patches."""
    mask = np.zeros((height, width), np.uint8)
    mask[:, width // 2 :] = 1
    return mask


def test_a_still_video_of_half_a_frame_is_exact(tmp_path: Path) -> None:
    frame = texture(64, 128, 0)
    root = write_davis(tmp_path, {'still': ([frame] * 5, [half()] * 5)})
    video = read_davis(root, 'val', 'root')[0]
    preset = chosen_preset('dino', 64)
    preset = replace(preset, propagation=replace(preset.propagation, top_k=1))
    found = [half(), *propagated(Pieces().eval(), video.frames, half(), preset)]
    scores = score_video([half()] * 5, found)
    assert (scores.regions == 1).all()
    assert (scores.boundaries == 1).all()


def test_what_moves_is_followed(tmp_path: Path) -> None:
    root = write_davis(tmp_path, {'a': moving_video(0, 6), 'b': moving_video(5, 6)})
    evaluation = VideoPropagation(str(root), short_side=64)
    evaluation.prepare()
    assert (evaluation.train_images, evaluation.val_images) == (0, 2)
    result = evaluation.run(Pieces(4).eval(), EvaluationRun(batch_size=4))
    assert result.metrics['J'] > result.metrics['J_first_mask'] + 30
    assert result.metrics['J&F'] == pytest.approx((result.metrics['J'] + result.metrics['F']) / 2)
    assert result.settings['objects'] == 2
    assert result.settings['std'] == [0.228, 0.224, 0.225]
    batches = evaluation.run(Pieces(4).eval(), EvaluationRun(batch_size=1))
    assert batches.metrics == result.metrics


def test_patches_that_do_not_fit_are_said(tmp_path: Path, warnings: list[str]) -> None:
    root = write_davis(tmp_path, {'a': moving_video(0, 3)})
    evaluation = VideoPropagation(str(root), short_side=64)
    evaluation.prepare()
    result = evaluation.run(Pieces(14).eval(), EvaluationRun())
    assert result.settings['size_of_first_video'] == [56, 56]
    assert result.settings['size_deviates']
    assert any('not whole patches of 14' in text for text in warnings)


def test_short_and_empty_videos_are_left_out(tmp_path: Path, warnings: list[str]) -> None:
    frames, masks = moving_video(0, 4)
    empty = [np.zeros_like(mask) for mask in masks]
    videos = {
        'one-frame': (frames[:1], masks[:1]),
        'empty': (frames, empty),
        'later': (frames, [masks[0] * 0, *masks[1:]]),  # its object appears later
        'good': (frames, masks),
    }
    kept = read_davis(write_davis(tmp_path / 'some', videos), 'val', 'root')
    assert [video.name for video in kept] == ['good']
    assert any('one-frame is left out: of 1 frames' in text for text in warnings)
    assert any('empty is left out: no object in 00000.png' in text for text in warnings)
    root = write_davis(tmp_path / 'none', {'one-frame': videos['one-frame']})
    with pytest.raises(UserError, match='none of 1 videos can be measured'):
        read_davis(root, 'val', 'root')


def test_objects_that_appear_later_are_background_which_is_said(
    tmp_path: Path, warnings: list[str]
) -> None:
    frames, masks = moving_video(0, 4)
    later = [masks[0], *(np.where(mask[:, ::-1] > 0, 2, mask) for mask in masks[1:])]
    root = write_davis(tmp_path, {'a': (frames, later), 'b': (frames, masks)})
    later[3][0, :2] = 7, 255  # void is no object
    save(root / 'Annotations/480p/a/00003.png', later[3])
    evaluation = VideoPropagation(str(root), short_side=64)
    evaluation.prepare()
    said = [text for text in warnings if 'appear after' in text]
    assert said == [
        'evaluation.data_root: a: objects 2, 7 appear after the first frame and count as '
        'background.'
    ]
    assert evaluation.run(Pieces().eval(), EvaluationRun()).settings['objects'] == 2


def test_other_layouts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'looked for .*ImageSets/2017/val.txt'):
        read_davis(tmp_path, 'val', 'evaluation.data_root')
    frames, masks = moving_video(0, 3)
    root = write_davis(tmp_path, {'a': (frames, masks)})
    (root / 'ImageSets/2017/more.txt').write_text('a\nb\n')
    with pytest.raises(UserError, match=r'no frame of b \(looked for .*JPEGImages/480p/b'):
        read_davis(root, 'more', 'root')
    (root / 'ImageSets/2017/nothing.txt').write_text('\n')
    with pytest.raises(UserError, match='list of videos is empty'):
        read_davis(root, 'nothing', 'root')
    save(root / 'Annotations/480p/a/00001.png', masks[1][:32], palette=True)
    with pytest.raises(UserError, match='96 x 32 pixels, but its frame'):
        read_davis(root, 'val', 'root')
    frame = root / 'JPEGImages/480p/a/00001.jpg'
    whole = frame.read_bytes()
    frame.write_bytes(b'damaged')
    with pytest.raises(UserError, match=r'00001\.jpg: a broken image'):
        read_davis(root, 'val', 'root')
    frame.write_bytes(whole)
    (root / 'Annotations/480p/a/00001.png').unlink()
    with pytest.raises(UserError, match='1 of 3 frames of a have no label map'):
        read_davis(root, 'val', 'root')
    save(root / 'Annotations/480p/a/00001.png', masks[1], palette=True)
    save(root / 'Annotations/480p/a/00000.png', frames[0])
    with pytest.raises(UserError, match='not a label map'):
        read_davis(root, 'val', 'root')


def test_settings_out_of_range() -> None:
    with pytest.raises(UserError, match='give one of dino, dinov3-s, dinov3-m, dinov3-l'):
        VideoPropagation('x', preset='dinov3')
    with pytest.raises(UserError, match='short_side=0'):
        VideoPropagation('x', short_side=0)


def test_frames_that_leave_no_patch(tmp_path: Path) -> None:
    root = write_davis(tmp_path, {'a': moving_video(0, 3)})
    evaluation = VideoPropagation(str(root), short_side=16)
    evaluation.prepare()
    with pytest.raises(UserError, match='leave no patch of 8'):
        evaluation.run(Pieces().eval(), EvaluationRun())
