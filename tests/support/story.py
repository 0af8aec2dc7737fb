"""Findings that a test makes up, and what their texts try on whoever reads the report."""

from typing import Any

from hone.evaluation.metrics import MEASURES
from hone.report.findings import Findings, Move, QueryGain
from hone.results.manifest import Manifest, Output

EVIL = '<script>alert("x")</script>'
UNMEASURED = {
    "search_as": "dense",
    "queries": 0,
    "split": "",
    "synthetic": False,
    "models": {},
    "significant": False,
    "sets": {},
}
VERDICT = {
    "verdict": "hold", "model": "m", "reasons": [f"training lists: 3, wanted 100 ({EVIL})"],
    "criteria": [{"name": "training lists", "value": 3, "threshold": 100, "outcome": "hold", "note": EVIL}],
}  # fmt: skip


def measured(
    delta: float = 0.031, p_value: float = 0.004, split: str = "test", ci95: tuple[float, float] = (0.012, 0.05)
) -> dict[str, Any]:
    """metrics.json of 237 queries."""
    values = {
        "base": 0.481,
        "tuned": 0.481 + delta,
        "delta": delta,
        "ci95": ci95,
        "p_value": p_value,
        "p_holm": p_value,
    }
    found = {
        "role": "domain",
        "synthetic": False,
        "judged_by": "people",
        "queries": 237,
        "judged_docs": 400,
        "judged_docs_dropped": 0,
        "held_out": "documents",
        "free": None,
        "minimal_detectable_effect": 0.021,
        "measures": dict.fromkeys(MEASURES, values),
        "systems": {"base": dict.fromkeys(MEASURES, 0.4)},
        "ceiling": None,
        "groups": {"style": [{**values, "group": "question", "queries": 3}]},
    }
    return {
        "search_as": "dense",
        **{key: dict.fromkeys(MEASURES, values[key]) for key in ("base", "tuned", "delta")},
        "p_value": p_value, "ci95": ci95, "queries": 237, "split": split, "synthetic": False,
        "significant": p_value < 0.05,
        "sets": {split: found}, "models": {},
    }  # fmt: skip


def story(metrics: dict[str, Any]) -> Findings:
    gain = QueryGain(f"join {EVIL}", 0.2, 0.9, (Move(f"Thread.join {EVIL}", 14, 0),))
    same, worse = QueryGain("same", 0.5, 0.5), QueryGain("worse", 0.5, 0.1)
    history = (
        Manifest(
            stage="prepare", fingerprint="a" * 16, code="c", version="1", config={"path": EVIL}, sources={}, inputs={},
            input_digests={}, outputs={"docs": Output(digest="d" * 64, rows=12, parts=())}, facts={}, cost={},
            seconds=2.0,
        ),
    )  # fmt: skip
    steps = [{"step": 1, "kl": 0.9}, {"step": 9, "kl": 0.5}]
    return Findings(
        metrics=metrics, model="m", history=history, gains=(gain, same, worse), won=(gain,), lost=(worse,),
        training={"steps": steps, "looks": [{"step": 9, "dev_loss": 0.6}]}, config={"depth": 100},
    )  # fmt: skip
