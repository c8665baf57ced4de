"""Figures of the structure, for docs/architecture.md: python scripts/measure_house.py [CHECKOUT] [--json]

A room is a package or a module directly in `src/sightline`, a plugin package, or a program in `src`. An arrow is an
import of one room by another, at the top of a module or inside a function. A circle is a set of modules each of which
imports, over others, itself.
"""

import argparse
import ast
import json
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
LONG_FILE, SHORT_CONFIG = 300, 250


def measure(project: Path) -> dict[str, Any]:
    """The figures of a checkout, by name."""
    source = project / "src"
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(source.rglob("*.py"))}
    modules = {_module(path, source): path for path in trees}
    imports = {name: set(_imported(trees[path], modules)) - {name} for name, path in modules.items()}
    rooms = {_room(name) for name in modules}
    arrows = {
        (_room(name), _room(other))
        for name, others in imports.items()
        for other in others
        if _room(name) != _room(other)
    }
    functions = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    lines = {path.relative_to(project).as_posix(): len(path.read_text("utf-8").splitlines()) for path in trees}
    package, plugins = "src/sightline/", "src/hydra_plugins/"
    top = {name: count for name, count in lines.items() if name.startswith(package) and name.count("/") == 2}
    config = {
        name: count for name, count in lines.items() if name.startswith((f"{package}config/", f"{package}config."))
    }
    return {
        "rooms": len(rooms),
        "import arrows between rooms": len(arrows),
        "import circles": [sorted(circle) for circle in _circles(imports)],
        "median function, lines": statistics.median((node.end_lineno or 0) - node.lineno + 1 for node in functions),
        f"files over {LONG_FILE} lines": sorted(name for name, count in lines.items() if count > LONG_FILE),
        "functions that take a DictConfig": sum(_takes_dict_config(node) for node in functions),
        "modules that import omegaconf": sorted(
            path.relative_to(project).as_posix() for path, tree in trees.items() if "omegaconf" in _packages(tree)
        ),
        "modules at the top level": sorted(Path(name).stem for name in top if not name.endswith("__init__.py")),
        "lines in modules at the top level": sum(top.values()),
        f"files of config over {SHORT_CONFIG} lines": sorted(n for n, count in config.items() if count > SHORT_CONFIG),
        "lines of the plugins": sum(count for name, count in lines.items() if name.startswith(plugins)),
        "lines in all": sum(lines.values()),
    }


def _module(path: Path, source: Path) -> str:
    return ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__")


def _room(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] in ("sightline", "hydra_plugins") else parts[0]


def _imported(tree: ast.AST, modules: Mapping[str, Path]) -> Iterator[str]:
    """Modules of ours that a module imports anywhere, but for types alone."""
    for node in _nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if full in modules or node.module in modules:
                    yield full if full in modules else node.module


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        stack.extend(ast.iter_child_nodes(node))


def _packages(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def _takes_dict_config(function: ast.FunctionDef) -> bool:
    every = (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
    return any(each.annotation is not None and "DictConfig" in ast.unparse(each.annotation) for each in every)


def _circles(imports: Mapping[str, set[str]]) -> list[set[str]]:
    """Sets of modules that reach each other."""
    reached: dict[str, set[str]] = {}
    for name in imports:
        stack, seen = list(imports[name]), set()
        while stack:
            other = stack.pop()
            if other not in seen:
                seen.add(other)
                stack.extend(imports.get(other, ()))
        reached[name] = seen
    circles: list[set[str]] = []
    for name in sorted(imports):
        if name in reached[name] and not any(name in circle for circle in circles):
            circles.append({other for other in reached[name] if name in reached[other]})
    return circles


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, nargs="?", default=PROJECT)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    given = parser.parse_args()
    figures = measure(given.checkout)
    if given.json:
        print(json.dumps(figures, indent=2))
        return
    for name, value in figures.items():
        listed = (
            [", ".join(each) if isinstance(each, list) else each for each in value] if isinstance(value, list) else []
        )
        print(f"{name}: {len(value) if isinstance(value, list) else value}", *listed, sep="\n  ")


if __name__ == "__main__":
    main()
