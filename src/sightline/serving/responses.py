"""Answers and problems as the bodies of responses: JSON, CSV, and problem details."""

import base64
import csv
import io
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from sightline.serving.contract import CSV, JSON, PNG, PROBLEM, TOP, Answer, HeatMap, Problem, Response

CSV_COLUMNS = ("id", "label", "probability", "unsure", "threshold", "model", "version", "error")
"""Followed by `label_2`, `probability_2` and so on, as many as there are classes, and no more than five."""
Found = Answer | Problem


def to_response(problem: Problem, own_id: str | None = None) -> Response:
    headers = {} if problem.retry_after is None else {"Retry-After": str(problem.retry_after)}
    if own_id is not None:
        headers["X-Request-Id"] = own_id
    return Response(problem.status, json.dumps(problem.to_dict()).encode(), PROBLEM, headers, (problem,))


def json_response(status: int, value: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    return Response(status, json.dumps(value).encode(), JSON, headers or {})


def to_json(found: Sequence[Found], ids: Sequence[str], *, are_several: bool) -> bytes:
    """One answer, or `{"predictions": […]}` with a problem in its place."""
    values = [
        {"id": own_id, **each.to_dict()} if isinstance(each, Problem) else each.to_dict()
        for each, own_id in zip(found, ids, strict=True)
    ]
    return json.dumps({"predictions": values} if are_several else values[0]).encode()


def to_csv(found: Sequence[Found], ids: Sequence[str], num_classes: int, *, has_header: bool = True) -> bytes:
    """A row for each picture, below the names of the columns."""
    num_ranks = min(TOP, num_classes)
    ranks = [f"{name}_{rank}" for rank in range(2, num_ranks + 1) for name in ("label", "probability")]
    text = io.StringIO()
    writer = csv.writer(text)
    if has_header:
        writer.writerow([*CSV_COLUMNS, *ranks])
    for each, own_id in zip(found, ids, strict=True):
        if isinstance(each, Problem):
            writer.writerow([own_id, *[""] * (len(CSV_COLUMNS) - 2), each.detail, *[""] * len(ranks)])
            continue
        threshold = "" if each.threshold is None else each.threshold
        unsure = str(each.unsure).lower()
        named = [own_id, each.label, each.probability, unsure, threshold, each.model.name, each.model.version, ""]
        further = [value for pair in list(each.probabilities.items())[1:num_ranks] for value in pair]
        writer.writerow([*named, *further])
    return text.getvalue().encode("utf-8")


def heat_map_response(heat_map: HeatMap, own_id: str, kind: str) -> Response:
    """The picture with its numbers in headers, or both as JSON."""
    numbers = {"label": heat_map.label, "probability": heat_map.probability, "drop": heat_map.drop}
    if kind == PNG:
        headers = {
            "X-Request-Id": own_id,
            "X-Sightline-Label": quote(heat_map.label),  # UTF-8 as in addresses: headers are ASCII
            "X-Sightline-Probability": f"{heat_map.probability:.6f}",
            "X-Sightline-Drop": f"{heat_map.drop:.6f}",
        }
        return Response(200, heat_map.png, PNG, headers)
    image = f"data:{PNG};base64,{base64.b64encode(heat_map.png).decode()}"
    return json_response(200, {"id": own_id, **numbers, "image": image}, {"X-Request-Id": own_id})


def answers_response(
    found: Sequence[Found], ids: Sequence[str], kind: tuple[str, dict[str, str]], num_classes: int, own_id: str | None
) -> Response:
    """Of one picture (`own_id` is None) or of several, of the negotiated type."""
    media_type, parameters = kind
    if media_type == CSV:
        has_header = parameters.get("header", "present").lower() != "absent"
        body, media_type = to_csv(found, ids, num_classes, has_header=has_header), f"{CSV}; charset=utf-8"
    else:
        body = to_json(found, ids, are_several=own_id is not None)
    return Response(200, body, media_type, {"X-Request-Id": own_id or ids[0]}, tuple(found))
