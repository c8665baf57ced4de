"""Own code: found, hashed, and held to what a request or a record states of it."""

import hashlib
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sightline.config.code_folder import hash_code
from sightline.config.code_of_run import MAX_KEPT_BYTES, find_code_of_run, keep_code
from sightline.config.location import locate
from sightline.config.own_code import open_code, targets_of
from sightline.errors import BadInput
from sightline.runs.project import PROGRAMS
from tests.own_code import TARGET, edit, write_code

OWN = {"model": TARGET}


@pytest.fixture(autouse=True)
def fresh_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test finds the path as it was, and none of the modules of another."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = {*sys.modules}
    yield
    for name in {*sys.modules} - before:
        if name.split(".")[0] in ("my_nets", "nets", "published_nets", "broken"):
            del sys.modules[name]


def activation() -> str:
    """What the network of the module has, as it is imported now."""
    network = locate(TARGET, "model")(num_classes=2)
    return type(network[1]).__name__


def test_the_code_of_a_folder_is_imported_and_hashed(tmp_path: Path) -> None:
    code = open_code(OWN, write_code(tmp_path / "own"))
    assert activation() == "ReLU"
    assert code.describe() == {"extensions": {"path": str(tmp_path / "own"), "sha256": hash_code(tmp_path / "own")}}


def test_the_hash_is_of_names_and_bytes_alone(tmp_path: Path) -> None:
    """Neither where the folder lies, nor what is hidden, compiled or a configuration."""
    one, other = write_code(tmp_path / "one"), write_code(tmp_path / "é" / "other")
    for name in (".git/config", "__pycache__/my_nets.cpython-311.pyc", "configs/experiment/mine.yaml", ".DS_Store"):
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_text("x")
    assert hash_code(one) == hash_code(other)
    (other / "table.txt").write_text("x")
    assert hash_code(one) != hash_code(other)
    digest = hashlib.sha256((one / "my_nets.py").read_bytes()).hexdigest()
    assert hash_code(one) == hashlib.sha256(f"my_nets.py\0{digest}\n".encode()).hexdigest(), "stands in old records"


def test_a_name_that_is_no_text_counts(tmp_path: Path) -> None:
    folder = write_code(tmp_path / "own")
    before = hash_code(folder)
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.txt")).touch()
    assert hash_code(folder) != before
    open_code(OWN, folder)
    keep_code(folder, tmp_path)
    assert hash_code(tmp_path / "code") == hash_code(folder)


def test_a_link_out_of_the_folder_counts_as_what_it_leads_to(tmp_path: Path) -> None:
    elsewhere = write_code(tmp_path / "elsewhere")
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "my_nets.py").symlink_to(elsewhere / "my_nets.py")
    (folder / "again").symlink_to(folder)
    assert open_code(OWN, folder).sha256["extensions"] == hash_code(folder)
    assert activation() == "ReLU"
    before = hash_code(folder)
    edit(elsewhere)
    assert hash_code(folder) != before


