"""How the training queries came about: what each source and style was asked for, gave and cost, and why drafts fell."""

from collections.abc import Iterator, Mapping
from typing import Any

from hone.report.blocks import each_run
from hone.report.findings import Findings
from hone.report.html import Html, join, table

Counts = Mapping[str, Any]
STAGES = ("generate", "mine")
"""Those that count by style what they drop."""


def queries(findings: Findings) -> Html:
    """Targets and yields, reasons with examples, and what a language model's queries cost."""
    return each_run(findings, _queries)


def _queries(findings: Findings) -> Html:
    stages = {manifest.stage: manifest.facts for manifest in findings.history}
    facts = stages.get("generate", {})
    reasons = join([_reasons(facts, stages[name].get("dropped", {}), name) for name in STAGES if name in stages])
    return join([_yields(findings, facts), reasons, _costs(facts)])


def _yields(findings: Findings, facts: Counts) -> Html:
    by_origin = {(origin.source, origin.style): (origin.made, origin.kept) for origin in findings.origins}
    wanted = {(source, style): count for source, row in facts.get("target", {}).items() for style, count in row.items()}
    body: list[list[object]] = []
    for source, style in sorted({*by_origin, *wanted}):
        made, kept = by_origin.get((source, style), (0, 0))
        target = wanted.get((source, style), 0)
        counts = [f"{count:,}" for count in (target, made, kept)]
        body.append([source, style, *counts, _rate(made, target), _rate(kept, made)])
    columns = ("source", "style", "target", "made", "lists", "made of target", "lists of made")
    return table("Training queries wanted, made, and kept as lists", columns, body, "|".join(columns[2:]))


def _reasons(facts: Counts, dropped: Counts, stage: str) -> Html:
    body = [
        [source, style, reason, f"{rule['count']:,}", _rate(rule["count"], drafts), join([*rule["examples"]], " · ")]
        for source, style, drafts, reason, rule in _dropped(facts, dropped)
    ]
    columns = ("source", "style", "reason", "drafts", "of its drafts", "for example")
    return table(f"What {stage} dropped of the drafts, and why", columns, body, "drafts|of its drafts")


def _dropped(facts: Counts, dropped: Counts) -> Iterator[tuple[str, str, int, str, Counts]]:
    """Source, style, all its drafts, reason and what fell for it, commonest reason first."""
    for source, styles in sorted(dropped.items()):
        for style, reasons in sorted(styles.items()):
            kept, lost = (facts.get(part, {}).get(source, {}).get(style) for part in ("kept", "dropped"))
            drafts = (kept or 0) + sum(rule["count"] for rule in (lost or {}).values())
            for reason, rule in sorted(reasons.items(), key=lambda item: (-item[1]["count"], item[0])):
                yield source, style, drafts, reason, rule


def _costs(facts: Counts) -> Html:
    body = [
        [
            source,
            style,
            f"{spent['answers']:,}",
            *_per_query(spent, facts.get("kept", {}).get(source, {}).get(style, 0)),
        ]
        for source, styles in sorted(facts.get("answers", {}).items())
        for style, spent in sorted(styles.items())
    ]
    columns = ("source", "style", "answers", "prompt tokens", "cached", "new tokens", "seconds", "GPU seconds")
    return table("What a kept query of a language model cost", columns, body, "|".join(columns[2:]))


def _per_query(spent: Counts, kept: int) -> list[str]:
    """Tokens, seconds and GPU seconds for each kept query; cached tokens that are not reported are not 0."""
    if not kept:
        return ["–"] * 5
    reported = not spent["without_cached_tokens"]
    tokens = [f"{spent[name] / kept:,.1f}" for name in ("prompt_tokens", "cached_tokens", "new_tokens")]
    times = [f"{spent[name] / kept / 1e6:,.4f}" for name in ("microseconds", "gpu_microseconds")]
    return [tokens[0], tokens[1] if reported else "not reported", tokens[2], *times]


def _rate(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "–"
