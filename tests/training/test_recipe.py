"""Every option of the recipe, from its key to what it does to a training step."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import save_file
from tests.conftest import BARE, compose_config, compose_train, write_image
from tests.models.test_classifier import fit
from torch import nn

from sightline.config import validate
from sightline.data.opening import open_data
from sightline.errors import BadInput
from sightline.models.checkpoint import load_model
from sightline.models.classifier import Classifier
from sightline.models.cpu.small_maps import SmallMapConv2d
from sightline.models.inference import set_tf32
from sightline.training.build import build_classifier
from sightline.training.recipe import recipe_callbacks
from sightline.training.train import train

LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images of blue, eight of green and 32 of red to train on."""
    root = tmp_path_factory.mktemp("data") / "uneven"
    for split, numbers in (("train", (8, 8, 32)), ("val", (2, 2, 2))):
        for number, (name, count) in enumerate(zip(("blue", "green", "red"), numbers, strict=True)):
            for index in range(count):
                red, green, blue = (200 if channel == number else 40 for channel in (2, 1, 0))
                write_image(
                    root / split / name / f"{index:02d}.png", (red, green, blue), seed=100 * number + index + len(split)
                )
    return root


def classifier_of(root: Path, *words: str) -> Classifier:
    torch.manual_seed(0)
    cfg = compose_train("data=folder", f"data.root={root}", "data.test_fraction=0", *BARE, *words)
    return build_classifier(cfg, open_data(cfg))


def test_fast_convolutions_can_be_switched_off(uneven: Path) -> None:
    """All convolutions are then torch's own; the outputs of a network in training are the same but for rounding."""
    fast, plain = (classifier_of(uneven, f"model.fast_convolutions={word}") for word in ("true", "false"))
    kinds = [{type(module) for module in each.modules() if isinstance(module, nn.Conv2d)} for each in (fast, plain)]
    assert SmallMapConv2d in kinds[0]
    assert kinds[1] == {nn.Conv2d}
    torch.testing.assert_close(fast(images_of()), plain(images_of()))


def images_of(seed: int = 0, size: int = 32) -> torch.Tensor:
    return torch.randn(len(LABELS), 3, size, size, generator=torch.Generator().manual_seed(seed))


def logits_of() -> torch.Tensor:
    return torch.randn(len(LABELS), 3, generator=torch.Generator().manual_seed(1)) * 3


def test_binary_cross_entropy_asks_about_every_class_alone(uneven: Path) -> None:
    loss = classifier_of(uneven, "model.loss=bce").loss(logits_of(), LABELS)
    each = nn.functional.binary_cross_entropy_with_logits(logits_of(), nn.functional.one_hot(LABELS, 3).float())
    torch.testing.assert_close(loss, each)


def test_a_threshold_makes_shares_whole(uneven: Path) -> None:
    shares = torch.tensor([[0.7, 0.3, 0.0]])
    loss = classifier_of(uneven, "model.loss=bce", "model.bce_target_threshold=0.2").loss(logits_of()[:1], shares)
    whole = torch.tensor([[1.0, 1.0, 0.0]])
    torch.testing.assert_close(loss, nn.functional.binary_cross_entropy_with_logits(logits_of()[:1], whole))


def test_focal_loss_counts_what_is_right_less(uneven: Path) -> None:
    loss = classifier_of(uneven, "model.loss=focal", "model.focal_gamma=3").loss(logits_of(), LABELS)
    right = logits_of().softmax(1)[range(len(LABELS)), LABELS]
    torch.testing.assert_close(loss, (-((1 - right) ** 3) * right.log()).mean())


@pytest.mark.parametrize("loss", ["cross_entropy", "bce", "focal"])
def test_label_smoothing_holds_for_every_loss(loss: str, uneven: Path) -> None:
    shares = nn.functional.one_hot(LABELS, 3) * 0.7 + 0.1
    smoothed = classifier_of(uneven, f"model.loss={loss}", "model.label_smoothing=0.3").loss(logits_of(), LABELS)
    torch.testing.assert_close(smoothed, classifier_of(uneven, f"model.loss={loss}").loss(logits_of(), shares))


