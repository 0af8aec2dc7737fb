"""The finding as Markdown: for a pull request, and as the card of a model."""

import re
from typing import Any

import yaml

from hone.report.collect import UNDECLARED
from hone.report.findings import Findings, caveats, headline
from hone.report.folded_markdown import folded
from hone.report.markdown_text import escaped
from hone.report.terminal_table import rows

CARD = """\
---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags: [sentence-transformers, feature-extraction, dense-retrieval, hone]
{licence}{hub}---
# {model}, specialised

A dense retriever specialised to one corpus by listwise distillation. It is meant for that corpus; elsewhere use the
model it was made from, unless a test set below shows otherwise.

{report}
## Use

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("PATH/OF/THIS/FOLDER")
queries = model.encode_query(["what you would type"])
documents = model.encode_document(["what is searched"])
```

Query and document prefixes, pooling and normalisation are declared in the folder and applied by these calls. A document
is its title and its text with a space between.{shape}

## How it was made

{made}
"""


def markdown(findings: Findings) -> str:
    """What the page says: verdict, first line, table and caveats, and every other section to unfold."""
    return f"{summary(findings)}\n{folded(findings)}"


def summary(findings: Findings) -> str:
    """Verdict, first line, table and caveats."""
    verdict = findings.verdict
    lines = [headline(findings.metrics, findings.names), ""]
    if verdict:
        lines = [f"**Verdict: {verdict['verdict']}.** {lines[0]}", ""]
        lines += [f"- {escaped(reason)}" for reason in verdict["reasons"]] + [""] * bool(verdict["reasons"])
    body = rows(findings.metrics)
    if body:
        lines += [f"| set (queries) | measure | {' | '.join(findings.names)} | points | 95% CI | p | p (Holm) |"]
        lines += ["|---|---|--:|--:|--:|--:|--:|--:|"]
        lines += [f"| {' | '.join(row)} |" for row in body] + [""]
    return "\n".join([*lines, *caveats(findings.metrics), *findings.notes]) + "\n"


def card(findings: Findings) -> str:
    """The README.md of a model folder."""
    licence = findings.licences.get("model", UNDECLARED)
    return CARD.format(
        licence="" if licence == UNDECLARED else f"license: {re.sub(r'[^A-Za-z0-9.+-]', '-', licence)}\n",
        hub=_for_hubs(findings),
        shape=_shape(findings),
        model=escaped(findings.model),
        report=summary(findings),
        made="\n".join(_made(findings)),
    )


def _for_hubs(findings: Findings) -> str:
    """The base model and the measures of the tuned one on every set of the domain, as hubs read them."""
    base = re.sub(r"[^A-Za-z0-9._/-]", "-", findings.model)
    results = [
        {
            "task": {"type": "information-retrieval"},
            "dataset": {"type": "own-corpus", "name": f"{name} ({facts['queries']:,} queries)"},
            "metrics": [
                {"type": measure.lower().replace("@", "_at_"), "value": round(float(values["tuned"]), 4)}
                for measure, values in facts["measures"].items()
            ],
        }
        for name, facts in findings.metrics["sets"].items()
    ]
    block: dict[str, Any] = {"base_model": base}
    if results:
        block["model-index"] = [{"name": f"{base}, specialised", "results": results}]
    return yaml.safe_dump(block, sort_keys=False, allow_unicode=True)


def _shape(findings: Findings) -> str:
    tuned = findings.metrics["models"].get("tuned")
    if not tuned:
        return ""
    return f" A vector has {tuned['dimension']:,} numbers; a document is cut at {tuned['max_doc_tokens']:,} tokens."


def _made(findings: Findings) -> list[str]:
    summary = findings.training.get("summary", {})
    facts = [("base model", findings.model), *((key.replace("_", " "), value) for key, value in summary.items())]
    facts += [(f"licence of the {name}", licence) for name, licence in findings.licences.items()]
    lines = [f"- {name}: {escaped(str(value))}" for name, value in facts]
    # Not those of gate, which reads how long queries took: the same model has the same card.
    digests = [f"`{m.stage}` {m.fingerprint}" for m in findings.history if m.stage != "gate"]
    return [*lines, f"- results it rests on: {', '.join(digests) or 'none'}"]
