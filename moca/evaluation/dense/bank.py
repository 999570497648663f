"""The bank of in-context segmentation: some patches of every labeled image."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from moca.backbone import PlainViT
from moca.engine.seeding import mixed_seed
from moca.evaluation.dense.encoding import encoded
from moca.evaluation.dense.labeled_maps import LabeledMaps
from moca.evaluation.dense.patch_labels import Void, class_shares
from moca.evaluation.dense.sampling import rows_per_image, sample_scarce
from moca.evaluation.dense.squared import RandomView, Squares
from moca.evaluation.extraction import model_facts
from moca.evaluation.protocol import EvaluationRun

ROOM = 0.5
"""Share of a GPU's free memory that a bank may take; a larger one stays in main memory [our
choice: search and backbone need the rest]."""


@dataclass(frozen=True)
class BankSettings:
    """What is put into a bank.

    Attributes:
        size: Side of the squares in pixels.
        memory: Rows of the bank, about; None for all patches.
        epochs: How often each image is cut anew.
        void: What ignored pixels are; see `class_shares`. With ``drop``, patches of nothing else
            are not in the bank.
    """

    size: int
    memory: int | None
    epochs: int
    void: Void


@dataclass(frozen=True)
class Bank:
    """Patches that queries are compared with.

    Attributes:
        features: ``[R, D]`` fp32 of length 1, in the order epoch, image, sampled.
        shares: ``[R, C]`` fp32 shares of the classes.
        rows_per_image: How many patches of each image were taken, in each epoch.
    """

    features: Tensor
    shares: Tensor
    rows_per_image: int

    @property
    def width(self) -> int:
        """Numbers of a row, D + C."""
        return self.features.shape[1] + self.shares.shape[1]

    def missing_classes(self) -> NDArray[np.int64]:
        """Numbers of the classes that no patch holds a pixel of."""
        held = (self.shares > 0).any(0)
        return np.flatnonzero(~held.cpu().numpy())


def stored_bank(
    model: PlainViT, maps: LabeledMaps, run: EvaluationRun, settings: BankSettings
) -> Bank:
    """The bank of `build_bank`, kept in the run's folder of computed features, if it has one.

    Only the sampled rows are kept, not the maps that they are of. A bank is read again if weights,
    files, settings and batch size are the same, whatever k and temperature.
    """
    if run.cache is None:
        return build_bank(model, maps, run, settings)
    facts = {
        **model_facts(model),
        'maps': maps.state(),
        'settings': asdict(settings),
        'seed': run.seed,
        'batch': run.batch_size,
    }
    name = sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]
    path = run.cache / f'bank_{name}.safetensors'
    found = _read(path)
    if found is not None:
        device = _place(len(found.features), found.width, run.device)
        print_log(f'The bank is read from {path}.', 'current')
        return Bank(found.features.to(device), found.shares.to(device), found.rows_per_image)
    bank = build_bank(model, maps, run, settings)
    _write(path, bank)
    return bank


def _read(path: Path) -> Bank | None:
    """A bank that was built before; None if there is none, or it is damaged."""
    try:
        with safe_open(path, framework='pt') as file:
            rows = int(file.metadata()['rows_per_image'])
            return Bank(file.get_tensor('features'), file.get_tensor('shares'), rows)
    except (OSError, SafetensorError):
        return None


def _write(path: Path, bank: Bank) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.name}.{os.getpid()}.partial')
    # not by `write_atomically`, which takes bytes: a second bank in memory
    try:
        tensors = {'features': bank.features, 'shares': bank.shares}
        save_file(tensors, partial, {'rows_per_image': str(bank.rows_per_image)})
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def build_bank(
    model: PlainViT, maps: LabeledMaps, run: EvaluationRun, settings: BankSettings
) -> Bank:
    """Encode randomly cut images and keep patches of scarce classes.

    What is drawn depends on the run's seed, the epoch and the image alone, not on batches.

    Args:
        model: In eval mode.
        maps: The images and their label maps.
        run: Seed, device, batches.
        settings: How many rows of what.
    """
    size, epochs, void = settings.size, settings.epochs, settings.void
    side = size // model.patch_size
    patches, classes = side * side, maps.num_classes
    count = rows_per_image(settings.memory, len(maps) * epochs, patches)
    kept = patches if count is None else count
    total = len(maps) * epochs * kept
    device = _place(total, model.embed_dims + classes, run.device)
    features = torch.empty(total, model.embed_dims, device=device)
    shares = torch.empty(total, classes, device=device)
    row = 0
    for epoch in range(epochs):
        view = RandomView(size, model.mean, model.std, run.seed, epoch)
        about = f'bank, epoch {epoch + 1} of {epochs}'
        first = 0
        for found, labels in encoded(model, Squares(maps, view), run, about):
            theirs = class_shares(labels.to(run.device), model.patch_size, classes, void)
            if count is not None:
                uniform = _uniform(run.seed, epoch, first, len(found), patches).to(run.device)
                chosen = sample_scarce(theirs, uniform, count)[..., None]
                found = found.gather(1, chosen.expand(-1, -1, found.shape[2]))
                theirs = theirs.gather(1, chosen.expand(-1, -1, classes))
            part = slice(row, row + len(found) * kept)
            features[part] = F.normalize(found.flatten(0, 1), dim=1).to(device)
            shares[part] = theirs.flatten(0, 1).to(device)
            row, first = part.stop, first + len(found)
    if void == 'drop':
        labeled = (shares > 0).any(1)
        features, shares = features[labeled], shares[labeled]
    return Bank(features, shares, kept)


def _uniform(seed: int, epoch: int, first: int, images: int, patches: int) -> Tensor:
    """Numbers of 0 to 1 for the patches of some images ``[images, patches]``."""
    drawn = [
        torch.rand(patches, generator=torch.Generator().manual_seed(mixed_seed(seed, epoch, i, 1)))
        for i in range(first, first + images)
    ]
    return torch.stack(drawn)


def _place(rows: int, width: int, device: torch.device) -> torch.device:
    """Where a bank of fp32 is kept: on the device, or in main memory where it would fill it."""
    if device.type != 'cuda':
        return device
    free, _ = torch.cuda.mem_get_info(device)
    return device if 4 * rows * width < ROOM * free else torch.device('cpu')
