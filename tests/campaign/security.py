"""Hostile pickles by the ways on which mmengine reads: to resume, to test, to start from."""

from __future__ import annotations

import io
from pathlib import Path

from mmengine.runner import checkpoint as mmengines

import moca.checkpoints  # noqa: F401  whose import makes mmengine's reading safe
from moca.errors import UserError
from tests.campaign import hostile
from tests.campaign.campaign import Area, Outcome


def _by_path(path: Path) -> None:
    mmengines.CheckpointLoader.load_checkpoint(str(path), map_location='cpu')


def _from_memory(path: Path) -> None:
    mmengines._safe_torch_load(io.BytesIO(path.read_bytes()), map_location='cpu')


READERS = (_by_path, _from_memory)


class Security(Area):
    """Code in checkpoints that mmengine reads; our own reading is an area of its own."""

    name = 'security'
    title = 'Security'
    proofs = (('.*, read by path', 'ran code'), ('.*, read from memory', 'ran code'))

    def count(self, quick: bool) -> int:
        """Every attack in every form by every reader, or one in ten."""
        every = len(hostile.attacks(Path())) * len(hostile.FORMS) * len(READERS)
        return every // 10 if quick else every

    def run(self, number: int, folder: Path) -> Outcome:
        """A file whose reading would leave a canary."""
        canary, path = folder / 'canary', folder / 'iter_2.pth'
        attacks = hostile.attacks(canary)
        names = sorted(attacks)
        number = number * 7 + self.seed  # so that few of them are of all kinds
        name = names[number % len(names)]
        form = hostile.FORMS[number // len(names) % len(hostile.FORMS)]
        reader = READERS[number // len(names) // len(hostile.FORMS) % len(READERS)]
        hostile.write(attacks[name], form, path)
        kind = f'{form}, read {reader.__name__.strip("_").replace("_", " ")}'
        outcome = Outcome(kind, 'silent', f'{name}: was read')
        try:
            reader(path)
        except UserError as error:
            outcome = Outcome(kind, 'refused', str(error))
        except Exception as error:  # as of any file that is no checkpoint
            outcome = Outcome(kind, 'traceback', f'{name}: {type(error).__name__}: {error}')
        if hostile.has_run(canary):
            return Outcome(kind, 'ran code', name)
        return outcome

    def inject(self) -> None:
        """mmengine reads as it did: with plain pickle where torch refuses."""
        import torch

        mmengines._safe_torch_load = lambda file, **kwargs: torch.load(
            file, map_location='cpu', weights_only=False
        )
