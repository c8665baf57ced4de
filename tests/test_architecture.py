"""The plan of the house, held as data: who may import whom, which names are banned, how large a function may grow."""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterable, Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import PROJECT

pytestmark = pytest.mark.structure

PACKAGE = PROJECT / "src" / "sightline"
LOWEST = {"errors"}
TASK_ROOMS = {"training", "evaluation", "explanation", "export", "serving"}
TOP_LEVEL = {"errors", "task_spec", "env_file", "command", "metrics", "finished_run", "config", "serve_settings"}
TOP_LEVEL |= {"__init__"}

MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "task_spec": LOWEST,
    "metrics": set(),
    "runs": LOWEST,
    "env_file": LOWEST | {"runs"},
    "distributed": LOWEST | {"runs"},
    "serve_settings": LOWEST,
    "config": LOWEST | {"task_spec", "metrics", "runs", "serve_settings"},
    "data": LOWEST | {"aws", "config", "task_spec", "runs"},
    "models": LOWEST | {"distributed", "task_spec", "config", "runs"},
    "callbacks": LOWEST | {"distributed", "metrics", "runs"},
    "finished_run": LOWEST | {"config", "data", "models", "registry", "runs", "task_spec"},
    "evaluation": LOWEST | {"config", "data", "finished_run", "metrics", "models", "registry", "runs", "task_spec"},
    "explanation": LOWEST | {"config", "data", "finished_run", "models", "registry", "runs", "task_spec"},
    "export": LOWEST
    | {"config", "data", "evaluation", "finished_run", "metrics", "models", "registry", "runs", "task_spec"},
    "serving": LOWEST
    | {"aws", "config", "data", "finished_run", "models", "registry", "runs", "serve_settings", "task_spec"},
    "training": LOWEST
    | {"callbacks", "config", "data", "distributed", "evaluation", "explanation", "export", "metrics", "models"}
    | {"registry", "runs", "task_spec"},
    "aws": LOWEST | {"runs"},
    "launch": LOWEST | {"aws", "config", "data", "env_file", "metrics", "registry", "runs"},
    "sweeping": LOWEST | {"config", "launch", "metrics", "runs"},
    "registry": LOWEST | {"aws", "config", "runs"},
    "command": LOWEST | {"config", "distributed", "env_file", "runs"},
    "own_project": LOWEST,
    "pipeline": LOWEST
    | {"aws", "command", "config", "data", "evaluation", "export", "launch", "metrics", "registry", "runs", "training"},
}
SERVING_FROM_DATA = {f"sightline.data.{name}" for name in ("transforms", "pictures", "display", "predicted_classes")}
SERVING_FROM_DATA |= {"sightline.data.collection.image_files", "sightline.data.collection.named_pictures"}
SERVING_FROM_DATA |= {f"sightline.data.{name}" for name in ("arrays", "decoding", "levels")}
"""What serving may take from the data room: how pixels are prepared, pictures loaded, shown and found, their table; and
the headers of files and the errors of reading them, which a service says in its own words."""
CONFIG_FROM_MODELS = {"models/listing.py", "models/own_network.py", "models/own_loss.py", "models/own_module.py"}
CONFIG_FROM_MODELS |= {"models/own_metrics.py", "models/checkpoint.py", "models/classifier.py", "models/onnx_graph.py"}
CONFIG_FROM_MODELS |= {"models/runtimes.py"}
"""Task functions in a room below the configurations, what makes a network of own code, and what reads or writes whole
files."""

