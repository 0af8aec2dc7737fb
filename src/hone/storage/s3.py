"""A store in any S3-compatible bucket.

Endpoint, region, CA and credentials come from the usual AWS settings: AWS_ENDPOINT_URL, AWS_REGION, AWS_CA_BUNDLE, and
keys, a profile or a role, which boto refreshes. Payloads are signed, so the server refuses bytes that changed on the
way. Every fault is met in one place: tried again after a wait with jitter, counted, and at last named.
"""

import hashlib
import itertools
import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from contextvars import copy_context
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

from hone.errors import TransientError, UserError
from hone.log import log
from hone.retry import Backoff, retried
from hone.secrets import address_alone, without_secrets
from hone.storage.base import Fetched, Object, checked_key, sha256_of

T = TypeVar("T")
PIECE = 8 << 20
"""Bytes moved by one request: with the number of transfers it bounds memory."""
BUFFER = 256 << 10
"""Larger ones are mapped and cleared by the kernel every time: a third of the speed of reading."""
MOST_PIECES = 9_000
TRANSFERS = 10
PAGE = 1_000
PROBES = "probes"
ATTEMPTS = 10
"""Unless AWS_MAX_ATTEMPTS or max_attempts in AWS's settings file says otherwise."""
FIRST_ATTEMPTS = 5
"""Before the server has answered at all: the address may be wrong."""
FIRST_WAIT, LONGEST_WAIT = 0.2, 20.0
CONNECT_TIMEOUT, READ_TIMEOUT = 10.0, 60.0
GRACE, SLOWEST = 60.0, 50_000
"""Seconds that the body of an answer may take, and more for every so many bytes of it: a trickle is a fault too."""
TRANSIENT = {
    "SlowDown", "Throttling", "RequestLimitExceeded", "RequestTimeout", "InternalError", "ServiceUnavailable",
    "OperationAborted", "ConditionalRequestConflict", "IncompleteBody", "BadDigest", "XAmzContentSHA256Mismatch",
}  # fmt: skip
EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"}
MISSING = {"404", "NoSuchKey", "NoSuchUpload"}
EXISTS = {"412", "PreconditionFailed"}


PROOFS = {
    "get_object": "ETag", "head_object": "ETag", "put_object": "ETag", "upload_part": "ETag",
    "create_multipart_upload": "UploadId", "list_objects_v2": "IsTruncated", "list_multipart_uploads": "IsTruncated",
}  # fmt: skip
"""What every S3 server puts into its answer, and what answers in its place does not."""


class _EmptyObjectError(Exception):
    """An empty object has no first byte to ask for."""


class _ForeignError(Exception):
    """An answer with the status of success that no S3 server gives."""


def _fault(error: Exception) -> str:
    """The name of a fault: the server's code, or what broke."""
    from botocore.exceptions import ClientError

    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", ""))
    return str(error) if isinstance(error, _ForeignError) else type(error).__name__


class _Bounded:
    """The way of requests to the server, on which no body takes longer than its size allows."""

    def __init__(self, session: Any, heard: Callable[[], None]) -> None:
        self._session, self._heard = session, heard

    def send(self, request: Any) -> Any:
        read_later, request.stream_output = request.stream_output, True
        response = self._session.send(request)
        self._heard()
        response.raw = _BoundedBody(response.raw, address_alone(request.url))
        if not read_later:
            _ = response.content
        return response

    def close(self) -> None:
        self._session.close()


