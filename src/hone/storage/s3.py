"""A store in any S3-compatible bucket.

Endpoint, region, CA and credentials come from the usual AWS settings: AWS_ENDPOINT_URL, AWS_REGION, AWS_CA_BUNDLE, and
keys, a profile or a role, which boto refreshes. Payloads are signed, so the server refuses bytes that changed on the
way. What happens when a request fails is told in `s3_connection`.
"""

import hashlib
import itertools
import os
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from contextvars import copy_context
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from hone.errors import TransientError, UserError
from hone.secrets import address_alone
from hone.storage.base import Fetched, Object, checked_key, sha256_of
from hone.storage.s3_connection import BUFFER, TRANSFERS, Connection, EmptyObjectError, ForeignError

T = TypeVar("T")
PIECE = 8 << 20
"""Bytes moved by one request: with the number of transfers it bounds memory."""
MOST_PIECES = 9_000
PAGE = 1_000
PROBES = "probes"


def bucket_and_key(address: str) -> tuple[str, str]:
    """The two parts of `s3://bucket/key`; the key may be empty, and keeps a slash at its end. Raises UserError."""
    scheme, _, rest = address.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise UserError(f"{address_alone(address)!r} does not name a bucket; write s3://bucket/prefix")
    return bucket, key


class S3Store:
    def __init__(self, bucket: str, prefix: str) -> None:
        self.bucket, self.prefix = bucket, prefix
        self.uri = self.place = f"s3://{bucket}/{prefix}".rstrip("/")
        self.connection = Connection(bucket, self.uri)
        self.faults = self.connection.faults
        self._buffers, self._checked = threading.local(), False

    @classmethod
    def at(cls, address: str) -> "S3Store":
        """The store at `s3://bucket/prefix`. Raises UserError."""
        bucket, prefix = bucket_and_key(address)
        return cls(bucket, prefix.strip("/"))

    def check_writable(self) -> None:
        """Does once with a small object all that will be done with large ones. Raises UserError."""
        if self._checked:
            return
        probe = Object(f"{PROBES}/{uuid.uuid4().hex}", 0, 0.0)
        try:
            self.create(probe.key, b"1")
            held = self.connection.call(lambda: self._request("head_object", probe.key))["ContentLength"]
            if held != 1 or self.read(probe.key) != b"1":
                raise FileNotFoundError(probe.key)
            if self.create(probe.key, b"2"):
                shared = "two runs could both believe that they finished a result"
                raise UserError(
                    f"the server of {self.uri} ignores If-None-Match: {shared}; use one that honours it, or a folder"
                )
        except FileNotFoundError as error:
            raise TransientError(f"{self.uri} said that it had stored {probe.key}, and has not; run again") from error
        finally:
            self.delete(probe)
        self._checked = True

    def read(self, key: str) -> bytes | None:
        try:
            return self.connection.call(lambda: self._request("get_object", checked_key(key))["Body"].read())
        except FileNotFoundError:
            return None

    def fetch(self, key: str, folder: Path, *, anew: bool = False) -> Fetched:
        target = folder / checked_key(key)
        known = target.is_file() and not anew
        return Fetched(target, sha256_of(target) if known else self.download(key, target))

    def download(self, key: str, target: Path) -> str:
        """Copies an object, whatever its key, to a local file; returns its sha256 (hex). Raises FileNotFoundError."""
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{uuid.uuid4().hex}")
        try:
            with temporary.open("w+b") as file:
                sha256 = self._fetch_pieces(key, file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        return sha256

    def put(self, key: str, path: Path) -> None:
        size = path.stat().st_size
        checked_key(key)
        if size <= PIECE:
            self.replace(key, path.read_bytes())
        else:
            self._put_in_pieces(key, path, size)

    def create(self, key: str, data: bytes) -> bool:
        try:
            self.connection.call(lambda: self._request("put_object", checked_key(key), Body=data, IfNoneMatch="*"))
        except FileExistsError:
            # The answer to an earlier try of this very call may have been lost on the way.
            return self.read(key) == data
        return True

    def replace(self, key: str, data: bytes) -> None:
        self.connection.call(lambda: self._request("put_object", checked_key(key), Body=data))

    def objects(self, prefix: str = "") -> Iterator[Object]:
        return self.named(f"{prefix.strip('/')}/" if prefix else "")

    def named(self, start: str) -> Iterator[Object]:
        """Every object whose key begins so, sorted by key."""
        start = self._key(start)
        for page in self._pages("list_objects_v2", "MaxKeys", {"NextContinuationToken": "ContinuationToken"}, start):
            for entry in page.get("Contents", []):
                yield Object(self._own(entry["Key"]), entry["Size"], entry["LastModified"].timestamp())

    def unfinished(self) -> Iterator[Object]:
        marks = {"NextKeyMarker": "KeyMarker", "NextUploadIdMarker": "UploadIdMarker"}
        for page in self._pages("list_multipart_uploads", "MaxUploads", marks, self._key("")):
            for entry in page.get("Uploads", []):
                yield Object(self._own(entry["Key"]), 0, entry["Initiated"].timestamp(), entry["UploadId"])

    def delete(self, unwanted: Object) -> None:
        checked_key(unwanted.key)
        operation = "abort_multipart_upload" if unwanted.upload else "delete_object"
        which = {"UploadId": unwanted.upload} if unwanted.upload else {}
        with suppress(FileNotFoundError):
            self.connection.call(lambda: self._request(operation, unwanted.key, **which))

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(TRANSFERS, thread_name_prefix="s3")

    def _in_parallel(self, move: Callable[[int], T], places: Iterable[int]) -> Iterator[T]:
        """Results in order; every fault is logged with what the caller is about."""
        running = [self._pool.submit(copy_context().run, move, place) for place in places]
        try:
            for future in running:
                yield future.result()
        finally:
            for future in running:
                future.cancel()
            wait(running)

    def _fetch_pieces(self, key: str, file: int) -> str:
        """Copies an object to an open file. Each piece is hashed while those after it are on their way."""
        size = self._fetch_piece(key, file, 0)
        rest = range(PIECE, size, PIECE)
        arriving = self._in_parallel(lambda start: self._fetch_piece(key, file, start), rest)
        digest = hashlib.sha256()
        for start, _ in zip((0, *rest), itertools.chain((size,), arriving), strict=True):
            for at in range(start, start + PIECE, BUFFER):
                digest.update(os.pread(file, BUFFER, at))
        return digest.hexdigest()

    def _fetch_piece(self, key: str, file: int, start: int) -> int:
        """Copies one piece of an object to the same place of an open file; returns the size of the whole object."""

        def copy() -> int:
            answer = self._request("get_object", key, Range=f"bytes={start}-{start + PIECE - 1}")
            if "ContentRange" not in answer:
                raise ForeignError("all of an object instead of the range that was asked for")
            at = start
            for chunk in answer["Body"].iter_chunks(BUFFER):
                at += os.pwrite(file, chunk, at)
            return int(answer["ContentRange"].rpartition("/")[2])

        try:
            return self.connection.call(copy)
        except EmptyObjectError:
            return 0

    def _put_in_pieces(self, key: str, path: Path, size: int) -> None:
        piece = max(PIECE, -(-size // MOST_PIECES))
        upload = self.connection.call(lambda: self._request("create_multipart_upload", key))["UploadId"]
        try:
            with path.open("rb") as file:
                numbers = range(1, -(-size // piece) + 1)
                send = lambda number: self._put_piece(key, upload, number, file.fileno(), piece)  # noqa: E731
                parts = list(self._in_parallel(send, numbers))
            self._complete(key, upload, parts, size)
        except BaseException:
            with suppress(TransientError, UserError):
                self.delete(Object(key, 0, 0.0, upload))
            raise

    def _put_piece(self, key: str, upload: str, number: int, file: int, piece: int) -> dict[str, Any]:
        def send() -> dict[str, Any]:
            body = self._piece(file, piece, (number - 1) * piece)
            answer = self._request("upload_part", key, UploadId=upload, PartNumber=number, Body=body)
            return {"PartNumber": number, "ETag": answer["ETag"]}

        return self.connection.call(send)

    def _piece(self, file: int, size: int, start: int) -> bytearray:
        """A piece of a file, in a buffer that this thread fills anew every time: fresh memory costs more than reading.

        The last piece of a file is shorter.
        """
        buffer: bytearray | None = getattr(self._buffers, "piece", None)
        if buffer is None or len(buffer) != size:
            buffer = self._buffers.piece = bytearray(size)
        read = os.preadv(file, [buffer], start)
        return buffer if read == size else buffer[:read]

    def _complete(self, key: str, upload: str, parts: list[dict[str, Any]], size: int) -> None:
        """Joins the pieces. An upload that is gone was joined by a try whose answer was lost: the size tells."""
        with suppress(FileNotFoundError):
            self.connection.call(
                lambda: self._request(
                    "complete_multipart_upload", key, UploadId=upload, MultipartUpload={"Parts": parts}
                )
            )
        try:
            stored = self.connection.call(lambda: self._request("head_object", key))["ContentLength"]
        except FileNotFoundError:
            stored = 0
        if stored != size:
            raise TransientError(f"{key} in {self.uri} has {stored} bytes instead of {size} after its upload")

    def _pages(self, operation: str, most: str, marks: dict[str, str], prefix: str) -> Iterator[dict[str, Any]]:
        """All pages of a listing; `marks` names what a page holds and the next request hands back."""
        given: dict[str, Any] = {"Bucket": self.bucket, "Prefix": prefix, most: PAGE}
        while True:
            page = self.connection.call(lambda: self.connection.ask(operation, given))
            yield page
            if not page.get("IsTruncated"):
                return
            given.update({ask: page[answered] for answered, ask in marks.items()})

    def _request(self, operation: str, key: str, **arguments: Any) -> Any:
        from botocore.exceptions import ClientError

        try:
            return self.connection.ask(operation, {"Bucket": self.bucket, "Key": self._key(key), **arguments})
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status == 403 and operation in ("get_object", "head_object") and self._is_missing(key):
                raise FileNotFoundError(key) from error
            raise

    def _is_missing(self, key: str) -> bool:
        """Whether a listing does not have a key: to who may list only below a prefix, S3 does not say so of an object
        that is not there, but refuses."""
        from botocore.exceptions import ClientError

        asked = {"Bucket": self.bucket, "Prefix": self._key(key), "MaxKeys": 1}
        try:
            contents = self.connection.ask("list_objects_v2", asked).get("Contents", [])
        except ClientError:
            return False
        return all(entry["Key"] != self._key(key) for entry in contents)

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def _own(self, key: str) -> str:
        return key.removeprefix(f"{self.prefix}/") if self.prefix else key
