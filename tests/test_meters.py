"""What training tells of itself while it runs: in its progress line, to TensorBoard and to MLflow."""

import io
from pathlib import Path

import pytest
from mlflow import MlflowClient
from tensorboardX.proto.event_pb2 import Event

import tiny
import twin
from hone.backends.training.embedders import WholeModel
from hone.backends.training.gradients import Gradients
from hone.backends.training.loop import dev_batches, train
from hone.backends.training.meters import tracked
from hone.backends.training.settings import TrainingSettings
from hone.errors import UserError
from hone.progress import Task

RATES = {"steps_per_second", "docs_per_second", "tokens_per_second", "padding_share", "duplicates_spared_share"}


def trained(home: Path, settings: TrainingSettings) -> Task:
    """A training of four steps; returns its progress."""
    student = twin.encoder(tiny.student(home / "student", vocab_texts=twin.WORDS))
    embedder = WholeModel(student, student.tokenize_docs(twin.texts(60)))
    gradients = Gradients(embedder, settings.loss, 100, 1e9)
    shown = Task("train", 4, "steps", io.StringIO())
    dev = dev_batches(twin.lists(5, 12), student.device)
    with tracked(settings, "f00d") as track:
        train(gradients, twin.lists(40, 12), dev, settings, lambda _: shown, None, track)
    return shown


def test_progress_tells_the_terms_of_the_loss_the_rates_and_what_was_saved(tmp_path: Path) -> None:
    note = trained(tmp_path, TrainingSettings(batch_size=8, max_steps=4)).note
    for part in ("loss ", "kl ", "infonce ", " docs/s", " tokens/s", "% padding", "% duplicates spared", " GB"):
        assert part in note


def test_tensorboard_s_event_files_hold_every_step_and_look(tmp_path: Path) -> None:
    trained(tmp_path, TrainingSettings(batch_size=8, max_steps=4, eval_every=2, tensorboard=str(tmp_path / "events")))
    found: dict[str, dict[int, float]] = {}
    for event in events(next((tmp_path / "events/f00d").iterdir())):
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value.simple_value
    assert found.keys() >= RATES | {"loss", "kl", "infonce", "learning_rate", "memory_gb", "dev_loss", "dev_ndcg"}
    assert list(found["loss"]) == [1, 2, 3, 4]
    assert list(found["dev_loss"]) == [2, 4]
    assert 0 < found["duplicates_spared_share"][4] < 1
    assert 0 <= found["padding_share"][4] < 0.5


def events(file: Path) -> list[Event]:
    """The records of an event file: length, checksum, content, checksum."""
    data, at, found = file.read_bytes(), 0, list[Event]()
    while at < len(data):
        size = int.from_bytes(data[at : at + 8], "little")
        found.append(Event.FromString(data[at + 12 : at + 12 + size]))
        at += 16 + size
    return found


def test_mlflow_gets_the_same_figures_and_how_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    address = f"file:{tmp_path}/runs"
    trained(tmp_path, TrainingSettings(batch_size=8, max_steps=4, mlflow=address))
    with pytest.raises(UserError, match="at step"):
        trained(
            tmp_path / "b", TrainingSettings(batch_size=8, max_steps=4, mlflow=address, learning_rate=1e30, clip=1e30)
        )
    client = MlflowClient(tracking_uri=address)
    experiment = client.get_experiment_by_name("hone")
    assert experiment is not None
    failed, done = client.search_runs([experiment.experiment_id], order_by=["start_time DESC"])
    assert (failed.info.status, done.info.status, done.info.run_name) == ("FAILED", "FINISHED", "f00d")
    assert done.data.metrics.keys() >= RATES | {"loss", "kl", "dev_loss"}
    assert [point.step for point in client.get_metric_history(done.info.run_id, "loss")] == [1, 2, 3, 4]


def test_an_mlflow_that_does_not_answer_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"distill\.mlflow: ftp://nowhere does not work"):
        trained(tmp_path, TrainingSettings(batch_size=8, max_steps=1, mlflow="ftp://nowhere"))