@pytest.mark.parametrize(("weighting", "ratio"), [("balanced", 4.0), ("effective", 3.95)])
@pytest.mark.parametrize("loss", ["cross_entropy", "bce", "focal"])
def test_rare_classes_weigh_more(weighting: str, ratio: float, loss: str, uneven: Path) -> None:
    weighted = classifier_of(uneven, f"model.loss={loss}", f"model.class_weights={weighting}").loss
    plain = classifier_of(uneven, f"model.loss={loss}").loss
    shares = torch.eye(3)  # each class alone: as labels, cross entropy divides the weights out again
    gains = [
        float(weighted(torch.zeros(1, 3), share[None]) / plain(torch.zeros(1, 3), share[None])) for share in shares
    ]
    assert gains[0] / gains[2] == pytest.approx(ratio, rel=0.01)
    assert gains[0] == pytest.approx(gains[1])


@pytest.mark.parametrize("option", ["mixup", "cutmix"])
def test_mixed_images_have_mixed_labels(option: str, uneven: Path) -> None:
    classifier = classifier_of(uneven, f"augmentation.{option}=1.0")
    mixing = classifier.recipe.mixing
    assert mixing is not None
    images = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 32, 32)
    np.random.seed(5)
    mixed, shares = mixing(images, LABELS, 3)
    torch.testing.assert_close(shares.sum(1), torch.ones(6))
    own = torch.where(LABELS.flip(0) == LABELS, torch.nan, shares[range(6), LABELS])
    share = float(own[0])
    assert 0.02 < share < 0.98
    expected = share * images.mean((1, 2, 3)) + (1 - share) * images.flip(0).mean((1, 2, 3))
    torch.testing.assert_close(mixed.mean((1, 2, 3)), expected)
    whole = (mixed == images) | (mixed == images.flip(0))
    assert bool(whole.all()) == (option == "cutmix"), "cutmix cuts, mixup blends"


def test_a_step_trains_on_the_mixture_drawn_for_it(uneven: Path) -> None:
    plain, mixing = classifier_of(uneven), classifier_of(uneven, "augmentation.mixup=0.8", "augmentation.cutmix=1.0")
    losses = []
    for seed in (1, 1, 2):
        np.random.seed(seed)
        losses.append(mixing.objective(images_of(), LABELS)[0].item())
    assert losses[0] == losses[1] != losses[2]
    assert losses[0] != plain.objective(images_of(), LABELS)[0].item()


def test_a_probability_leaves_batches_as_they_are(uneven: Path) -> None:
    mixing = classifier_of(uneven, "augmentation.mixup=1.0", "augmentation.mix_probability=0.3").recipe.mixing
    assert mixing is not None
    np.random.seed(0)
    same = sum(mixing(images_of(), LABELS, 3)[0].equal(images_of()) for _ in range(300))
    assert 180 < same < 240


def test_the_sampler_balances_the_classes(uneven: Path) -> None:
    cfg = compose_train("data=folder", f"data.root={uneven}", "data.test_fraction=0", "data.sampler=balanced", *BARE)
    opened = open_data(cfg)
    datamodule = opened.make_datamodule(cfg, classifier_of(uneven).spec)
    labels = torch.cat([labels for _, labels in datamodule.train_dataloader()])
    assert labels.bincount().tolist() == [16, 16, 16]


@pytest.mark.parametrize("decays", [True, False])
def test_norms_and_biases_without_weight_decay(decays: bool, uneven: Path) -> None:
    optimizer = classifier_of(uneven, f"model.norm_weight_decay={decays}", "model.lr=0.1").make_optimizer()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.05 if decays or parameter.ndim > 1 else 0)
    counted = sum(len(group["params"]) for group in optimizer.param_groups)
    assert counted == len(list(classifier_of(uneven).parameters()))


