"""An S3 server in this process, for tests that need many of them and none of Ceph's strictness."""

import ssl
import threading
from collections.abc import Generator
from contextlib import contextmanager

import boto3
import trustme
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server


@contextmanager
def s3_with(bucket: str, authority: trustme.CA | None = None) -> Generator[str]:
    """The address of a server on a free port that holds one empty bucket; https if an authority vouches for it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if authority else None
    if authority and context:
        authority.issue_cert("127.0.0.1").configure_cert(context)
    app = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, app, True, request_handler=MotoRequestHandler, ssl_context=context)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"{'https' if authority else 'http'}://127.0.0.1:{server.server_port}"
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
    # The certificate is for others to check.
    boto3.Session().client("s3", "us-east-1", endpoint_url=address, verify=False, **keys).create_bucket(Bucket=bucket)
    yield address
    server.shutdown()
