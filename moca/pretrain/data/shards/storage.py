"""Tar files on a disk or behind a URL that fsspec reads: which there are, and bytes of them."""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO

from fsspec.core import url_to_fs

from moca.errors import UserError
from moca.images.listing import ENDINGS, ending_of

TAR = '.tar'
_COMPRESSED = ('.tar.gz', '.tgz', '.tar.bz2', '.tar.xz', '.tar.zst')
_SHARDS = (TAR, *_COMPRESSED)
# Files that a process keeps open [our choice: a window of the shuffle has about 30 shards].
_OPEN_FILES = 64
# Bytes asked for at once where a whole tar is read [our choice: a second of a slow network].
_BLOCK = 8 << 20


@dataclass(frozen=True)
class ShardFile:
    """A tar that is there.

    Attributes:
        url: A path, or a URL of fsspec.
        size: In bytes.
        state: A text that is another one once the file has changed, as far as its storage tells.
    """

    url: str
    size: int
    state: str


def is_local(url: str) -> bool:
    """Whether it is a path and no URL."""
    return '://' not in url


def names_shards(root: str) -> bool:
    """Whether a data root is one of tars: a tar, a range or pattern of them, a URL, their folder.

    A folder that has images or folders beside its tars is one of image files, as ever.
    """
    if not is_local(root) or root.endswith(_SHARDS):
        return True
    if not os.path.isdir(root):
        return _expand(root) != [root] or _has_pattern(root)
    tars = False
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.name.startswith('.'):
                continue
            if entry.is_dir() or ending_of(entry.name) in ENDINGS:
                return False
            tars |= entry.name.endswith(_SHARDS)
    return tars


def find_shards(root: str) -> list[str]:
    """Paths or URLs of the tars that a data root names; a folder's and a pattern's are sorted.

    Args:
        root: ``DIR``, ``DIR/0.tar``, ``DIR/{000..123}.tar`` or ``DIR/train-*.tar``; likewise behind
            a URL, which may have a cache in front (``simplecache::s3://BUCKET/{000..123}.tar``).

    Raises:
        UserError: There is none, they are compressed, or the URL is of a kind that fsspec does not
            know.
    """
    found = [url for part in _expand(root) for url in _search(part)]
    packed = [url for url in found if url.endswith(_COMPRESSED)]
    if packed:
        raise UserError(
            f'data_root {root}: {packed[0]} is compressed, so that no image can be read without '
            f'all before it ({len(packed)} of {len(found)} files). Unpack them to {TAR}.'
        )
    if not found:
        raise UserError(
            f'data_root {root}: no {TAR} file. Give the folder or URL that holds them, or a range '
            f"such as 'DIR/{{000..123}}{TAR}'."
        )
    return list(dict.fromkeys(found))


def look_at(url: str) -> ShardFile:
    """Size and state of a tar.

    Raises:
        UserError: It is not there or cannot be looked at.
    """
    try:
        if is_local(url):
            status = os.stat(url)
            return ShardFile(url, status.st_size, f'{status.st_size} {status.st_mtime_ns}')
        files, path = storage(url)
        return ShardFile(url, int(files.info(path)['size']), str(files.ukey(path)))
    except UserError:
        raise
    except Exception as error:  # whatever a storage raises
        raise UserError(
            f'{url}: this shard cannot be read ({reason(error)}). Give shards that are there.'
        ) from error


def open_shard(url: str) -> BinaryIO:
    """Open a tar that is to be read from its beginning to its end.

    Raises:
        Exception: Whatever its storage raises.
    """
    if is_local(url):
        return open(url, 'rb')
    files, path = storage(url)
    opened: BinaryIO = files.open(path, 'rb', block_size=_BLOCK, cache_type='readahead')
    return opened


