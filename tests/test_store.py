"""One contract for every store: a local folder, and a real S3 server over HTTP through boto3."""

import errno
import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
import trustme
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import faults
from fake_s3 import s3_with
from hone.errors import TransientError, UserError
from hone.inputs import buckets
from hone.kubeflow import settings_text
from hone.results.manifest import Part
from hone.results.table_io import refuse_unstored
from hone.storage import addresses, local, policy, s3, s3_connection
from hone.storage.addresses import open_store
from hone.storage.base import Object, Store, checked_key, sha256_of
from hone.storage.local import LocalStore
from hone.storage.s3 import S3Store, bucket_and_key
from loopback import Handler, Server, running

pytestmark = pytest.mark.slow

BUCKET = "results"
PIECE = 5 << 20
UNSAFE = [
    "", "/", "/etc/passwd", "..", "../x", "a/../../x", "a/..", "./a", "a//b", "a/", "a\0b", "a\nb", "a\\..\\b",
    "%2e%2e/x", "a/%2e", "x" * 10_240, "/".join("a" * 20 for _ in range(100)), "...", "a/\x7f",
]  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server with one bucket."""
    with s3_with(BUCKET) as address:
        yield address


@pytest.fixture
def address(server: str, aws: pytest.MonkeyPatch) -> str:
    """The address of that server, named by the usual AWS settings."""
    aws.setenv("AWS_ENDPOINT_URL", server)
    aws.setenv("AWS_ACCESS_KEY_ID", "an-access-key")
    aws.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-key")
    aws.setattr(s3_connection, "FIRST_WAIT", 0.001)
    aws.setattr(s3, "PIECE", PIECE)
    return server


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return LocalStore(tmp_path / "store")
    request.getfixturevalue("address")
    return open_store(f"s3://{BUCKET}/{tmp_path.name}")


def at(place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    """The test's own part of the bucket, by way of another address."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", place)
    return open_store(f"s3://{BUCKET}/{tmp_path.name}")


def keys(store: Store, prefix: str = "") -> list[str]:
    return [found.key for found in store.objects(prefix)]


def test_what_was_put_is_read_fetched_and_listed(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    store.put("a/b/part", file)
    store.replace("a/manifest.json", b"{}")
    store.replace("ab/other", b"")
    assert store.read("a/b/part") == b"content"
    assert store.fetch("a/b/part", tmp_path / "scratch").path.read_bytes() == b"content"
    assert store.fetch("ab/other", tmp_path / "scratch").path.read_bytes() == b""
    assert [(found.key, found.size) for found in store.objects("a")] == [("a/b/part", 7), ("a/manifest.json", 2)]
    assert keys(store) == ["a/b/part", "a/manifest.json", "ab/other"]
    assert all(abs(found.modified - time.time()) < 60 for found in store.objects())


def test_what_was_never_put_is_missing(store: Store, tmp_path: Path) -> None:
    assert store.read("a/b") is None
    with pytest.raises(FileNotFoundError):
        store.fetch("a/b", tmp_path)
    assert keys(store, "a") == []
    store.delete(Object("a/b", 0, 0.0))
    assert not list(tmp_path.rglob("b"))


def test_replace_replaces_and_delete_deletes(store: Store) -> None:
    store.replace("a", b"1")
    store.replace("a", b"2")
    assert store.read("a") == b"2"
    store.delete(next(store.objects()))
    assert store.read("a") is None


def test_a_store_says_that_it_can_be_written_to_and_leaves_nothing_behind(store: Store) -> None:
    store.check_writable()
    assert keys(store) == []


def test_of_eight_writers_of_one_object_exactly_one_makes_it(store: Store) -> None:
    wins: list[tuple[bool, bytes]] = []
    bodies = [b"%d" % number for number in range(8)]
    threads = [
        threading.Thread(target=lambda body=body: wins.append((store.create("a/manifest", body), body)))
        for body in bodies
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won for won, _ in wins) == [False] * 7 + [True]
    assert store.read("a/manifest") == next(body for won, body in wins if won)


@pytest.mark.parametrize("key", UNSAFE)
def test_a_key_that_is_no_plain_relative_path_is_refused(store: Store, tmp_path: Path, key: str) -> None:
    uses = [
        lambda: store.read(key),
        lambda: store.fetch(key, tmp_path),
        lambda: store.replace(key, b""),
        lambda: store.create(key, b""),
        lambda: store.delete(Object(key, 0, 0.0)),
    ]
    for use in uses:
        with pytest.raises(UserError, match="is not a valid store key"):
            use()


@given(st.text(max_size=40))
def test_a_key_that_is_accepted_stays_below_the_root(key: str) -> None:
    root = Path("/root/of/store")
    try:
        path = root / checked_key(key)
    except UserError:
        return
    assert Path(os.path.normpath(path)).is_relative_to(root)
    assert Path(os.path.normpath(path)) == path != root


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-c]{1,2}(/[a-c]{1,2}){0,2}x", fullmatch=True), st.binary(max_size=30)))
def test_a_store_is_a_mapping(store: Store, tmp_path: Path, content: dict[str, bytes]) -> None:
    for found in list(store.objects()):
        store.delete(found)
    for key, data in content.items():
        store.replace(key, data)
    assert {key: store.read(key) for key in keys(store)} == content
    assert keys(store) == sorted(content)
    for folder in ("a", "ab"):
        assert keys(store, folder) == sorted(key for key in content if key.startswith(f"{folder}/"))


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 3])
def test_objects_of_any_size_come_back_whole(store: Store, tmp_path: Path, size: int) -> None:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(size))
    store.put("big", file)
    for _ in ("arrives", "is there"):
        path, sha256 = store.fetch("big", tmp_path / "scratch")
        assert path.read_bytes() == file.read_bytes()
        assert sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert [(found.key, found.size) for found in store.objects()] == [("big", size)]
    assert list(store.unfinished()) == []


