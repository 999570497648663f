"""Find misspelt arguments of this package's classes in a config before anything is built."""

from __future__ import annotations

import difflib
import functools
import inspect
import traceback
from collections.abc import Iterable, Iterator, Set
from typing import Any

import mmengine.registry
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.registry import Registry

from moca.engine.config_kinds import check_kinds, shown
from moca.engine.ranges import check_count
from moca.engine.renamed import new_name
from moca.errors import UserError

# Keys which mmengine takes out of a dict before it calls the class.
CONSUMED = {
    'HOOKS': {'priority'},
    'OPTIM_WRAPPERS': {'constructor', 'paramwise_cfg'},
    'PARAM_SCHEDULERS': {'convert_to_iter_based', 'build_iter_from_epoch'},
    'MODELS': {'init_cfg'},
}
# Fields of mmengine's loops, and the class where a field names none. The loops are built late, the
# training loop after the training data.
_LOOPS = {'train_cfg': 'EpochBasedTrainLoop', 'val_cfg': 'ValLoop', 'test_cfg': 'TestLoop'}
# Fields of `mmengine.runner.Runner`, and our `protocol`, that hold a dict, or None; the model is
# never None.
_SECTIONS = (
    *('model', 'optim_wrapper', 'train_cfg', 'val_cfg', 'test_cfg', 'default_hooks'),
    *('train_dataloader', 'val_dataloader', 'test_dataloader'),
    *('env_cfg', 'randomness', 'log_processor', 'visualizer', 'protocol'),
)
# What is a dict or None wherever it stands.
_DICTS = frozenset({'clip_grad', 'metainfo', 'norm_cfg', 'paramwise_cfg'})
# Those that hold a dict or several.
_LISTS = ('val_evaluator', 'test_evaluator', 'param_scheduler', 'custom_hooks')
_OF_RUNNER = {'runner', 'dataloader', 'evaluator'}
# Hooks that mmengine's runner has without a config's asking (`Runner.register_default_hooks`).
_HOOKS = {'runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint'}
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


def _registered(registry: Registry, name: str) -> Iterator[Any]:
    if name in registry.module_dict:
        yield registry.module_dict[name]
    for child in registry.children.values():
        yield from _registered(child, name)


def building_error(error: BaseException) -> str | None:
    """The message of an error by which a library refuses what a config holds for its class.

    Returns:
        The message, which names the class and the word; None of any other error.
    """
    frames = list(traceback.walk_tb(error.__traceback__))
    # who called the class: with a dict of the config if it is a library
    caller = frames[-1][0].f_globals.get('__name__', '') if frames else ''
    if caller.split('.')[0] not in ('mmengine', 'mmcv', 'mmseg', 'mmdet'):
        return None
    message = str(error.args[0]) if error.args else ''
    unknown_class = isinstance(error, KeyError) and ' registry. ' in message
    unknown_argument = isinstance(error, TypeError) and '__init__() got an unexpected' in message
    return message if unknown_class or unknown_argument else None


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the known word nearest to `word`, or an empty string."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f' Did you mean {matches[0]!r}?' if matches else ''


def check_arguments(
    cls: type, given: Iterable[str], field: str, filled: Iterable[str] = ()
) -> None:
    """Check that a class takes the arguments which a config field holds for it.

    Args:
        cls: the class.
        given: names of the arguments in the config.
        field: the config's.
        filled: names of arguments that the program gives itself.

    Raises:
        UserError: naming the field, the unknown argument and the nearest known one.
    """
    known = set(_arguments(cls, 'type') or ()) - set(filled)
    for argument in given:
        if argument not in known:
            raise UserError(f'{field} has no argument {argument!r}.{nearest(argument, known)}')


def check_config(cfg: Config, source: str = 'config') -> None:
    """Check the dicts of a config that are for classes of this package.

    Of other libraries' classes mmengine names the class and the word as it builds them; see
    `building_error`. Its loops are checked here, since it builds them after the data.

    Args:
        cfg: the whole config.
        source: the file name for the message.

    Raises:
        UserError: naming the field, the class, the unknown argument and the nearest known one;
            or a class that exists nowhere but under a similar name here; or a field that is no
            dict, where only a dict can be.
    """
    _check_sections(cfg, source)
    ours = _our_classes()
    for field, node in walk(cfg.to_dict(), ''):
        for key in _DICTS.intersection(node):
            if not isinstance(node[key], dict | None):
                raise UserError(f'{source}: {field}.{key}={shown(node[key])}: give a dict.')
        for key in ('type', 'constructor'):
            name = node.get(key)
            name = getattr(name, '__name__', name)
            if isinstance(name, list | tuple | dict | int | float):
                raise UserError(f'{source}: {field}.{key} is {shown(name)}, which names no class.')
            if name not in ours:
                _check_spelling(name, ours, f'{source}: {field}.{key}')
                continue
            cls, registry = ours[name]
            given = node.get('paramwise_cfg') or {} if key == 'constructor' else node
            known = _arguments(cls, key)
            if known is None:
                continue
            known = known | CONSUMED.get(registry, set())
            for argument in given:
                if new := new_name(name, argument):
                    raise UserError(f'{source}: {field}: {argument!r} is called {new!r} now.')
                if argument not in known | {'type', '_scope_'}:
                    raise UserError(
                        f'{source}: {field}: {name} has no argument {argument!r}.'
                        f'{nearest(argument, known)} It has: {", ".join(sorted(known))}.'
                    )
            if key == 'type':
                check_kinds(cls, node, f'{source}: {field}')
    _check_hooks(cfg.get('default_hooks') or {}, f'{source}: default_hooks')
    for field, usual in _LOOPS.items():
        _check_loop(cfg.get(field), usual, f'{source}: {field}')


