"""mmseg's and mmdet's inferencers on configs whose images are read by this suite.

`MMSegInferencer` and `DetInferencer` look for steps of test pipelines by the names of their own
classes, and draw with visualizers of their own. Configs here name `LoadReadableImage`,
`LoadCheckedAnnotations` and mmengine's visualizer. `install` has both inferencers know them;
configs of others go on as before.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from mmdet.apis import DetInferencer
from mmengine.dataset import Compose
from mmseg.apis import MMSegInferencer

from moca.data.config_datasets import leaf_datasets
from moca.transfer.protocol import read_by_one_reader

VISUALIZERS = {'mmseg': 'mmseg.SegLocalVisualizer', 'mmdet': 'CarefulDetVisualizer'}
"""What draws predictions of segmentors and of detectors."""
_MARK = '_knows_this_suite'


def install() -> None:
    """Have both inferencers take configs of this suite; doing it again changes nothing."""
    _extend(MMSegInferencer, VISUALIZERS['mmseg'])
    _extend(DetInferencer, VISUALIZERS['mmdet'])


def without_labels(cfg: Mapping[str, Any], split: str = 'test') -> list[dict[str, Any]]:
    """Steps of a split's pipeline that take an image alone: a file, or an array ``[H, W, 3]``.

    Args:
        cfg: of a downstream protocol.
        split: ``test`` or ``val``.
    """
    steps = leaf_datasets(cfg[f'{split}_dataloader']['dataset'])[0]['pipeline']
    taken = [dict(step) for step in steps if not loads_labels(step)]
    read_by_one_reader(taken)
    if 'meta_keys' in taken[-1]:  # an image by itself has no number
        taken[-1]['meta_keys'] = tuple(k for k in taken[-1]['meta_keys'] if k != 'img_id')
    return taken


def loads_labels(step: Mapping[str, Any]) -> bool:
    """Whether a step of a pipeline reads label maps, boxes, segments or depth."""
    return str(step['type']).endswith(('Annotations', 'LoadPanopticMasks', 'DepthAnnotation'))


def local_visualizer(cfg: Any, name: str) -> dict[str, Any]:
    """The config's visualizer where it can draw predictions, else that of a library.

    Args:
        cfg: whose ``visualizer`` may be missing, or mmengine's, which draws no classes.
        name: of the library's class.
    """
    given = dict(cfg.get('visualizer') or {})
    if str(given.get('type', 'Visualizer')).rpartition('.')[2] == 'Visualizer':
        given['type'] = name
    return given


def _extend(inferencer: Any, visualizer: str) -> None:
    if getattr(inferencer, _MARK, False):
        return
    pipeline, drawing = inferencer._init_pipeline, inferencer._init_visualizer

    @functools.wraps(pipeline)
    def init_pipeline(self: Any, cfg: Any) -> Any:
        return Compose(without_labels(cfg)) if cfg.get('protocol') else pipeline(self, cfg)

    @functools.wraps(drawing)
    def init_visualizer(self: Any, cfg: Any) -> Any:
        cfg.visualizer = local_visualizer(cfg, visualizer)
        return drawing(self, cfg)

    inferencer._init_pipeline, inferencer._init_visualizer = init_pipeline, init_visualizer
    setattr(inferencer, _MARK, True)
