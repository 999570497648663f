"""Which class a dict of a config is for, and which arguments that class takes."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterator
from typing import Any

import mmengine.registry
from mmengine.hooks import CheckpointHook
from mmengine.registry import Registry
from mmengine.runner import Runner
from torch.utils.data import DataLoader

# Keys which mmengine takes out of a dict before it calls the class.
CONSUMED = {
    'HOOKS': {'priority'},
    'OPTIM_WRAPPERS': {'constructor', 'paramwise_cfg'},
    'PARAM_SCHEDULERS': {'convert_to_iter_based', 'build_iter_from_epoch'},
    'MODELS': {'init_cfg'},
}
# What `Runner.build_dataloader` takes beside the arguments of torch's loader.
_OF_LOADERS = {'dataset', 'sampler', 'batch_sampler', 'collate_fn', 'num_batch_per_epoch'}
_LOADERS = tuple(f'{split}_dataloader' for split in ('train', 'val', 'test'))
# Classes which mmengine's runner takes where a field names none.
_DEFAULTS = {
    'val_cfg': 'ValLoop',
    'test_cfg': 'TestLoop',
    'optim_wrapper': 'OptimWrapper',
    'log_processor': 'LogProcessor',
    'visualizer': 'Visualizer',
}
# What the runner reads; other fields at the top are variables of the file.
_READ = set(inspect.signature(Runner.__init__).parameters)
# Parts of a model from which heads, or mmcv's functions that build layers, take what is theirs.
_READ_BY_OTHERS = r'_cfg$|^loss|^dcn$'
# Their **kwargs lead nowhere.
_NO_OTHERS = (CheckpointHook,)


@functools.cache
def arguments_of(cls: Any) -> frozenset[str] | None:
    """Return the names that a class can be called with, or None if it takes any.

    ``**kwargs`` is taken to be passed on to the next class.
    """
    # A function or a method has no **kwargs of its own to pass on.
    chain = cls.__mro__ if inspect.isclass(cls) else (cls,)
    names: set[str] = set()
    for owner in chain:
        call = vars(owner).get('__init__') if inspect.isclass(owner) else owner
        if call is None:
            continue
        parameters = inspect.signature(call).parameters.values()
        names |= {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        if owner in _NO_OTHERS or not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return frozenset(names - {'self'})
    return None


def root_registries() -> dict[str, Registry]:
    """mmengine's registries by their names."""
    found = vars(mmengine.registry).items()
    return {name: value for name, value in found if isinstance(value, Registry)}


def is_known(name: str) -> bool:
    """Whether any library has registered the name."""
    return any(True for root in root_registries().values() for _ in _registered(root, name))


def candidates(
    field: str, node: dict[str, Any], scope: str
) -> Iterator[tuple[str, frozenset[str] | None]]:
    """Yield every class that a dict may be for, and its arguments, None for any.

    Of a model's parts only those classes count that take no ``**kwargs``: some use theirs up
    themselves. Norms, convolutions, initialisers and losses have arguments that others read, so
    nothing is known of them.

    A name may be registered by several libraries and for several purposes; which one is meant is
    up to the code that builds it.

    Args:
        field: where the dict stands, with dots.
        node: the dict.
        scope: library of classes whose name has none in front.
    """
    path = field.split('.')
    in_model = path[0] == 'model'
    if path[0] not in _READ:
        return
    if in_model and re.search(_READ_BY_OTHERS, path[-1]):
        return
    if field in _LOADERS:
        yield 'a data loader', (arguments_of(DataLoader) or frozenset()) | _OF_LOADERS
        return
    name = node.get('type', _DEFAULTS.get(field))
    others: set[str] = set()
    if name is None and field == 'train_cfg':
        name = 'EpochBasedTrainLoop' if node.get('by_epoch', True) else 'IterBasedTrainLoop'
        others = {'by_epoch'}
    if isinstance(name, str):
        prefix, _, name = name.rpartition('.')
        for label, registry in root_registries().items():
            for library in {scope, prefix, node.get('_scope_')} & registry.children.keys():
                registry.children[library].import_from_location()
            for cls in _registered(registry, name):
                known = None if in_model and _takes_any(cls) else arguments_of(cls)
                more = others | CONSUMED.get(label, set())
                yield name, None if known is None else known | more
    elif name is not None:
        known = arguments_of(name)
        more = others.union(*CONSUMED.values())
        yield getattr(name, '__name__', str(name)), None if known is None else known | more


def _takes_any(cls: Any) -> bool:
    parameters = inspect.signature(cls).parameters.values()
    return any(p.kind is p.VAR_KEYWORD for p in parameters)


def _registered(registry: Registry, name: str) -> Iterator[Any]:
    if name in registry.module_dict:
        yield registry.module_dict[name]
    for child in registry.children.values():
        yield from _registered(child, name)