@pytest.mark.parametrize(("optimizer", "is_orthogonal"), [("muon", True), ("adamw", False)])
def test_muon_moves_matrices_in_all_directions_alike(optimizer: str, is_orthogonal: bool, uneven: Path) -> None:
    classifier = classifier_of(uneven, f"model/optimizer={optimizer}", "model.lr=0.1", "model.optimizer.weight_decay=0")
    weight = classifier.backbone.get_parameter("layer1.0.conv1.weight")
    before = weight.detach().clone()
    steps = classifier.make_optimizer()
    torch.manual_seed(0)
    weight.grad = torch.randn_like(weight)
    steps.step()
    lengths = torch.linalg.svdvals((weight.detach() - before).flatten(1))
    assert (lengths.min() > 0.7 * lengths.max()) == is_orthogonal


@pytest.mark.parametrize("scheduler", ["one_cycle", "warmup_cosine", "cosine"])
def test_layers_near_the_input_take_smaller_steps(scheduler: str, uneven: Path, tmp_path: Path) -> None:
    words = ["model.layer_lr_decay=0.5", f"model/scheduler={scheduler}", "model.norm_weight_decay=false"]
    classifier = classifier_of(uneven, *words)
    optimizer = classifier.make_optimizer()
    classifier.recipe.scheduler(optimizer, **{classifier._step_argument(): 100}, **classifier._peaks(optimizer))
    names = {id(parameter): name for name, parameter in classifier.backbone.named_parameters()}
    rates = {names[id(each)]: group["lr"] for group in optimizer.param_groups for each in group["params"]}
    assert rates["fc.weight"] > 3 * rates["conv1.0.weight"]
    assert len(set(rates.values())) > 3
    plain = classifier_of(uneven, *words[1:])
    optimizer = plain.make_optimizer()
    plain.recipe.scheduler(optimizer, **{plain._step_argument(): 100})
    assert rates["fc.weight"] == pytest.approx(optimizer.param_groups[0]["lr"])


def test_stochastic_depth_and_dropout_reach_the_network(uneven: Path) -> None:
    classifier = classifier_of(uneven, "model.drop_path_rate=0.4", "model.drop_rate=0.3")
    rates: list[Any] = [
        module.drop_prob for module in classifier.backbone.modules() if type(module).__name__ == "DropPath"
    ]
    assert max(rates) == pytest.approx(0.4)
    assert classifier.backbone.drop_rate == 0.3
    assert classifier.architecture.arguments == {"drop_rate": 0.3, "drop_path_rate": 0.4}


class Witness(pl.Callback):
    """Notes the size of the images that each epoch's first step saw, and which stages had changed at its end."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.changed: list[set[str]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.start = {name: tensor.clone() for name, tensor in pl_module.backbone.state_dict().items()}
        pl_module.backbone.register_forward_pre_hook(self._note)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.waits = True

    def _note(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if self.waits:
            self.sizes.append(inputs[0].shape[-1])
        self.waits = False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        now = pl_module.backbone.state_dict()
        self.changed.append({name.split(".")[0] for name in now if not torch.equal(now[name], self.start[name])})


def watched(root: Path, folder: Path, *words: str) -> Witness:
    """What happened in five epochs of random images with the callbacks that the words ask for."""
    witness = Witness()
    cfg = compose_train("data=folder", f"data.root={root}", *BARE, *words)
    fit(classifier_of(root, *words), folder, epochs=5, callbacks=[*recipe_callbacks(cfg), witness])
    return witness


def test_images_grow(uneven: Path, tmp_path: Path) -> None:
    assert watched(uneven, tmp_path, "augmentation.start_size=0.5", "trainer.max_epochs=5").sizes == [
        16,
        16,
        24,
        32,
        32,
    ]
    assert watched(uneven, tmp_path).sizes == [32] * 5


def test_stages_thaw_from_the_head_down(uneven: Path, tmp_path: Path) -> None:
    weights = tmp_path / "start.safetensors"
    state = classifier_of(uneven).backbone.state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, weights)
    words = [f"model.weights={weights}", "model.freeze=gradual", "model.unfreeze_every_epochs=2", "model.lr=0.1"]
    head = {"fc"}
    assert watched(uneven, tmp_path, *words).changed == [
        head,
        head,
        head | {"layer4"},
        head | {"layer4"},
        head | {"layer4", "layer3"},
    ]


@pytest.fixture(scope="module")
def taught(uneven: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that knows the colours a little, at another size and with other statistics."""
    folder = tmp_path_factory.mktemp("teacher") / "run"
    words = ["data=folder", f"data.root={uneven}", f"output={folder}", *BARE, "data.image_size=40", "logger=none"]
    train(compose_config("train", *words, "data.mean=[0.2,0.3,0.4]", "data.std=[0.5,0.4,0.3]"))
    return folder


