"""The card of a model: the README.md of its folder, with a block that hubs read."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from hone.report.collect import UNDECLARED
from hone.report.findings import Findings
from hone.report.markdown import summary
from hone.report.markdown_text import escaped

UNMEASURED = """\
It has not been measured on test queries yet: `hone run` does that next, and the card of a model that was measured says
what was found.
"""
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

Prompts, pooling and normalisation are declared in the folder and applied by these calls.{prompts} A document is "title
text": its title and its text with a space between.{shape}

## How it was made

{made}
"""


def card(findings: Findings) -> str:
    """The card of a model that was measured."""
    tuned = findings.metrics["models"].get("tuned") or {}
    trained = next((m.facts for m in findings.history if m.stage == "distill"), {})
    return _card(
        findings.model,
        findings.licences.get("model", UNDECLARED),
        summary(findings),
        _made(findings),
        sizes=(tuned["dimension"], tuned["max_doc_tokens"]) if tuned else None,
        prompts=trained.get("prompts"),
        results=_results(findings),
    )


def unmeasured_card(model: str, licence: str, sizes: tuple[int, int], prompts: Mapping[str, str]) -> str:
    """The card of a model that has just been trained from `model`. `sizes`: the numbers of a vector, and the tokens at
    which a document is cut."""
    return _card(model, licence or UNDECLARED, UNMEASURED, [f"- base model: {escaped(model)}"], sizes, prompts)


def _card(
    model: str,
    licence: str,
    report: str,
    made: Sequence[str],
    sizes: tuple[int, int] | None,
    prompts: Mapping[str, str] | None,
    results: Sequence[Mapping[str, Any]] = (),
) -> str:
    base = re.sub(r"[^A-Za-z0-9._/-]", "-", model)
    block: dict[str, Any] = {"base_model": base}
    if results:
        block["model-index"] = [{"name": f"{base}, specialised", "results": results}]
    return CARD.format(
        licence="" if licence == UNDECLARED else f"license: {re.sub(r'[^A-Za-z0-9.+-]', '-', licence)}\n",
        hub=yaml.safe_dump(block, sort_keys=False, allow_unicode=True),
        shape=f" A vector has {sizes[0]:,} numbers; a document is cut at {sizes[1]:,} tokens." if sizes else "",
        prompts="" if prompts is None else _prompts(prompts),
        model=escaped(model),
        report=report,
        made="\n".join(made),
    )


def _prompts(prompts: Mapping[str, str]) -> str:
    said = [f" Before a {role} stands `{text}`." for role, text in prompts.items() if text.strip()]
    return "".join(said) or " Nothing is put before a query or a document."


def _results(findings: Findings) -> list[dict[str, Any]]:
    """The measures of the tuned model on every set of the domain, as hubs read them."""
    return [
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


def _made(findings: Findings) -> list[str]:
    summary = findings.training.get("summary", {})
    facts = [("base model", findings.model), *((key.replace("_", " "), value) for key, value in summary.items())]
    facts += [(f"licence of the {name}", licence) for name, licence in findings.licences.items()]
    lines = [f"- {name}: {escaped(str(value))}" for name, value in facts]
    # Not those of gate, which reads how long queries took: the same model has the same card.
    digests = [f"`{m.stage}` {m.fingerprint}" for m in findings.history if m.stage != "gate"]
    return [*lines, f"- results it rests on: {', '.join(digests) or 'none'}"]