class RangeReader:
    """Reads ranges of bytes of many files, some of which it keeps open.

    A worker, forked or spawned, opens its own.
    """

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._open: OrderedDict[str, int] = OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        return RangeReader, ()

    def __del__(self) -> None:
        if self._owner == os.getpid():
            for descriptor in self._open.values():
                os.close(descriptor)

    def read(self, ranges: Sequence[tuple[str, int, int]]) -> list[bytes | OSError]:
        """Read several ranges, those behind a URL at the same time.

        Args:
            ranges: (path or URL, first byte, byte after the last); all are paths or all URLs.

        Returns:
            The bytes of each, fewer where the file ends before; or why it cannot be read.
        """
        if not ranges or is_local(ranges[0][0]):
            return [self._read_file(*each) for each in ranges]
        files, _ = storage(ranges[0][0])
        paths, starts, ends = zip(*((storage(url)[1], *ends) for url, *ends in ranges), strict=True)
        try:
            found = files.cat_ranges(list(paths), list(starts), list(ends), on_error='return')
        except Exception as error:
            found = [error] * len(ranges)
        return [each if isinstance(each, bytes) else OSError(0, reason(each)) for each in found]

    def _read_file(self, path: str, start: int, end: int) -> bytes | OSError:
        try:
            return os.pread(self._descriptor(path), end - start, start)
        except OSError as error:
            return error

    def _descriptor(self, path: str) -> int:
        if self._owner != os.getpid():  # the parent's are left to the parent
            self._owner, self._open = os.getpid(), OrderedDict()
        if path in self._open:
            self._open.move_to_end(path)
        else:
            if len(self._open) >= _OPEN_FILES:
                os.close(self._open.popitem(last=False)[1])
            self._open[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return self._open[path]


def storage(url: str) -> tuple[Any, str]:
    """The file system of a URL, of this process, and the path in it.

    Raises:
        UserError: fsspec does not know its kind, or lacks a package for it.
    """
    try:
        files, path = url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UserError(f'{url}: {reason(error)}. Give a URL that fsspec reads.') from error
    return files, path


def reason(error: BaseException) -> str:
    """What an error says, in one line."""
    text = getattr(error, 'strerror', None) or str(error) or type(error).__name__
    return ' '.join(text.split()).rstrip('.')


def _search(part: str) -> list[str]:
    """A tar as it is named, or those of a folder or pattern, sorted."""
    if part.endswith(_SHARDS) and not _has_pattern(part):
        return [part]
    try:
        found = _listed(part) if is_local(part) else _listed_behind(part)
    except UserError:
        raise
    except Exception as error:  # whatever a storage raises
        raise UserError(
            f'data_root {part}: its files cannot be listed ({reason(error)}). Give a range, such '
            f"as '{part.rstrip('/')}/{{000..123}}{TAR}'."
        ) from error
    return sorted(name for name in found if name.endswith(_SHARDS))


def _listed(part: str) -> list[str]:
    path = Path(part)
    found = path.iterdir() if path.is_dir() else path.parent.glob(path.name)
    return [str(each) for each in found if not each.name.startswith('.')]


def _listed_behind(url: str) -> list[str]:
    cache, link, inner = url.rpartition('::')
    files, path = storage(inner)
    found = files.glob(path if _has_pattern(path) else f'{path.rstrip("/")}/*')
    return [f'{cache}{link}{files.unstrip_protocol(name)}' for name in found]


def _has_pattern(path: str) -> bool:
    return any(sign in path for sign in '*?[')


def _expand(text: str) -> list[str]:
    """``{008..011}`` and ``{a,b}`` as a shell expands them, in that order."""
    pieces = re.split(r'(\{\d+\.\.\d+\}|\{[^{}]*,[^{}]*\})', text)
    return [''.join(each) for each in product(*map(_choices, pieces))]


def _choices(piece: str) -> list[str]:
    if match := re.fullmatch(r'\{(\d+)\.\.(\d+)\}', piece):
        first, last = match.groups()
        step = 1 if int(first) <= int(last) else -1
        padded = any(len(end) > 1 and end[0] == '0' for end in (first, last))
        width = max(len(first), len(last)) if padded else 0
        return [f'{number:0{width}d}' for number in range(int(first), int(last) + step, step)]
    return piece[1:-1].split(',') if piece.startswith('{') and ',' in piece else [piece]