def test_a_student_learns_from_its_teacher(taught: Path, uneven: Path) -> None:
    words = [f"model.teacher={taught}", "model.teacher_weight=0.25", "model.teacher_temperature=3"]
    student, plain = classifier_of(uneven, *words), classifier_of(uneven)
    teacher = student.recipe.teacher
    assert teacher is not None
    loss, logits, _ = student.objective(images_of(), LABELS)
    hard = plain.objective(images_of(), LABELS)[0]
    soft = (teacher.answers(images_of()) / 3).softmax(1)
    distance = (soft * (soft.log() - (logits / 3).log_softmax(1))).sum(1).mean() * 9
    torch.testing.assert_close(loss, 0.75 * hard + 0.25 * distance, rtol=1e-4, atol=1e-5)
    assert not any("teacher" in name for name in student.state_dict())


def test_a_teacher_sees_images_as_it_was_taught_to(taught: Path, uneven: Path) -> None:
    """The same picture, normalised for the student, gives what the teacher's own input gives."""
    saved = load_model(taught)
    student = classifier_of(uneven, f"model.teacher={taught}")
    assert student.recipe.teacher is not None
    colors = torch.rand(2, 3, 1, 1).expand(2, 3, 40, 40)
    view = {
        name: (colors - torch.tensor(spec.mean).view(3, 1, 1)) / torch.tensor(spec.std).view(3, 1, 1)
        for name, spec in (("teacher", saved.spec), ("student", student.spec))
    }
    with torch.no_grad():
        expected = saved.network(view["teacher"])
    torch.testing.assert_close(student.recipe.teacher.answers(view["student"]), expected, rtol=1e-3, atol=1e-4)


def test_a_teacher_of_other_classes_is_refused(taught: Path, colors: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "data" / "train" / "pink" / "0.png", (250, 100, 180), seed=0)
    for index in range(8):
        for name in ("pink", "red"):
            write_image(tmp_path / "data" / "train" / name / f"{index}.png", (200, 40, 40), seed=index + len(name) * 50)
    with pytest.raises(BadInput, match=r"model.teacher: it knows 3 \(blue, green, red …\) classes and the data has 2"):
        classifier_of(tmp_path / "data", f"model.teacher={taught}", "data.on_leak=warn")
    with pytest.raises(BadInput, match="model.teacher=nowhere: run=nowhere: no such run"):
        classifier_of(colors, "model.teacher=nowhere")


def test_a_schedule_rises_and_falls_as_its_shares_say(uneven: Path) -> None:
    words = ["model/scheduler=warmup_cosine", "model.scheduler.warm_up=0.2", "model.scheduler.floor=0.1", "model.lr=2"]
    classifier = classifier_of(uneven, *words)
    optimizer = classifier.make_optimizer()
    scheduler: Any = classifier.recipe.scheduler(optimizer, total_steps=100)
    rates = []
    for _ in range(101):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates[:20] == pytest.approx([2 * (step + 1) / 21 for step in range(20)])
    assert max(rates) == rates[20] == 2
    assert rates[60] == pytest.approx(2 * 0.55)
    assert rates[100] == pytest.approx(0.2)
    with pytest.raises(BadInput, match="warm_up=1.5 floor=0.0: both must be from 0 to below 1"):
        classifier_of(uneven, *words[:1], "model.scheduler.warm_up=1.5").check_optimizer()


