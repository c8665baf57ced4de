"""Files of own code that tests write: LightningModules in place of ours."""

from pathlib import Path

MODULES = '''
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional


class Small(pl.LightningModule):
    """Logits of classes, logged under names of its own."""

    def __init__(self, num_classes: int, lr: float, width: int = 4, in_chans: int = 3, monitor: str = "val/loss"):
        super().__init__()
        self.save_hyperparameters()
        self.layers = nn.Sequential(
            nn.Conv2d(in_chans, width, 5, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
            nn.Dropout(0.2), nn.Linear(4 * width, num_classes),
        )
        self.lr, self.logged = lr, monitor

    def forward(self, images):
        return self.layers(images)

    def training_step(self, batch, batch_idx):
        images, labels = batch
        loss = functional.cross_entropy(self(images), labels)
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        images, labels = batch
        logits = self(images)
        self.log(self.logged, functional.cross_entropy(logits, labels))
        self.log("val/margin", logits.max(1).values.mean())

    def test_step(self, batch, batch_idx):
        self.log("test/margin", self(batch[0]).max(1).values.mean())

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr)
        steps = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        return {"optimizer": optimizer, "lr_scheduler": steps}


class Manual(Small):
    """Steps two optimizers by hand, over the features and the head."""

    def __init__(self, num_classes: int, lr: float):
        super().__init__(num_classes, lr)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in self.optimizers():
            optimizer.step()
        return loss

    def configure_optimizers(self):
        return [torch.optim.SGD(part.parameters(), lr=self.lr) for part in (self.layers[0], self.layers[-1])]


class Embedder(Small):
    """No logits: an embedding of four numbers for each image."""

    def __init__(self, lr: float):
        super().__init__(4, lr, monitor="val_loss")

    def training_step(self, batch, batch_idx):
        images, labels = batch
        loss = (self(images) - labels[:, None]).square().mean()
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        images, labels = batch
        self.log("val_loss", (self(images) - labels[:, None]).square().mean())

    def test_step(self, batch, batch_idx):
        images, labels = batch
        self.log("test/distance", (self(images) - labels[:, None]).square().mean())


class Counting(Small):
    """Counts its steps where no checkpoint sees it."""

    def __init__(self, num_classes: int, lr: float):
        super().__init__(num_classes, lr)
        self.count = 0

    def training_step(self, batch, batch_idx):
        self.count += 1
        return super().training_step(batch, batch_idx)


class Unvalidated(Small):
    validation_step = pl.LightningModule.validation_step


class Unsteppable(pl.LightningModule):
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Pickled(Small):
    def __init__(self, num_classes: int, lr: float, loss=functional.cross_entropy):
        super().__init__(num_classes, lr)
        self.save_hyperparameters()


class Failing(Small):
    def validation_step(self, batch, batch_idx):
        return batch["image"]


class Wrongly(Small):
    def forward(self, images):
        return self.layers[-1](images.flatten(1))


network = nn.Linear
'''


DATAMODULES = '''
import hashlib

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, WeightedRandomSampler


class Patches(Dataset):
    """Noisy patches of three colours; training adds noise of its own."""

    def __init__(self, count: int, size: int, noisy: bool):
        generator = np.random.default_rng(count)
        self.targets = generator.integers(0, 3, count)
        base = generator.integers(0, 120, (count, size, size, 3))
        base[np.arange(count), :, :, self.targets] += 100
        self.pixels, self.noisy = base.astype(np.uint8), noisy

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        pixels = torch.from_numpy(self.pixels[index])
        if self.noisy:
            pixels = (pixels.float() + 10 * torch.randn(3)).clamp(0, 255).to(torch.uint8)
        return pixels, int(self.targets[index])


class Patched(pl.LightningDataModule):
    classes = ["red", "green", "blue"]

    def __init__(self, batch_size: int, num_workers: int = 0, size: int = 32, shuffle: bool = True):
        super().__init__()
        self.batch_size, self.num_workers, self.size, self.shuffle = batch_size, num_workers, size, shuffle

    def setup(self, stage):
        counts = {"train": 51, "val": 18, "test": 18}
        self.splits = {name: Patches(count, self.size, name == "train") for name, count in counts.items()}

    def train_dataloader(self):
        kwargs = {"batch_size": self.batch_size, "num_workers": self.num_workers}
        return DataLoader(self.splits["train"], shuffle=self.shuffle, drop_last=True, **kwargs)

    def val_dataloader(self):
        return DataLoader(self.splits["val"], batch_size=self.batch_size)

    def test_dataloader(self):
        return DataLoader(self.splits["test"], batch_size=self.batch_size)

    def fingerprint(self):
        return hashlib.sha256(self.splits["train"].pixels.tobytes()).hexdigest()


class Floats(Patched):
    """Normalised on the processor."""

    def on_after_batch_transfer(self, batch, dataloader_idx):
        images, labels = batch
        return images.permute(0, 3, 1, 2).float() / 127.5 - 1, labels


class Stream(IterableDataset):
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return (self.items[index] for index in range(len(self.items)))


class Streamed(Patched):
    num_classes, classes, fingerprint = 3, None, None

    def train_dataloader(self):
        return DataLoader(Stream(self.splits["train"]), batch_size=self.batch_size)

    def val_dataloader(self):
        return DataLoader(Stream(self.splits["val"]), batch_size=self.batch_size)

    test_dataloader = pl.LightningDataModule.test_dataloader


class Weighted(Patched):
    def train_dataloader(self):
        weights = WeightedRandomSampler(torch.ones(51), 51)
        return DataLoader(self.splits["train"], batch_size=self.batch_size, sampler=weights)


class Nameless(Streamed):
    num_classes = None


class Dictionaries(Patched):
    def on_before_batch_transfer(self, batch, dataloader_idx):
        return {"image": batch[0], "label": batch[1]}


class TooFew(Patched):
    classes = ["red", "green"]


class Several(Patched):
    def val_dataloader(self):
        return [super().val_dataloader()]


class Trainless(pl.LightningDataModule):
    def val_dataloader(self):
        return []


class Broken(Patched):
    def setup(self, stage):
        raise OSError("the disk is not there")
'''


def write_modules(folder: Path) -> Path:
    """Own code in a folder for the key `extensions`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "own_modules_of_tests.py").write_text(MODULES, encoding="utf-8")
    (folder / "own_data_of_tests.py").write_text(DATAMODULES, encoding="utf-8")
    return folder


def words(data: Path, code: Path, name: str, *more: str) -> list[str]:
    """Overrides of a training of two epochs with one of the classes."""
    return [
        "data=folder",
        f"data.root={data}",
        f"extensions={code}",
        f"module._target_=own_modules_of_tests.{name}",
        "checkpoint.monitor=val/loss",
        "data.image_size=32",
        "data.batch_size=8",
        "data.num_workers=0",
        "trainer.max_epochs=2",
        "trainer.accelerator=cpu",
        "trainer.precision=32-true",
        "logger=none",
        "stages=[fit]",
        *more,
    ]


def data_words(code: Path, name: str, *more: str) -> list[str]:
    """Overrides of a training of our classifier on one of the data modules."""
    return [
        f"extensions={code}",
        f"datamodule._target_=own_data_of_tests.{name}",
        *("model.name=test_resnet", "model.pretrained=false", "model.lr=0.01", "name=own"),
        *("data.image_size=32", "data.batch_size=8", "data.num_workers=0"),
        *("trainer.max_epochs=2", "trainer.accelerator=cpu", "trainer.precision=32-true"),
        *("logger=none", "stages=[fit]"),
        *more,
    ]
