"""Exported graphs against the models that they came from, by onnxruntime and by torch."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from moca.backbone import PlainViT
from moca.errors import UserError
from moca.export import writing
from moca.export.command import check_out, default_size, graph_of, notes_of, write
from moca.export.runtime import SlidingWindow, bilinear, paste
from moca.export.verifying import generated, runner, verify
from tests.backbone.helpers import randomize
from tests.configs.helpers import REPOSITORY, TINY_ARCH, shrink

pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')

SLIDING = 'segmentation/cityscapes/linear.py'
DETECTOR = 'detection/small-coco/mask-rcnn_sfp.py'


def built(name: str, **arch: Any) -> tuple[Any, Config]:
    """A model at toy size with random weights, and its config."""
    cfg = Config.fromfile(REPOSITORY / 'configs' / name)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        shrink(cfg, 16, dict(TINY_ARCH, **arch))
        torch.manual_seed(0)
        model = MODELS.build(cfg.model)
    randomize(model)
    return model.eval(), cfg


def spread(model: Any) -> Any:
    """Have a segmentor's classes differ from pixel to pixel."""
    torch.nn.init.normal_(model.decode_head.conv_seg.weight, std=1.0)
    return model


WHOLE = [
    ('segmentation/driving/linear-bn.py', None),
    ('segmentation/cityscapes/mask-finetune.py', None),
    ('segmentation/cityscapes/eomt.py', (64, 96)),
    ('depth/nyu_linear.py', (44, 60)),
    ('detection/coco/eomt_panoptic.py', None),
    (DETECTOR, (64, 96)),
    ('detection/coco/cascade-mask-rcnn_1x.py', (64, 96)),
]


def with_findings(model: Any) -> Any:
    """Have a detector of random weights be sure of some classes; others change nothing."""
    if hasattr(model, 'roi_head'):
        heads = model.roi_head.bbox_head
        for head in heads if isinstance(heads, torch.nn.ModuleList) else [heads]:
            torch.nn.init.normal_(head.fc_cls.weight, std=10.0)
        model.roi_head.test_cfg.score_thr = 0.01
    return model


@pytest.mark.parametrize(('name', 'size'), WHOLE)
def test_what_becomes_a_graph_is_the_model(name: str, size: tuple[int, int] | None) -> None:
    model, cfg = built(name)
    graph = graph_of(with_findings(model), size or default_size(model, cfg))

    def run(inputs: Any) -> dict[str, Any]:
        with torch.no_grad():
            found = graph(*map(torch.from_numpy, inputs.values()))
        found = found if isinstance(found, tuple) else (found,)
        return dict(zip(graph.outputs, (value.numpy() for value in found), strict=True))

    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    (line,) = verify(model, graph, run, [('noise', image)])
    if hasattr(model, 'roi_head'):
        found = re.match(r'noise: (\d+) boxes and (\d+)', line)
        assert found
        assert int(found[1]) == int(found[2]) > 5


@pytest.mark.slow  # a dozen seconds each
@pytest.mark.parametrize(('name', 'size'), WHOLE)
def test_files_of_onnx(name: str, size: tuple[int, int] | None, tmp_path: Path) -> None:
    model, cfg = built(name)
    size = size or default_size(model, cfg)
    graph = graph_of(with_findings(model), size)
    lines = write(model, graph, tmp_path / 'a.onnx', 'onnx', ('a', 'b'))
    assert 'Verified on a generated image' in lines[0]
    assert [path.name for path in tmp_path.iterdir()] == ['a.onnx']
    if not graph.dynamic:
        return
    run = runner(tmp_path / 'a.onnx', 'onnx')
    three = np.random.default_rng(0).uniform(0, 255, (3, 3, *size)).astype(np.float32)
    for whole, first in zip(
        run({'image': three}).values(), run({'image': three[:1]}).values(), strict=True
    ):
        assert whole.shape[0] == 3
        assert np.allclose(whole[:1], first, atol=1e-4)