def test_training_ends_early_when_nothing_is_gained(uneven: Path, tmp_path: Path) -> None:
    words = ["callbacks=early_stopping", "+callbacks.early_stopping.min_delta=100", "logger=none", "stages=[fit]"]
    words += ["callbacks.early_stopping.patience=2", f"output={tmp_path / 'run'}", "data.test_fraction=0"]
    tiny = [word for word in BARE if "max_epochs" not in word]
    base = ["data=folder", f"data.root={uneven}", *tiny, "trainer.max_epochs=9", "trainer.limit_train_batches=1"]
    train(compose_config("train", *base, *words))
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 1 + 3


def test_tf32_is_set_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    try:
        for allowed, precision in ((True, "high"), (False, "highest")):
            set_tf32(allowed)
            assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == (precision, allowed)
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


BAD = [
    ("model.compile=true augmentation.start_size=0.5", "model.compile=true augmentation.start_size=0.5: each size"),
    ("model.loss=hinge", "model.loss=hinge: must be one of cross_entropy, bce, focal"),
    ("model.ema_decay=1", "model.ema_decay=1.0: must be between 0 and 1, like 0.999"),
    ("model.layer_lr_decay=0", "model.layer_lr_decay=0.0: must be between 0 and 1"),
    ("augmentation.mixup=-1", "augmentation.mixup=-1.0: must be 0 or more"),
    ("augmentation.start_size=2", "augmentation.start_size=2.0: must be a share from 0.1 to 1"),
    ("model.freeze=gradual", "model.freeze=gradual: with random weights"),
    ("data.sampler=even", "data.sampler=even: must be one of shuffled, balanced"),
    ("model.lr=automatic", "model.lr=automatic: must be a number above 0, or auto"),
    ("checkpoint.average_best=0", "checkpoint.average_best=0: must be 1 or more"),
    ("test_time_augmentation=crops", "test_time_augmentation=crops: must be one of none, flip"),
    ("model.compile_mode=fast", "model.compile_mode=fast: must be one of default"),
]


@pytest.mark.parametrize(("word", "message"), BAD, ids=[word for word, _ in BAD])
def test_what_cannot_be_is_refused(word: str, message: str) -> None:
    with pytest.raises(BadInput) as refused:
        validate(compose_config("train", *word.split()))
    assert message in str(refused.value)


@pytest.mark.filterwarnings("ignore:`ModelCheckpoint")  # pytorch_lightning: one step ends before any validation
def test_accumulated_steps_are_fewer_and_clipped_steps_are_short(uneven: Path, tmp_path: Path) -> None:
    base = ["data=folder", f"data.root={uneven}", "data.test_fraction=0", "logger=none", *BARE]
    train(compose_config("train", *base, f"output={tmp_path / 'few'}", "trainer.accumulate_grad_batches=3"))
    few = torch.load(tmp_path / "few" / "checkpoints" / "best.ckpt", weights_only=True)
    assert few["global_step"] == 2  # of six batches
    words = ["model/optimizer=sgd", "model.optimizer.weight_decay=0", "model.optimizer.momentum=0"]
    words += ["model.optimizer.nesterov=false", "model.lr=1", "model/scheduler=constant"]
    clipped = [*words, "trainer.gradient_clip_val=0.001", "trainer.max_steps=1"]
    train(compose_config("train", *base, *clipped, f"output={tmp_path / 'clipped'}"))
    end = torch.load(tmp_path / "clipped" / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    start = start_of(uneven, *clipped)
    moved = sum(float(((end[name] - start[name]) ** 2).sum()) for name in start) ** 0.5
    assert moved == pytest.approx(0.001, rel=0.02)


def start_of(root: Path, *words: str) -> dict[str, torch.Tensor]:
    """The parameters that a run with seed 0 starts from."""
    pl.seed_everything(0, verbose=False)
    cfg = compose_train("data=folder", f"data.root={root}", "data.test_fraction=0", *BARE, *words)
    classifier = build_classifier(cfg, open_data(cfg))
    return {name: parameter.detach() for name, parameter in classifier.named_parameters()}
