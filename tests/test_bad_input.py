"""Bad input exits 2 with a message that names the thing, the value and the change, and leaves nothing behind."""

import shutil
from collections.abc import Callable
from pathlib import Path

import albumentations as A  # noqa: N812
import pytest
import timm
from PIL import Image
from safetensors.torch import save_file

from sightline.config import validate
from sightline.data.splitting import SplitRule, make_manifest
from sightline.data.transforms import Augmentation
from sightline.errors import BadInput
from sightline.task_spec import TaskSpec
from sightline.training.train import train
from tests.conftest import Cli, compose_config, write_image

ON_THE_COMMAND_LINE = [
    ("data.batchsize=3", "data.batchsize=3: no such key; type data.batch_size=3"),
    ("trainer.max_epoch=3", "trainer.max_epoch=3: no such key (did you mean trainer.max_epochs=3?)"),
    ("nonsense=3", "nonsense: no such key; known here: name, seed, stages"),
    ("+data.batchsize=3", "data.batchsize=3: no such key; type data.batch_size=3"),
    ("+nonsense=3", "nonsense: no such key; leave it out"),
    ("+nonsense=3 launch=local_process", "nonsense: no such key; leave it out"),
    ("data.num_workers=many", "data.num_workers=many: must be a whole number"),
    ("data.num_workers=null", "data.num_workers=null: must have a value"),
    ("model.compile=maybe", "model.compile=maybe: must be true or false"),
    ("data.batch_size=many", "data.batch_size=many: must be a number, 1 or more, or auto"),
    ("divergence.action=ignore", "divergence.action=ignore: must be one of stop, rollback"),
    ("epochs=5", "error: epochs=5: no such key; type trainer.max_epochs=5"),
    ("-m lr=0.1,0.2", "error: lr=0.1,0.2: no such key; type model.lr=0.1,0.2"),
    ("+epochs=5 launch=local_process", "error: epochs=5: no such key; type trainer.max_epochs=5"),
    (
        "experiment=gtsbr",
        "experiment=gtsbr: no such option (did you mean experiment=gtsrb?); there are: bikes, ",
    ),
    ("model=resnet34", "error: model=resnet34: no such option; type model.name=resnet34; there are: default, "),
    ("data=/nowhere/photos", "error: data=/nowhere/photos: no such option; type data.root=/nowhere/photos; there are"),
    ("model/optimizer=adamx", "no such option (did you mean model/optimizer=adam or model/optimizer=adamw"),
    ("+model.lr=1", "error: +model.lr: has a value already; leave the + out"),
    ("~foo", "error: ~foo: no such group or key; leave it out"),
    ("model.name=resnet(18", "error: model.name=resnet(18: has characters that need quotes; type 'model.name="),
    ("--epochs 5", "error: --epochs 5: arguments are written key=value; type trainer.max_epochs=5"),
    ("experiment=null", "experiment=null: to leave a group out write ~experiment"),
    ("trainer.max_epochs=0", "training would never end or never begin; set trainer.max_epochs to 1 or more"),
    ("model.optimizer.lr=1e-4", "set model.lr=0.0001 and leave model.optimizer.lr out"),
    (
        "model.focal_gamma=1",
        "1: has no effect here, it counts only with model.loss=focal; set that, or leave model.focal_gamma out",
    ),
    (
        "model.focal_gamma=1 launch=local_process",
        "model.focal_gamma=1: has no effect here, it counts only with model.loss",
    ),
    ("stages=fit", "stages=fit: must be a list; type stages=[fit]"),
    (
        "checkpoint=best",
        "checkpoint=best: holds a value for each of its keys; set one of them, like checkpoint.monitor=…",
    ),
    ("model.arguments=x", "holds a value for each of its keys; set one of them, like +model.arguments.NAME=VALUE"),
    ("data.columns=[a]", "data.columns: a list stands for keys with a value each, or these for a list"),
    ("launch.n_parallel=2", "launch.n_parallel: counts only where runs are launched; add launch=local_process, say"),
    ("hydra.sweeper.n_trials=2", "hydra.sweeper.n_trials: counts only in a sweep; add hparams_search=optuna, say"),
    ("data.val_fraction=0.6 data.test_fraction=0.6", "make their sum smaller than 1"),
    ("model.freeze=backbone", "add model.weights=FILE or model.pretrained=true, or set model.freeze=none"),
    ("model.weights=nowhere.safetensors", "model.weights=nowhere.safetensors: no such file"),
    ("optimized_metric=test/accuracy", "nothing may be chosen on the test set"),
    ('data.group_pattern="("', "data.group_pattern=(: not a regular expression"),
    (
        "data=folder data.root=/no/such/folder",
        "data.root=/no/such/folder: no such folder; set it to one that holds train/",
    ),
    ("data=folder", "data.root: no value is set; add data.root=… to the command"),
    ("model.optimizer._target_=os.system", "model.optimizer (os.system): does not take lr; it takes command"),
    ("model.lr=-1", "model.lr=-1: must be a number above 0, or auto"),
    ("stages=[test]", "measure an existing run with evaluate.py run=RUN"),
    ("name=a/b", "name=a/b: names a folder"),
    ("trainer=ddp trainer.devices=2 data.batch_size=9", "must be a multiple of 2, like data.batch_size=8"),
    ("trainer.strategy=wild", "trainer: You selected an invalid strategy name"),
    ("trainer.accelerator=gpu", "accelerator=gpu: not on this machine; set it to one of: auto, cpu"),
    ("trainer.precision=16-mixed", "precision=16-mixed: 16-bit floats need a GPU"),
    ("model.optimizer._target_=torch.os.system", "model.optimizer (torch.os.system): does not take lr; it"),
    ("checkpoint.every_minutes=0", "checkpoint.every_minutes=0.0: must be above 0, or null to save after epochs"),
    ("data.with_validation=true model/scheduler=plateau", "model/scheduler=plateau follows validation"),
    ("resume=nowhere", "resume=nowhere: no such run folder or checkpoint"),
    ("seed=5000000000", "seed=5000000000: must be below 2**32"),
    ("checkpoint.monitor=val/acuracy", "checkpoint.monitor=val/acuracy: must be one of val/loss"),
    ("paths.runs=/proc/runs", "paths.runs=/proc/runs: cannot make"),
    (
        "+augmentation.transforms.noise={_target_:albumentations.GaussNoise,std_rnge:[0.1,0.2]}",
        "augmentation.transforms.noise (albumentations.GaussNoise): does not take std_rnge (did you mean std_range",
    ),
    ("model.name=resnet81", "model.name=resnet81: timm has no such model; did you mean resnet18"),
    ("+model.arguments.wings=2", "model.arguments={'wings': 2}: test_resnet does not take them"),
    (
        "+model.optimizer.speed=9",
        "model.optimizer (torch.optim.AdamW): does not take speed (did you mean fused?); it takes params, lr",
    ),
    ("model.optimizer.weight_decay=-1", "Invalid weight_decay value: -1"),
    (
        "model.name=levit_128s data.image_size=100",
        "data.image_size=100 data.channels=1: levit_128s does not take such",
    ),
]


