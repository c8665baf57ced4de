"""Opening a data set from its configuration: located, audited, split. No torch at the top."""

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sightline.config import DataConfig, DataVersionsConfig, PrepareConfig, TrainConfig, is_own, to_plain
from sightline.data.audit.channels import choose_channels, mark_other_channels
from sightline.data.audit.inspection import inspect_files
from sightline.data.audit.policy import apply_audit, audit_once
from sightline.data.audit.value_range import choose_value_range, look_at_files
from sightline.data.collection.digits import write_digits
from sightline.data.collection.image_files import TABLE_KEYS, ClassFiles, LayoutRule, Listing, parts_told
from sightline.data.collection.layouts import list_images
from sightline.data.collection.sources import localise
from sightline.data.levels import are_alike
from sightline.data.manifest import SPLITS, TEST, Manifest
from sightline.data.splitting import Split, SplitRule, find_test_images, split_images
from sightline.data.training_data import FolderData, ShardData, SyntheticData, TrainingData
from sightline.data.versions.checkout import (
    check_files,
    is_checkout,
    open_checkout,
    read_checkout,
    with_data_version,
)
from sightline.data.versions.store import open_versions
from sightline.errors import BadInput
from sightline.runs.guesses import announce
from sightline.runs.override_text import override
from sightline.task_spec import usual_bit_depth

if TYPE_CHECKING:
    from sightline.data.cache import ImageCache
    from sightline.data.shards.stores import ShardCache

log = logging.getLogger(__name__)
NOTHING_FOUND: Mapping[str, Any] = MappingProxyType({})


def open_data(cfg: TrainConfig, before: Mapping[str, Any] = NOTHING_FOUND) -> TrainingData:
    """The data that a configuration names; `before` is what a run that goes on had found, by key.

    Raises: BadInput when there is none, or it is not fit to train on.
    """
    cfg = with_data_version(cfg)
    data, cache = cfg.data, Path(cfg.paths.cache)
    if is_own(cfg.datamodule):
        from sightline.data.own_datamodule import open_own_data

        return open_own_data(to_plain(cfg))
    if data.source == "synthetic":
        opened = SyntheticData.of(data.num_synthetic, data.batch_size)
        return opened if data.channels == "auto" else replace(opened, channels=int(data.channels))
    if data.source == "shards":
        return _with_told(open_shards(data.root, shard_cache(cache, data.cache_gb)), data, before)
    return open_files(cfg, before)


def _with_told(opened: ShardData, data: DataConfig, before: Mapping[str, Any]) -> ShardData:
    """Shards with the channels and the range that the configuration gives."""
    if data.channels != "auto":
        if not are_alike(int(data.channels), opened.channels):
            raise BadInput(
                f"data.channels={data.channels}: the images of {data.root} have {opened.channels}; drop it, or pack "
                "others"
            )
        opened = replace(opened, channels=int(data.channels))
    if data.value_range != "auto":
        opened = replace(opened, value_range=tuple(data.value_range))
    bit_depth = before.get("data.bit_depth") or usual_bit_depth(opened.value_range)
    return replace(opened, bit_depth=bit_depth)


def check_root(cfg: TrainConfig) -> None:
    """Look whether a data root on this disk exists, which takes no time; one that lies elsewhere is not asked for.

    Raises: BadInput with the message that opening it would end with.
    """
    data, local = cfg.data, cfg.data.root.removeprefix("file://")
    if data.version is not None:
        if not is_checkout(data.root, data.version):
            open_versions(cfg.paths.data_versions, Path(cfg.paths.cache)).find(data.version)
    elif (
        is_own(cfg.datamodule)
        or "://" in local
        or data.source == "synthetic"
        or (data.source == "digits" and _is_own_digits(cfg))
    ):
        return
    elif data.source == "shards":
        from sightline.data.shards.packing import read_shards

        read_shards(data.root)
    elif not Path(local).expanduser().exists():
        list_images(localise(data.root, Path(cfg.paths.cache)), LayoutRule.of(vars(data)))