def test_the_backbone_with_its_weights_beside_the_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With rotary positions and registers, at another size than its own."""
    monkeypatch.setattr(writing, 'LARGEST', 1000)
    arch = dict(TINY_ARCH, depth=2, rope=dict(base=100.0), reg_tokens=2)
    model = PlainViT(arch, img_size=32).eval()
    randomize(model)
    write(model, graph_of(model, (48, 64)), tmp_path / 'a.onnx', 'onnx')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.onnx', 'a.onnx.data']
    run = runner(tmp_path / 'a.onnx', 'onnx')
    image = torch.rand(2, 3, 48, 64) * 255
    mean, std = (255 * torch.tensor(part)[:, None, None] for part in (model.mean, model.std))
    with torch.no_grad():
        tokens = model.tokens((image - mean) / std)
    found = run({'image': image.numpy()})
    assert found['patches'].shape == (2, 12, 32)
    assert np.allclose(found['patches'], tokens.patches, atol=1e-4)
    assert np.allclose(found['prefix'], tokens.prefix, atol=1e-4)


@pytest.fixture(scope='module')
def sliding() -> Any:
    return spread(built(SLIDING)[0])


def test_windows_slide_outside_of_the_graph(sliding: Any, tmp_path: Path) -> None:
    window = tuple(sliding.test_cfg.crop_size)
    write(sliding, graph_of(sliding, window, logits=True), tmp_path / 'w.onnx', 'onnx')
    segment = SlidingWindow(tmp_path / 'w.onnx', windows=3)
    for height, width in ((64, 100), (window[0] - 8, window[1] + 5)):  # one is smaller
        image = generated((height, width))
        padded = np.zeros((max(height, window[0]), max(width, window[1]), 3), np.float32)
        padded[:height, :width] = image
        planes = torch.from_numpy(padded).permute(2, 0, 1)[None]
        x = graph_of(sliding, window).normalized(planes)
        with torch.no_grad():
            truth = sliding.slide_inference(x, [dict(img_shape=x.shape[2:])])[0]
        truth = truth[:, :height, :width]
        assert np.allclose(segment.scores(image), truth, atol=1e-3 * float(truth.abs().max()))
        labels = segment(image)
        assert (labels == truth.argmax(0).numpy()).mean() >= 0.999
        assert len(np.unique(labels)) > 1


@pytest.mark.parametrize('aligned', [False, True])
def test_resizing_in_numpy(aligned: bool) -> None:
    for before, after in ((5, 17), (6, 3), (1, 4)):
        values = torch.rand(1, 1, before)
        expected = torch.nn.functional.interpolate(
            values, after, mode='linear', align_corners=aligned
        )[0, 0]
        found = bilinear(before, after, aligned) @ values[0, 0].numpy()
        assert np.allclose(found, expected, atol=1e-6)


def test_masks_are_pasted_as_by_mmdet() -> None:
    from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask

    mask, box = torch.rand(1, 1, 7, 7), torch.tensor([[3.2, 2.7, 17.9, 11.1]])
    expected = _do_paste_mask(mask, box, 16, 24, skip_empty=False)[0][0]
    found = paste(mask[0, 0].numpy(), box[0].numpy(), 16, 24)
    assert np.allclose(found, expected, atol=1e-5)


def test_a_graph_of_other_weights_is_refused(sliding: Any, tmp_path: Path) -> None:
    graph = graph_of(sliding, (64, 80))
    lines = write(sliding, graph, tmp_path / 'a.pt2', 'torch-export')
    assert lines[0].endswith('100.000 % of pixels have the same class.')
    assert [path.name for path in tmp_path.iterdir()] == ['a.pt2']
    other = copy.deepcopy(sliding)
    other.decode_head.conv_seg.weight.data.neg_()
    run = runner(tmp_path / 'a.pt2', 'torch-export')
    with pytest.raises(UserError, match=r'differ on a generated image: \d'):
        verify(other, graph, run, [('a generated image', generated((64, 80)))])


class Unknown(torch.nn.Module):
    """A graph with an operator that ONNX lacks."""

    outputs, dynamic = ('values',), False

    def __init__(self) -> None:
        super().__init__()
        self.model = torch.nn.Identity()

    def inputs(self) -> tuple[torch.Tensor]:
        return (torch.eye(3),)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.linalg.eigvalsh(image)


def test_what_onnx_lacks_is_named(tmp_path: Path) -> None:
    graph: Any = Unknown()
    with pytest.raises(UserError, match=r'ONNX has no counterpart of aten\._linalg_eigh'):
        writing.save_onnx(writing.exported(graph), graph, tmp_path / 'a.onnx', {})


def test_refusals(sliding: Any, tmp_path: Path) -> None:
    window = tuple(sliding.test_cfg.crop_size)
    model = PlainViT(dict(TINY_ARCH, depth=1), img_size=32).eval()
    whole, out, to = graph_of(model, (32, 32)), tmp_path / 'a.pt2', 'torch-export'
    beside, none = tmp_path / 'file', tmp_path / 'none'
    beside.touch()
    none.mkdir()
    (tmp_path / 'folder.onnx').mkdir()
    for wrong, call in (
        ('give height and width', lambda: graph_of(model, (0, 32))),
        ('--logits: of segmentors', lambda: graph_of(model, (32, 32), logits=True)),
        ('logits are of one window', lambda: graph_of(sliding, (4 * window[0],) * 2, True)),
        ('Identity: only segmentors', lambda: graph_of(torch.nn.Identity(), (32, 32))),
        (r'end in \.onnx', lambda: check_out(tmp_path / 'a.pt', 'onnx')),
        ('this is a folder', lambda: check_out(tmp_path / 'folder.onnx', 'onnx')),
        (r'file/a\.onnx: cannot be written there', lambda: check_out(beside / 'a.onnx', 'onnx')),
        ('--verify .*none: no image', lambda: write(model, whole, out, to, images=str(none))),
    ):
        with pytest.raises(UserError, match=wrong):
            call()
    notes = notes_of(graph_of(sliding, window, True), ['a'])
    assert notes['window'] == list(window)
    assert json.loads(json.dumps(notes)) == notes
