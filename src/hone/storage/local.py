"""A store in a local folder. Objects are written beside their place and moved there: a crash leaves no half object."""

import ctypes
import errno
import os
import re
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from hone.errors import UserError
from hone.storage.base import Fetched, Object, ReadOnlyError, checked_key, sha256_of

TEMPORARY = re.compile(r"\.hone-[0-9a-f]{32}")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
NO_LINKS = (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL)
"""What file systems without hard links answer: SMB, exFAT, many in user space."""
AT_FDCWD, RENAME_NOREPLACE = -100, 1


class LocalStore:
    """A folder as a store."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uri = str(root)
        self.place = str(root.resolve())
        self.faults: Counter[str] = Counter()

    def check_writable(self) -> None:
        probe = self._temporary(self.root)
        if self.root.exists() and not self.root.is_dir():
            raise UserError(f"cannot write to the store {self.uri}: it is a file; give another --store")
        with self._writing():
            self.root.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()

    def read(self, key: str) -> bytes | None:
        path = self._path(key)
        return path.read_bytes() if path.is_file() else None

    def fetch(self, key: str, folder: Path, *, anew: bool = False) -> Fetched:
        path = self._path(key)
        if not path.is_file():
            raise FileNotFoundError(key)
        return Fetched(path, sha256_of(path))

    def put(self, key: str, path: Path) -> None:
        self._publish(key, lambda temporary: shutil.copyfile(path, temporary), os.replace)

    def create(self, key: str, data: bytes) -> bool:
        try:
            self._publish(key, lambda temporary: temporary.write_bytes(data), place_once)
        except FileExistsError:
            return False
        return True

    def replace(self, key: str, data: bytes) -> None:
        self._publish(key, lambda temporary: temporary.write_bytes(data), os.replace)

    def objects(self, prefix: str = "") -> Iterator[Object]:
        return self._files(prefix, temporary=False)

    def unfinished(self) -> Iterator[Object]:
        return self._files("", temporary=True)

    def delete(self, unwanted: Object) -> None:
        with self._writing():
            self._path(unwanted.key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.root / checked_key(key)

    def _temporary(self, folder: Path) -> Path:
        return folder / f".hone-{uuid.uuid4().hex}"

    def _files(self, prefix: str, *, temporary: bool) -> Iterator[Object]:
        paths = sorted((self.root / prefix).rglob("*"), key=lambda path: path.relative_to(self.root).as_posix())
        for path in paths:
            if bool(TEMPORARY.fullmatch(path.name)) != temporary:
                continue
            try:
                stat = path.stat()
            except FileNotFoundError:  # gone since it was listed: an upload that has ended, an object deleted
                continue
            if path.is_file():
                yield Object(path.relative_to(self.root).as_posix(), stat.st_size, stat.st_mtime)

    def _publish(self, key: str, write: Callable[[Path], object], place: Callable[[Path, Path], None]) -> None:
        target = self._path(key)
        temporary = self._temporary(target.parent)
        with self._writing():
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                write(temporary)
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())
                place(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)

    @contextmanager
    def _writing(self) -> Generator[None]:
        """Says in one sentence why nothing can be written. Raises UserError."""
        try:
            yield
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno in FULL:
                raise UserError(f"the disk of the store {self.uri} is full; free space and run again") from error
            if error.errno in REFUSED or isinstance(error, NotADirectoryError):
                why = error.strerror
                raise ReadOnlyError(f"cannot write to the store {self.uri}: {why}; give another --store") from error
            raise


def place_once(temporary: Path, target: Path) -> None:
    """Gives a file its name if nothing has it yet. Raises FileExistsError, or UserError where no way is atomic."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        _rename_once(temporary, target)


def _rename_once(temporary: Path, target: Path) -> None:
    """The same by `renameat2`, which Linux has on file systems without hard links too."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    failed = rename is None or rename(AT_FDCWD, os.fsencode(temporary), AT_FDCWD, os.fsencode(target), RENAME_NOREPLACE)
    if not failed:
        return
    number = ctypes.get_errno() if rename else errno.ENOSYS
    if number == errno.EEXIST:
        raise FileExistsError(number, os.strerror(number), str(target))
    if number in NO_LINKS:
        raise UserError(
            f"the file system of {target.parent} has neither hard links nor a rename that refuses to overwrite: two "
            "runs could overwrite each other's results; put the store on another one, or in S3"
        )
    raise OSError(number, os.strerror(number), str(target))
