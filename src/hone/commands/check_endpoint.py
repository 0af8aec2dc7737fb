"""`hone check-endpoint`: is what is served what was measured?"""

import json
from typing import Annotated, Any

import typer
from rich.markup import escape

from hone import backends
from hone.commands.options import DEFAULT_STORE, StoreOption, verbs
from hone.commands.output import console
from hone.errors import UserError
from hone.evaluation.metrics import PRIMARY
from hone.scratch import scratch_folder
from hone.serving.embedding_endpoint import Endpoint, Prompts
from hone.serving.endpoint_check import Checked, Tolerance, check
from hone.storage.addresses import open_store

app = verbs()
DIFFERS = 3
PLURAL = {"document": "documents", "query": "queries"}


@app.command()
def check_endpoint(
    url: Annotated[str, typer.Argument(metavar="URL", help="The endpoint, or its server: /v1/embeddings or /embed.")],
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="The run whose tuned model it should serve.")],
    store: StoreOption = DEFAULT_STORE,
    model: Annotated[str, typer.Option(help="Its name at an OpenAI server; default the first listed.")] = "",
    prompts: Annotated[
        str, typer.Option(help="Who puts the prompt before a text: client, server, or name (TEI's prompt_name).")
    ] = "client",
    key_variable: Annotated[
        str, typer.Option(help="The environment variable that holds the key; without it none is sent.")
    ] = "EMBEDDING_API_KEY",
    sample: Annotated[int, typer.Option(min=1, help="Documents whose vectors are compared.")] = 64,
    queries: Annotated[int, typer.Option(min=0, help="Most test queries that are asked; 0 for all.")] = 1_000,
    documents: Annotated[
        bool, typer.Option("--documents", help="Have the endpoint encode all documents too, not the queries alone.")
    ] = False,
    tolerance: Annotated[float, typer.Option(min=0, help="Most of 1 - cosine between two vectors of a text.")] = 0.001,
    ndcg_tolerance: Annotated[float, typer.Option(min=0, help="Most difference in nDCG@10.")] = 0.005,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Compare what an endpoint serves with the tuned model of a run; exit code 3 if it differs."""
    backends.require("torch")
    kinds: dict[str, Prompts] = {"client": "client", "server": "server", "name": "name"}
    if prompts not in kinds:
        raise UserError(f"--prompts {prompts!r}: write client, server or name")
    place = open_store(store)
    endpoint = Endpoint(url, model=model, key_variable=key_variable, prompts=kinds[prompts])
    with scratch_folder() as scratch:
        limits = Tolerance(tolerance, ndcg_tolerance)
        checked = check(place, run_name, endpoint, scratch, limits, sample=sample, most_queries=queries,
                      documents=documents)  # fmt: skip
    if as_json:
        print(json.dumps(_facts(endpoint, checked), indent=1, ensure_ascii=False))
    else:
        _show(endpoint, checked)
    raise typer.Exit(DIFFERS if checked.differs else 0)


def _show(endpoint: Endpoint, checked: Checked) -> None:
    console.print(escape(endpoint.shown), soft_wrap=True)
    for side in checked.sides:
        cosines = 1 - side.distances
        console.print(
            f"{len(side.texts):>6,} {PLURAL[side.role]:<9}  cosine to the model: mean {cosines.mean():.4f}, "
            f"least {cosines.min():.4f}"
        )
    if checked.queries:
        console.print(
            f"{checked.queries:>6,} {checked.split:<9}  "
            f"{PRIMARY}: {checked.measured:.4f} measured, {checked.served:.4f} served"
        )
    for cause, roles in checked.causes.items():
        of = " and ".join(PLURAL[role] for role in roles)
        console.print(f"[bold]{cause.kind}[/] ({of}): {escape(cause.says)}; {escape(cause.remedy)}")
    if checked.differs:
        console.print("[bold]differs[/]: what is served is not what was measured")
    else:
        console.print("[bold]the same[/]: what is served is what was measured")


def _facts(endpoint: Endpoint, checked: Checked) -> dict[str, Any]:
    return {
        "endpoint": endpoint.shown,
        "differs": checked.differs,
        "texts": {
            side.role: {"count": len(side.texts), "mean_cosine": float(1 - side.distances.mean()),
                        "least_cosine": float(1 - side.distances.max()), "length": side.lengths[0]}
            for side in checked.sides
        },
        PRIMARY: {name: getattr(checked, name) for name in ("split", "queries", "measured", "served")},
        "causes": [{"kind": cause.kind, "of": list(roles), "says": cause.says, "remedy": cause.remedy}
                   for cause, roles in checked.causes.items()],
    }  # fmt: skip
