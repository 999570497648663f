"""Writing graphs: ONNX files with what their readers have to know, and torch.export's archives."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from moca.errors import UserError
from moca.export.graphs import Graph

OPSET = 18
"""Of ONNX's own operators: what torch's exporter is written for; onnxruntime has it from 1.14 on
and TensorRT from 8.6 on."""
LARGEST = 1_500_000_000
"""Bytes of weights from which they go to a file beside the graph [choice]: a protobuf ends at two
gigabytes, and the graph is in it, too."""
NOTES = 'moca'
"""Key of the notes in an ONNX file's ``metadata_props``; a JSON object."""
FORMATS = {'onnx': '.onnx', 'torch-export': '.pt2'}
"""Names for ``--to``, and how their files end."""


def check_packages(to: str) -> None:
    """Check that what writes and runs a format is installed.

    Raises:
        UserError: It is not.
    """
    if to not in FORMATS:
        raise UserError(f'--to {to}: choose {" or ".join(FORMATS)}.')
    if to != 'onnx':
        return
    missing = []
    for name in ('onnx', 'onnxscript', 'onnxruntime'):
        try:
            __import__(name)
        except ImportError:
            missing.append(name)
    if missing:
        raise UserError(
            f'--to onnx needs {", ".join(missing)}: pip install -r requirements/export.txt.'
        )


def exported(graph: Graph) -> Any:
    """A module as torch.export's program.

    Raises:
        UserError: Something in it cannot be recorded.
    """
    inputs = graph.inputs()
    shapes: Any = None
    if graph.dynamic:
        shapes = ({0: torch.export.Dim('batch', min=1)},) + (None,) * (len(inputs) - 1)
    try:
        with _quiet(), torch.no_grad(), _recordable():
            return torch.export.export(graph, inputs, dynamic_shapes=shapes, strict=False)
    except Exception as error:  # of any kind: models are code
        first = str(error).strip().splitlines() or ['']
        raise UserError(
            f'{type(graph.model).__name__}: torch.export cannot record it ({type(error).__name__}: '
            f'{first[0]}).'
        ) from error


def save_onnx(program: Any, graph: Graph, path: Path, notes: Mapping[str, Any]) -> list[Path]:
    """Write an ONNX file, and one of weights beside it where they are too many.

    Args:
        program: What `exported` returned.
        graph: Of which it is.
        path: Ends in ``.onnx``, in a folder without other files.
        notes: What a reader has to know; kept as JSON.

    Returns:
        The files, the graph last.

    Raises:
        UserError: ONNX lacks an operator, which is named.
    """
    names = ['image', 'extent'][: len(graph.inputs())]
    try:
        with _quiet():
            onnx: Any = torch.onnx.export(
                program,
                input_names=names,
                output_names=list(graph.outputs),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise UserError(_what_is_missing(error, graph)) from error
    onnx.model.metadata_props[NOTES] = json.dumps({**notes, 'opset': OPSET})
    size = sum(t.numel() * t.element_size() for t in graph.state_dict().values())
    onnx.save(str(path), external_data=size > LARGEST)
    return _written(path)


def save_torch(program: Any, path: Path, notes: Mapping[str, Any]) -> list[Path]:
    """Write torch.export's archive, which `torch.export.load` reads without this suite.

    Args:
        program: What `exported` returned.
        path: Ends in ``.pt2``, in a folder without other files.
        notes: Kept as the extra file ``moca.json``.
    """
    extra = {f'{NOTES}.json': json.dumps(dict(notes))}
    torch.export.save(program, str(path), extra_files=extra)
    return _written(path)


def _written(path: Path) -> list[Path]:
    return sorted(path.parent.iterdir(), key=lambda file: file.name == path.name)


def _what_is_missing(error: BaseException, graph: Graph) -> str:
    """The operators without a counterpart, from torch's messages."""
    texts: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        texts.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    found = sorted(set(re.findall(r"OpOverload\(op='([^']+)'", ' '.join(texts))))
    kind = type(graph.model).__name__
    if found:
        return f'{kind}: ONNX has no counterpart of {", ".join(found)}. --to torch-export keeps it.'
    first = texts[0].strip().splitlines() or ['']
    return f'{kind}: cannot be written as ONNX ({first[0]}). --to torch-export may do.'


def _recordable() -> Any:
    """Leave out switches of autocast, which a program would record and ONNX has not.

    It is off as it is, and switching it off again changes nothing.
    """
    off = mock.Mock(side_effect=lambda *_, **__: contextlib.nullcontext())
    return mock.patch('torch.autocast', off)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep to themselves what the exporters say of their own progress."""
    loggers = [logging.getLogger(name) for name in ('torch.onnx', 'onnxscript', 'onnx_ir')]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
