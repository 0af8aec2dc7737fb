"""Which loss helps? The paper's first two claims on collections in BEIR layout: the student as it is, and specialised
by InfoNCE alone, by listwise distillation (KL) alone, and by both, several seeds each.

    python benchmarks/claims.py FOLDER... [--seeds 17,18,19] [--preset cpu] [--store DIR] [--set distill.max_steps=50]

Queries, candidates and the teacher's scores are made once a collection; a seed shuffles the lists of training. No human
query is seen in training and test queries are only used to report. Both trainings of a preset have the loss, all layers
and then the head over what they give; `--set distill.first=false` leaves the head alone.
"""

import argparse
import json
import statistics
import sys
from typing import Any

from quality import measure, options
from rich.console import Console
from rich.table import Table

from hone.settings import load_preset
from hone.storage.addresses import open_store

LOSSES: dict[str, dict[str, float]] = {
    "InfoNCE": {"kl_weight": 0, "infonce_weight": 1},
    "KL": {"kl_weight": 1, "infonce_weight": 0},
    "KL + 0.1 InfoNCE": {"kl_weight": 1, "infonce_weight": 0.1},
}
MAIN_SEED = 17


def main() -> int:
    parser = options(__doc__, seeds="17,18,19", store="build/claims")
    parser.set_defaults(log=False)
    parser.add_argument("--losses", default=",".join(LOSSES), help="which of the losses, comma-separated")
    arguments = parser.parse_args()
    store = open_store(arguments.store)
    trainings = ["distill"]
    if load_preset(arguments.preset, "--preset").get("distill", {}).get("first"):
        trainings.append("distill.first")
    rows: list[dict[str, Any]] = []
    for collection in arguments.collections:
        for loss in arguments.losses.split(","):
            for seed in arguments.seeds.split(","):
                settings = [f"{one}.loss.{name}={value}" for one in trainings for name, value in LOSSES[loss].items()]
                chosen = argparse.Namespace(**{**vars(arguments), "set": [*settings, *arguments.set]})
                chosen.set.append(f"distill.seed={seed}")
                rows.append({"loss": loss, **measure(collection, MAIN_SEED, chosen, store), "seed": int(seed)})
                print(json.dumps(rows[-1]), flush=True)
    Console().print(table(rows))
    return 0


def table(rows: list[dict[str, Any]]) -> Table:
    """A row for each collection and loss: means over the seeds."""
    grid = Table(title="nDCG@10, test queries, mean of the seeds", title_justify="left")
    for heading in ("collection", "loss", "base", "tuned", "gain", "of each seed", "Recall@100"):
        grid.add_column(heading, justify="left" if heading in ("collection", "loss") else "right")
    for collection, loss in dict.fromkeys((row["collection"], row["loss"]) for row in rows):
        found = [row for row in rows if (row["collection"], row["loss"]) == (collection, loss)]
        if any("refused" in row for row in found):
            grid.add_row(collection, loss, "refused", "", "", "", "")
            continue
        base, tuned = (statistics.mean(row[name] for row in found) for name in ("base", "tuned"))
        gains = ", ".join(f"{100 * row['delta']:+.1f}" for row in found)
        recall = [statistics.mean(row["recall"][at] for row in found) for at in (0, 1)]
        grid.add_row(
            collection, loss, f"{base:.4f}", f"{tuned:.4f}", f"{100 * (tuned - base):+.2f}", gains,
            f"{recall[0]:.3f} → {recall[1]:.3f}",
        )  # fmt: skip
    return grid


if __name__ == "__main__":
    sys.exit(main())
