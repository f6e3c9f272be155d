"""Adding folders and files, with real weights files in a real data folder; no server runs."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path
from typing import Literal, get_args, get_origin

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from safelight.catalog.index import FolderCatalog, bundled_folders
from safelight.cli.main import safelight
from safelight.cli.models import models
from safelight.core.operations.contract import operation_table
from safelight.errors import Conflict, ServerNotRunning, UnreadableFile


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SAFELIGHT_ENV", "production")
    monkeypatch.setenv("SAFELIGHT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def checkpoint() -> Path:
    [file] = bundled_folders()[0].rglob("*.safetensors")
    return file


@pytest.fixture
def adapter(tmp_path) -> Path:
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_k"
    file = tmp_path / "ink.safetensors"
    tensors = {f"{name}.lora_down.weight": (4, 320), f"{name}.lora_up.weight": (320, 4), f"{name}.alpha": ()}
    save_file({key: np.zeros(shape, np.float32) for key, shape in tensors.items()}, file)
    return file


def run(*arguments: str):
    return CliRunner().invoke(safelight, list(arguments), catch_exceptions=True)


def catalog(home: Path) -> FolderCatalog:
    """What a server on the data folder would see."""
    content = tomllib.loads(file.read_text()) if (file := home / "safelight.toml").is_file() else {}
    named = content.get("models", {})
    more = [Path(each) for each in (*named.get("folders", ()), *named.get("lora_folders", ()))]
    return FolderCatalog([home / "models", home / "loras", *more], bundled=False)


def test_an_imported_checkpoint_can_be_asked_for_by_its_name(home, checkpoint):
    done = run("models", "import", str(checkpoint), "--name", "mine", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["name"], said["kind"], said["family"]) == ("mine", "checkpoint", "sd1")
    assert Path(said["path"]).read_bytes() == checkpoint.read_bytes()
    assert catalog(home).model("mine").ref.size == said["bytes"] == checkpoint.stat().st_size


def test_a_look_at_the_folder_sees_the_import_without_a_new_start(home, checkpoint):
    seen = catalog(home)
    assert seen.models() == []
    assert run("models", "import", str(checkpoint), "--name", "mine").exit_code == 0
    assert [each.ref.name for each in seen.models()] == ["mine"]


def test_a_lora_is_told_by_its_content(home, adapter):
    done = run("models", "import", str(adapter))
    assert done.exit_code == 0 and "LoRA" in done.stdout
    assert catalog(home).lora("ink").path == str(home / "loras" / "ink.safetensors")


def test_what_says_how_a_checkpoint_is_read_comes_with_it(home, checkpoint, tmp_path):
    file = tmp_path / "v.safetensors"
    shutil.copyfile(checkpoint, file)
    file.with_name("v.safelight.json").write_text('{"prediction": "v"}')
    assert run("models", "import", str(file), "--name", "other").exit_code == 0
    assert catalog(home).model("other").prediction == "v"


def test_nothing_is_written_over(home, checkpoint):
    run("models", "import", str(checkpoint), "--name", "mine")
    before = (home / "models" / "mine.safetensors").stat()
    again = run("models", "import", str(checkpoint), "--name", "mine")
    assert isinstance(again.exception, Conflict) and "--name" in again.exception.hint
    assert (home / "models" / "mine.safetensors").stat() == before


def test_a_file_that_cannot_be_used_is_refused_and_not_copied(home, tmp_path):
    file = tmp_path / "page.safetensors"
    file.write_text("<html>please log in</html>")
    done = run("models", "import", str(file))
    assert isinstance(done.exception, UnreadableFile) and "web page" in done.exception.message
    assert not home.exists()


@pytest.mark.parametrize("name", ["../out", ".hidden", "a/b", "a:b"])
def test_a_name_stays_in_the_folder(name, home, checkpoint):
    done = run("models", "import", str(checkpoint), "--name", name)
    assert done.exit_code == 2 and "--name" in done.stderr
    assert not home.exists()


def test_a_tree_is_used_where_it_lies(home, checkpoint, adapter, tmp_path):
    root = tmp_path / "ComfyUI" / "models"
    for folder, file, name in (("checkpoints", checkpoint, "cards"), ("loras", adapter, "ink")):
        (root / folder).mkdir(parents=True)
        shutil.copyfile(file, root / folder / f"{name}.safetensors")
    said = json.loads(run("models", "add-folder", str(root.parent), "--json").stdout)
    assert said["kind"] == "ComfyUI" and said["added"]
    assert said["found"] == {"checkpoint": 1, "lora": 1, "unreadable": 0}
    assert catalog(home).model("cards").family == "sd1"
    assert catalog(home).lora("ink").path == str(root / "loras" / "ink.safetensors")


def test_a_folder_is_written_once_and_beside_what_is_there(home, tmp_path):
    home.mkdir()
    (home / "safelight.toml").write_text('# ours\n[server]\nport = 9000\n\n[models]\nfolders = ["/elsewhere"]\n')
    (tmp_path / "more").mkdir()
    first = run("models", "add-folder", str(tmp_path / "more"))
    assert first.exit_code == 0, first.output
    again = run("models", "add-folder", str(tmp_path / "more"))
    assert "has it already" in again.stdout
    text = (home / "safelight.toml").read_text()
    assert text.startswith("# ours\n[server]\nport = 9000\n")
    assert tomllib.loads(text)["models"]["folders"] == ["/elsewhere", str(tmp_path / "more")]


@pytest.mark.parametrize("words", [("load", "postcards"), ("unload",)], ids=" ".join)
def test_no_server_is_started_to_hold_a_model_for_a_moment(home, words, monkeypatch):
    monkeypatch.delenv("SAFELIGHT_URL", raising=False)
    assert isinstance(run("models", *words).exception, ServerNotRunning)
    assert not (home / "server.json").exists()


@pytest.mark.parametrize(("command", "operation"), [("load", "model.load"), ("unload", "model.unload")])
def test_a_command_by_hand_has_the_fields_of_its_operation(command, operation):
    taken = {each.name: each for each in models.commands[command].params if each.name != "as_json"}
    fields = operation_table().get(operation).request.model_fields
    assert set(taken) == set(fields) - {"operation"}
    for name in {"role", "dtype"} & set(taken):
        [choices] = [get_args(each) for each in (fields[name].annotation, *get_args(fields[name].annotation))
                     if get_origin(each) is Literal]  # fmt: skip
        assert tuple(taken[name].type.choices) == choices
