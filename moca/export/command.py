"""From a trained model to a verified file: which graph, of which size, with which notes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.models.detectors import TwoStageDetector
from mmseg.models.segmentors import EncoderDecoder
from numpy.typing import NDArray

from moca.backbone import PlainViT
from moca.data.config_datasets import leaf_datasets
from moca.depth.estimator import CenteredDepthEstimator
from moca.detection.mask_transformer import MaskTransformerDetector
from moca.errors import UserError
from moca.export.detector import DetectorGraph
from moca.export.graphs import (
    BackboneGraph,
    DepthGraph,
    Graph,
    QueriedDetectorGraph,
    QueriedSegmentorGraph,
    SegmentorGraph,
)
from moca.export.verifying import generated, runner, verify
from moca.export.writing import FORMATS, exported, save_onnx, save_torch
from moca.images.files import some_images
from moca.images.image_io import read_pixels
from moca.segmentation.mask_transformer import MaskTransformerSegmentor

NO_CHECK = 'none'


def graph_of(model: Any, size: tuple[int, int], logits: bool = False) -> Graph:
    """The module that becomes the graph of a model.

    Args:
        model: A segmentor, estimator of depth, detector, or `PlainViT`.
        size: Height and width of images in pixels.
        logits: Of a segmentor: of one window, in the place of labels.

    Raises:
        UserError: Models of its kind are not exported, or not with these options.
    """
    if min(size) < 1:
        raise UserError(f'{size[0]} x {size[1]}: give height and width of images in pixels.')
    output = 'logits' if logits else 'labels'
    if isinstance(model, MaskTransformerSegmentor):
        return QueriedSegmentorGraph(model, size, output)
    if isinstance(model, CenteredDepthEstimator):
        return _without_logits(DepthGraph, model, size, logits)
    if isinstance(model, EncoderDecoder):
        return SegmentorGraph(model, size, output)
    if isinstance(model, MaskTransformerDetector):
        return _without_logits(QueriedDetectorGraph, model, size, logits)
    if isinstance(model, TwoStageDetector):
        return _without_logits(DetectorGraph, model, size, logits)
    if isinstance(model, PlainViT):
        return _without_logits(BackboneGraph, model, size, logits)
    raise UserError(
        f'{type(model).__name__}: only segmentors, depth, detectors of two stages and mask '
        'transformers are exported. --backbone exports the ViT alone.'
    )


def _without_logits(graph: type[Graph], model: Any, size: tuple[int, int], logits: bool) -> Graph:
    if logits:
        raise UserError(
            f'--logits: of segmentors, and this is {type(model).__name__}. Leave it out.'
        )
    return graph(model, size)


def default_size(model: Any, cfg: Mapping[str, Any] | None) -> tuple[int, int]:
    """Height and width of images where none are given: a window, else what tests resize to.

    Raises:
        UserError: Images are of any size.
    """
    test = dict(getattr(model, 'test_cfg', None) or {})
    if test.get('mode') == 'slide':
        height, width = test['crop_size']
        return int(height), int(width)
    if isinstance(getattr(model, 'size', None), int):
        return model.size, model.size
    if isinstance(model, PlainViT):
        rows, columns = model.grid
        return rows * model.patch_size, columns * model.patch_size
    found = _scale(cfg)
    if found is None:
        raise UserError(
            'Images of this model are of any size: give height and width (--size; --shape of '
            'get_flops).'
        )
    divisor = int(getattr(model.data_preprocessor, 'pad_size_divisor', 1) or 1)
    height, width = (-(-side // divisor) * divisor for side in found)
    return height, width


def _scale(cfg: Mapping[str, Any] | None) -> tuple[int, int] | None:
    loader = (cfg or {}).get('test_dataloader')
    for step in leaf_datasets(loader['dataset'])[0].get('pipeline', ()) if loader else ():
        scale = step.get('scale')
        if str(step['type']).endswith('Resize') and isinstance(scale, Sequence):
            return int(scale[1]), int(scale[0])
    return None


def notes_of(graph: Graph, classes: Sequence[str]) -> dict[str, Any]:
    """What a reader of a file has to know; see docs/export.md."""
    model = graph.model
    notes: dict[str, Any] = dict(
        model=type(model).__name__,
        size=list(graph.size),
        classes=list(classes),
        input='image: float32 RGB of 0 to 255, normalized inside',
        batch='any' if graph.dynamic else 1,
        output=graph.outputs[0],
        outputs=list(graph.outputs),
    )
    if graph.outputs == ('logits',):
        test = dict(getattr(model, 'test_cfg', None) or {})
        crop, stride = test.get('crop_size') or graph.size, test.get('stride') or graph.size
        notes.update(
            window=list(graph.size),
            # windows of another size overlap by the same share
            stride=[
                max(1, min(side, step * side // whole))
                for step, side, whole in zip(stride, graph.size, crop, strict=True)
            ],
            align_corners=bool(model.align_corners),
            threshold=getattr(getattr(model, 'decode_head', None), 'threshold', None),
        )
    return notes


def write(
    model: Any,
    graph: Graph,
    out: Path,
    to: str,
    classes: Sequence[str] = (),
    images: str | None = None,
    count: int = 4,
    force: bool = False,
) -> list[str]:
    """Export, verify, and put the files in their place; returns what to say.

    Args:
        model: In eval mode on the CPU.
        graph: Of `graph_of`.
        out: The file, which ends as its format does.
        to: Of `FORMATS`.
        classes: Names, for the notes.
        images: To verify by: an image or a folder; None for a generated one; ``none`` for no check.
        count: Of a folder's images.
        force: Write over a file that exists.

    Raises:
        UserError: The file has another ending, exists or cannot be written, the model cannot be
            exported, or the graph is not the model; then no file is written.
    """
    check_out(out, to, force)
    shown = [] if images == NO_CHECK else _images(images, count, graph.size)
    program = exported(graph)
    notes = notes_of(graph, classes)
    lines = []
    with tempfile.TemporaryDirectory(prefix=f'.{out.stem}-', dir=out.parent) as folder:
        path = Path(folder, out.name)
        if to == 'onnx':
            files = save_onnx(program, graph, path, notes)
        else:
            files = save_torch(program, path, notes)
        if shown:
            lines = verify(model, graph, runner(path, to), shown)
        for file in files:  # the weights first: a graph names them
            os.replace(file, out.parent / file.name)
    megabytes = sum((out.parent / file.name).stat().st_size for file in files) / 1e6
    height, width = graph.size
    batch = 'any number' if graph.dynamic else 'one'
    return [
        *(f'Verified on {line}.' for line in lines),
        *(['Not verified (--verify none).'] if not shown else []),
        f'Written: {out}, {megabytes:.1f} MB, {", ".join(graph.outputs)} of {batch} of images '
        f'{height} x {width} (height x width).',
    ]


def check_out(out: Path, to: str, force: bool = False) -> None:
    """Make the folder of a file, and check that the file can be written there.

    Raises:
        UserError: It cannot, exists (and no ``force``), or ends otherwise than its format does.
    """
    if out.suffix != FORMATS[to]:
        raise UserError(f'--out {out}: files of --to {to} end in {FORMATS[to]}.')
    if out.is_dir():
        raise UserError(f'--out {out}: this is a folder. Name a file.')
    if out.exists() and not force:
        raise UserError(f'--out {out}: exists already. Give another name, or --force.')
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise UserError(
            f'--out {out}: cannot be written there ({error.strerror}). Name another folder.'
        ) from error


def _images(
    source: str | None, count: int, size: tuple[int, int]
) -> list[tuple[str, NDArray[np.uint8]]]:
    if source is None:
        return [('a generated image', generated(size))]
    path = Path(source)
    if count < 1:
        raise UserError(f'--count {count}: at least one image; --verify none for no check.')
    files = [path] if path.is_file() else some_images(path, count, '--verify')
    return [(file.name, read_pixels(file)) for file in files]
