"""In-context and CAPI segmentation from end to end, with a backbone of known features."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

import moca.transfer  # noqa: F401  (registers the data sets)
from moca.backbone import PlainViT
from moca.errors import UserError
from moca.evaluation.dense import bank as bank_module
from moca.evaluation.dense.bank import BankSettings, build_bank
from moca.evaluation.dense.capi_protocol import CapiKNN, CapiLogreg
from moca.evaluation.dense.encoding import whole_patches
from moca.evaluation.dense.in_context import InContext
from moca.evaluation.dense.labeled_maps import read_labeled_maps
from moca.evaluation.protocol import EvaluationRun
from moca.evaluation.run import build_backbone, prepare_evaluation
from tests.backbone.helpers import TINY, save, timm_vit
from tests.checkpoints import families
from tools import train as train_tool

PATCH, SIZE = 8, 32
CLASSES = ('ground', 'tree', 'car', 'sky')
COLORS = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [190, 190, 40]], np.uint8)


class MeanColors(PlainViT):
    """A backbone whose patch features are the mean colors, an offset apart: nothing is learned."""

    def __init__(self) -> None:
        arch: Any = dict(patch_size=PATCH, embed_dim=4, depth=1, num_heads=1, img_size=SIZE)
        super().__init__(arch, frozen=True)
        self.embed_dims = 3

    def tokens(self, images: Tensor, *_: Any, **__: Any) -> Any:
        found = super().tokens(images)
        means = torch.nn.functional.avg_pool2d(images, PATCH).flatten(2).transpose(1, 2)
        return found._replace(patches=means)


def write(root: Path, count: int, classes: tuple[int, ...], seed: int = 0, void: int = 4) -> Path:
    """Images of 64 x 32 whose halves are of two classes, the upper rows of the labels void."""
    random = np.random.default_rng(seed)
    for part in ('images', 'labels'):
        (root / part).mkdir(parents=True)
    for number in range(count):
        two = random.choice(classes, 2, replace=False)
        labels = np.repeat(two, 32)[None].repeat(32, 0).astype(np.uint8)
        image = COLORS[labels]
        labels[:void] = 255
        noisy = image + random.integers(-9, 10, image.shape)
        cv2.imwrite(str(root / f'images/{number:02}.png'), noisy.astype(np.uint8)[..., ::-1])
        cv2.imwrite(str(root / f'labels/{number:02}.png'), labels)
    return root


def data(root: Path, **fields: Any) -> dict[str, Any]:
    base = dict(
        type='BaseSegDataset',
        data_root=str(root),
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        img_suffix='.png',
        seg_map_suffix='.png',
        metainfo=dict(classes=CLASSES),
    )
    return {**base, **fields}


@pytest.fixture(scope='module')
def bank(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return data(write(tmp_path_factory.mktemp('bank'), 20, (0, 1, 2)))


@pytest.fixture(scope='module')
def queries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return data(write(tmp_path_factory.mktemp('queries'), 5, (0, 1, 2), seed=1))


@pytest.fixture(scope='module')
def train(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return data(write(tmp_path_factory.mktemp('train'), 20, (0, 1, 2), seed=2, void=0))


def in_context(bank: dict[str, Any], queries: dict[str, Any], **settings: Any) -> InContext:
    given: dict[str, Any] = dict(size=SIZE, memory=100, epochs=1, neighbors=3, keep=0)
    evaluation = InContext(bank, queries, **{**given, **settings})
    evaluation.prepare()
    return evaluation


RUN = EvaluationRun(batch_size=3)


def test_colors_tell_classes_apart(bank: dict[str, Any], queries: dict[str, Any]) -> None:
    evaluation = in_context(bank, queries, void='drop')
    result = evaluation.run(MeanColors().eval(), RUN)
    assert (evaluation.train_images, evaluation.val_images) == (20, 5)
    assert result.metrics['mIoU'] > 90  # the border between the halves is blurred
    assert result.metrics['mIoU_present'] == result.metrics['mIoU']
    # of four classes, the last of which nothing holds
    assert result.metrics['mIoU_source'] == pytest.approx(result.metrics['mIoU'] * 3 / 4)
    assert result.settings['rows_per_image'] == 5
    assert result.settings['bank_rows'] <= 100
    assert result.settings['classes_without_bank_patch'] == []


class Overflow(MeanColors):
    """No number in the last patch."""

    def tokens(self, images: Tensor, *_: Any, **__: Any) -> Any:
        found = super().tokens(images)
        found.patches[:, -1] = float('inf')
        return found


def test_features_that_are_no_numbers_are_refused(
    bank: dict[str, Any], queries: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match='not all finite'):
        in_context(bank, queries).run(Overflow().eval(), RUN)


def test_permuted_classes_of_a_bank_show_in_the_identity_alone(
    bank: dict[str, Any], queries: dict[str, Any], tmp_path: Path
) -> None:
    """The published column matches predicted classes to true ones, and does not notice."""
    shutil.copytree(bank['data_root'], tmp_path / 'bank')
    table = np.arange(256, dtype=np.uint8)
    table[:3] = 1, 2, 0
    for path in (tmp_path / 'bank/labels').iterdir():
        cv2.imwrite(str(path), table[cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)])
    model = MeanColors().eval()
    plain = in_context(bank, queries, void='drop').run(model, RUN).metrics
    permuted = in_context(data(tmp_path / 'bank'), queries, void='drop').run(model, RUN).metrics
    assert plain['mIoU_source'] == plain['mIoU_all'] > 65  # of four classes, one is absent
    assert permuted['mIoU_source'] == pytest.approx(plain['mIoU_source'], abs=2)
    assert max(permuted[name] for name in ('mIoU', 'mIoU_present', 'mIoU_all', 'aAcc')) < 5


def test_the_deviation_of_blue_reaches_the_images_of_bank_and_queries(
    bank: dict[str, Any], queries: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hummingbird's code has .255 for ImageNet's .225: an option of the command line."""
    fields = dict(type='InContext', train=bank, val=queries, size=SIZE, memory=20, keep=0)
    (tmp_path / 'config.py').write_text(
        "protocol = dict(name='p', title='P', task='dense', metrics=['mIoU'])\n"
        f"model = dict(backbone=dict(type='PlainViT', arch={TINY!r}, img_size={SIZE}))\n"
        f'evaluation = {fields!r}\nrandomness = dict(seed=0)\n'
    )
    save(families.moca(timm_vit(TINY), timm_vit(TINY, 1)), tmp_path / 'moca.pth')
    seen: list[Tensor] = []
    tokens = PlainViT.tokens

    def watched(model: PlainViT, images: Tensor, *args: Any, **settings: Any) -> Any:
        seen.append(images.cpu())
        return tokens(model, images, *args, **settings)

    monkeypatch.setattr(PlainViT, 'tokens', watched)

    def images_of(*options: str) -> Tensor:
        words = [str(tmp_path / 'config.py'), '--checkpoint', str(tmp_path / 'moca.pth'), *options]
        words += ['--work-dir', str(tmp_path / 'run')]
        cfg, _, evaluation = prepare_evaluation(train_tool.parse_args(words))
        seen.clear()
        evaluation.run(build_backbone(cfg), RUN)
        return torch.cat(seen)

    mean = '0.485', '0.456', '0.406'
    usual = images_of()
    other = images_of('--mean', *mean, '--std', '0.229', '0.224', '0.255')
    assert len(usual) == 2 * 20 + 5  # two epochs of the bank, and the queries
    torch.testing.assert_close(other[:, :2], usual[:, :2])
    torch.testing.assert_close(other[:, 2], usual[:, 2] * (0.225 / 0.255))