def _check_sections(cfg: Config, source: str) -> None:
    """Raise if a field that holds fields of its own holds something else."""
    for field in _SECTIONS:
        value = cfg.get(field, {})
        if not isinstance(value, dict) and (value is not None or field == 'model'):
            raise UserError(
                f'{source}: {field} is {shown(value)}, where a dict belongs. Set one of its '
                f'fields, as by --cfg-options {field}.FIELD=VALUE.'
            )
    for field in _LISTS:
        value = cfg.get(field)
        each = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(one, str | int | float) for one in each):
            raise UserError(f'{source}: {field} is {shown(value)}, where a list of dicts belongs.')
    for split in ('train', 'val', 'test'):
        batch = (cfg.get(f'{split}_dataloader') or {}).get('batch_size')
        if batch is not None:
            check_count(batch, f'{source}: {split}_dataloader.batch_size')
    for length in ('max_iters', 'max_epochs'):
        steps = (cfg.get('train_cfg') or {}).get(length)
        if isinstance(steps, float) and steps.is_integer():  # 1e4, as mmengine takes it
            steps = cfg.train_cfg[length] = int(steps)
        if steps is not None:
            check_count(steps, f'{source}: train_cfg.{length}')


def _check_loop(node: Any, usual: str, where: str) -> None:
    """Raise if a dict for one of mmengine's loops has a word that its class does not know."""
    if not isinstance(node, dict):
        return
    # how a training loop without a type is chosen
    chosen = set() if 'type' in node else {'by_epoch'}
    if chosen and node.get('by_epoch') is False:
        usual = 'IterBasedTrainLoop'
    name = node.get('type', usual)
    cls = mmengine.registry.LOOPS.get(name) if isinstance(name, str) else name
    if cls is None:
        if isinstance(name, str) and is_known(name):  # of a library whose scope is not chosen yet
            return
        loops = mmengine.registry.LOOPS.module_dict
        raise UserError(f'{where}.type: there is no {name!r}.{nearest(str(name), loops)}')
    known = arguments_of(cls)
    if known is None or not (unknown := sorted(set(node) - known - chosen - {'type', '_scope_'})):
        return
    usable = known - _OF_RUNNER
    raise UserError(
        f'{where}: {cls.__name__} has no argument {unknown[0]!r}.{nearest(unknown[0], usable)} '
        f'It has: {", ".join(sorted(usable))}.'
    )


def _check_spelling(name: Any, ours: Iterable[str], where: str) -> None:
    """Raise if a name is nobody's and nearly one of ours."""
    if not isinstance(name, str):
        return
    if new := new_name(name):
        raise UserError(f'{where}: {name!r} is called {new!r} now.')
    near = difflib.get_close_matches(name, list(ours), n=1, cutoff=0.85)
    if near and not is_known(name):
        raise UserError(f'{where}: there is no {name!r}. Did you mean {near[0]!r}?')


def _check_hooks(hooks: dict[str, Any], field: str) -> None:
    """mmengine has a traceback for what is given to a hook that is not there."""
    for name, hook in hooks.items():
        if isinstance(hook, dict) and 'type' not in hook and name not in _HOOKS:
            raise UserError(
                f'{field}: there is no hook {name!r}.{nearest(name, {*hooks} - {name})} Give the '
                'name of one that the config has, or a type for a new one.'
            )


def _our_classes() -> dict[str, tuple[Any, str]]:
    """Return {registered name: (class, name of its root registry)} of this package's classes."""
    found = {}
    for registry_name, registry in root_registries().items():
        for name, cls in registry.module_dict.items():
            if cls.__module__.split('.')[0] == 'moca':
                found[name] = (cls, registry_name)
    return found


def walk(node: Any, field: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (dotted path, dict) of every dict in a nested config, outer ones first."""
    if isinstance(node, dict):
        yield field or 'top level', node
        for key, value in node.items():
            yield from walk(value, f'{field}.{key}' if field else str(key))
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from walk(value, f'{field}.{index}')


def _arguments(cls: Any, key: str) -> Set[str] | None:
    """Return the names that a class can be called with, or None if it takes any.

    An optimizer wrapper's constructor says what its ``paramwise_cfg`` may hold in the class
    attribute ``paramwise_keys``.
    """
    if key == 'constructor':
        keys = getattr(cls, 'paramwise_keys', None)
        return None if keys is None else frozenset(keys)
    return arguments_of(cls)
