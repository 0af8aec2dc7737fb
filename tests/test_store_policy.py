"""The policy of a domain's runner at S3, tried with users of a real gateway: its own store, and no other domain's."""

import json
import subprocess
import uuid
from pathlib import Path
from typing import Any

import boto3
import pytest
from typer.testing import CliRunner

from ceph import Gateway
from hone.commands.cli import app
from hone.errors import UserError
from hone.inputs import buckets
from hone.storage.addresses import open_store
from hone.storage.base import Store
from hone.storage.policy import document

pytestmark = pytest.mark.slow

STORE = "s3://runs/store"
LARGE = 9 << 20


def printed(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["store", "policy", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def user(gateway: Gateway) -> tuple[str, dict[str, str]]:
    """A user of the gateway who owns nothing: its principal and its keys."""
    name = f"runner{uuid.uuid4().hex[:8]}"
    command = ["radosgw-admin", "-c", str(Path(gateway.folder) / "ceph.conf"), "user", "create", "--uid", name]
    made = subprocess.run([*command, "--display-name", name], capture_output=True, check=True, timeout=120).stdout
    key = json.loads(made)["keys"][0]
    keys = {"AWS_ACCESS_KEY_ID": key["access_key"], "AWS_SECRET_ACCESS_KEY": key["secret_key"]}
    return f"arn:aws:iam:::user/{name}", keys


def opened(domain: str, keys: dict[str, str], aws: pytest.MonkeyPatch) -> Store:
    for name, value in keys.items():
        aws.setenv(name, value)
    return open_store(f"{STORE}/{domain}")


def test_a_domains_runner_reads_and_writes_its_own_store_and_no_other_domains(
    gateway: Gateway, bucket: str, aws: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    owner = boto3.Session().client("s3", region_name="default")
    owner.put_object(Bucket="runs", Key="corpora/handbook/a.jsonl", Body=b"{}")
    owner.put_object(Bucket="runs", Key="corpora/handbook-secret/b.jsonl", Body=b"{}")
    runners = {domain: user(gateway) for domain in ("handbook", "handbook-2")}
    named = [f"{domain}={principal}" for domain, (principal, _) in runners.items()]
    policy = printed(*named, "--store", STORE, "--reads", f"{bucket}/corpora/handbook")
    owner.put_bucket_policy(Bucket="runs", Policy=json.dumps(policy))

    large = tmp_path / "large"
    large.write_bytes(b"x" * LARGE)
    for domain, (_, keys) in runners.items():
        own = opened(domain, keys, aws)
        own.check_writable()
        own.put("prepare/1/large", large)
        assert own.read("prepare/1/missing") is None
        assert [one.key for one in own.objects("prepare")] == ["prepare/1/large"]
        assert buckets.is_there(f"{bucket}/corpora/handbook/a.jsonl")
        assert (buckets.download(f"{bucket}/corpora/handbook", tmp_path / domain) / "a.jsonl").read_text() == "{}"

    for mine, other in (("handbook", "handbook-2"), ("handbook-2", "handbook")):
        foreign = opened(other, runners[mine][1], aws)
        for attempt in (
            lambda store=foreign: store.read("prepare/1/large"),
            lambda store=foreign: store.create("prepare/1/new", b"1"),
            lambda store=foreign: store.replace("prepare/1/large", b"1"),
            lambda store=foreign: list(store.objects()),
            lambda store=foreign: list(store.unfinished()),
            lambda: list(open_store("s3://runs").objects()),
            lambda: open_store("s3://runs/corpora/handbook").replace("a.jsonl", b"1"),
            lambda: buckets.download(f"{bucket}/corpora/handbook-secret", tmp_path / "secret"),
        ):
            with pytest.raises(UserError, match=r"AccessDenied|not allowed|403"):
                attempt()
    for domain, (_, keys) in runners.items():
        assert opened(domain, keys, aws).read("prepare/1/large") == large.read_bytes()


def test_the_policy_of_one_role_names_nobody_and_its_prefix_alone() -> None:
    policy = printed(
        "handbook", "--store", "s3://team-hone/store", "--reads", "s3://models", "--reads", "s3://team-hone/c"
    )
    assert [one["Sid"] for one in policy["Statement"]] == [
        "HandbookStore", "HandbookStoreNames", "HandbookReads0", "HandbookReadsNames0", "HandbookReads1",
        "HandbookReadsNames1",
    ]  # fmt: skip
    assert not any("Principal" in one for one in policy["Statement"])
    assert policy["Statement"][0]["Resource"] == ["arn:aws:s3:::team-hone/store/handbook/*"]
    names = policy["Statement"][1]
    assert names["Condition"] == {"StringLike": {"s3:prefix": ["store/handbook/*"]}}
    assert policy["Statement"][2]["Resource"] == ["arn:aws:s3:::models/*"]
    assert policy["Statement"][4]["Resource"] == ["arn:aws:s3:::team-hone/c", "arn:aws:s3:::team-hone/c/*"]


@pytest.mark.parametrize(
    ("store", "domains", "reads", "said"),
    [
        ("runs", {"a": ""}, [], "'runs' does not name a bucket"),
        ("s3://b/*", {"a": ""}, [], "which mean something else in a policy"),
        ("s3://b/p", {"../a": ""}, [], "'../a' is not a valid domain name"),
        ("s3://b/p", {"a": "", "b": ""}, [], "give one DOMAIN"),
        ("s3://b/p", {"a": "arn:x"}, ["s3://other/c"], "a bucket policy covers b alone"),
    ],
)
def test_what_no_policy_can_say_is_refused(store: str, domains: dict[str, str], reads: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        document(store, domains, reads)