HEAVY = {"torch", "torchvision", "timm", "pytorch_lightning", "albumentations", "matplotlib", "tensorboard", "sklearn"}
HEAVY |= {"pyarrow"}
LIGHT_FILES = [
    *("errors.py", "task_spec.py", "metrics.py", "finished_run.py"),
    *(
        f"command/{name}.py"
        for name in "__init__ arguments composition help hints messages program resumption verbs".split()
    ),
    *(f"config/{name}.py" for name in "__init__ constraints conversion instantiation registration".split()),
    *(f"config/{name}.py" for name in "code_folder code_of_run location own_code task_code".split()),
    "own_project/new.py",
    *(f"config/schema/{name}.py" for name in "augmentation data evaluation explanation model".split()),
    *(f"config/schema/{name}.py" for name in "rules run_data tables tasks train trainer".split()),
    *(
        "runs/files.py",
        "runs/record.py",
        "runs/invocation.py",
        "runs/project.py",
        "runs/folder.py",
        "runs/content_hash.py",
    ),
    *(
        f"training/{name}.py"
        for name in "train finish build recipe trainer resume find_lr checkpoint_averaging unlabelled".split()
    ),
    *(f"data/{name}.py" for name in "prepare opening training_data augmentation manifest splitting".split()),
    *(
        f"data/{name}.py"
        for name in "decoding deep_greys transforms cache parallel audit/inspection audit/audit audit/policy".split()
    ),
    *(f"data/audit/{name}.py" for name in "near_duplicates value_range".split()),
    *(f"data/collection/{name}.py" for name in "layouts class_folders tables image_files sources adapters".split()),
    *(f"data/collection/{name}.py" for name in "digits download archives".split()),
    *(f"data/collection/table_{name}.py" for name in "text files paths columns labels folders parquet".split()),
    *(f"data/collection/parquet_{name}.py" for name in "cells images names".split()),
    *("data/shards/packing.py", "data/shards/stores.py"),
    *(f"data/versions/{name}.py" for name in "places store checkout assignment creating annotations merging".split()),
    *("distributed/rank.py", "distributed/process_group.py", "models/listing.py"),
    *("evaluation/evaluate.py", "explanation/explain.py", "export/export.py"),
    *(f"serving/{name}.py" for name in "predict predict_result prediction_files prediction_place parts merge".split()),
    *(f"serving/{name}.py" for name in "answering client aws_transport endpoint_transport serve".split()),
    "data/collection/named_pictures.py",
    *(
        f"registry/{name}.py"
        for name in "local names package packages rules s3 sources stored transport version".split()
    ),
]
"""Files that bad input passes through: they load nothing heavy at the top."""

BANNED = {"utils", "util", "common", "helpers", "helper", "misc", "core", "base", "manager"}
BANNED_FILES = {"setup.py", "requirements.txt", ".project-root", "src/__init__.py"}
MAX_LINES, MAX_PARAMETERS = 60, 8
READS_PROCESS = {"src/sightline/env_file.py", "src/sightline/data/transforms.py"}
READS_PROCESS |= {f"src/sightline/command/{name}.py" for name in ("messages", "program", "verbs")}
READS_PROCESS |= {f"src/sightline/launch/local/{name}.py" for name in ("machine", "backend", "supervisor", "preloaded")}
READS_PROCESS |= {
    f"src/sightline/launch/container/{name}.py" for name in ("entrypoint", "selftest", "containers", "image")
}
READS_PROCESS |= {"src/sightline/launch/sagemaker/local_mode_process.py"}
READS_PROCESS |= {f"src/sightline/serving/{name}.py" for name in ("entrypoint", "lambda_handler", "image_selftest")}
"""Files that may touch `os.environ` or `sys.argv`; the transforms only silence a library's look-up of its releases, and
the local backend makes the processes of jobs."""
COMPOSED = {f"src/sightline/command/{name}.py" for name in "composition help messages program resumption verbs".split()}
COMPOSED |= {f"src/sightline/{name}.py" for name in ("training/train", "training/find_lr", "data/prepare")}
COMPOSED |= {f"src/sightline/{name}.py" for name in ("evaluation/evaluate", "explanation/explain", "serving/predict")}
COMPOSED |= {"src/sightline/models/listing.py", "src/sightline/export/export.py", "src/sightline/serving/serve.py"}
COMPOSED |= {"src/sightline/pipeline/gate.py"}
"""Files beside config/, plugins and entry points that may know what Hydra composes: task functions, which type it,
and what reads a command line."""
MAX_COMPOSED = 39
PLUGINS_MAY_IMPORT = {"command", "errors", "config", "metrics", "runs", "launch", "sweeping", "training"}
SEARCH = {"optuna", "plotly", "sqlalchemy"}


def tracked(*patterns: str) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=PROJECT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [name for name in listed.stdout.splitlines() if (PROJECT / name).is_file()]


