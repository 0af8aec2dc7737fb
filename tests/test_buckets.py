"""Corpora in buckets of other people, whose keys follow no rule of Hone's."""

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from fake_s3 import s3_with
from hone.errors import UserError
from hone.inputs import buckets, readers
from hone.inputs.references import local_path

KEYS = (
    "mine/", "mine/a.jsonl", "mine/sub/", "mine/sub//b.jsonl", "mine/week%3A1/c d.jsonl", "mine/x\\y.jsonl",
    "mine/../up.jsonl", "mine/" + "é" * 300 + ".jsonl", "minefield/no.jsonl", "one.jsonl",
)  # fmt: skip


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_with("theirs") as address, pytest.MonkeyPatch.context() as patch:
        keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
        for name, value in {"AWS_ENDPOINT_URL": address, **keys}.items():
            patch.setenv(name, value)
        client = boto3.Session().client("s3", "us-east-1")
        for number, key in enumerate(KEYS):
            body = f'{{"_id": "{number}", "text": "wing"}}\n' if not key.endswith("/") else ""
            client.put_object(Bucket="theirs", Key=key, Body=body.encode())
        yield "s3://theirs"


def ids(reference: str, scratch: Path) -> set[str]:
    found = readers.layout(local_path(reference, scratch))
    return {str(row["_id"]) for _, row in readers.Corpus(found).documents()}


def test_every_key_below_a_folder_is_a_file_and_marks_of_folders_are_none(bucket: str, tmp_path: Path) -> None:
    assert ids(f"{bucket}/mine", tmp_path / "a") == {"1", "3", "4", "5", "6", "7"}
    assert ids(f"{bucket}/mine/", tmp_path / "b") == {"1", "3", "4", "5", "6", "7"}
    assert ids(f"{bucket}/one.jsonl", tmp_path / "c") == {"9"}
    assert not (tmp_path / "up.jsonl").exists()


def test_a_whole_bucket_is_a_corpus(bucket: str, tmp_path: Path) -> None:
    assert len(ids(bucket, tmp_path / "a")) == len(ids(f"{bucket}/", tmp_path / "b")) == 8


def test_an_address_that_holds_nothing_is_refused(bucket: str, tmp_path: Path) -> None:
    for name in ("gone", "gone/", "mine/sub/none"):
        assert not buckets.is_there(f"{bucket}/{name}")
        with pytest.raises(UserError, match=rf"s3://theirs/{name} does not exist"):
            local_path(f"{bucket}/{name}", tmp_path)
    assert buckets.is_there(f"{bucket}/mine")
    assert buckets.is_there(bucket)
