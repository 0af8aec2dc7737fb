"""The record: what every stage cost, with which settings, from what, and under which licences."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from hone.report.blocks import NOTHING, columns, each_run, facts, lines, plain
from hone.report.findings import Findings
from hone.report.html import Html, element, join, table
from hone.results.manifest import Manifest

DIGITS = 12
GPU = "gpu_seconds"


def cost(findings: Findings) -> Html:
    """Time and work of every stage."""
    return each_run(findings, _cost)


def _cost(findings: Findings) -> Html:
    """Where stages ran in processes of their own, what is around the work does not hold the start of these."""
    history = findings.history
    body = [[one.stage, *_costs(one.seconds, one.overhead, one.cost)] for one in history]
    if body:
        seconds, overhead = sum(one.seconds for one in history), sum(one.overhead for one in history)
        spent = {GPU: sum(one.cost.get(GPU, 0) for one in history)}
        share = f" ({100 * overhead / seconds:.1f}%)" if seconds else ""
        body.append(["all", *_costs(seconds, overhead, spent, share)])
    headings = ("stage", "seconds", "around the work", "GPU seconds", "tokens", "pairs", "other work")
    return table("Time and work per stage", headings, body, "seconds|around the work|GPU seconds")


def _costs(seconds: float, overhead: float, cost: Mapping[str, float], share: str = "") -> list[str]:
    """Seconds of the work, seconds around it, GPU seconds, tokens, pairs and everything else that a stage counted."""
    units = {"tokens": list[str](), "pairs": list[str](), "": list[str]()}
    for name, amount in sorted(cost.items()):
        kind = next(unit for unit in units if unit in name)
        if name != GPU:
            what = name.replace(kind, "").strip("_") if kind else name
            units[kind].append(f"{amount:,.0f} {what.replace('_', ' ')}".strip())
    return [
        f"{seconds:,.1f}",
        f"{overhead:,.1f}{share}",
        f"{cost.get(GPU, 0):,.1f}",
        *(", ".join(amounts) or NOTHING for amounts in units.values()),
    ]


def changes(findings: Findings) -> Html:
    """Settings in which two compared runs differ."""
    body = [[element("code", name), *values] for name, *values in findings.changes]
    return table("Settings that differ between the two runs", ("setting", *findings.names), body)


def settings(findings: Findings) -> Html:
    """Every setting of every stage, folded."""
    return each_run(findings, _settings)


def _settings(findings: Findings) -> Html:
    groups = {manifest.stage: manifest.config for manifest in findings.history} | {"evaluate": findings.config}
    return join([_settings_of(name, config) for name, config in groups.items() if config])


def _settings_of(stage: str, config: Mapping[str, Any]) -> Html:
    rows = [[element("code", key), plain(value)] for key, value in _flat(config)]
    whole = table(f"Settings of {stage}", ("setting", "value"), rows)
    return element("details", element("summary", stage), whole, class_="settings")


def _flat(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _flat(cast(dict[str, Any], value), f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def licences(findings: Findings) -> Html:
    """What the owner of each part declares."""
    known = columns(findings, lambda run: run.licences)
    named = {"licence": known["value"]} if "value" in known else known
    return facts("Licences as their owners declare them", "part", named)


def lineage(findings: Findings) -> Html:
    """What was read and what it was taken for, and every result that the report rests on, with its digests."""
    read = facts("What was read, and what it was taken for", "input", columns(findings, _inputs))
    return join([read, each_run(findings, _lineage)])


def _inputs(findings: Findings) -> dict[str, str]:
    """What prepare understood of the files of the corpus, its queries and judgements, in words."""
    known = next((manifest.facts for manifest in findings.history if manifest.stage == "prepare"), {})
    shown = cast(dict[str, str], dict(known.get("inputs", {})))
    for one in known.get("read", []):
        more = f" and {one['files'] - 1:,} more" if one["files"] > 1 else ""
        shown[f"{one['first']}{more}"] = "; ".join([*one["how"].values(), f"{one['rows']:,} documents"])
    for name, absent in known.items():
        if name.startswith("absent of "):
            queries, docs = absent.get("queries", 0), absent.get("docs", 0)
            counts = f"{queries:,} queries, left out; {docs:,} documents, which count as not found"
            shown[name.replace("absent of", "judged but absent in")] = f"{counts} ({absent.get('such as', '')})"
    if "alike ids" in known:
        shown["ids that differ in how accents are composed only"] = f"{known['alike ids']:,}"
    return shown


def _lineage(findings: Findings) -> Html:
    body = [
        [manifest.stage, element("code", manifest.fingerprint), _digests(manifest), manifest.version]
        for manifest in findings.history
    ]
    return table(
        "Every result this report rests on",
        ("stage", "result", "outputs (sha256, in full in the manifest)", "version"),
        body,
    )


def _digests(manifest: Manifest) -> Html:
    shown = [join([name, " ", element("code", output.digest[:DIGITS])]) for name, output in manifest.outputs.items()]
    return lines(shown)
