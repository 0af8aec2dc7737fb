"""A model that is taken as it is: only what a model is made of is copied, and nothing from outside its folder."""

import json
import os
import shutil
from pathlib import Path

import pytest

import tiny
from hone.errors import UserError
from hone.inputs.model_folder import copy_declared


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.student(tmp_path_factory.mktemp("model"), dim=16, layers=1)


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "given"))


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_whole_model_is_copied_and_hidden_files_stay_behind(folder: Path, tmp_path: Path) -> None:
    expected = files(folder)
    (folder / ".gitattributes").write_text("* text")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "pickle.bin").write_bytes(b"")
    copy_declared(folder, tmp_path / "copy")
    assert files(tmp_path / "copy") == expected


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pkl", "modeling.py", "1_Pooling/hook.py", "onnx/model.onnx", "id_rsa",
             "model.safetensors.pt", "notes.txt"]
)  # fmt: skip
def test_whatever_no_model_is_made_of_is_refused_by_name(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"anything")
    with pytest.raises(UserError, match=rf"contains what does not belong to a model \({name}\)"):
        copy_declared(folder, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("where", ["README.md", "1_Pooling/config.json", "vocab.txt"])
def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path, where: str) -> None:
    (tmp_path / "id_rsa").write_text("PRIVATE KEY")
    (folder / where).unlink(missing_ok=True)
    (folder / where).symlink_to(tmp_path / "id_rsa")
    with pytest.raises(UserError, match=f"{where} is a link to outside the folder"):
        copy_declared(folder, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_linked_folder_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    shutil.move(folder / "1_Pooling", tmp_path / "elsewhere")
    (folder / "1_Pooling").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="1_Pooling"):
        copy_declared(folder, tmp_path / "copy")


def test_a_folder_of_a_hubs_cache_is_copied_through_its_links(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "models--own--small"
    (cache / "blobs").mkdir(parents=True)
    shutil.copytree(folder, cache / "snapshots" / "main")
    for number, name in enumerate(files(folder)):
        path = cache / "snapshots" / "main" / name
        path.rename(cache / "blobs" / str(number))
        path.symlink_to(os.path.relpath(cache / "blobs" / str(number), path.parent))
    copy_declared(cache / "snapshots" / "main", tmp_path / "copy")
    assert files(tmp_path / "copy") == files(folder)
    assert not any(path.is_symlink() for path in (tmp_path / "copy").rglob("*"))


def test_a_class_of_another_library_is_refused(folder: Path, tmp_path: Path) -> None:
    entries = json.loads((folder / "modules.json").read_text("utf-8"))
    entries[-1]["type"] = "evil.modules.Normalize"
    (folder / "modules.json").write_text(json.dumps(entries))
    with pytest.raises(UserError, match=r"lists evil\.modules\.Normalize"):
        copy_declared(folder, tmp_path / "copy")