def _is_own_digits(cfg: TrainConfig | PrepareConfig | DataVersionsConfig) -> bool:
    """Whether the digits lie where we write them; any other root is somebody's own folder."""
    return Path(cfg.data.root) == Path(cfg.paths.data) / "digits"


def open_shards(location: str, cache: "ShardCache | None" = None) -> ShardData:
    """A data set that `prepare.py shards=LOCATION` packed.

    Raises: BadInput when there is none.
    """
    from sightline.data.shards.packing import read_shards

    info = read_shards(location)
    counts = ", ".join(f"{count} {split}" for split, count in info.num_images.items())
    log.info("%s: %d classes, %s images in shards", location, len(info.class_names), counts)
    return ShardData(location, info, cache, info.value_range, info.channels, usual_bit_depth(info.value_range))


def open_files(cfg: TrainConfig | PrepareConfig, before: Mapping[str, Any] = NOTHING_FOUND) -> FolderData:
    """The images of a configuration, audited unless `data.audit=skip`, with bad files and leaks dealt with as it says.

    `before` is what a run that goes on had found, by key.

    Raises: BadInput when there are none, or when they are not fit to train on.
    """
    data, cache, root = cfg.data, Path(cfg.paths.cache), find_root(cfg)
    held = read_checkout(root)
    found = _list_all(data, root) if held is None else _open_version(data, root, held)
    manifest, is_audited = found.manifest, data.audit != "skip"
    inspection = inspect_files(
        manifest.root,
        manifest.paths,
        index=index_of(cache, manifest.root),
        decode=is_audited,
        max_pixels=data.max_pixels,
    )
    if held is not None:
        check_files(manifest, held, inspection.facts["sha256"])
    manifest.with_digests(inspection.facts["sha256"])
    looked = look_at_files(data, manifest, inspection.facts)
    bit_depth, before_channels = before.get("data.bit_depth"), before.get("data.channels")
    channels, more_guesses = (before_channels, ()) if before_channels else choose_channels(data, looked)
    mark_other_channels(inspection, manifest, channels)
    value_range, range_guesses = choose_value_range(data, manifest, looked, greys_alone=bit_depth == 8)
    more_guesses += range_guesses
    opened = found
    if is_audited:
        shown = (data.max_pixels, channels, data.display_bands)
        audited = audit_once(manifest, inspection, cache, value_range, *shown)
        opened = apply_audit(data, audited, found)
    announce(more_guesses)
    counts = [opened.num_images[split] for split in SPLITS]
    log.info("%s: %d classes, %d train, %d val, %d test images", manifest.root, len(opened.class_names), *counts)
    return replace(
        opened,
        cache=image_cache(cache, data.cache_gb, data.cache),
        guesses=(*found.guesses, *more_guesses),
        channels=channels,
        value_range=value_range,
        bit_depth=bit_depth or usual_bit_depth(value_range),
        max_pixels=data.max_pixels,
    )


def find_root(cfg: TrainConfig | PrepareConfig | DataVersionsConfig) -> Path:
    """The folder or table on this disk that a configuration's images are read from; digits are written first.

    Raises: BadInput as `localise` does.
    """
    data = cfg.data
    if data.source == "digits" and _is_own_digits(cfg):
        write_digits(Path(data.root))
    return localise(data.root, Path(cfg.paths.cache), LayoutRule.of(vars(data)))


def _list_all(data: DataConfig, root: Path) -> FolderData:
    """The images at a root, split."""
    listing, split = list_and_split(data, root)
    return FolderData(
        split.manifest,
        guesses=listing.guesses,
        layout=listing.layout,
        passed_over=listing.passed_over,
        unlabelled=listing.unlabelled,
        small_classes=split.small_classes,
    )