def test_a_listing_longer_than_a_page_is_complete(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "PAGE", 3)
    made = S3Store(BUCKET, tmp_path.name)
    names = [f"a/{number:04d}" for number in range(10)]
    for name in names:
        made.replace(name, b"")
        made.connection.client.create_multipart_upload(Bucket=BUCKET, Key=f"{tmp_path.name}/{name}")
    assert keys(made, "a") == names
    assert sorted(found.key for found in made.unfinished()) == names


def test_an_upload_that_a_killed_writer_left_open_is_found_and_removed(address: str, tmp_path: Path) -> None:
    made = S3Store(BUCKET, tmp_path.name)
    made.connection.client.create_multipart_upload(Bucket=BUCKET, Key=f"{tmp_path.name}/a/part")
    left = list(made.unfinished())
    assert [found.key for found in left] == ["a/part"]
    made.delete(left[0])
    assert list(made.unfinished()) == []


def test_a_temporary_file_that_a_killed_writer_left_is_found_and_removed(tmp_path: Path) -> None:
    made = LocalStore(tmp_path)
    made.replace("a/b", b"")
    (tmp_path / "a" / f".hone-{'0' * 32}").write_bytes(b"half")
    assert keys(made) == ["a/b"]
    left = list(made.unfinished())
    assert [found.size for found in left] == [4]
    made.delete(left[0])
    assert list(made.unfinished()) == []


