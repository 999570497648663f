"""A training step of each protocol at toy size, on images that several processes share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from mmengine.config import Config
from torch import Tensor

from moca.engine.seeding import seed_all

EACH = 2
"""Images of a process: heads that pool an image to one value need two for their batch norm."""


@dataclass(frozen=True)
class Protocol:
    """A protocol whose step is taken.

    Attributes:
        config: Below ``configs``.
        data: Writes images into a folder, and returns what the config takes for ``data_root``.
        factor: That sizes in pixels are divided by.
        whole: Whether the processes' step is that of one process on all images. Otherwise it is
            the mean of what one does on the share of each, under its draws: layers of batch norm
            know the images of their process alone where gloo joins them, samplers of regions draw,
            and a loss may not be a mean over images.
    """

    config: str
    data: Callable[[Path], Path]
    factor: int = 8
    whole: bool = False

    @property
    def title(self) -> str:
        """For tables."""
        return self.config.removesuffix('.py')

    def prepare(self, folder: Path, images: int, seed: int) -> None:
        """Write the config at toy size, and samples as its pipeline makes them."""
        from mmengine.registry import DATASETS, init_default_scope

        from moca.engine.cli import read_config
        from moca.engine.distributed import replace_sync_bn
        from moca.transfer.overrides import set_data_root
        from tests.configs.helpers import REPOSITORY, shrink
        from tests.configs.image_helpers import tiny_config

        root = self.data(folder / 'data')
        path = REPOSITORY / 'configs' / self.config
        if self.config.startswith('imagenet/'):
            cfg = read_config(tiny_config(path.stem, folder))
        else:
            cfg = shrink(read_config(path), self.factor)
        set_data_root(cfg, root)
        if self.whole:
            without_draws(cfg)
        for head in ('decode_head', 'panoptic_head'):
            if 'num_queries' in cfg.model.get(head, {}):
                cfg.model[head].update(num_queries=20, num_points=400)
        replace_sync_bn(cfg)  # as tools do on a machine without a GPU
        cfg.dump(folder / 'step.py')
        init_default_scope(cfg.get('default_scope', 'mmengine'))
        data = DATASETS.build(cfg.train_dataloader.dataset)
        samples = []
        for place in range(images):
            seed_all(1000 * seed + place)
            samples.append(data[place % len(data)])
        torch.save(samples, folder / 'samples.pth')


def without_draws(cfg: Config) -> None:
    """Take away what draws anew for each process: dropped paths and values, erasing and Mixup."""

    def visit(node: Any) -> None:
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            if key in ('dropout_ratio', 'drop_path_rate', 'erasing'):
                node[key] = 0.0
            elif isinstance(value, dict | list):
                visit(value)

    visit(cfg.model)
    if 'mixup' in cfg.model:
        cfg.model.mixup = None


def _built(folder: Path) -> tuple[Any, Config]:
    from mmengine.registry import MODELS, init_default_scope

    import moca.transfer  # noqa: F401  its classes are registered

    cfg = Config.fromfile(folder / 'step.py')
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    seed_all(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    with torch.no_grad():  # what starts from zero has to move as well
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return model.train(), cfg


def _batch(folder: Path, cfg: Config, places: Sequence[int]) -> Any:
    from mmengine.registry import FUNCTIONS

    samples = torch.load(folder / 'samples.pth', weights_only=False)
    # mmengine's own, where a config names none
    collate = (cfg.train_dataloader.get('collate_fn') or {}).get('type', 'pseudo_collate')
    return FUNCTIONS.get(collate)([samples[place] for place in places])


def take_step(folder: str, seed: int, rank: int, count: int) -> dict[str, Any]:
    """A step of one of several processes, which have the samples in turn.

    Returns:
        Losses, gradients by name, and the model's buffers afterwards.
    """
    from mmengine.model import MMDistributedDataParallel
    from mmengine.optim import OptimWrapper

    model, cfg = _built(Path(folder))
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    batch = _batch(Path(folder), cfg, range(rank, EACH * count, count))
    # as `moca.engine.distributed.prepare_launcher` has it for processes without a GPU
    wrapped = MMDistributedDataParallel(model, broadcast_buffers=False)
    gradients: dict[str, Tensor] = {}
    optimizer.register_step_pre_hook(lambda *_: gradients.update(_gradients(model)))
    seed_all(seed + rank)
    logged = wrapped.train_step(batch, OptimWrapper(optimizer))
    moved = {name for name, value in model.named_parameters() if not value.equal(before[name])}
    return dict(
        losses={name: float(value) for name, value in logged.items()},
        gradients=gradients,
        buffers={name: value.clone() for name, value in model.named_buffers()},
        moved=moved,
    )


def _gradients(model: Any) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def one_process(folder: str, seed: int, count: int, whole: bool) -> dict[str, Any]:
    """What a single process makes of the same samples, at once or of share after share.

    Args:
        folder: With what `Protocol.prepare` has written.
        seed: Of the step.
        count: Of processes to be held against.
        whole: Take all samples at once.

    Returns:
        The gradients of the step, and the losses and buffers of each share.
    """
    shares: list[Sequence[int]] = [range(rank, EACH * count, count) for rank in range(count)]
    if whole:
        shares = [[place for share in shares for place in share]]
    means = _means(folder, seed, shares)
    model, cfg = _built(Path(folder))
    start = {name: value.clone() for name, value in model.named_buffers()}
    losses, buffers = [], []
    for rank, share in enumerate(shares):
        for name, value in model.named_buffers():
            value.copy_(start[name])
        with as_process(rank, lambda call, _: means[call]):
            total, logged = _losses(model, _batch(Path(folder), cfg, share), seed + rank)
        (total / len(shares)).backward()
        losses.append({name: float(value) for name, value in logged.items()})
        buffers.append({name: value.clone() for name, value in model.named_buffers()})
    return dict(losses=losses, gradients=_gradients(model), buffers=buffers)


def _losses(model: Any, batch: Any, seed: int) -> tuple[Tensor, dict[str, Tensor]]:
    seed_all(seed)
    data = model.data_preprocessor(batch, True)
    losses = model(**data, mode='loss') if isinstance(data, dict) else model(*data, mode='loss')
    total, logged = model.parse_losses(losses)
    return total, dict(logged)


def _means(folder: str, seed: int, shares: Sequence[Sequence[int]]) -> list[Tensor]:
    """The means over processes that a step asks for, such as the number of masks, in order."""
    model, cfg = _built(Path(folder))
    asked: list[list[Tensor]] = [[] for _ in shares]
    for rank, share in enumerate(shares):

        def note(_: int, value: Tensor, mine: list[Tensor] = asked[rank]) -> Tensor:
            mine.append(value.clone())
            return value

        with as_process(rank, note):
            _losses(model, _batch(Path(folder), cfg, share), seed + rank)
    return [torch.stack(values).mean(0) for values in zip(*asked, strict=True)]


@contextmanager
def as_process(rank: int, mean: Callable[[int, Tensor], Tensor]) -> Iterator[None]:
    """Be the process of a number to draws, and give what the mean over processes is."""
    from mmdet.models.dense_heads import mask2former_head

    calls = iter(range(10_000))
    with ExitStack() as stack:
        place = 'moca.evaluation.classification.classifier.get_rank'
        stack.enter_context(mock.patch(place, return_value=rank))
        reduced = mock.patch.object(
            mask2former_head, 'reduce_mean', lambda value: mean(next(calls), value)
        )
        stack.enter_context(reduced)
        yield


def check_step(ranks: Sequence[Any], one: Any) -> None:
    """All processes step alike, as one process does.

    Raises:
        AssertionError: They do not, or nothing has moved.
    """
    first, *others = ranks
    for name, value in one['gradients'].items():
        ours = first['gradients'][name]
        assert all(torch.equal(ours, other['gradients'][name]) for other in others), name
        difference = (ours - value).abs().max()
        assert difference <= 1e-4 * value.abs().max() + 1e-7, f'{name}: {difference}'
    assert first['gradients'].keys() == one['gradients'].keys()
    assert len(first['moved']) > 0.5 * len(one['gradients']), 'nothing has moved'
    if len(one['losses']) == 1:  # of all images
        mean = sum(rank['losses']['loss'] for rank in ranks) / len(ranks)
        assert abs(mean - one['losses'][0]['loss']) <= 1e-5 * abs(mean), (mean, one['losses'])
        return
    for rank, loss, buffers in zip(ranks, one['losses'], one['buffers'], strict=True):
        for name, value in loss.items():
            assert abs(rank['losses'][name] - value) <= 1e-4 * abs(value) + 1e-6, (name, value)
        for name, value in buffers.items():  # averages of batch norm
            torch.testing.assert_close(rank['buffers'][name], value, msg=name)


# ---------------------------------------------------------------------------- protocols


def _cityscapes(folder: Path) -> Path:
    from tests.configs.helpers import write_cityscapes

    return write_cityscapes(folder)


def _ade20k(folder: Path) -> Path:
    from tests.configs.helpers import write_ade20k

    return write_ade20k(folder)


def _own_coco(folder: Path) -> Path:
    from tests.detection import own_coco

    return own_coco.write(folder)


def _coco(folder: Path) -> Path:
    from tests.configs.helpers import write_coco, write_panoptic

    return write_panoptic(write_coco(folder))


def _rooms(folder: Path) -> Path:
    from tests.depth.rooms import write_rooms

    return write_rooms(folder, 4, 2)


def _images(folder: Path) -> Path:
    from tests.evaluation.image_data import write_images

    for seed, split in enumerate(('train', 'val')):
        write_images(folder / split, dict.fromkeys(('ant', 'bee', 'cow', 'dog'), 14), seed)
    return folder


PROTOCOLS = (
    Protocol('segmentation/cityscapes/linear.py', _cityscapes),
    Protocol('segmentation/cityscapes/linear-bn.py', _cityscapes),
    Protocol('segmentation/cityscapes/mask-finetune.py', _cityscapes),
    Protocol('segmentation/ade20k/upernet.py', _ade20k),
    Protocol('segmentation/cityscapes/eomt.py', _cityscapes, 32),
    Protocol('detection/own-coco/mask-rcnn_sfp.py', _own_coco),
    Protocol('detection/coco/vitdet_mask-rcnn.py', _coco),
    Protocol('detection/coco/eomt_panoptic.py', _coco, 16),
    Protocol('depth/own_linear.py', _rooms),
    Protocol('imagenet/finetune.py', _images, whole=True),
    Protocol('imagenet/finetune-mae.py', _images),
    Protocol('imagenet/linear.py', _images),
    Protocol('imagenet/linear-mae.py', _images),
)
