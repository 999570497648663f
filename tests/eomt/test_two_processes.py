"""A step of two processes beside a step of one, as far as the source lets them be equal.

Source: tue-mps/eomt, training/mask_classification_loss.py: losses of masks are divided by how many
there are, averaged over processes and at least 1; the weighted mean of classes is of each process.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor

from moca.segmentation.mask_transformer import MaskTransformerSegmentor, targets
from tests.eomt.tiny import ARCH
from tests.processes import run_processes

# how many classes the image of each process has
CASES = {'equal': (2, 2), 'unequal': (3, 1), 'one without': (2, 0), 'one in all': (1, 0)}


def a_segmentor() -> MaskTransformerSegmentor:
    torch.manual_seed(0)
    return MaskTransformerSegmentor(
        backbone=dict(type='PlainViT', arch=ARCH, img_size=32, frozen=False),
        decode_head=dict(num_classes=3, num_queries=5, num_blocks=2, num_points=60),
        data_preprocessor=dict(type='mmseg.SegDataPreProcessor', size=(32, 32)),
        test_cfg=dict(size=32),
    ).train()


def images_of(case: str) -> dict[str, list[Any]]:
    """An image a process, with as many classes as the case says; the rest of it is void."""
    generator = torch.Generator().manual_seed(7)
    samples = []
    for count in CASES[case]:
        labels = torch.full((1, 32, 32), 255)
        for number in range(count):
            labels[:, 10 * number : 10 * number + 8, 4 * number : 20] = number
        about = dict(img_shape=(32, 32), ori_shape=(32, 32), pad_shape=(32, 32))
        samples.append(SegDataSample(metainfo=about, gt_sem_seg=PixelData(data=labels)))
    inputs = [torch.randn(3, 32, 32, generator=generator) for _ in samples]
    return dict(inputs=inputs, data_samples=samples)


def same_points(*shape: Any, **_: Any) -> Tensor:
    """Stands in for `torch.rand`: the same points for every mask, in whatever batch it is."""
    size = tuple(shape[0]) if not isinstance(shape[0], int) else shape
    grid = torch.arange(size[1] * 2, dtype=torch.float).reshape(size[1], 2) * 0.7548 % 1
    return grid.expand(*size).clone()


def work(rank: int, folder: str) -> None:
    """One of two processes: a step of plain SGD at a rate of 1 for each case."""
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2
    )
    torch.set_num_threads(1)
    found = {}
    for case in CASES:
        model = a_segmentor()
        before = {name: value.detach().clone() for name, value in model.named_parameters()}
        wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0))
        whole = images_of(case)
        mine = {key: values[rank : rank + 1] for key, values in whole.items()}
        with mock.patch.object(torch, 'rand', same_points):
            MMDistributedDataParallel(model).train_step(mine, wrapper)
        found[case] = {n: before[n] - value.detach() for n, value in model.named_parameters()}
    torch.save(found, f'{folder}/{rank}.pth')
    dist.destroy_process_group()


@pytest.fixture(scope='module')
def steps(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    folder: Path = tmp_path_factory.mktemp('steps')
    run_processes(work, (str(folder),))
    return [torch.load(folder / f'{rank}.pth') for rank in range(2)]


def losses_of(model: MaskTransformerSegmentor, case: str, places: slice) -> dict[str, Tensor]:
    """Sums of the losses of classes and of masks for some of the images, in this process alone."""
    whole = images_of(case)
    truth = [targets(sample.gt_sem_seg.data) for sample in whole['data_samples'][places]]
    with mock.patch.object(torch, 'rand', same_points):
        losses = model.criterion(model.network(torch.stack(whole['inputs'][places])), truth)
    classes = [value.sum() for name, value in losses.items() if name.endswith('cls')]
    masks = [value.sum() for name, value in losses.items() if not name.endswith('cls')]
    return dict(classes=torch.stack(classes).sum(), masks=torch.stack(masks).sum())


@pytest.mark.parametrize('case', CASES)
def test_a_step_of_two_processes(case: str, steps: list[dict[str, dict[str, Tensor]]]) -> None:
    model, count = a_segmentor(), sum(CASES[case])
    whole = losses_of(model, case, slice(0, 2))
    classes = [losses_of(model, case, slice(i, i + 1))['classes'] for i in range(2)]
    # one process divides by all masks, each of two by half as many, but by no less than 1
    share = max(count, 1) / max(count / 2, 1) / 2
    ((classes[0] + classes[1]) / 2 + share * whole['masks']).backward()
    for name, parameter in model.named_parameters():
        assert torch.equal(steps[0][case][name], steps[1][case][name]), name
        expected = parameter.grad
        torch.testing.assert_close(steps[0][case][name], expected, rtol=1e-3, atol=1e-5)
        assert expected is not None
        assert expected.any(), name
    same = torch.isclose(whole['classes'], (classes[0] + classes[1]) / 2, rtol=1e-5)
    assert bool(same) == (case == 'equal')
    assert (share == 1) == (case != 'one in all')