def test_an_edit_in_a_living_process_is_what_runs(tmp_path: Path) -> None:
    """Even one that keeps size and time of the file, by which Python takes a compiled one for its own."""
    folder = write_code(tmp_path / "own")
    (folder / "nets").mkdir()
    (folder / "nets" / "__init__.py").write_text("from my_nets import SmallNet")
    open_code({"model": "nets.SmallNet"}, folder)
    assert type(locate("nets.SmallNet", "model")(num_classes=2)[1]).__name__ == "ReLU"
    stat = (folder / "my_nets.py").stat()
    edit(folder)
    os.utime(folder / "my_nets.py", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    open_code({"model": "nets.SmallNet"}, folder)
    assert type(locate("nets.SmallNet", "model")(num_classes=2)[1]).__name__ == "SiLU"
    assert not [*folder.rglob("__pycache__")], "nothing is written into the folder of the user"


def test_what_was_compiled_of_other_code_is_not_run(tmp_path: Path) -> None:
    """`__pycache__` is in no hash."""
    folder = write_code(tmp_path / "own")
    stat = (folder / "my_nets.py").stat()
    original = (folder / "my_nets.py").read_text()
    edit(folder)
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(folder)], check=True)
    (compiled,) = folder.rglob("*.pyc")
    (folder / "my_nets.py").write_text(original)
    os.utime(folder / "my_nets.py", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    header = compiled.read_bytes()
    size_and_time = int(stat.st_mtime).to_bytes(4, "little") + stat.st_size.to_bytes(4, "little")
    compiled.write_bytes(header[:8] + size_and_time + header[16:])
    open_code(OWN, folder)
    assert activation() == "ReLU"


def test_two_folders_with_the_same_names(tmp_path: Path) -> None:
    """As where a run's own copy is opened beside the folder of today: what is opened last is meant."""
    one, other = write_code(tmp_path / "one"), write_code(tmp_path / "other")
    edit(other)
    found = []
    for folder in (one, other, one):
        open_code(OWN, folder)
        found.append(activation())
    assert found == ["ReLU", "SiLU", "ReLU"]


@pytest.mark.parametrize("name", ["torch", "json", "sightline", "yaml", "hydra_plugins"])
def test_a_module_that_would_hide_another_is_refused(name: str, tmp_path: Path) -> None:
    folder = write_code(tmp_path / "own")
    (folder / f"{name}.py").write_text("")
    with pytest.raises(BadInput, match=f"{name} is the name of a module that is there already"):
        open_code(OWN, folder)


def test_a_module_may_have_the_name_of_a_program(tmp_path: Path) -> None:
    folder = write_code(tmp_path / "own")
    (folder / "models.py").write_text("")
    open_code(OWN, folder)


def test_what_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_code(tmp_path / "own") / "my_nets.py"
    with pytest.raises(BadInput, match="is a file; name its folder"):
        open_code(OWN, file)
    with pytest.raises(BadInput, match="no such folder; name the one that your code is in"):
        open_code(OWN, tmp_path / "nowhere")
    with pytest.raises(BadInput, match=re.escape(f"there is no module my_netz here; nor in {tmp_path / 'own'}")):
        open_code({"model": "my_netz.SmallNet"}, tmp_path / "own")
    with pytest.raises(BadInput, match="name the folder that it is in with extensions=FOLDER, or install it"):
        open_code({"model": "my_netz.SmallNet"})
    monkeypatch.chdir(tmp_path)
    assert open_code(OWN, "own").paths["extensions"] == str(tmp_path / "own")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_code(OWN, "~/own").paths["extensions"] == str(tmp_path / "own")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def f(:\n", "broken.py line 1: invalid syntax"),
        ("\nimport nowhere_at_all\n", "broken.py line 2: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("x = 1\nraise RuntimeError('not today')\n", "broken.py line 2: RuntimeError: not today"),
        ("import sys\nsys.exit(3)\n", "broken.py line 2: SystemExit: 3"),
        ("SmallNet = 3\n", "SmallNet of broken is of type int, and no class or function"),
        ("class SmalNet: ...\n", "broken has no SmallNet (did you mean broken.SmalNet"),
    ],
)
def test_what_is_wrong_with_a_module_is_said_with_its_line(text: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(text)
    open_code({"model": "broken.SmallNet"}, tmp_path)
    with pytest.raises(BadInput, match=re.escape(expected)):
        locate("broken.SmallNet", "model")


def test_a_request_holds_code_to_its_hash(tmp_path: Path) -> None:
    folder = write_code(tmp_path / "own")
    known = dict(open_code(OWN, folder).sha256)
    open_code(OWN, folder, known=known)
    with pytest.raises(BadInput, match=r"states no hash of .*own; .*add trust_code=true"):
        open_code(OWN, folder, known={})
    edit(folder)
    with pytest.raises(BadInput, match=f"the code in {folder} has changed since .sha256 {known['extensions'][:12]}"):
        open_code(OWN, folder, known=known)
    with pytest.raises(BadInput, match="has changed since"):
        open_code({}, folder, known=known)
    assert open_code(OWN, folder, known=known, trusts=True).sha256 != known


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.hub.load",
        "torch.load",
        "timm.models.load_checkpoint",
        "sightline.models.own_network.create_own_network",
        "pytorch_lightning.LightningModule.load_from_checkpoint",
        "torch.distributed.elastic.multiprocessing.subprocess_handler.SubprocessHandler",
        "torch.utils.data.datapipes.iter.RoutedDecoder",
        "torch.nn.attention._fa3.register_flash_attention_fa3",
        "torchvision.models._api.WeightsEnum.get_state_dict",
        "torchvision.datasets.LSUNClass",
        "torchmetrics.functional.image.lpips._LPIPS",
        "pytorch_lightning.cli.LightningCLI",
        "sightline.data.own_sampler.OwnSampler",
    ],
)
def test_what_anybody_wrote_runs_nothing_by_way_of_a_trusted_package(target: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not among what any may name; where you know what it does, add trust_code"):
        open_code({"callbacks.x": target}, known={})
    open_code({"callbacks.x": target})
    open_code({"callbacks.x": target}, known={}, trusts=True)


def test_what_our_configurations_name_is_known_to_any(tmp_path: Path) -> None:
    import yaml

    from tests.commands import PROJECT

    files = [*(PROJECT / "configs").rglob("*.yaml")]
    named = {}
    for file in files:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        named |= {f"{file.stem}.{key}": target for key, target in targets_of(content).items()}
    named = {key: target for key, target in named.items() if not target.startswith(("optuna.", "hydra", "${"))}
    assert len(named) > 40
    open_code(named, known={})


def test_an_installed_package_is_own_code_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of a project, as an editable install has it, is trusted by its hash; what anybody can install is not."""
    for folder in ("project", "lib/site-packages"):
        write_code(tmp_path / folder / "published_nets")
        (tmp_path / folder / "published_nets" / "__init__.py").write_text("from published_nets.my_nets import SmallNet")
    own = {"model": "published_nets.SmallNet"}
    for place, is_ones_own in ((tmp_path / "project", True), (tmp_path / "lib" / "site-packages", False)):
        with monkeypatch.context() as patch:
            patch.syspath_prepend(place)
            importlib.invalidate_caches()
            code = open_code(own)
            assert code.paths == {"published_nets": str(place / "published_nets")}
            open_code(own, known=code.sha256)
            if is_ones_own:
                open_code(own, known=code.sha256, record=tmp_path / "run")
            else:
                with pytest.raises(BadInput, match="published_nets is installed for everybody; .*trust_code=true"):
                    open_code(own, known=code.sha256, record=tmp_path / "run")


@pytest.mark.parametrize("target", ["subprocess.Popen", "runpy.run_path", "builtins.eval", "train.main"])
def test_a_record_that_somebody_else_wrote_runs_nothing(target: str, tmp_path: Path, monkeypatch: Any) -> None:
    """The hash of a module of Python, one without a file among them, and of ours is known to all."""
    monkeypatch.syspath_prepend(PROGRAMS)
    package = target.split(".")[0]
    sha256 = open_code({"model": target}).sha256
    with pytest.raises(BadInput, match=f"{package} is installed for everybody"):
        open_code({"model": target}, known=sha256, record=tmp_path)


def record(run: Path, place: Path | str) -> None:
    run.mkdir(exist_ok=True)
    (run / "run.json").write_text(json.dumps({"code": {"extensions": {"path": str(place), "sha256": "…"}}}))


def test_the_folder_that_a_record_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, run = write_code(tmp_path / "own"), tmp_path / "run"
    record(run, own)
    assert find_code_of_run(run) == own
    keep_code(own, run)
    record(run, tmp_path / "nowhere")
    with pytest.raises(BadInput, match=f"was in {tmp_path / 'nowhere'}, and is not there; .*its copy: .*{run}/code"):
        find_code_of_run(run)
    assert find_code_of_run(run, trusts=True) == run / "code"
    (tmp_path / "link").symlink_to(run / "code")
    for place in (run / "code", tmp_path / "link"):
        record(run, place)
        with pytest.raises(BadInput, match=f"its own code came with it; .*add extensions={place}"):
            find_code_of_run(run)
        assert find_code_of_run(run, trusts=True) == place
    monkeypatch.chdir(tmp_path)
    record(run, "own")
    with pytest.raises(BadInput, match="was in own, and is not there"):
        find_code_of_run(run)
    another = write_code(tmp_path / "another" / "code")
    record(another.parent, own)
    record(run, another)
    with pytest.raises(BadInput, match=f"is in {another}, which is no folder of your own"):
        find_code_of_run(run)
    record(run, Path(json.__file__).parents[1])
    with pytest.raises(BadInput, match="which is no folder of your own"):
        find_code_of_run(run)
    record(run, Path(json.__file__).parent)
    with pytest.raises(BadInput, match="which is no folder of your own"):
        find_code_of_run(run)


def test_a_run_keeps_a_copy_of_what_is_small(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, run = write_code(tmp_path / "own"), tmp_path / "run"
    (folder / "configs").mkdir()
    (folder / "configs" / "a.yaml").write_text("a: 1")
    keep_code(folder, run)
    assert sorted(path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()) == [
        "code/configs/a.yaml",
        "code/my_nets.py",
    ]
    keep_code(run / "code", run)
    assert hash_code(run / "code") == hash_code(folder)
    edit(folder)
    keep_code(folder, run)
    assert hash_code(run / "code") == hash_code(folder)
    with (folder / "weights.bin").open("wb") as file:
        file.truncate(MAX_KEPT_BYTES)
    with caplog.at_level("INFO"):
        keep_code(folder, run)
    assert "the run keeps no copy of it (20 MB, of at most 20)" in caplog.text
    assert not (run / "code").exists()
