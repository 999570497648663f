"""Hold a written graph against the model that it came from, on images."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.structures import InstanceData
from numpy.typing import NDArray

from moca.errors import UserError
from moca.export.detector import DetectorGraph
from moca.export.graphs import (
    BackboneGraph,
    DepthGraph,
    Graph,
    QueriedDetectorGraph,
)
from moca.export.runtime import paste

SAME_PIXELS = 0.999
"""Share of pixels whose class has to be the same [choice]: others lie between two classes."""
SAME_BOXES = 1e-3
"""How far a side of a box may move [choice]: this share of the image's longer side."""
SAME_VALUES = 1e-3
"""How far features, depth and logits may differ [choice], over the largest of them."""

Arrays = dict[str, NDArray[Any]]


def runner(path: Path, to: str) -> Callable[[Mapping[str, NDArray[Any]]], Arrays]:
    """What runs a written graph: onnxruntime on the CPU, or torch."""
    if to == 'onnx':
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
        names = [output.name for output in session.get_outputs()]
        return lambda inputs: dict(zip(names, session.run(names, dict(inputs)), strict=True))
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'The given buffer is not writable')  # nor to be written
        module = torch.export.load(str(path)).module()

    def run(inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        found = module(*map(torch.from_numpy, inputs.values()))
        found = found if isinstance(found, tuple | list) else (found,)
        return {str(n): value.detach().numpy() for n, value in enumerate(found)}

    return run


def fitted(image: NDArray[np.uint8], graph: Graph) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """An image at the size of a graph, ``[1, 3, H, W]``, and its own height and width there.

    Detectors get it in its shape, in the upper left corner; others get it stretched.

    Args:
        image: RGB ``[H, W, 3]``.
        graph: For whose size.
    """
    height, width = graph.size
    if isinstance(graph, DetectorGraph):
        scale = min(height / image.shape[0], width / image.shape[1])
        extent = (
            max(round(image.shape[0] * scale), 1),
            max(round(image.shape[1] * scale), 1),
        )
    else:
        extent = (height, width)
    resized = cv2.resize(image, extent[::-1], interpolation=cv2.INTER_LINEAR)
    whole = np.zeros((1, 3, height, width), np.float32)
    whole[0, :, : extent[0], : extent[1]] = resized.transpose(2, 0, 1)
    return whole, extent


def generated(size: tuple[int, int]) -> NDArray[np.uint8]:
    """An image to verify by where none is given: soft stains of colors, the same every time."""
    draws = np.random.default_rng(0)
    coarse = draws.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
    noise = draws.integers(0, 20, image.shape, dtype=np.uint8)
    return cv2.add(image, noise)


def verify(
    model: Any,
    graph: Graph,
    run: Callable[[Mapping[str, NDArray[Any]]], Arrays],
    images: Iterable[tuple[str, NDArray[np.uint8]]],
) -> list[str]:
    """Compare what runs a graph with its model on images; returns a line of differences for each.

    The model predicts by its own `predict`, as in a test.

    Args:
        model: mmseg's, mmdet's or the backbone, in eval mode on the CPU.
        graph: Made of it.
        run: Of `runner`.
        images: Names and images, RGB ``[H, W, 3]``.

    Raises:
        UserError: They differ by more than rounding.
    """
    lines = []
    for name, image in images:
        array, extent = fitted(image, graph)
        inputs = {'image': array}
        if isinstance(graph, DetectorGraph):
            inputs['extent'] = np.array(extent)
        found = dict(zip(graph.outputs, run(inputs).values(), strict=True))
        with torch.no_grad():
            good, text = _compare(model, graph, torch.from_numpy(array), extent, found)
        if not good:
            raise UserError(f'The graph and the model differ on {name}: {text}.')
        lines.append(f'{name}: {text}')
    return lines


def _compare(
    model: Any, graph: Graph, array: torch.Tensor, extent: tuple[int, int], found: Arrays
) -> tuple[bool, str]:
    x = (graph.normalized(array)).to(next(model.parameters()).device)
    x = x[:, :, : extent[0], : extent[1]]
    if isinstance(graph, DetectorGraph):
        return _compare_boxes(_detections(model, graph, x, extent), found, max(extent))
    if isinstance(graph, BackboneGraph | QueriedDetectorGraph | DepthGraph):
        return _compare_values(_values(model, graph, x), found)
    if graph.outputs == ('logits',):
        truth = (
            model._forward(x)
            if getattr(graph, 'merges', False)
            else model.encode_decode(
                x, [dict(img_shape=graph.size, ori_shape=graph.size, pad_shape=graph.size)]
            )
        )
        return _compare_values((truth,), found)
    truth = model.predict(x, [_sample(model, extent)])[0].pred_sem_seg.data
    same = float((truth.cpu().numpy() == found['labels']).mean())
    return same >= SAME_PIXELS, f'{100 * same:.3f} % of pixels have the same class'


def _values(model: Any, graph: Graph, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    if isinstance(graph, DepthGraph):
        return (model.inference(x)[:, 0],)
    if isinstance(graph, QueriedDetectorGraph):
        predictions = model.network(x)
        return predictions.masks[-1], predictions.classes[-1]
    if model.window_size is not None:
        return (model(x)[-1],)
    tokens = model.tokens(x)
    return (tokens.patches, tokens.prefix)[: len(graph.outputs)]


def _compare_values(truth: Iterable[torch.Tensor], found: Arrays) -> tuple[bool, str]:
    parts, good = [], True
    for (name, values), wanted in zip(found.items(), truth, strict=True):
        expected = wanted.cpu().numpy()
        largest = max(float(np.abs(expected).max()), 1e-12)
        difference = float(np.abs(expected - values).max()) / largest
        good &= difference <= SAME_VALUES
        parts.append(f'{name} differ by {difference:.1e} of the largest value')
    return good, ', '.join(parts)


def _sample(model: Any, extent: tuple[int, int]) -> Any:
    from mmdet.structures import DetDataSample
    from mmseg.structures import SegDataSample

    about = dict(ori_shape=extent, img_shape=extent, pad_shape=extent, scale_factor=(1.0, 1.0))
    kind = DetDataSample if hasattr(model, 'roi_head') else SegDataSample
    return kind(metainfo=dict(about, batch_input_shape=extent))


def _detections(
    model: Any, graph: DetectorGraph, x: torch.Tensor, extent: tuple[int, int]
) -> InstanceData:
    below, right = graph.size[0] - extent[0], graph.size[1] - extent[1]
    x = torch.nn.functional.pad(x, (0, right, 0, below))  # as mmdet's preprocessor
    sample = _sample(model, extent)
    sample.set_metainfo(dict(pad_shape=graph.size, batch_input_shape=graph.size))
    return model.predict(x, [sample], rescale=False)[0].pred_instances.cpu()


def _compare_boxes(truth: InstanceData, found: Arrays, longer: int) -> tuple[bool, str]:
    """Pair each box of mmdet with the exported one of its class that is nearest."""
    count = int((found['labels'] >= 0).sum())
    moved, scores, same = 0.0, 0.0, 1.0
    for place, (box, score, label) in enumerate(
        zip(truth.bboxes.numpy(), truth.scores.numpy(), truth.labels.numpy(), strict=True)
    ):
        of_class = np.flatnonzero(found['labels'] == label)
        if not len(of_class):
            return False, f'{len(truth.scores)} boxes and {count}, none of class {label}'
        distances = np.abs(found['boxes'][of_class] - box).max(1)
        near = of_class[int(distances.argmin())]
        moved = max(moved, float(distances.min()))
        scores = max(scores, float(abs(found['scores'][near] - score)))
        if 'masks' in found:
            mask = truth.masks[place].numpy()
            pasted = paste(found['masks'][near], found['boxes'][near], *mask.shape)
            same = min(same, float(((pasted >= 0.5) == mask).mean()))
    if not count and not len(truth.scores):
        return (
            True,
            'no box in either, so that boxes were NOT compared: --verify IMAGES with objects',
        )
    good = count == len(truth.scores) and moved <= SAME_BOXES * longer
    return good and scores <= SAME_VALUES and same >= SAME_PIXELS, (
        f'{len(truth.scores)} boxes and {count}, of which sides differ by {moved:.1e} pixels and '
        f'scores by {scores:.1e} at most'
        + (f', masks agree on {100 * same:.3f} % of pixels or more' if 'masks' in found else '')
    )
