"""Pickles that would run code if they were read as such: each leaves a canary when it does."""

from __future__ import annotations

import pickle
import pickletools
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


def attacks(canary: Path) -> dict[str, bytes]:
    """Bodies of pickles, without PROTO and STOP, by name; each would write ``canary``."""
    shell = f'touch {canary}'
    code = f'open({str(canary)!r}, "w").close()'
    module = f'import os; os.system({shell!r})'
    builtin = partial(_call, 'builtins')
    listed = b'(' + _value('touch') + _value(str(canary)) + b'l'
    history = b'cmmengine.logging.history_buffer\nHistoryBuffer\n'
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
        '__import__': _attribute(builtin('__import__', 'os'), 'system')
        + b'('
        + _value(shell)
        + b'tR',
        'getattr of os': _attribute(b'cos\npath\n', 'os'),
        'getattr of an allowed class': _attribute(history, '__init__'),
        'getattr of its globals': _attribute(_attribute(history, '__init__'), '__globals__'),
        'importlib': _call('importlib', 'import_module', 'antigravity'),
        'runpy': _call('runpy', '_run_code', builtin('compile', module, '', 'exec'), b'}'),
        'timeit': _call('timeit', 'timeit', module, 'pass', b'cbuiltins\nNone\n', 1),
        'cProfile': _call('cProfile', 'run', module),
        'bdb': _call('bdb', 'run', module),
        'code': _call('code', 'interact', module),
        'ctypes': _call('ctypes', 'CDLL', str(canary)),
        'shutil.copy': _call('shutil', 'copy', '/etc/hostname', str(canary)),
        'pathlib touch': b'cpathlib\nPosixPath.touch\n('
        + _call('pathlib', 'PosixPath', str(canary))
        + b'tR',
        'numpy.save': _call('numpy', 'save', str(canary), 1),
        'numpy.loadtxt': _call('numpy.testing._private.utils', 'runstring', module, b'}'),
        'torch.save': _call('torch', 'save', 1, str(canary)),
        'torch.load': _call('torch.serialization', 'load', str(canary)),
        'torch.hub': _call('torch.hub', 'load', str(canary.parent), 'x'),
        'torch extension': _call('torch.utils.cpp_extension', 'load_inline', 'x', code),
        'storage of bytes': _call('torch.storage', '_load_from_bytes', b'C\x01x'),
        'mmengine config': _call('mmengine.config', 'Config.fromfile', str(canary)),
        'functools.partial': _call('functools', 'partial', b'cos\nsystem\n', shell) + b'(tR',
        'operator': _call('operator', 'methodcaller', 'system', shell) + b'(cos\npath\ntR',
        'map': builtin('list', builtin('map', b'cos\nsystem\n', b'(' + _value(shell) + b'l')),
        'defaultdict': _call('collections', 'defaultdict', b'cos\nsystem\n'),
        'INST': b'(' + _value(shell) + b'ios\nsystem\n',
        'OBJ': _call('os', 'system', shell, obj=True),
        'NEWOBJ': b'csubprocess\nPopen\n(' + listed + b't\x81',
        'STACK_GLOBAL': _value('os') + _value('system') + b'\x93(' + _value(shell) + b'tR',
        'EXT1': b'\x82\x01(' + _value(shell) + b'tR',
        'BUILD of a state': history + b'(tR}' + _value('__class__') + b'cos\nsystem\nsb',
        'persistent id': _value(f'storage {canary}') + b'Q',
    }


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