def test_a_failed_upload_in_pieces_is_aborted(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    made = S3Store(BUCKET, tmp_path.name)
    file = tmp_path / "file"
    file.write_bytes(bytes(PIECE + 1))
    only = lambda method, path, count: "slow down" if "partNumber=2" in path else None  # noqa: E731
    with faults.proxy(address, only) as proxy, pytest.raises(TransientError):
        at(proxy, monkeypatch, tmp_path).put("big", file)
    assert keys(made) == []
    assert list(made.unfinished()) == []


def test_a_passing_fault_is_tried_again_and_counted(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faults.proxy(address, lambda method, path, count: "slow down" if count % 3 else None) as proxy:
        made = at(proxy, monkeypatch, tmp_path)
        made.replace("a", b"content")
        assert made.read("a") == b"content"
        assert made.faults == {"SlowDown": 4}


def test_a_lasting_fault_ends_as_a_transient_error(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")
    with faults.proxy(address, lambda method, path, count: "slow down" if count > 1 else None) as proxy:
        made = at(proxy, monkeypatch, tmp_path)
        made.replace("a", b"content")
        with pytest.raises(TransientError, match=r"failed 3 times in a row \(SlowDown\)"):
            made.read("a")


def test_the_winner_whose_answer_was_lost_still_finds_that_it_won(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faults.proxy(address, lambda method, path, count: "lost answer" if count == 1 else None) as proxy:
        made = at(proxy, monkeypatch, tmp_path)
        assert made.create("a", b"mine")
        assert made.faults == {"SlowDown": 1}
        assert not made.create("a", b"theirs")


def test_an_upload_whose_last_answer_was_lost_is_whole(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(PIECE + 1))
    lost: list[str] = []

    def first_join(method: str, path: str, count: int) -> str | None:
        if lost or method != "POST" or "uploadId=" not in path:
            return None
        lost.append(path)
        return "lost answer"

    with faults.proxy(address, first_join) as proxy:
        at(proxy, monkeypatch, tmp_path).put("big", file)
    assert at(address, monkeypatch, tmp_path).read("big") == file.read_bytes()


def test_a_wrong_key_is_the_users_mistake(address: str, tmp_path: Path) -> None:
    def let_in(count: str) -> None:
        """How many requests the server answers before it checks keys."""
        urlopen(
            Request(f"{address}/moto-api/reset-auth", count.encode(), {"Content-Type": "text/plain"}, method="POST")
        )

    let_in("0")
    try:
        with pytest.raises(UserError, match=r"refused the request \(InvalidAccessKeyId\)"):
            open_store(f"s3://{BUCKET}/{tmp_path.name}").check_writable()
    finally:
        let_in("inf")


def test_no_keys_at_all_are_the_users_mistake(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(UserError, match="no credentials for s3://results; set AWS_ACCESS_KEY_ID"):
        open_store(f"s3://{BUCKET}").check_writable()


def test_a_bucket_that_is_not_there_is_the_users_mistake(address: str) -> None:
    for use in (lambda made: made.check_writable(), lambda made: made.read("a"), lambda made: list(made.objects())):
        with pytest.raises(UserError, match="there is no bucket 'nowhere'"):
            use(open_store("s3://nowhere/x"))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1", r"no S3 server answers at http://127.0.0.1:1 .*AWS_ENDPOINT_URL"),
        ("AWS_ENDPOINT_URL", "not an address", r"the AWS settings for s3://results/x cannot be used"),
        ("AWS_PROFILE", "unknown", r"the AWS settings for s3://results/x cannot be used.*unknown"),
    ],
)
def test_wrong_aws_settings_are_the_users_mistake(
    address: str, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message):
        open_store("s3://results/x").check_writable()


@pytest.mark.parametrize("fault", faults.FAULTS)
def test_any_fault_is_survived_with_the_same_bytes(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(s3_connection, "READ_TIMEOUT", 0.5)
    file = tmp_path / "file"
    file.write_bytes(os.urandom(2 * PIECE + 3))
    with faults.proxy(address, lambda method, path, count: fault if count % 3 == 0 else None, stall=1.0) as proxy:
        made = at(proxy, monkeypatch, tmp_path)
        assert made.create("a/small", b"content")
        made.put("a/big", file)
        assert made.read("a/small") == b"content"
        assert made.fetch("a/big", tmp_path / "scratch").path.read_bytes() == file.read_bytes()
        assert keys(made) == ["a/big", "a/small"]
        assert made.faults.total() > 0
    assert list(at(address, monkeypatch, tmp_path).unfinished()) == []


def test_a_server_that_starts_slowly_is_waited_for_and_then_called_busy_not_absent(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faults.proxy(address, lambda method, path, count: "slow down" if count < 9 else None) as proxy:
        at(proxy, monkeypatch, tmp_path).replace("a", b"")
    with (
        faults.proxy(address, lambda method, path, count: "slow down") as proxy,
        pytest.raises(TransientError, match=r"failed 10 times in a row \(SlowDown\)") as caught,
    ):
        at(proxy, monkeypatch, tmp_path).check_writable()
    assert caught.value.exit_code == 75


@pytest.mark.parametrize("what", ["read", "fetch", "put", "objects", "big"])
def test_what_is_not_s3_is_tried_again_and_then_called_so(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")
    at(address, monkeypatch, tmp_path).replace("a", b"content")
    file = tmp_path / "file"
    file.write_bytes(bytes(PIECE + 1 if what == "big" else 3))
    uses: dict[str, Any] = {
        "read": lambda made: made.read("a"),
        "fetch": lambda made: made.fetch("a", tmp_path / "scratch", anew=True),
        "put": lambda made: made.put("b", file),
        "big": lambda made: made.put("b", file),
        "objects": lambda made: list(made.objects()),
    }
    with faults.proxy(address, lambda method, path, count: "html" if count < 3 else None) as proxy:
        uses[what](at(proxy, monkeypatch, tmp_path))
    with (
        faults.proxy(address, lambda method, path, count: "html") as proxy,
        pytest.raises((UserError, TransientError), match="3 times"),
    ):
        uses[what](at(proxy, monkeypatch, tmp_path))


def test_a_server_that_ignores_ranges_is_named(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    at(address, monkeypatch, tmp_path).replace("a", b"content")
    with (
        faults.proxy(address, lambda method, path, count: "whole") as proxy,
        pytest.raises(UserError, match=r"answered 2 times with all of an object .* honours Range"),
    ):
        at(proxy, monkeypatch, tmp_path).fetch("a", tmp_path / "scratch")


def test_a_trickle_of_bytes_is_a_fault_whatever_is_asked_for(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    monkeypatch.setattr(s3_connection, "GRACE", 0.5)
    at(address, monkeypatch, tmp_path).replace("a", b"content" * 100)
    with faults.proxy(address, lambda method, path, count: "trickle") as proxy:
        made = at(proxy, monkeypatch, tmp_path)
        for use in (lambda: made.read("a"), lambda: list(made.objects()), lambda: made.fetch("a", tmp_path / "x")):
            with pytest.raises(TransientError, match=r"failed 2 times in a row \(ReadTimeoutError\)"):
                use()
    assert at(address, monkeypatch, tmp_path).read("a") == b"content" * 100


@pytest.mark.parametrize(
    ("fault", "method", "error", "sentence"),
    [
        ("heedless", "PUT", UserError, "ignores If-None-Match: two runs could both believe"),
        ("forbidden", "HEAD", UserError, r"refused the request \(403\)"),
        ("nothing stored", "PUT", TransientError, "said that it had stored .* and has not"),
    ],
)
def test_what_a_store_cannot_do_is_noticed_before_anything_large_is_written(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, method: str, error: Any, sentence: str
) -> None:
    with (
        faults.proxy(address, lambda asked, path, count: fault if asked == method else None) as proxy,
        pytest.raises(error, match=sentence),
    ):
        at(proxy, monkeypatch, tmp_path).check_writable()
    assert keys(at(address, monkeypatch, tmp_path)) == []


def test_parts_that_were_never_stored_are_noticed_before_the_manifest(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"weights")
    part = Part(path="model-0/file", rows=0, bytes=7, sha256=sha256_of(file))
    with faults.proxy(address, lambda method, path, count: "nothing stored" if method == "PUT" else None) as proxy:
        made = at(proxy, monkeypatch, tmp_path)
        made.put("distill/0/model-0/file", file)
        with pytest.raises(TransientError, match="said that it had stored distill/0/model-0/file"):
            refuse_unstored(made, "distill/0", [part])


def test_a_password_in_the_address_of_the_server_is_never_said(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://me:hunter2hunter2@127.0.0.1:1")
    with pytest.raises(UserError) as caught:
        open_store("s3://results/x").check_writable()
    assert "hunter2" not in str(caught.value)


def test_a_folder_without_hard_links_still_has_one_winner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    made = LocalStore(tmp_path / "store")
    assert made.create("a", b"1")
    assert not made.create("a", b"2")
    assert made.read("a") == b"1"
    monkeypatch.setattr(local, "NO_LINKS", (*local.NO_LINKS, errno.EEXIST))
    with pytest.raises(FileExistsError):
        local._rename_once(tmp_path / "store/a", tmp_path / "store/a")


def test_a_full_or_read_only_store_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = LocalStore(tmp_path / "store")
    for number, sentence in ((errno.ENOSPC, "the disk of the store .*store is full"), (errno.EROFS, "cannot write to")):

        def fail(*arguments: object, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(UserError, match=sentence):
            made.replace("a", b"1")
    assert list(made.unfinished()) == []


@pytest.mark.parametrize("uri", ["s3://", "s3:///x", "gs://bucket/x", "https://host/bucket"])
def test_an_address_that_is_no_store_is_refused(uri: str) -> None:
    with pytest.raises(UserError, match="s3://bucket/prefix"):
        open_store(uri)


@pytest.mark.parametrize(
    ("address", "parts"),
    [("s3://b", ("b", "")), ("s3://b/", ("b", "")), ("s3://b/x/y", ("b", "x/y")), ("s3://b/x/", ("b", "x/"))],
)
def test_an_address_is_a_bucket_and_a_key(address: str, parts: tuple[str, str]) -> None:
    assert bucket_and_key(address) == parts


@pytest.mark.parametrize(
    "use",
    [lambda place: buckets.download(place, Path()), buckets.is_there, lambda place: policy.document(place, {"a": ""})],
    ids=["a corpus", "preflight", "a policy"],
)
def test_whatever_takes_an_address_refuses_one_without_a_bucket_alike(use: Callable[[str], object]) -> None:
    with pytest.raises(UserError, match="'s3://' does not name a bucket; write s3://bucket/prefix"):
        use("s3://")


def test_a_store_of_another_scheme_is_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What opens it and what takes it for an address go by the row alone."""

    class Shelf(LocalStore):
        def __init__(self, address: str) -> None:
            super().__init__(tmp_path / address.removeprefix("shelf://"))
            self.uri = self.place = address

    with pytest.raises(UserError, match="is neither a folder nor"):
        open_store("shelf://one")
    assert not settings_text.is_address("shelf://one/settings/x.yaml")
    monkeypatch.setitem(addresses.SCHEMES, "shelf", Shelf)
    open_store("shelf://one").replace("a", b"1")
    assert (tmp_path / "one/a").read_bytes() == b"1"
    address = settings_text.keep(open_store("shelf://one"), "name: x")
    assert re.fullmatch(r"shelf://one/settings/[0-9a-f]{64}\.yaml@[0-9a-f]{64}", address)
    assert settings_text.is_address(address)
    written = [
        file for file in Path(addresses.__file__).parents[1].rglob("*.py") if 'startswith("s3:' in file.read_text()
    ]
    assert written == []


def test_a_bucket_name_that_cannot_be_is_refused(address: str) -> None:
    with pytest.raises(UserError, match="s3://no such bucket! cannot be requested"):
        open_store("s3://no such bucket!").check_writable()


def test_a_server_is_trusted_by_its_own_authority_and_by_no_other(aws: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own, other, file = trustme.CA(), trustme.CA(), tmp_path / "file"
    own.cert_pem.write_to_path(str(tmp_path / "own.pem"))
    other.cert_pem.write_to_path(str(tmp_path / "other.pem"))
    file.write_bytes(os.urandom(2 * PIECE + 3))
    with s3_with(BUCKET, own) as address:
        refused = rf"the certificate of {address} is not trusted; if its CA is your own, set AWS_CA_BUNDLE"
        for name, value in (("ENDPOINT_URL", address), ("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b")):
            aws.setenv(f"AWS_{name}", value)
        with pytest.raises(UserError, match=refused):
            open_store(f"s3://{BUCKET}/x").check_writable()
        aws.setenv("AWS_CA_BUNDLE", str(tmp_path / "other.pem"))
        with pytest.raises(UserError, match=refused):
            open_store(f"s3://{BUCKET}/x").check_writable()
        aws.setenv("AWS_CA_BUNDLE", str(tmp_path / "no.pem"))
        with pytest.raises(UserError, match=r"AWS_CA_BUNDLE"):
            open_store(f"s3://{BUCKET}/x").check_writable()
        aws.setenv("AWS_CA_BUNDLE", str(tmp_path / "own.pem"))
        made = open_store(f"s3://{BUCKET}/x")
        made.put("big", file)
        assert made.fetch("big", tmp_path / "scratch").path.read_bytes() == file.read_bytes()


def test_credentials_that_run_out_are_fetched_anew(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[str] = []

    class Role(Handler):
        def do_GET(self) -> None:
            handed.append(f"key-{len(handed)}")
            until = datetime.now(UTC) + timedelta(seconds=60)
            body = {"AccessKeyId": handed[-1], "SecretAccessKey": "s", "Token": "t", "Expiration": until.isoformat()}
            self.answer(body)

    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with running(Server(Role)) as role:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{role.address}/role")
        made = open_store(f"s3://{BUCKET}/role")
        for _ in range(3):
            made.replace("a", b"")
    assert len(handed) >= 3
