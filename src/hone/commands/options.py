"""Arguments and options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

from hone.errors import UserError


def verbs(help: str = "") -> typer.Typer:
    """An empty Typer app for one verb, or with `help` for a verb that has verbs of its own."""
    # Importing rich for the help text alone would double the time to answer.
    return typer.Typer(
        help=help or None,
        no_args_is_help=bool(help),
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


def duration_hours(text: str) -> float:
    """`2h`, `30m` or `90s` in hours. Raises UserError."""
    units = {"h": 1.0, "m": 1 / 60, "s": 1 / 3600}
    number, unit = text[:-1], text[-1:]
    if unit not in units or not number.replace(".", "", 1).isdecimal():
        raise UserError(f"--budget {text!r} is not a time; write 2h, 30m or 90s")
    return float(number) * units[unit]


RunName = Annotated[str, typer.Argument(metavar="RUN", help="The run's name in the store.")]
Settings = Annotated[Path, typer.Argument(metavar="SETTINGS.yaml", help="The settings file; `hone init` writes one.")]
StoreOption = Annotated[
    str,
    typer.Option("--store", envvar="HONE_STORE", help="Where results live: a folder or s3://bucket/prefix."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting in place of the file's, such as mine.top_k=50."),
]
SeedsOption = Annotated[int, typer.Option("--seeds", min=1, help="Whole runs of each, each with its own seed.")]
BudgetOption = Annotated[str, typer.Option("--budget", help="Start nothing new after this long, such as 2h or 30m.")]
ProfileOption = Annotated[str, typer.Option("--profile", help="A name in pipelines/profiles/, or a file.")]
ImagesOption = Annotated[Path | None, typer.Option("--images", help="A file of image: address@sha256:… lines.")]
HostOption = Annotated[str, typer.Option("--host", help="The address of Kubeflow Pipelines; default this cluster's.")]
DEFAULT_STORE = "hone-store"
JUDGEMENTS = Path("judgements")
"""Where `hone serve` keeps clicks, a folder for each run, and `hone run` looks for them."""
Pipeline = Annotated[str, typer.Argument(metavar="PIPELINE", help="A name in pipelines/, or the path of a file.")]
NamespaceOption = Annotated[str, typer.Option(help="The namespace, on a platform of many users.")]
SystemNamespaceOption = Annotated[
    str, typer.Option(help="The namespace of the platform's own service, where there is no --host.")
]