@pytest.mark.parametrize(("words", "message"), ON_THE_COMMAND_LINE)
def test_command_line(words: str, message: str, cli: Cli, tmp_path: Path) -> None:
    model = [] if "model.name" in words else ["model.name=test_resnet"]
    done = cli("train", f"paths.runs={tmp_path / 'runs'}", *model, *words.split())
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*"))


@pytest.fixture
def nothing(tmp_path: Path) -> Path:
    """A data set without an image, which nobody can read."""
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


@pytest.fixture
def other_weights(tmp_path: Path) -> Path:
    """Weights of another network than test_resnet."""
    path = tmp_path / "other.safetensors"
    save_file(timm.create_model("test_vit").state_dict(), path)
    return path


def test_network_and_device_are_looked_at_before_the_data(nothing: Path, other_weights: Path, tmp_path: Path) -> None:
    base = [
        "data=folder",
        f"data.root={nothing}",
        f"paths.runs={tmp_path / 'runs'}",
        f"paths.cache={tmp_path / 'cache'}",
    ]
    for words, message in (
        (["model.name=resnet81"], "model.name=resnet81: timm has no such model; did you mean resnet18"),
        (["model.name=test_resnet", "trainer.accelerator=tpu"], "trainer.accelerator=tpu: not on this machine"),
        (["model.name=test_resnet", f"model.weights={other_weights}"], "weights are for another network than ResNet"),
        (["model.name=test_resnet", f"model.weights={__file__}"], "not a safetensors file"),
        (["model.name=test_resnet", "+model.arguments.wings=2"], "model.arguments={'wings': 2}: test_resnet does not"),
    ):
        with pytest.raises(BadInput) as caught:
            train(compose_config("train", *base, *words))
        assert message in str(caught.value)
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "cache").exists()


