"""Where results live: one small interface over a local folder and S3.

A key is a relative path of plain segments made by Hone (digests, stage names, numbers), never an id from a corpus.
"""

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from hone.errors import TransientError, UserError

T = TypeVar("T")


class Store(Protocol):
    uri: str

    def check_writable(self) -> None:
        """Raises UserError if nothing can be written here."""
        ...

    def read(self, key: str) -> bytes | None:
        """The object's bytes, or None if there is no such object."""
        ...

    def fetch(self, key: str, folder: Path) -> Path:
        """A local file with the object's content: the object itself if it is local, else a copy in `folder`.

        Raises FileNotFoundError if there is no such object.
        """
        ...

    def put(self, key: str, path: Path) -> None:
        """Stores a local file. A reader sees all of it or nothing."""
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Stores a small object if there is none under that key yet; says whether this call made it."""
        ...

    def replace(self, key: str, data: bytes) -> None:
        """Stores a small object, in place of any other."""
        ...

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Every key that starts with the folder `prefix`, with its size in bytes, sorted."""
        ...


def open_store(uri: str) -> Store:
    """`s3://bucket/prefix`, or the path of a local folder (made when first written to)."""
    if uri.startswith("s3://"):
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        if not bucket:
            raise UserError(f"store {uri!r} names no bucket; write s3://bucket/prefix")
        return S3Store(bucket, prefix.strip("/"))
    if "://" in uri:
        raise UserError(f"store {uri!r} is neither a folder nor s3://bucket/prefix")
    return LocalStore(Path(uri))


class LocalStore:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.uri = str(root)

    def check_writable(self) -> None:
        probe = self.root / f".probe-{uuid.uuid4().hex}"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UserError(f"cannot write to the store {self.uri}: {error.strerror}; give another --store") from error

    def read(self, key: str) -> bytes | None:
        path = self.root / key
        return path.read_bytes() if path.is_file() else None

    def fetch(self, key: str, folder: Path) -> Path:
        path = self.root / key
        if not path.is_file():
            raise FileNotFoundError(key)
        return path

    def put(self, key: str, path: Path) -> None:
        self._publish(key, lambda temporary: shutil.copyfile(path, temporary), os.replace)

    def create(self, key: str, data: bytes) -> bool:
        try:
            self._publish(key, lambda temporary: temporary.write_bytes(data), os.link)
        except FileExistsError:
            return False
        return True

    def replace(self, key: str, data: bytes) -> None:
        self._publish(key, lambda temporary: temporary.write_bytes(data), os.replace)

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        for path in sorted((self.root / prefix).rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                yield path.relative_to(self.root).as_posix(), path.stat().st_size

    def _publish(self, key: str, write: Callable[[Path], object], place: Callable[[Path, Path], None]) -> None:
        """Writes beside the target and moves into place, so that a crash leaves no half object under the key."""
        target = self.root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.parent / f".{uuid.uuid4().hex}"
        try:
            write(temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            place(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


class S3Store:
    """Any S3-compatible bucket. Endpoint, region, CA and credentials come from the usual AWS settings chain."""

    def __init__(self, bucket: str, prefix: str) -> None:
        import boto3
        from botocore.config import Config

        self.bucket, self.prefix = bucket, prefix
        self.uri = f"s3://{bucket}/{prefix}".rstrip("/")
        # Ceph and other servers refuse or mishandle the newer default checksums.
        config = Config(
            retries={"mode": "adaptive", "max_attempts": 8},
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        self.client: Any = cast(Any, boto3).client("s3", config=config)

    def check_writable(self) -> None:
        key = f".probe-{uuid.uuid4().hex}"
        self.replace(key, b"")
        self._call(lambda: self.client.delete_object(Bucket=self.bucket, Key=self._key(key)))

    def read(self, key: str) -> bytes | None:
        try:
            return self._call(lambda: self.client.get_object(Bucket=self.bucket, Key=self._key(key))["Body"].read())
        except FileNotFoundError:
            return None

    def fetch(self, key: str, folder: Path) -> Path:
        target = folder / key
        target.parent.mkdir(parents=True, exist_ok=True)
        self._call(lambda: self.client.download_file(self.bucket, self._key(key), str(target)))
        return target

    def put(self, key: str, path: Path) -> None:
        self._call(lambda: self.client.upload_file(str(path), self.bucket, self._key(key)))

    def create(self, key: str, data: bytes) -> bool:
        try:
            self._call(
                lambda: self.client.put_object(Bucket=self.bucket, Key=self._key(key), Body=data, IfNoneMatch="*")
            )
        except FileExistsError:
            return False
        return True

    def replace(self, key: str, data: bytes) -> None:
        self._call(lambda: self.client.put_object(Bucket=self.bucket, Key=self._key(key), Body=data))

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self._key(prefix.rstrip("/") + "/")
        )
        for page in self._call(lambda: list(pages)):
            for entry in page.get("Contents", []):
                yield entry["Key"].removeprefix(self.prefix).lstrip("/"), entry["Size"]

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def _call(self, request: Callable[[], T]) -> T:
        """Runs a request whose transient faults boto has already retried, and names what is left."""
        from boto3.exceptions import S3UploadFailedError
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        try:
            return request()
        except NoCredentialsError as error:
            raise UserError(
                f"no credentials for {self.uri}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a role"
            ) from error
        except ClientError as error:
            code = str(cast(Any, error).response.get("Error", {}).get("Code", ""))
            if code in ("404", "NoSuchKey"):
                raise FileNotFoundError(code) from error
            if code in ("412", "PreconditionFailed", "ConditionalRequestConflict"):
                raise FileExistsError(code) from error
            if code in ("NoSuchBucket", "AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch"):
                raise UserError(f"the store {self.uri} refused the request: {code}") from error
            raise TransientError(f"the store {self.uri} kept failing: {code}") from error
        except (BotoCoreError, S3UploadFailedError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise TransientError(f"the store {self.uri} kept failing: {error}") from error