def test_a_run_is_repeated_to_the_digit_whatever_the_batches(
    bank: dict[str, Any], queries: dict[str, Any]
) -> None:
    model = MeanColors().eval()
    results = []
    for batch_size, seed in ((3, 0), (7, 0), (3, 1)):
        run = EvaluationRun(batch_size=batch_size, seed=seed)
        state = torch.get_rng_state()
        results.append(in_context(bank, queries, memory=20).run(model, run).metrics)
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(batch_size)
    assert results[0] == results[1]
    assert results[0] != results[2]


def test_a_bank_is_read_again_where_nothing_has_changed(
    bank: dict[str, Any],
    queries: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = MeanColors().eval()
    built: list[int] = []
    build = bank_module.build_bank

    def counted(*args: Any, **settings: Any) -> Any:
        built.append(1)
        return build(*args, **settings)

    monkeypatch.setattr(bank_module, 'build_bank', counted)
    run = EvaluationRun(batch_size=3, cache=tmp_path)
    plain = in_context(bank, queries).run(model, RUN)
    first = in_context(bank, queries).run(model, run)
    again = in_context(bank, queries).run(model, run)
    assert first == again == plain
    assert len(built) == 2  # without a folder, and the first time with one
    in_context(bank, queries, neighbors=5).run(model, run)
    assert len(built) == 2
    in_context(bank, queries, memory=40).run(model, run)
    in_context(bank, queries).run(model, EvaluationRun(batch_size=3, cache=tmp_path, seed=1))
    other = MeanColors().eval()
    other.mean = (0.5, 0.5, 0.5)
    in_context(bank, queries).run(other, run)
    assert len(built) == 5
    for path in tmp_path.glob('*'):
        path.write_bytes(b'damaged')
    assert in_context(bank, queries).run(model, run) == plain
    assert len(built) == 6


def test_void_is_class_0_or_nothing(bank: dict[str, Any]) -> None:
    """Images of tree and car alone: class 0 has the void's pixels, or none."""
    maps = read_labeled_maps(bank, 'evaluation.train')
    labels = [maps.read(index)[1] for index in range(len(maps))]
    places = [i for i, theirs in enumerate(labels) if not (theirs == 0).any()]
    without = read_labeled_maps({**bank, 'indices': places}, 'evaluation.train')
    model = MeanColors().eval()
    for void, missing in (('class0', [3]), ('drop', [0, 3])):
        settings = BankSettings(SIZE, memory=None, epochs=1, void=void)  # type: ignore[arg-type]
        found = build_bank(model, without, RUN, settings)
        assert found.missing_classes().tolist() == missing
        assert found.shares.sum(1).tolist() == pytest.approx([1.0] * len(found.shares))
        lengths = found.features.norm(dim=1)
        torch.testing.assert_close(lengths, torch.ones_like(lengths))


def test_a_class_that_no_bank_patch_holds_is_said(
    bank: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = data(write(tmp_path, 4, (2, 3)))
    result = in_context(bank, others).run(MeanColors().eval(), RUN)
    assert result.settings['classes_without_bank_patch'] == [3]
    assert result.metrics['mIoU'] < 60
    log = capsys.readouterr()
    assert 'Classes of the queries that no patch of the bank holds: 1 (sky).' in log.out + log.err


@pytest.mark.parametrize('kind', [InContext, CapiKNN, CapiLogreg])
@pytest.mark.parametrize('twin', ['path', 'link', 'copy'])
def test_an_image_in_bank_and_queries_is_refused(
    kind: type[Any], twin: str, train: dict[str, Any], tmp_path: Path
) -> None:
    """By its path, by another path of the same file, or by its bytes; one of many is enough."""
    others = write(tmp_path, 3, (0, 1, 2), seed=3)
    image = Path(train['data_root']) / 'images/04.png'
    (others / 'images/01.png').unlink()
    if twin == 'link':
        (others / 'images/01.png').symlink_to(image)
    else:
        (others / 'images/01.png').write_bytes(image.read_bytes())
    queries = {**train, 'indices': [4]} if twin == 'path' else data(others)
    with pytest.raises(UserError, match=r'evaluation\.val: .*04\.png of evaluation\.train, byte'):
        kind(train, queries, size=SIZE).prepare()


@pytest.mark.parametrize('kind', [CapiKNN, CapiLogreg])
def test_capi_chooses_on_held_out_training_images(
    kind: type[Any], train: dict[str, Any], queries: dict[str, Any]
) -> None:
    fewer: dict[str, Any] = dict(k=(1, 3)) if kind is CapiKNN else dict(strengths=(1e-6, 1.0))
    evaluation = kind(train, queries, size=SIZE, **fewer)
    evaluation.prepare()
    result = evaluation.run(MeanColors().eval(), RUN)
    scores = result.chosen['val_mIoU']
    assert len(scores) == (4 if kind is CapiKNN else 2)
    assert scores[result.chosen['setting']] == max(scores.values())
    assert result.chosen['on'] == '2 held-out training images'
    assert result.metrics['mIoU'] > 95
    assert result.settings['patches'] == 20 * (SIZE // PATCH) ** 2
    assert result.settings['ignored'] == [255]


def test_one_of_eight_settings_is_chosen(train: dict[str, Any], queries: dict[str, Any]) -> None:
    """As published: 10 ** (-6 + 11 i / 7), and four numbers of neighbors by two distances."""
    strengths = [1e-6, 3.73e-5, 1.39e-3, 5.18e-2, 1.931, 71.97, 2682.7, 1e5]
    assert list(CapiLogreg(train, queries).candidates()) == pytest.approx(strengths, rel=2e-3)
    found = [str(setting) for setting in CapiKNN(train, queries).candidates()]
    assert len(set(found)) == len(found) == 8
    for word in ('cosine', 'L2'):
        assert sum(word in each for each in found) == 4


def test_the_scaler_is_of_the_fitted_images_throughout(
    train: dict[str, Any], queries: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from moca.evaluation.dense import capi_protocol
    from moca.evaluation.dense.standardize import Scaler

    made, used = [], []

    class Watched(Scaler):
        @classmethod
        def of(cls, features: Tensor) -> Scaler:
            made.append(len(features))
            return super().of(features)

        def apply(self, features: Tensor) -> Tensor:
            used.append((self.mean.tolist(), self.scale.tolist()))
            return super().apply(features)

    monkeypatch.setattr(capi_protocol, 'Scaler', Watched)
    evaluation = CapiKNN(train, queries, size=SIZE, k=(1,))
    evaluation.prepare()
    evaluation.run(MeanColors().eval(), RUN)
    assert made == [18 * (SIZE // PATCH) ** 2]  # of 20 images, two are held out
    assert len(used) == 2  # training and test images
    assert used[0] == used[1]


def test_sizes_are_rounded_to_whole_patches(capsys: pytest.CaptureFixture[str]) -> None:
    assert whole_patches(512, 16, 'evaluation.size') == 512
    assert whole_patches(512, 14, 'evaluation.size') == 504
    log = capsys.readouterr()
    assert '512 pixels are not whole patches of 14' in log.out + log.err
    with pytest.raises(UserError, match=r'evaluation\.size=8: smaller than a patch of 14'):
        whole_patches(8, 14, 'evaluation.size')


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(size=0), r'evaluation\.size=0: give a whole number from 1 up'),
        (dict(memory=2.5), r'evaluation\.memory=2\.5'),
        (dict(epochs=True), r'evaluation\.epochs=True'),
        (dict(temperature=0), r'evaluation\.temperature=0'),
        (dict(void='ignore'), r"evaluation\.void='ignore': give one of class0, drop"),
        (dict(search='scann'), r"evaluation\.search='scann': give one of blocks, faiss"),
        (dict(neighbors=30, memory=20), r'neighbors=30: the bank has 20 rows'),
    ],
)
def test_wrong_settings_of_in_context(
    settings: dict[str, Any], message: str, bank: dict[str, Any], queries: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match=message):
        in_context(bank, queries, **settings)


def test_wrong_settings_of_capi(bank: dict[str, Any], queries: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r'evaluation\.k=0'):
        CapiKNN(bank, queries, k=(0,))
    with pytest.raises(UserError, match=r"evaluation\.distances=\['L1'\]: give some of cosine, L2"):
        CapiKNN(bank, queries, distances=('L1',))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r'evaluation\.strengths'):
        CapiLogreg(bank, queries, strengths=(0.0,))
    few = CapiKNN({**bank, 'indices': [0, 1]}, queries)
    with pytest.raises(UserError, match='2 training images'):
        few.prepare()
