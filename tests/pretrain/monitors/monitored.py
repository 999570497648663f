"""One look of the k-NN monitor at a tiny model, in one process or several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
from PIL import Image

from moca.pretrain.monitors.knn import KNNMonitor
from tests.images.photographs import photograph
from tests.pretrain.tiny import tiny_moca


def write_classes(folder: Path, per_class: int, seed: int = 0, classes: int = 3) -> Path:
    """Write 48-pixel PNGs whose classes differ by their brightness, a little."""
    for label in range(classes):
        (folder / f'class{label}').mkdir(parents=True)
        for number in range(per_class):
            image = photograph(48, 48, 1000 * seed + 100 * label + number) // 2 + 12 * label
            Image.fromarray(image).save(folder / f'class{label}' / f'{number}.png')
    return folder


class Log:
    """What the hook uses of a Runner."""

    def __init__(self, model: Any) -> None:
        self.model, self.iter, self.timestamp, self.optim_wrapper = model, 0, 'now', None
        self.visualizer = self.logger = self
        self.train_dataloader = None
        self.scalars: dict[str, float] = {}

    def add_scalars(self, scalars: dict[str, float], **_: Any) -> None:
        self.scalars = scalars

    def info(self, line: str) -> None:
        pass


def measure(labeled: str, queries: bool, distributed: bool = False, **fields: Any) -> Any:
    model: Any = tiny_moca(img_size=48)
    model.train()
    if distributed:
        model = MMDistributedDataParallel(model)
    other = f'{labeled}/val' if queries else None
    monitor = KNNMonitor(f'{labeled}/train', other, k=(1, 5, 10), batch_size=4, **fields)
    log = Log(model)
    monitor.before_train(log)
    return log.scalars


def process(rank: int, world_size: int, labeled: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=world_size
    )
    torch.save(measure(labeled, True, distributed=True), f'{folder}/rank{rank}.pth')
    dist.destroy_process_group()
