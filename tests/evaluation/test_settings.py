"""Settings as ``--cfg-options`` gives them: one of the wrong kind is named, with the remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from moca.errors import UserError
from moca.evaluation.dense.capi_protocol import CapiKNN, CapiLogreg
from moca.evaluation.dense.in_context import InContext
from moca.evaluation.dense.object_discovery import LOST
from moca.evaluation.dense.spair import SPair
from moca.evaluation.dense.spair_data import read_spair
from moca.evaluation.knn import KNN
from moca.evaluation.lowshot import LowShot
from tests.evaluation.dense.trees import write_spair

IMAGES = dict(bank=dict(data_root='bank'), queries=dict(data_root='queries'))
MAPS = dict(train=dict(data_root='train'), val=dict(data_root='val'))
WRONG: list[tuple[Any, dict[str, Any], dict[str, list[Any]]]] = [
    (
        KNN,
        IMAGES,
        dict(
            k=[10, '10', [], [10.5], ['10'], [True]],
            temperatures=[0.07, ['a'], [float('nan')]],
            per_class=['3'],
            tries=[1.5],
            share=['a'],
        ),
    ),
    (
        LowShot,
        IMAGES,
        dict(C=['a', float('inf')], shots=[5, [], [1.5]], splits=[1.5, '3'], center=['no']),
    ),
    (
        InContext,
        MAPS,
        dict(temperature=['a'], ignored=[0, ['road']], keep=['all'], neighbors=[2.5]),
    ),
    (CapiKNN, MAPS, dict(k=[5], ignored=[0], distances=['L2', []])),
    (CapiLogreg, MAPS, dict(strengths=[1.0, ['a'], []])),
    (LOST, dict(data_root='voc'), dict(candidates=['a'], longest=[300.5, 0])),
    (SPair, dict(data_root='spair'), dict(size=['800'], size_14=[800.5, 0], pairs=[0])),
]


@pytest.mark.parametrize(
    ('cls', 'data', 'field', 'value'),
    [
        (cls, data, field, value)
        for cls, data, wrong in WRONG
        for field, values in wrong.items()
        for value in values
    ],
)
def test_settings_of_the_wrong_kind(cls: Any, data: Any, field: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf'^evaluation\.{field}[=:] ?.*give .*\.$'):
        cls(**data, **{field: value})


def test_a_folder_for_a_set_of_images() -> None:
    bank: Any = 'train'
    evaluation = KNN(bank, IMAGES['queries'])
    with pytest.raises(UserError, match=r'evaluation\.bank\.data_root=DIR'):
        evaluation.prepare()


def test_viewpoints_of_spair_are_three(tmp_path: Path) -> None:
    root = write_spair(tmp_path)
    path = sorted((root / 'PairAnnotation/test').glob('*.json'))[0]
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, 'viewpoint_variation': 7}))
    with pytest.raises(UserError, match=r'viewpoint_variation 7 is none of \(0, 1, 2\)'):
        read_spair(str(root), 'test', 'evaluation.data_root')
