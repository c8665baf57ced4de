"""Objects from `_target_` nodes, with errors that name what a target takes."""

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sightline.config.constraints import did_you_mean
from sightline.config.location import locate, where_raised
from sightline.config.own_code import targets_of
from sightline.errors import BadInput

OF_HYDRA = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")
"""Keys of a node that are no arguments."""


def check_targets(node: Any, key: str) -> None:
    """Look whether every `_target_` in a node is a name with its module; `key` names the node in errors.

    Raises: BadInput for the first that is none.
    """
    for place, target in targets_of(node, key).items():
        if "." not in target or not all(part.isidentifier() for part in target.split(".")):
            raise BadInput(f"{place}._target_={target}: must be a name with its module, like my_code.MyClass")


def build(node: Mapping[str, Any], key: str, **arguments: Any) -> Any:
    """Build the object that a `_target_` node describes; `key` names the node in errors.

    `arguments` go before those of the node. Whether the target is to be trusted has been decided before (`own_code`).

    Raises: BadInput for a target that does not exist, arguments that it does not take, and whatever it refuses.
    """
    from hydra.errors import HydraException
    from hydra.utils import instantiate

    check_arguments(node, key, **arguments)
    try:
        with warnings.catch_warnings():  # albumentations warns of arguments it does not know, and goes on
            warnings.filterwarnings("error", message="Argument.* not valid for transform")
            return instantiate(dict(node), **arguments, _convert_="all")
    except BadInput:
        raise
    except (HydraException, AttributeError, TypeError, ValueError, UserWarning) as error:
        cause = error.__cause__ or error
        raise BadInput(
            f"{key} ({node.get('_target_')}): {where_raised(cause)}; change or remove that argument"
        ) from error


def build_part(node: Mapping[str, Any], key: str, **offered: Any) -> Callable[..., Any]:
    """What is to be called later: a node's function with its arguments set, or the object of its class.

    `offered` go before the arguments of the node, as far as the target takes them. A function that makes what is to be
    called has `_partial_: false`.

    Raises: BadInput as `build` does, or for an object that cannot be called.
    """
    target = locate(str(node["_target_"]), key)
    given = {"_partial_": not inspect.isclass(target), **taken_by_name(target, offered), **node}
    made = build(given, key)
    if not callable(made):
        raise BadInput(f"{key} ({node['_target_']}): made {type(made).__name__}, which cannot be called; name another")
    return made


def build_each(nodes: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The objects of several nodes by name, in their order; null leaves one out.

    Raises: BadInput as `build` does.
    """
    return {str(name): build(node, f"{key}.{name}") for name, node in nodes.items() if node is not None}


def taken_by(target: Callable[..., Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """Of the arguments that are offered to a class or a function, those that it takes by name."""
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):  # of C
        return {}
    if any(each.kind == each.VAR_KEYWORD for each in parameters.values()):
        return dict(offered)
    return {name: value for name, value in offered.items() if name in parameters}


def taken_by_name(target: Callable[..., Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """The same, without those that would only be swallowed by `**`."""
    taken = taken_by(target, offered)
    return {name: value for name, value in taken.items() if name in inspect.signature(target).parameters}


def check_arguments(node: Any, key: str, **given: Any) -> None:
    """Look whether each target in a node exists and takes what stands beside it.

    Raises: BadInput with the target, the argument and what it takes.
    """
    _refuse_references(node, key)
    for place, part in _nodes(node, key):
        target = locate(str(part["_target_"]), place)
        arguments = {name: value for name, value in part.items() if name not in OF_HYDRA}
        if place == key:
            arguments |= {name: value for name, value in given.items() if name not in OF_HYDRA}
        is_partial = bool((given if place == key and "_partial_" in given else part).get("_partial_"))
        try:
            signature = inspect.signature(target)
        except (TypeError, ValueError):  # of C
            continue
        positional = list(part.get("_args_", ()))
        try:
            (signature.bind_partial if is_partial else signature.bind)(*positional, **arguments)
        except TypeError as error:
            raise BadInput(
                f"{place} ({part['_target_']}): {_explain_arguments(signature, arguments, error)}"
            ) from error


def _refuse_references(node: Any, key: str) -> None:
    """Look for texts that Hydra would put something else in place of, a node with a `_target_` among others.

    Raises: BadInput for the first: what a configuration refers to is in its place by now.
    """
    children = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list | tuple) else ()
    if isinstance(node, str) and "${" in node:
        raise BadInput(f"{key}={node}: refers to what is not there; write the value itself")
    for name, child in children:
        _refuse_references(child, f"{key}.{name}")


def _nodes(node: Any, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every node with a `_target_` in plain values, and its key."""
    children = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    if isinstance(node, Mapping) and node.get("_target_") is not None:
        yield key, node
    for name, child in children:
        yield from _nodes(child, f"{key}.{name}")


def _explain_arguments(signature: inspect.Signature, given: Mapping[str, Any], error: TypeError) -> str:
    parameters = signature.parameters
    known = [name for name, each in parameters.items() if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]
    takes = ", ".join(str(parameters[name].replace(annotation=inspect.Parameter.empty)) for name in known) or "nothing"
    wrong = [name for name in given if name not in known]
    if wrong:
        return f"does not take {wrong[0]}{did_you_mean(wrong[0], known)}; it takes {takes}"
    return f"{error}; it takes {takes}"