def test_full_error_shows_the_traceback(cold_cli: Cli) -> None:
    done = cold_cli("train", "model.lr=-1", HYDRA_FULL_ERROR="1")
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1] == "error: model.lr=-1: must be a number above 0, or auto"


def empty(root: Path) -> None:
    for path in root.rglob("*.png"):
        path.unlink()


def one_class(root: Path) -> None:
    shutil.rmtree(root / "train" / "red")
    shutil.rmtree(root / "train" / "blue")


def stranger_in_test(root: Path) -> None:
    write_image(root / "test" / "purple" / "0.png", (120, 0, 120), seed=1)


def no_train(root: Path) -> None:
    shutil.rmtree(root / "train")


def two_vals(root: Path) -> None:
    for name in ("val", "valid"):
        write_image(root / name / "red" / "0.png", (200, 0, 0), seed=1)


def lonely_class(root: Path) -> None:
    write_image(root / "train" / "purple" / "0.png", (120, 0, 120), seed=1)


def empty_class(root: Path) -> None:
    (root / "train" / "purple").mkdir()


BAD_FOLDERS = [
    (empty, "no images found"),
    (one_class, "one class only (green); a classifier needs at least two folders"),
    (stranger_in_test, "test/ has classes that train/ lacks: purple; add them to train/ or remove them"),
    (no_train, "there is no folder train/ in it"),
    (two_vals, "val/ and valid/ both mean val; keep one"),
    (lonely_class, "class purple (1): too few images or groups to be split into train and val"),
    (empty_class, "no images in train/ for purple; add some or remove the folder"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD_FOLDERS)
def test_folders(spoil: Callable[[Path], None], message: str, colors: Path, cli: Cli, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(colors, root)
    spoil(root)
    done = cli("train", "data=folder", f"data.root={root}", f"paths.runs={tmp_path / 'runs'}")
    assert done.returncode == 2, done.stderr
    assert message in done.stderr.splitlines()[-1]
    assert not (tmp_path / "runs").exists()


def test_output_that_holds_a_run_is_left_alone(trained: Path, cli: Cli) -> None:
    before = (trained / "run.json").read_text()
    done = cli("train", "model.name=test_resnet", f"output={trained}")
    assert done.returncode == 2
    assert "this folder already holds a run" in done.stderr
    assert (trained / "run.json").read_text() == before


def test_unreadable_image_fails_the_run_and_is_named(colors: Path, cli: Cli, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(colors, root)
    torn = root / "train" / "red" / "00.png"
    torn.write_bytes(torn.read_bytes()[:600])
    words = ["data=folder", f"data.root={root}", f"output={tmp_path / 'run'}", "model.name=test_resnet", "seed=1"]
    words += [f"paths.cache={tmp_path / 'cache'}", "data.image_size=32", "trainer.max_epochs=2"]
    done = cli("train", *words)
    assert done.returncode == 2, done.stderr
    assert "1 bad file(s): train/red/00.png (truncated)" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()
    done = cli("train", *words, "data.audit=skip", "data.cache=off")
    assert done.returncode == 1, done.stderr
    assert f"{torn}: cannot be read as an image" in done.stderr.splitlines()[-1]
    assert '"status": "failed"' in (tmp_path / "run" / "run.json").read_text()
    assert str(torn) in (tmp_path / "run" / "run.json").read_text()


@pytest.mark.parametrize(
    ("task", "words", "message"),
    [
        ("evaluate", ["run=nowhere"], "run=nowhere: no such run folder, model folder or checkpoint"),
        ("evaluate", [], "run: no value is set"),
        ("evaluate", ["run=nowhere", "precision=fp32"], "precision=fp32: must be one of auto, 32-true"),
        ("predict", ["run=nowhere", "images=/", "batch_size=0"], "batch_size=0: must be 1 or more"),
        ("evaluate", ["run=nowhere", "data.num_workers=-1"], "data.num_workers=-1: must be 0 or more"),
        ("evaluate", ["run=nowhere", "split=rest"], "split=rest: must be one of train, val, test"),
        ("predict", ["run=nowhere", "images=/nowhere"], "images=/nowhere: no such file or folder"),
        ("predict", ["run=nowhere", "images=/no/*.png"], "images=/no/*.png: no such file or folder"),
        ("explain", ["run=nowhere", "images=[/nowhere,/no]"], "images=/nowhere: no such file or folder"),
        ("predict", ["run=nowhere", "images=[]"], "images=[]: must be a text, or several in brackets"),
        ("predict", ["model=x"], "model=x: no such key; type run=x"),
    ],
)
def test_other_tasks(task: str, words: list[str], message: str, cli: Cli, tmp_path: Path) -> None:
    done = cli(task, *words, f"paths.runs={tmp_path}")
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_predict_names_a_folder_without_images(cli: Cli, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("no image")
    done = cli("predict", f"run={trained}", f"images={tmp_path}")
    assert done.returncode == 2
    assert f"images={tmp_path}: no images found in this folder" in done.stderr


def test_evaluate_refuses_classes_that_the_model_does_not_know(cli: Cli, trained: Path, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    write_image(tmp_path / "test" / "purple" / "0.png", (120, 0, 120), seed=1)
    done = cli("evaluate", f"run={trained}", f"data.root={tmp_path}")
    assert done.returncode == 2
    assert "test/ has classes that the model does not know: purple; it knows blue, green, red" in done.stderr


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.image_size=2", "data.image_size=2: must be 8 or more"),
        ("data.crop=round", "data.crop=round: must be one of crop, pad, squash"),
        ("trainer.precision=fp32", "trainer.precision=fp32: must be one of auto, 32-true"),
        ("augmentation.crop_scale=[0.5]", "must be two shares of the area"),
        ("data.mean=[0.5,0.5,0.5]", "set both or neither"),
        ("model.label_smoothing=1", "model.label_smoothing=1.0: must be from 0 to below 1"),
        ("data.group_pattern=abc", "put brackets round the part that names the group"),
        ("seed=-1", "seed=-1: must be 0 or more"),
        ("checkpoint.monitor=train/loss", "must be one of val/loss, val/accuracy"),
        ("optimized_metric=val/acuracy", "did you mean val/accuracy"),
        ("trainer.limit_val_batches=0", "must be a number of batches, 1 or more"),
        ("trainer.max_epochs=null", "training would never end or never begin"),
        ("trainer.check_val_every_n_epoch=99", "there would be no validation to choose the best checkpoint by"),
        ("divergence.lr_factor=1.5", "divergence.lr_factor=1.5: must be between 0 and 1"),
        ("divergence.max_rollbacks=0", "to have none set divergence.action=stop"),
        ("divergence.explosion_factor=1", "divergence.explosion_factor=1.0: must be above 1"),
        ("divergence.patience_steps=1", "divergence.patience_steps=1: must be 4 or more, or null"),
        ("data.std=[0,0,0] data.mean=[0,0,0]", "data.std=[0.0, 0.0, 0.0]: must be above 0"),
    ],
)
def test_rules_across_keys(override: str, message: str) -> None:
    with pytest.raises(BadInput, match="=") as caught:
        validate(compose_config("train", *override.split()))
    assert message in str(caught.value)


def test_no_validation_at_all_is_refused(colors: Path) -> None:
    with pytest.raises(BadInput, match="has no val/, and the best checkpoint is chosen on validation"):
        make_manifest(colors, SplitRule(val_fraction=0))


def test_a_turn_hidden_inside_another_transform_is_refused() -> None:
    spec = TaskSpec(("a", "b"), 32, (0.5,) * 3, (0.5,) * 3)
    hidden = {"one": A.OneOf([A.HorizontalFlip(), A.Blur()])}
    with pytest.raises(BadInput, match="HorizontalFlip inside another transform would change the class"):
        Augmentation(spec, transforms=hidden, orientation_matters=True)


def test_bad_input_in_several_runs_leaves_nothing(cli: Cli, tmp_path: Path) -> None:
    done = cli("train", "-m", "model.lr=-1,-2", f"paths.runs={tmp_path / 'runs'}")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "error: model.lr=-1: must be a number above 0, or auto"
    assert not list(tmp_path.iterdir())