PYTHON = sorted(tracked("*.py"))
SOURCE = [name for name in PYTHON if name.startswith("src/")]


def assert_none(offences: Iterable[str]) -> None:
    """Every offender is named, not the first alone."""
    found = [*offences]
    assert not found, "\n".join(found)


@functools.cache
def parse(name: str) -> ast.Module:
    return ast.parse((PROJECT / name).read_text(encoding="utf-8"), filename=name)


def imported(nodes: Iterator[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            if node.module == "sightline":
                yield from (f"sightline.{alias.name}" for alias in node.names)
            else:
                yield node.module


def top_level(tree: ast.Module) -> Iterator[ast.AST]:
    """Nodes that run on import: not inside functions, not under TYPE_CHECKING."""
    stack: list[ast.AST] = list(tree.body)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        stack.extend(ast.iter_child_nodes(node))


def test_rooms_import_only_what_the_table_allows() -> None:
    assert_none(offence for name in SOURCE if name.startswith("src/sightline/") for offence in wrong_imports(name))


def wrong_imports(name: str) -> Iterator[str]:
    room = Path(name).relative_to("src/sightline").parts[0].removesuffix(".py")
    if room == "__init__":
        return
    for module in imported(ast.walk(parse(name))):
        if not module.startswith("sightline."):
            continue
        other = module.split(".")[1]
        is_allowed = other == room or other in MAY_IMPORT[room]
        if room == "serving" and other == "data":
            is_allowed = is_allowed and module in SERVING_FROM_DATA
        if room == "models" and other in ("config", "runs"):
            is_allowed = is_allowed and name.removeprefix("src/sightline/") in CONFIG_FROM_MODELS
        if not is_allowed:
            yield f"{name} imports {module}"


def test_the_table_is_free_of_circles() -> None:
    done: set[str] = set()
    while len(done) < len(MAY_IMPORT):
        ready = {room for room, others in MAY_IMPORT.items() if room not in done and others <= done}
        assert ready, f"circle among {sorted(set(MAY_IMPORT) - done)}"
        done |= ready


def module_name(name: str) -> str:
    """As others import a file: `sightline.data.cache`; scripts go by the name of their file."""
    path = Path(name).relative_to("src") if name.startswith("src/") else Path(Path(name).name)
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def modules_imported(name: str, modules: set[str]) -> set[str]:
    """Those of our modules that a file imports, inside functions too; not what is there for type checkers alone."""
    found, stack = set(), list(ast.iter_child_nodes(parse(name)))
    while stack:
        node = stack.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.ImportFrom):  # a name of a package, or a module in it
            found |= {f"{node.module}.{each.name}" for each in node.names} & modules or {node.module or ""}
        elif isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        stack.extend(ast.iter_child_nodes(node))
    return found & modules


def test_no_import_circle() -> None:
    files = [name for name in PYTHON if name.startswith(("src/", "scripts/"))]
    modules = {module_name(name) for name in files}
    graph = {module_name(name): modules_imported(name, modules) for name in files}
    TopologicalSorter(graph).prepare()  # its error names the circle


def loaded_early(name: str, unwanted: set[str]) -> Iterator[str]:
    """The unwanted libraries that a file loads when it is imported."""
    found = {module.split(".")[0] for module in imported(top_level(parse(name)))}
    yield from (f"{name} imports {library} at its top" for library in sorted(found & unwanted))


def test_light_files_load_nothing_heavy() -> None:
    assert_none(offence for name in LIGHT_FILES for offence in loaded_early(f"src/sightline/{name}", HEAVY))


def test_launching_and_sweeping_load_optuna_late() -> None:
    names = [name for name in SOURCE if "/launch/" in name or "/sweeping/" in name]
    assert_none(
        offence
        for name in names
        for offence in loaded_early(name, HEAVY if name.endswith("/journal.py") else HEAVY | SEARCH)
    )


def test_plugins_are_thin() -> None:
    """Hydra imports every plugin in every program."""
    names = [name for name in SOURCE if name.startswith("src/hydra_plugins/")]
    assert_none(offence for name in names for offence in loaded_early(name, HEAVY | SEARCH))
    assert_none(
        f"{name} imports {module}"
        for name in names
        for module in imported(ast.walk(parse(name)))
        if module.startswith("sightline.") and module.split(".")[1] not in PLUGINS_MAY_IMPORT
    )


@pytest.mark.parametrize("task", ["train", "evaluate", "explain", "predict", "export", "serve", "find_lr", "models"])
def test_composing_never_loads_torch(task: str) -> None:
    program = (
        "import sys, runpy\n"
        f"sys.argv = ['{task}.py', '--cfg', 'job']\n"
        "try:\n"
        f"    runpy.run_path({str(PROJECT / 'src' / f'{task}.py')!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))\n"
    )
    path = {"PYTHONPATH": str(PROJECT / "src")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=path, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_no_banned_names() -> None:
    names = tracked()
    assert_none(name for name in names if name in BANNED_FILES)
    assert_none(name for name in names if {part.split(".")[0] for part in Path(name).parts} & BANNED)


@pytest.mark.parametrize("name", [name for name in SOURCE if Path(name).parent == Path("src")])
def test_entry_points_are_short_and_load_their_task_late(name: str) -> None:
    tree = parse(name)
    compile(tree, name, "exec")
    assert len((PROJECT / name).read_text().splitlines()) <= 35
    allowed = {"hydra", "omegaconf", "sightline.command", "sightline.config", "sightline.metrics"}
    assert set(imported(top_level(tree))) <= allowed


def knows_omegaconf(name: str) -> bool:
    return "omegaconf" in {module.split(".")[0] for module in imported(ast.walk(parse(name)))}


def test_configurations_are_typed_below_the_task_functions() -> None:
    """What Hydra composes becomes a dataclass where a task begins."""
    doors = ("src/sightline/config/", "src/hydra_plugins/")
    assert_none(
        f"{name} imports omegaconf"
        for name in SOURCE
        if knows_omegaconf(name)
        and not name.startswith(doors)
        and name not in COMPOSED
        and Path(name).parent != Path("src")
    )
    taking = [name for name in SOURCE for node in ast.walk(parse(name)) if takes_dict_config(node)]
    assert len(taking) <= MAX_COMPOSED, taking


def takes_dict_config(node: ast.AST) -> bool:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    parameters = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
    return any("DictConfig" in ast.unparse(each.annotation) for each in parameters if each.annotation is not None)


def test_files_of_the_configuration_stay_small() -> None:
    files = [name for name in SOURCE if name.startswith("src/sightline/config/")]
    assert_none(name for name in files if len((PROJECT / name).read_text(encoding="utf-8").splitlines()) > 250)


def test_functions_stay_small() -> None:
    assert_none(offence for name in SOURCE for offence in large_functions(name))


def large_functions(name: str) -> Iterator[str]:
    for node in ast.walk(parse(name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines >= MAX_LINES:
                yield f"{name}: {node.name} has {lines} lines"
            positional = [a for a in (*node.args.posonlyargs, *node.args.args) if a.arg not in ("self", "cls")]
            count = len(positional) + len(node.args.kwonlyargs)
            if count > MAX_PARAMETERS:
                yield f"{name}: {node.name} has {count} parameters"


def test_only_the_command_reads_the_process() -> None:
    assert_none(
        f"{name}:{node.lineno} reads {ast.unparse(node)}"
        for name in sorted(set(SOURCE) - READS_PROCESS)
        for node in ast.walk(parse(name))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("sys.argv", "os.environ", "os.getenv")
    )


@pytest.mark.parametrize("name", tracked("configs/experiment/*.yaml"))
def test_experiments_never_name_where_they_run(name: str) -> None:
    text = (PROJECT / name).read_text(encoding="utf-8")
    assert "launch" not in text
    head = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    assert text.startswith("# @package _global_\n# "), "an experiment begins with its card"
    for word in ("command:", "score:", "time:", "machine:"):
        assert word in head, f"{name}: the card lacks its {word}"


def test_one_of_the_two_lightnings() -> None:
    """`lightning` and `pytorch_lightning` are different classes that do not mix."""
    for name in PYTHON:
        assert "lightning" not in {module.split(".")[0] for module in imported(ast.walk(parse(name)))}, name
