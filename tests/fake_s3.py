"""An S3 server in this process, for tests that need many of them and none of Ceph's strictness."""

from collections.abc import Generator
from contextlib import contextmanager

import boto3
from moto.server import ThreadedMotoServer


@contextmanager
def s3_with(bucket: str) -> Generator[str]:
    """The address of a server on a free port that holds one empty bucket."""
    moto = ThreadedMotoServer(port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    address = f"http://{host}:{port}"
    make = boto3.client("s3", "us-east-1", endpoint_url=address, aws_access_key_id="a", aws_secret_access_key="b")
    make.create_bucket(Bucket=bucket)
    yield address
    moto.stop()