class _BoundedBody:
    """The body of an answer. Raises ReadTimeoutError when it comes too slowly."""

    def __init__(self, raw: Any, url: str) -> None:
        self._raw, self._url = raw, url
        self._started, self._read = time.monotonic(), 0

    def read(self, amount: int | None = None) -> bytes:
        """At most so many bytes, fewer if no more have arrived yet; without a number all that is left."""
        if amount is None:
            return b"".join(self.stream())
        from botocore.exceptions import ReadTimeoutError

        if time.monotonic() - self._started > GRACE + self._read / SLOWEST:
            self._raw.close()
            raise ReadTimeoutError(endpoint_url=self._url)
        data = self._raw.read1(amount) or b""
        self._read += len(data)
        return data

    def stream(self) -> Iterator[bytes]:
        """All that is left, in pieces."""
        while piece := self.read(BUFFER):
            yield piece

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)


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
        self.faults: Counter[str] = Counter()
        self._lock, self._buffers = threading.Lock(), threading.local()
        self._answered = self._checked = False
        self._renew()

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
            held = self._call(lambda: self._request("head_object", probe.key))["ContentLength"]
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
            return self._call(lambda: self._request("get_object", checked_key(key))["Body"].read())
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
            self._call(lambda: self._request("put_object", checked_key(key), Body=data, IfNoneMatch="*"))
        except FileExistsError:
            # The answer to an earlier try of this very call may have been lost on the way.
            return self.read(key) == data
        return True

    def replace(self, key: str, data: bytes) -> None:
        self._call(lambda: self._request("put_object", checked_key(key), Body=data))

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
        with suppress(FileNotFoundError):
            if unwanted.upload:
                self._call(lambda: self._request("abort_multipart_upload", unwanted.key, UploadId=unwanted.upload))
            else:
                self._call(lambda: self._request("delete_object", unwanted.key))

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

    def _renew(self) -> None:
        """A fresh client: it asks the chain for credentials anew."""
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        # Ceph and other servers refuse or mishandle the newer checksums; the signature covers the payload.
        config = Config(
            retries={"total_max_attempts": 1},
            max_pool_connections=2 * TRANSFERS,
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            s3={"addressing_style": "path", "payload_signing_enabled": True},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        try:
            session: Any = cast(Any, boto3).Session()
            self._attempts = int(session._session.get_config_variable("max_attempts") or ATTEMPTS)
            self.client: Any = session.client("s3", config=config)
            self.client._endpoint.http_session = _Bounded(self.client._endpoint.http_session, self._hear)
        except (BotoCoreError, ValueError) as error:
            flaw = without_secrets(str(error))
            raise UserError(f"the AWS settings for {self.uri} cannot be used: {flaw}") from error

    def _hear(self) -> None:
        """Something answers at the address: from now on a fault is a passing one."""
        self._answered = True

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
                raise _ForeignError("all of an object instead of the range that was asked for")
            at = start
            for chunk in answer["Body"].iter_chunks(BUFFER):
                at += os.pwrite(file, chunk, at)
            return int(answer["ContentRange"].rpartition("/")[2])

        try:
            return self._call(copy)
        except _EmptyObjectError:
            return 0

    def _put_in_pieces(self, key: str, path: Path, size: int) -> None:
        piece = max(PIECE, -(-size // MOST_PIECES))
        upload = self._call(lambda: self._request("create_multipart_upload", key))["UploadId"]
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

        return self._call(send)

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
            self._call(
                lambda: self._request(
                    "complete_multipart_upload", key, UploadId=upload, MultipartUpload={"Parts": parts}
                )
            )
        try:
            stored = self._call(lambda: self._request("head_object", key))["ContentLength"]
        except FileNotFoundError:
            stored = 0
        if stored != size:
            raise TransientError(f"{key} in {self.uri} has {stored} bytes instead of {size} after its upload")

    def _pages(self, operation: str, most: str, marks: dict[str, str], prefix: str) -> Iterator[dict[str, Any]]:
        """All pages of a listing; `marks` names what a page holds and the next request hands back."""
        given: dict[str, Any] = {"Bucket": self.bucket, "Prefix": prefix, most: PAGE}
        while True:
            page = self._call(lambda: self._proved(operation, given))
            yield page
            if not page.get("IsTruncated"):
                return
            given.update({ask: page[answered] for answered, ask in marks.items()})

    def _request(self, operation: str, key: str, **arguments: Any) -> Any:
        from botocore.exceptions import ClientError

        try:
            return self._proved(operation, {"Bucket": self.bucket, "Key": self._key(key), **arguments})
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
            contents = self._proved("list_objects_v2", asked).get("Contents", [])
        except ClientError:
            return False
        return all(entry["Key"] != self._key(key) for entry in contents)

    def _proved(self, operation: str, arguments: dict[str, Any]) -> Any:
        """The answer to a request. Raises _ForeignError if no S3 server gave it."""
        answer = getattr(self.client, operation)(**arguments)
        if PROOFS.get(operation, "ResponseMetadata") not in answer:
            raise _ForeignError("something that is not S3")
        return answer

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def _own(self, key: str) -> str:
        return key.removeprefix(f"{self.prefix}/") if self.prefix else key

    def _call(self, request: Callable[[], T]) -> T:
        """Runs a request until it succeeds or its fault does not pass.

        Raises FileNotFoundError, FileExistsError, UserError for what the user can correct, TransientError for the rest.
        """
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError
        from urllib3.exceptions import HTTPError

        def failed(error: Exception, attempt: int) -> None:
            if isinstance(error, ClientError):
                self._refused(error)
            else:
                self._broken(error)
            self._note(_fault(error), attempt)
            if not self._answered and attempt >= FIRST_ATTEMPTS:
                raise self._lasting(error, attempt) from error

        backoff = Backoff(self._attempts, 2 * FIRST_WAIT, LONGEST_WAIT)
        kinds = (ClientError, BotoCoreError, ResponseParserError, HTTPError, _ForeignError)
        answer = retried(request, backoff, *kinds, lasting=self._lasting, failed=failed)
        self._answered = True
        return answer

    def _refused(self, error: Any) -> None:
        """Raises what a fault means that the server reported, unless it passes."""
        code = _fault(error)
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        self._answered = True
        if code in EXPIRED:
            return self._renew()
        if code in TRANSIENT or status >= 500 or status == 429:
            return None
        if code in MISSING:
            raise FileNotFoundError(code) from error
        if code in EXISTS:
            raise FileExistsError(code) from error
        if code == "InvalidRange":
            raise _EmptyObjectError from error
        if code == "NoSuchBucket":
            raise UserError(f"there is no bucket {self.bucket!r} for the store {self.uri}; create it first") from error
        raise UserError(f"the store {self.uri} refused the request ({code}); check the bucket, region and credentials")

    def _broken(self, error: Exception) -> None:
        """Raises what a fault of the connection means, unless it passes."""
        from botocore import exceptions as boto

        if isinstance(error, (boto.NoCredentialsError, boto.PartialCredentialsError)):
            cure = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role"
            raise UserError(f"no credentials for {self.uri}; {cure}") from error
        if isinstance(error, boto.SSLError):
            cure = "if its CA is your own, set AWS_CA_BUNDLE"
            raise UserError(f"the certificate of {self._endpoint} is not trusted; {cure}") from error
        if isinstance(error, boto.ParamValidationError):
            raise UserError(f"{self.uri} cannot be requested: {error}") from error

    def _lasting(self, error: Exception, attempts: int) -> Exception:
        """What a fault that outlasted all tries means for the user."""
        fault = _fault(error)
        if fault in EXPIRED:
            return UserError(f"the credentials for {self.uri} have expired; log in again and run the command again")
        if isinstance(error, _ForeignError):
            cure = "check AWS_ENDPOINT_URL and any proxy on the way; Hone needs a server that honours Range"
            return UserError(f"{self._endpoint} answered {attempts} times with {fault}; {cure}")
        if not self._answered:
            return UserError(f"no S3 server answers at {self._endpoint} ({fault}); check AWS_ENDPOINT_URL")
        again = "finished work is kept, run the command again"
        return TransientError(f"the store {self.uri} failed {attempts} times in a row ({fault}); {again}")

    def _note(self, fault: str, attempt: int) -> None:
        with self._lock:
            self.faults[fault] += 1
        log.warning("store fault", store=self.uri, fault=fault, attempt=attempt)

    @property
    def _endpoint(self) -> str:
        return address_alone(str(self.client.meta.endpoint_url))
