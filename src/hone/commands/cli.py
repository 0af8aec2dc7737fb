"""The command line: a table of verbs. A verb's module is imported when it is used: `hone --help` answers at once.

A new verb is one module in `hone.commands` with a Typer `app`, and one row here.
"""

import importlib
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

from hone.backends import named_extras
from hone.commands.version import shown_version
from hone.errors import TransientError, UserError
from hone.launch import is_helper
from hone.secrets import without_secrets


class Verb(NamedTuple):
    """The module of `hone.commands` that holds a verb, and its line in the help."""

    module: str
    help: str


VERBS = {
    "init": Verb("init", "Look at a corpus and write a commented settings file for it."),
    "run": Verb("run", "Run the whole chain; stages whose result is there already are not run again."),
    "plan": Verb("plan", "Forecast tokens, pairs, steps, hours, storage and money of a run; runs and writes nothing."),
    "domains": Verb("domains", "Show documents, gain, interval, p, verdict, cost and age of every domain of a folder."),
    "diff-corpus": Verb(
        "diff_corpus", "Count the documents that are new, changed or gone since a run, and say whether to train again."
    ),
    "stage": Verb("stage", "Run one stage, exactly as its container does; prints the prefix of its result."),
    "search": Verb("search", "Show the top ten of the base and the tuned model side by side."),
    "serve": Verb(
        "serve", "Serve a page to search with base and tuned side by side, and to judge results with a click."
    ),
    "compare": Verb(
        "compare", "Compare the tuned models of two runs on every test set that both measured, and write a report."
    ),
    "show": Verb("show", "Show rows of a table of a run: queries, lists, dropped, docs, measures and so on."),
    "encode": Verb("encode", "Write the corpus's vectors by the tuned model as Parquet, for a vector database."),
    "check-endpoint": Verb(
        "check_endpoint",
        "Compare what an endpoint serves with a run's tuned model, and name what differs; exit code 3 if it does.",
    ),
    "gate": Verb("gate", "Show the verdict on a run's model: every criterion with value, threshold and outcome."),
    "ablate": Verb("ablate", "Run the recipe with one thing changed at a time, and say what each is worth."),
    "saturate": Verb("saturate", "Train with fewer and fewer queries, and say what twice as many would bring."),
    "describe": Verb("describe", "List stages, tables with columns and types, and settings with defaults and meaning."),
    "compile": Verb("kubeflow", "Turn a pipeline and a profile into what Kubeflow runs."),
    "register": Verb("kubeflow", "Upload a pipeline to Kubeflow, unless the same is there already."),
    "submit": Verb(
        "kubeflow",
        "Run a pipeline on Kubeflow, or adopt the same run; exit 0 promote, 3 reject, 4 hold, 2 mistake, 75 try again.",
    ),
    "reconcile": Verb(
        "kubeflow", "Make Kubeflow hold the pipelines and the recurring runs of a plan; the chart's registrar does so."
    ),
    "selftest": Verb("kubeflow", "Try, inside a cluster, what runs will need of it; `helm test` does so."),
    "fetch": Verb("kubeflow", "Put models where runs find them, each whole or not at all; prints their digests."),
    "preflight": Verb(
        "kubeflow",
        "Check in a minute what would otherwise fail after hours: store, data, models, GPU, space, endpoints.",
    ),
    "launch": Verb("kubeflow", "Run one task of a Kubeflow pipeline, inside its container."),
    "registry": Verb("registry", "Published models: what serves a domain now, and what did before."),
    "store": Verb("store", "The store: what it holds, whether it is whole, what may go."),
    "repair": Verb("repair", "Make damaged or missing parts of a run again."),
}


def _quiet(value: bool) -> None:
    if value:
        os.environ["HONE_PROGRESS"] = "off"


def _verbose(value: bool) -> None:
    if value:
        os.environ["HONE_LOG"] = "text"


def _log_file(value: Path | None) -> None:
    if value:
        os.environ["HONE_LOG_FILE"] = str(value.resolve())


_usual = typer.Typer(add_completion=False)


@_usual.command()
def usual(
    quiet: Annotated[
        bool,
        typer.Option("-q", "--quiet", expose_value=False, callback=_quiet, help="Only the result and warnings."),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option("-v", "--verbose", expose_value=False, callback=_verbose, help="Every event, a line each."),
    ] = False,
    log_file: Annotated[
        Path | None,
        typer.Option("--log-file", expose_value=False, callback=_log_file, help="Add every event here, as JSON."),
    ] = None,
) -> None:
    """What every verb understands beside its own options."""


def _with_usual_options(command: Any) -> None:
    """Adds them to a command, and to those below it."""
    for inner in getattr(command, "commands", {}).values():
        _with_usual_options(inner)
    if not hasattr(command, "commands"):
        command.params += typer.main.get_command(_usual).params


class Verbs(TyperGroup):
    """The verbs of the table, each imported when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"hone.commands.{VERBS[cmd_name].module}")
        loaded: Any = typer.main.get_command(module.app)
        # A module that holds several verbs is a group of them; one that is a verb with verbs of its own stays one.
        inner = getattr(loaded, "commands", {}).get(cmd_name)
        command = inner or loaded
        command.name = cmd_name
        _with_usual_options(command)
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.help) for name, verb in VERBS.items()])


app = typer.Typer(
    name="hone",
    help="Specialise a dense retriever to one corpus, and prove that it is better there.",
    cls=Verbs,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,  # importing rich for the help text alone would double the time to answer
    pretty_exceptions_enable=False,
)


def _version(value: bool) -> None:
    if value:
        print(shown_version())
        raise typer.Exit


@app.callback()
def hone(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print version and commit.")
    ] = False,
) -> None:
    """Specialise a dense retriever to one corpus, and prove that it is better there."""


def main() -> None:
    """The `hone` command: mistakes of the user end with one sentence and exit code 2, lasting faults with 75."""
    if is_helper():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    # Hone loads models from folders only; nothing may be fetched while it runs.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Hone shows its own progress; a bar for every loaded weight would hide it.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        with named_extras():
            app()
    except (UserError, TransientError) as error:
        print(f"hone: {without_secrets(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
