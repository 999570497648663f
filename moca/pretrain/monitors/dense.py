"""Segmentation without training by a run's encoder, during training: in-context or patch k-NN."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import master_only
from mmengine.registry import HOOKS, TASK_UTILS

from moca.backbone import PlainViT
from moca.engine.cli import read_config
from moca.engine.hooks import set_hook
from moca.errors import UserError
from moca.evaluation.protocol import EvaluationRun
from moca.pretrain.monitors.base import (
    EncoderMonitor,
    encoder_of,
    evaluating,
    normalization_of,
    report,
)

KINDS = {
    'InContext': ('in_context', 'moca.evaluation.dense.in_context'),
    'CapiKNN': ('patch_knn', 'moca.evaluation.dense.capi_protocol'),
}
"""What can be watched: how its scores are called, and the module that registers it. (A logistic
regression takes too long.)"""


class DenseMonitor(EncoderMonitor):
    """Log how well the teacher segments labeled images without training (else the student).

    Before the first step, every ``interval`` epochs and after the last one, scores such as
    ``in_context/mIoU_present`` go, in percent, to the log, the console and every visualization
    backend. The first process alone measures, in fp32; images are normalized as the training's
    views. Take few images: each is encoded once or twice without gradients.

    The run does not notice: no random number is drawn, no gradient made, no state changed.

    Args:
        evaluation: Config of an `InContext` or a `CapiKNN`.
        interval: In epochs; 10.
        seed: Of the bank's views and patches, the same at every look.
        batch_size: Images a forward pass; 32.
        num_workers: Of reading.

    Raises:
        UserError: It is another evaluation, a field is out of its range, or a file is wrong.
    """

    kind = ''

    def __init__(
        self,
        evaluation: dict[str, Any],
        *,
        interval: int = 10,
        seed: int = 0,
        batch_size: int = 32,
        num_workers: int = 0,
    ) -> None:
        super().__init__(interval)
        if evaluation.get('type') != self.kind:
            raise UserError(
                f'{type(self).__name__}.evaluation.type={evaluation.get("type")!r}: give '
                f'{self.kind}.'
            )
        if batch_size < 1:
            raise UserError(f'{type(self).__name__}.batch_size is {batch_size!r}; give 1 or more.')
        self.name, module = KINDS[self.kind]
        import_module('moca.transfer')  # mmseg's data sets, which take seconds to import
        import_module(module)
        self.evaluation = TASK_UTILS.build(evaluation)
        self.evaluation.keep = 0  # predictions, which would be in nobody's work dir
        self.evaluation.prepare()
        self.seed, self.batch_size, self.num_workers = seed, batch_size, num_workers

    @master_only
    def look(self, runner: Any, epoch: int) -> None:
        """Measure and log."""
        start = time.perf_counter()
        branch, encoder = encoder_of(runner.model)
        run = EvaluationRun(
            seed=self.seed,
            device=next(encoder.parameters()).device,
            num_workers=self.num_workers,
            batch_size=self.batch_size,
        )
        with evaluating(encoder), _normalized_as(encoder, runner):
            metrics = self.evaluation.run(encoder, run).metrics
        scores = {f'{self.name}/{name}': value for name, value in metrics.items()}
        about = f'{self.evaluation.train_images} + {self.evaluation.val_images} images in '
        about += f'{time.perf_counter() - start:.1f} s'
        report(runner, scores, epoch, f'Segmentation without training by the {branch}', about)


@HOOKS.register_module()
class InContextMonitor(DenseMonitor):
    """In-context segmentation during training; see `DenseMonitor`."""

    kind = 'InContext'


@HOOKS.register_module()
class PatchKNNMonitor(DenseMonitor):
    """CAPI's k-NN on patches during training; see `DenseMonitor`."""

    kind = 'CapiKNN'


MONITORS = {monitor.kind: monitor for monitor in (InContextMonitor, PatchKNNMonitor)}


@contextmanager
def _normalized_as(encoder: PlainViT, runner: Any) -> Iterator[None]:
    """Let an encoder be given images as it is trained on."""
    before = encoder.mean, encoder.std
    statistics: Any = normalization_of(runner)
    encoder.mean, encoder.std = statistics
    try:
        yield
    finally:
        encoder.mean, encoder.std = before


def add_dense_hooks(
    cfg: Config, configs: Sequence[str | Path], data_root: str | None = None
) -> None:
    """Add an `InContextMonitor` or `PatchKNNMonitor` for each config of such an evaluation.

    Args:
        cfg: Of a pre-training run, which is changed.
        configs: Such as ``configs/dense/in-context_driving.py``.
        data_root: Folder of their data; None as they say.

    Raises:
        UserError: One is no config of an evaluation that can be watched, or the folder is missing.
    """
    from moca.transfer.overrides import set_data_root

    for path in configs:
        watched = read_config(path)
        kind = (watched.get('evaluation') or {}).get('type')
        if kind not in KINDS:
            raise UserError(
                f'--dense {path}: its evaluation is {kind}. Give a config of one of '
                f'{", ".join(KINDS)}, such as configs/dense/in-context_driving.py.'
            )
        if data_root:
            set_data_root(watched, data_root)
        loading = watched.get('loading') or {}
        fields = {key: loading[key] for key in ('batch_size', 'num_workers') if key in loading}
        evaluation = watched.evaluation.to_dict()
        set_hook(cfg, KINDS[kind][0], type=MONITORS[kind].__name__, evaluation=evaluation, **fields)
