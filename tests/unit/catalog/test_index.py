"""Models and LoRAs by name: scans, rescans, bad files, pins."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from tests.builders.headers import header_of, write_sparse
from tests.builders.stable_diffusion import tiny_stable_diffusion, write_folder, write_single_file
from tests.unit.catalog.test_fingerprint import shapes

from safelight.catalog import scan
from safelight.catalog.hashes import FileHashes
from safelight.catalog.index import FolderCatalog
from safelight.catalog.named import NamedFolders
from safelight.catalog.pins import check, pin
from safelight.errors import InvalidRequest, UnreadableFile


def checkpoint(path, **metadata):
    return write_sparse(path, header_of(shapes(), metadata={"safelight.prediction": "eps", **metadata}))


def lora(path):
    return write_sparse(path, header_of({"lora_unet_x.lora_down.weight": (4, 8), "lora_unet_x.lora_up.weight": (8, 4)}))


def names(catalog, kind=None):
    return [entry.name for entry in catalog.entries() if kind in (None, entry.kind)]


def test_the_bundled_model_is_the_default(tmp_path):
    catalog = FolderCatalog()
    model = catalog.model(None)
    assert (model.ref.name, model.family, model.prediction, model.zero_terminal_snr) == ("postcards", "sd1", "v", True)
    assert model.title == "Safelight postcards"
    assert model.license == "Apache-2.0"
    assert model.defaults["width"] == 128
    assert catalog.model("Postcards.safetensors") == model
    check(model.ref)


def test_names_are_as_short_as_they_can_be(tmp_path):
    checkpoint(tmp_path / "one.safetensors")
    checkpoint(tmp_path / "people" / "two.safetensors")
    checkpoint(tmp_path / "people" / "same.safetensors")
    checkpoint(tmp_path / "places" / "same.safetensors")
    checkpoint(tmp_path / ".hidden" / "three.safetensors")
    lora(tmp_path / "one-lora.safetensors")
    lora(tmp_path / "loras" / "two.safetensors")
    catalog = FolderCatalog([tmp_path], bundled=False)
    assert names(catalog, "checkpoint") == ["one", "people/same", "two", "places/same"]
    assert names(catalog, "lora") == ["two", "one-lora"]
    for asked in ("two", "TWO", "two.safetensors", "people/two", "people\\two.safetensors"):
        assert catalog.model(asked).ref.path == str(tmp_path / "people" / "two.safetensors")
    assert catalog.lora("two").path == str(tmp_path / "loras" / "two.safetensors")
    assert catalog.model("places/same").ref.name == "places/same"
    with pytest.raises(InvalidRequest, match="model: 'same' may be people/same, places/same"):
        catalog.model("same")


def test_a_name_that_is_not_there_is_answered_with_the_nearest(tmp_path):
    checkpoint(tmp_path / "dreamlike.safetensors")
    lora(tmp_path / "pencil.safetensors")
    catalog = FolderCatalog([tmp_path])
    with pytest.raises(InvalidRequest) as refused:
        catalog.model("dreamlik", "base.model")
    error = refused.value.errors[0]
    assert error.path == "base.model"
    assert error.hint == "Did you mean 'dreamlike'? Known: dreamlike, postcards."
    with pytest.raises(InvalidRequest, match=r"loras.0: there is no LoRA 'pensil' Did you mean 'pencil'"):
        catalog.lora("pensil", "loras.0")
    with pytest.raises(InvalidRequest, match="There is no LoRA at all yet"):
        FolderCatalog([], bundled=False).lora("pencil")


def test_a_new_file_is_seen_at_the_next_look_and_only_it_is_read(tmp_path, monkeypatch):
    read = []
    original = scan.read_header
    monkeypatch.setattr(scan, "read_header", lambda path: read.append(path.name) or original(path))
    checkpoint(tmp_path / "one.safetensors")
    catalog = FolderCatalog([tmp_path], bundled=False)
    assert names(catalog) == ["one"]
    checkpoint(tmp_path / "two.safetensors")
    assert catalog.model("two").family == "sd1"
    assert read == ["one.safetensors", "two.safetensors"]
    checkpoint(tmp_path / "one.safetensors", **{"modelspec.title": "Other"})
    assert catalog.model("one").title == "Other"
    (tmp_path / "two.safetensors").unlink()
    assert names(catalog) == ["one"]
    assert read == ["one.safetensors", "two.safetensors", "one.safetensors"]


def test_an_override_that_appears_counts_at_the_next_look(tmp_path):
    checkpoint(tmp_path / "one.safetensors")
    catalog = FolderCatalog([tmp_path], bundled=False)
    before = catalog.model("one")
    (tmp_path / "one.safelight.json").write_text(json.dumps({"prediction": "v"}))
    after = catalog.model("one")
    assert (before.prediction, after.prediction) == ("eps", "v")
    assert before.ref.key != after.ref.key
    (tmp_path / "one.safelight.json").write_text("{}}")
    with pytest.raises(InvalidRequest, match="is not valid JSON"):
        catalog.model("one")


def test_a_bad_file_is_listed_with_its_problem_and_disturbs_no_other(tmp_path):
    checkpoint(tmp_path / "good.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"\0" * 100)
    (tmp_path / "good.ckpt").write_bytes(b"\x80\x04.")
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "nowhere.safetensors")
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "circle").symlink_to(tmp_path)
    catalog = FolderCatalog([tmp_path, tmp_path / "not-there"], bundled=False)
    problems = {entry.name: entry.problem for entry in catalog.entries()}
    assert set(problems) == {"bad", "good.ckpt", "good.safetensors"}
    assert "begins with zeros" in problems["bad"]
    assert "a Python pickle" in problems["good.ckpt"]
    assert catalog.model("good").ref.path.endswith("good.safetensors")
    assert [model.ref.name for model in catalog.models()] == ["good.safetensors"]
    with pytest.raises(InvalidRequest, match="begins with zeros"):
        catalog.model("bad")


def test_what_cannot_be_looked_at_is_listed_and_disturbs_no_other(tmp_path, monkeypatch):
    checkpoint(tmp_path / "good.safetensors")
    for name in ("locked", "open/locked"):
        checkpoint(tmp_path / name / "unseen.safetensors")
    tiny = write_folder(tiny_stable_diffusion(), tmp_path / "tiny").parent
    (tmp_path / "loop.safetensors").symlink_to(tmp_path / "loop.safetensors")
    shut = {tmp_path / "locked", tmp_path / "open" / "locked", tiny / "unet"}

    def guarded(real):
        def listed(path):
            if Path(path) in shut:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return real(path)

        return listed

    with monkeypatch.context() as patched:  # the tests' user may be one whom no rights keep out
        patched.setattr(os, "scandir", guarded(os.scandir))
        patched.setattr(os, "listdir", guarded(os.listdir))
        catalog = FolderCatalog([tmp_path], bundled=False)
        problems = {entry.place: entry.problem for entry in catalog.entries() if entry.kind == "unreadable"}
        assert set(problems) == {"locked", "open/locked", "tiny", "loop.safetensors"}
        assert problems["locked"] == f"{tmp_path / 'locked'} cannot be read: Permission denied."
        assert problems["tiny"] == f"{tiny / 'unet'} cannot be read: Permission denied."
        assert "symbolic links" in problems["loop.safetensors"]
        assert catalog.model("good").family == "sd1"
        with pytest.raises(InvalidRequest, match="Permission denied"):
            catalog.model("tiny")
    assert catalog.model("tiny").family == "sd1"
    assert names(catalog, "checkpoint") == ["good", "locked/unseen", "open/locked/unseen", "tiny"]


def test_the_users_file_comes_before_the_packages(tmp_path):
    checkpoint(tmp_path / "postcards" / "postcards.safetensors")
    assert FolderCatalog([tmp_path]).model(None).ref.path.startswith(str(tmp_path))


def test_a_folder_inside_another_is_seen_once(tmp_path):
    lora(tmp_path / "loras" / "pencil.safetensors")
    catalog = FolderCatalog([tmp_path, tmp_path / "loras"], bundled=False)
    assert names(catalog) == ["pencil"]
    assert catalog.lora("loras/pencil") == catalog.lora("pencil")


def test_a_diffusers_folder_is_one_model(tmp_path):
    index = write_folder(tiny_stable_diffusion("sd2"), tmp_path / "models" / "tiny")
    catalog = FolderCatalog([tmp_path], bundled=False)
    model = catalog.model("tiny")
    assert names(catalog) == ["tiny"]
    assert (model.family, model.prediction, model.ref.path) == ("sd2", "v", str(index))
    check(model.ref)
    (index.parent / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    with pytest.raises(UnreadableFile):
        check(model.ref)
    with pytest.raises(InvalidRequest, match="is empty"):
        catalog.model("tiny")


def test_a_folder_of_pickles_is_told_so(tmp_path):
    index = write_folder(tiny_stable_diffusion(), tmp_path / "tiny")
    weights = index.parent / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(InvalidRequest, match=r"It holds config.json, diffusion_pytorch_model.bin.*never read"):
        FolderCatalog([tmp_path]).model("tiny")


def test_an_inpainting_folder_is_told_so(tmp_path):
    write_folder(tiny_stable_diffusion(in_channels=9), tmp_path / "tiny")
    with pytest.raises(InvalidRequest, match=r"an inpainting model of Stable Diffusion 1.x"):
        FolderCatalog([tmp_path]).model("tiny")


def test_a_pin_notices_another_file_and_forgives_a_copy(tmp_path):
    path = write_single_file(tiny_stable_diffusion(), tmp_path / "tiny.safetensors")
    ref = pin("tiny", path)
    assert (ref.size, ref.mtime_ns, ref.inode) == (path.stat().st_size, path.stat().st_mtime_ns, path.stat().st_ino)
    (tmp_path / "copy").write_bytes(path.read_bytes())
    (tmp_path / "copy").replace(path)
    check(ref)
    write_single_file(tiny_stable_diffusion(), path, metadata={"modelspec.title": "Another"})
    with pytest.raises(UnreadableFile, match="has changed since this job was submitted"):
        check(ref)
    path.unlink()
    with pytest.raises(UnreadableFile, match="is gone"):
        check(ref)


def test_a_store_of_hashes_that_cannot_be_written_stops_nothing(tmp_path, caplog):
    files = [tmp_path / "one", tmp_path / "two"]
    for file in files:
        file.write_bytes(file.name.encode())
    (tmp_path / "no folder").write_bytes(b"")
    hashes = FileHashes(tmp_path / "no folder" / "hashes.json")
    for file in files:
        hashes.want(file)
    hashes.drain()
    assert [hashes.known(file) for file in files] == [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    assert [record.exc_info[0] for record in caplog.records] == [FileExistsError] * 2
    (tmp_path / "no folder").unlink()
    (tmp_path / "three").write_bytes(b"three")
    hashes.want(tmp_path / "three")
    hashes.drain()
    hashes.close()
    again = FileHashes(tmp_path / "no folder" / "hashes.json")
    assert [bool(again.known(file)) for file in files] == [True, True]


def test_half_a_store_of_hashes_is_not_left_behind(tmp_path, monkeypatch):
    (tmp_path / "one").write_bytes(b"1")
    real = Path.write_text

    def cut_short(path, text):
        real(path, text[:5])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", cut_short)
    hashes = FileHashes(tmp_path / "hashes.json")
    hashes.want(tmp_path / "one")
    hashes.drain()
    hashes.close()
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_hashes_come_in_the_background_and_are_remembered(tmp_path):
    path = write_single_file(tiny_stable_diffusion(), tmp_path / "tiny.safetensors", torch.float16)
    wanted = hashlib.sha256(path.read_bytes()).hexdigest()
    told = []
    hashes = FileHashes(tmp_path / "hashes.json", lambda file, sha256: told.append((file, sha256)))
    catalog = FolderCatalog([tmp_path], hashes=hashes)
    assert catalog.model("tiny").ref.sha256 == ""
    hashes.drain()
    assert catalog.model("tiny").ref.sha256 == wanted
    assert told == [(path, wanted)]
    hashes.close()
    again = FileHashes(tmp_path / "hashes.json")
    assert again.known(path) == wanted
    os.utime(path, ns=(1, 1))
    assert again.known(path) == ""
    again.close()
    (tmp_path / "hashes.json").write_text("{")
    fresh = FileHashes(tmp_path / "hashes.json")
    assert fresh.known(path) == ""
    fresh.want(path)
    fresh.drain()
    assert fresh.known(path) == wanted
    fresh.want(tmp_path / "nowhere")
    fresh.drain()
    assert fresh.known(tmp_path / "nowhere") == ""
    fresh.close()


def test_an_absolute_path_names_what_lies_in_a_model_folder(tmp_path):
    inside = tmp_path / "models"
    file = checkpoint(inside / "people" / "two.safetensors")
    index = write_folder(tiny_stable_diffusion(), inside / "diffusers")
    lora(inside / "ink.safetensors")
    catalog = FolderCatalog([inside], bundled=False)
    for path in (file, file.parent / ".." / "people" / "two.safetensors"):
        assert catalog.model(str(path)).ref.path == str(file)
    assert catalog.model(str(index)).ref == catalog.model(str(index.parent)).ref
    assert catalog.lora(str(inside / "ink.safetensors")).name == "ink"
    with pytest.raises(InvalidRequest, match="there is no model"):
        catalog.model(str(inside / "ink.safetensors"))
    with pytest.raises(InvalidRequest, match="there is no model"):
        catalog.model(str(inside / "nothing.safetensors"))


@pytest.mark.parametrize("way", ["{root}/outside.safetensors", "{root}/models/../outside.safetensors", "/etc/passwd",
                                 "{root}/models-2/one.safetensors", "~/one.safetensors"])  # fmt: skip
def test_a_path_outside_the_model_folders_is_refused_whatever_lies_there(tmp_path, way):
    checkpoint(tmp_path / "outside.safetensors")
    checkpoint(tmp_path / "models" / "one.safetensors")
    catalog = FolderCatalog([tmp_path / "models"], bundled=False)
    with pytest.raises(InvalidRequest, match="outside the model folders") as refused:
        catalog.model(way.format(root=tmp_path))
    assert "add-folder" in refused.value.errors[0].hint


def test_what_was_given_is_known_though_its_file_changes_or_goes(tmp_path):
    file = tmp_path / "sub" / "One.safetensors"
    file.parent.mkdir()
    checkpoint(file)
    catalog = FolderCatalog([tmp_path], bundled=False)
    assert catalog.given("one") is None
    ref = catalog.model("one").ref
    os.utime(file, (1, 1))
    for name in ("One", "sub/one.safetensors", str(file), str(tmp_path / "sub" / ".." / "sub" / "One.safetensors")):
        assert catalog.given(name) == ref
    assert catalog.model("one").ref.key != ref.key, "another file by now"
    file.unlink()
    assert catalog.given("one").path == str(file)
    with pytest.raises(InvalidRequest):
        catalog.model("one")
    assert catalog.given("two") is None


def test_a_folder_may_be_given_by_a_roundabout_way(tmp_path):
    checkpoint(tmp_path / "models" / "one.safetensors")
    (tmp_path / "elsewhere").mkdir()
    catalog = FolderCatalog([tmp_path / "elsewhere" / ".." / "models", tmp_path / "models"], bundled=False)
    [entry] = catalog.entries()
    assert entry.path == tmp_path / "models" / "one.safetensors"
    assert catalog.model(str(entry.path)).ref.path == str(entry.path)


def test_folders_that_a_settings_file_names_are_looked_through_as_it_stands(tmp_path, caplog):
    file = tmp_path / "safelight.toml"
    for name in ("here", "there"):
        checkpoint(tmp_path / name / f"{name}.safetensors")
    lora(tmp_path / "adapters" / "ink.safetensors")
    catalog = FolderCatalog([tmp_path / "here"], bundled=False, named=NamedFolders(file))
    assert names(catalog) == ["here"]
    folders = json.dumps([str(tmp_path / "here"), str(tmp_path / "there")])
    file.write_text(f"[models]\nfolders = {folders}\nlora_folders = [{json.dumps(str(tmp_path / 'adapters'))}]\n")
    assert names(catalog) == ["here", "there", "ink"], "a folder that is named twice is looked through once"
    file.write_text("[models]\nfolders = [")
    assert names(catalog) == ["here", "there", "ink"] and "stay as they were" in caplog.text
    file.unlink()
    assert names(catalog) == ["here"]
