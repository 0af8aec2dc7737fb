"""`hone submit specialize_many FOLDER`: one run for all domains of a folder, and what came of each of them."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from hone.engine import domains
from hone.errors import UserError
from hone.kubeflow import reads, settings_text
from hone.kubeflow.attempts import of, outcome
from hone.kubeflow.profile import Profile
from hone.kubeflow.submit import FAILED, UNFINISHED, Following, Place, fetch_report, follow, register, start
from hone.kubeflow.submit import without_publishing as unpublished
from hone.storage.addresses import open_store
from hone.storage.base import Store

if TYPE_CHECKING:
    from kfp import Client

PIPELINE = "specialize_many"


@dataclass
class DomainEnded:
    """What came of one domain."""

    domain: str
    outcome: str
    verdict: str = ""
    finding: str = ""
    version: str = ""
    error: str = ""
    report: str = ""
    code: int = 0


@dataclass
class AllEnded:
    """What `hone submit specialize_many --json` prints."""

    name: str
    run_id: str
    state: str
    domains: list[DomainEnded] = field(default_factory=list[DomainEnded])
    exit_code: int = 0


def main(
    client: "Client",
    profile: Profile,
    folder: Path,
    store_uri: str,
    place: Place,
    following: Following,
    publish: bool = True,
    say: Callable[[str], None] = print,
) -> AllEnded:
    """Registers, submits and follows one run for all domains of a folder, and starts it again where asked to: domains
    that were finished are found finished. Raises UserError and TransientError."""
    texts = _texts(folder, publish)
    if domains.GENERAL in domains.base(folder):
        rest = f"`hone run {folder} --store {store_uri}` trains it afterwards, on one machine"
        say(f"the general student that {domains.BASE} asks for is no part of this run; {rest}")
    version = register(client, PIPELINE, profile, place.namespace)
    store = open_store(store_uri)
    seen = [reads.look(settings_text.check(text, f"{folder}: {name}")) for name, text in texts.items()]
    unseen = sorted({reference for read in seen for reference in read.unseen})
    if unseen:
        say(f"cannot be listed from here, so no finished run is adopted: {', '.join(unseen)}")
    whole = json.dumps([version.digest, *texts.values(), *(read.digest for read in seen), store_uri])
    name = f"{version.pipeline}-{folder.resolve().name}-{hashlib.sha256(whole.encode()).hexdigest()[:12]}"
    adopted = UNFINISHED if unseen else (*UNFINISHED, "SUCCEEDED")
    left = following.retries
    while True:
        addresses = {domain: settings_text.keep(store, text) for domain, text in texts.items()}
        given = {"domains": list(addresses.values()), "store": store_uri}
        run_id, new = start(client, version, name, adopted, place, lambda given=given: given)
        say(f"{name}: {'started' if new else 'exists already'}, run {run_id}")
        if not following.wait:
            return AllEnded(name, run_id, "PENDING" if new else "RUNNING")
        state = follow(client, run_id, following.pause, say)
        ended = [_ended(store, run_id, domain, address, following.report) for domain, address in addresses.items()]
        worst = next((one.code for one in ended if one.outcome in ("failed", "stopped", "unknown")), 0)
        if not worst or worst == UserError.exit_code or not left:
            return AllEnded(name, run_id, state, ended, worst or (0 if state == "SUCCEEDED" else FAILED))
        left -= 1
        say(f"{name}: {', '.join(one.domain for one in ended if one.code == worst)} failed; started again")


def _texts(folder: Path, publish: bool) -> dict[str, str]:
    """Domain to its whole settings file. Raises UserError."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; {PIPELINE} takes one with a settings file for each domain")
    texts = {
        member.name: yaml.safe_dump(member.data, sort_keys=False, allow_unicode=True) for member in domains.load(folder)
    }
    return texts if publish else {name: unpublished(text) for name, text in texts.items()}


def _ended(store: Store, run_id: str, domain: str, address: str, reports: Path | None) -> DomainEnded:
    ending = outcome(store, run_id, of(address))
    facts = {key: str(ending.fact(key) or "") for key in ("verdict", "finding", "version")}
    ended = DomainEnded(domain, ending.word, **facts, error=ending.error, code=ending.code)
    if manifest := ending.done.get("report"):
        ended.report = f"{store.uri}/{manifest.place('report')}"
        if reports:
            fetch_report(store, manifest, reports / domain)
    return ended


def summary(ended: AllEnded) -> str:
    """The sentences with which a followed run ends, one for each domain."""
    if not ended.domains:
        return f"{ended.name}: not waited for"
    return "\n".join(f"{one.domain}: {one.outcome}: {one.error or one.finding}".rstrip(": ") for one in ended.domains)


def as_json(ended: AllEnded) -> str:
    """The same for a program."""
    return json.dumps(asdict(ended), indent=1, ensure_ascii=False)
