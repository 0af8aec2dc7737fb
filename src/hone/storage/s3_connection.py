"""The way to an S3 server: a client whose credentials are renewed, and the one place where every fault is met.

A fault that passes is tried again after a wait with jitter and counted; one that lasts is named for the user. No body
of an answer may take longer than its size allows.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

from hone.errors import TransientError, UserError
from hone.log import log
from hone.retry import Backoff, retried
from hone.secrets import address_alone, without_secrets

T = TypeVar("T")
TRANSFERS = 10
BUFFER = 256 << 10
"""Larger ones are mapped and cleared by the kernel every time: a third of the speed of reading."""
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


class EmptyObjectError(Exception):
    """An empty object has no first byte to ask for."""


class ForeignError(Exception):
    """An answer with the status of success that no S3 server gives."""


def _fault(error: Exception) -> str:
    """The name of a fault: the server's code, or what broke."""
    from botocore.exceptions import ClientError

    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", ""))
    return str(error) if isinstance(error, ForeignError) else type(error).__name__


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


class Connection:
    """What asks one server about one bucket; `uri` is the store for messages."""

    def __init__(self, bucket: str, uri: str) -> None:
        self.bucket, self.uri = bucket, uri
        self.faults: Counter[str] = Counter()
        self._lock, self._answered = threading.Lock(), False
        self._renew()

    def ask(self, operation: str, arguments: dict[str, Any]) -> Any:
        """The answer to a request. Raises ForeignError if no S3 server gave it."""
        answer = getattr(self.client, operation)(**arguments)
        if PROOFS.get(operation, "ResponseMetadata") not in answer:
            raise ForeignError("something that is not S3")
        return answer

    def call(self, request: Callable[[], T]) -> T:
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
        kinds = (ClientError, BotoCoreError, ResponseParserError, HTTPError, ForeignError)
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
            raise EmptyObjectError from error
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
        if isinstance(error, ForeignError):
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