def _open_version(data: DataConfig, root: Path, held: dict[str, Any]) -> FolderData:
    """The images of a version that was checked out: its table tells their classes and their split."""
    spelled = f"{held['name']}/{held['version']}"
    if data.num_folds is not None:
        raise BadInput(
            f"data.num_folds={data.num_folds}: {root} is {spelled}, and a version has one split, which stays; drop it"
        )
    log.info("%s: its table tells classes and split", spelled)
    manifest = open_checkout(root)
    if data.manifest not in ("auto", "none") and Manifest.load(Path(data.manifest), root).sha256 != manifest.sha256:
        raise BadInput(
            f"data.manifest={data.manifest}: is not the table of {spelled}, which tells the split itself; drop it"
        )
    return FolderData(manifest, layout="version", version=held)


def index_of(cache: Path, root: Path) -> Path:
    """The index of the files below a root, for `inspect_files`."""
    return cache / "index" / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:32]}.sqlite"


def list_and_split(data: DataConfig, root: Path) -> tuple[Listing, Split]:
    """What lies at a root on this disk, and which image goes into which split, from names alone. Says what was guessed.

    Raises: BadInput when it cannot be trained on.
    """
    listing = list_images(root, LayoutRule.of(vars(data)))
    _refuse_unused(data, listing)
    say(listing)
    return listing, split_images(listing, SplitRule.of(data), _find_pinned(data.manifest, root))


def _refuse_unused(data: DataConfig, listing: Listing) -> None:
    """Raises: BadInput for a key of tables where none was read."""
    told = {name: parts for name in TABLE_KEYS if (parts := parts_told(getattr(data, name)))}
    if told and listing.layout != "table":
        name = next(iter(told))
        raise BadInput(
            f"{override(f'data.{name}', told[name])}: {listing.root} is read by its folders, not by a "
            "table; name the table with data.root=TABLE.csv, or drop the key"
        )


def open_test_images(root: Path, class_names: Sequence[str], layout: LayoutRule) -> FolderData:
    """The test images of a folder or table for a model of these classes; no cache knows them.

    Raises: BadInput when there are none, or the model does not know their class.
    """
    if (held := read_checkout(root)) is not None:
        return _open_test_of_version(root, held, class_names)
    listing = list_images(root, layout, needs="test")
    say(listing)
    manifest = find_test_images(listing, class_names)
    facts = {"layout": listing.layout, "passed_over": listing.passed_over}
    return FolderData(manifest, guesses=listing.guesses, **facts)


def _open_test_of_version(root: Path, held: dict[str, Any], class_names: Sequence[str]) -> FolderData:
    """The test images of a version that was checked out, for a model of these classes."""
    table = open_checkout(root)
    test = table.keep(table.splits == TEST)
    check_files(test, held)
    names = [test.class_names[label] for label in test.labels]
    files = [ClassFiles("test", label, "", [path]) for label, path in zip(names, map(str, test.paths), strict=True)]
    manifest = find_test_images(Listing(root, files, "version"), class_names)
    return FolderData(manifest, layout="version", version=held)


def say(listing: Listing) -> None:
    """Print what was guessed, and what is left out, a line each."""
    announce(listing.guesses)
    for note in listing.notes:
        log.info("%s: %s", listing.root, note)


def _find_pinned(setting: str, root: Path) -> Manifest | None:
    """The pinned manifest: the one named, or the one beside the images."""
    if setting == "none":
        return None
    folder = root if root.is_dir() else root.parent
    path = folder / "manifest.csv" if setting == "auto" else Path(setting).expanduser()
    if path == root or (setting == "auto" and not path.is_file()):
        return None
    if not path.is_file():
        raise BadInput(f"data.manifest={setting}: no such file; name a manifest.csv, or set auto or none")
    log.info("the split is that of %s; only images that it lacks are placed anew", path)
    return Manifest.load(path, folder)


def image_cache(cache: Path, limit_gb: float = 50.0, mode: str = "auto") -> "ImageCache":
    """The cache of decoded images."""
    from sightline.data.cache import ImageCache

    return ImageCache(cache / "images", limit_gb=limit_gb, mode=mode)


def shard_cache(cache: Path, limit_gb: float = 50.0) -> "ShardCache":
    """The cache of streamed shards."""
    from sightline.data.shards.stores import ShardCache

    return ShardCache(cache / "shards", limit_gb)
