"""`report.html`: Optuna's own plots on one page that needs no network."""

import html
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.metrics import REFIT_TABLE
from sightline.runs.files import write_text
from sightline.runs.pages import render
from sightline.sweeping.refit import describe_spread
from sightline.sweeping.results import state_of, summarise
from sightline.sweeping.settings import Settings
from sightline.sweeping.study import REASON, is_counted

if TYPE_CHECKING:
    import optuna
    import plotly.graph_objects as go

MAX_ROWS = 500
FAINT, MIDDLING = "rgba(128, 136, 148, 0.3)", "#808894"
SERIES = ["#2f81f7", "#d9730d", "#2da44e", "#e5534b", "#9a6fe0", "#23919a", "#c85a9e", "#a0724a"]
ON_ANY_PAGE = {
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"color": MIDDLING},
    "colorway": SERIES,
}
"""The layout of plots that are readable on light and dark pages."""
LOW_TO_HIGH = ["rgb(217, 115, 13)", "rgb(128, 136, 148)", "rgb(47, 129, 247)"]
PALE = "#cccccc"
"""Optuna's colour of infeasible trials."""
COLOR_OF_STATE = {"COMPLETE": "#2f81f7", "PRUNED": "#d9730d", "FAIL": "#e5534b", "RUNNING": "#2da44e"}
"""Colours with a contrast of 3 or more to black and to white, and told apart by the colour-blind."""


def write_report(study: "optuna.Study", settings: Settings, refit: Mapping[str, Any] | None = None) -> Path:
    """Write the page: the best trial, the plots that this study has enough trials for, and the table of trials.

    `refit` holds the test metrics of the best configuration, trained again.
    """
    from plotly.offline import get_plotlyjs

    sections = []
    for title, text, make in plots(study, settings):
        try:
            with _silence():
                figure = make()
        except (ValueError, RuntimeError, ZeroDivisionError) as error:  # too few trials, or all of them equal
            sections.append({"title": title, "text": f"{text} Not drawn: {error}", "plot": ""})
        else:
            _color(figure)
            plot = figure.to_html(full_html=False, include_plotlyjs=False, config={"displayModeBar": False})
            sections.append({"title": title, "text": text, "plot": plot})
    page = render(
        "sightline.sweeping",
        "report.html.j2",
        name=settings.name,
        results=summarise(study, settings),
        metrics=dict(settings.metrics),
        refit=refit,
        tested=_tested(refit),
        sections=sections,
        columns=["trial", "state", *settings.metrics, *settings.space.keys, "seconds", "remark"],
        rows=[_row(trial, settings) for trial in study.get_trials(deepcopy=False) if is_counted(trial)][-MAX_ROWS:],
        plotly=get_plotlyjs(),
    )
    path = settings.folder / "report.html"
    write_text(path, page)
    return path


@contextmanager
def _silence() -> Iterator[None]:
    """Without Optuna's warnings about studies with few trials: the page shows their number."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _tested(refit: Mapping[str, Any] | None) -> dict[str, str]:
    found = refit["metrics"] if refit else {}
    return {name: describe_spread(found[name]) for name in REFIT_TABLE if name in found}


def _color(figure: "go.Figure") -> None:
    """Give a plot colours that are seen on a light page and on a dark one."""
    lines: dict[str, Any] = {"gridcolor": FAINT, "zerolinecolor": FAINT, "linecolor": FAINT}
    figure.update_layout(template="none", margin={"t": 30}, title=None, **ON_ANY_PAGE)
    figure.update_xaxes(**lines)
    figure.update_yaxes(**lines, automargin=True, title_standoff=12)
    figure.update_annotations(font_color=MIDDLING)
    for trace in _traces(figure):
        if trace.type == "scatter" and trace.marker.colorscale is not None:
            trace.marker.update(colorscale=LOW_TO_HIGH, reversescale=False, line={"color": MIDDLING, "width": 0.5})
        elif trace.type == "scatter" and trace.marker.color == PALE:
            trace.marker.color = MIDDLING
        elif trace.type == "bar" and trace.name in COLOR_OF_STATE:
            trace.marker.color = COLOR_OF_STATE[trace.name]


def _traces(figure: "go.Figure") -> tuple[Any, ...]:
    return figure.data  # pyright: ignore[reportReturnType]  (plotly says of what kind in no annotation)


def _draw_parallel_coordinates(study: "optuna.Study", chosen: Mapping[str, Any]) -> "go.Figure":
    """Optuna's plot with lines coloured by their value on the axis of the metric."""
    from optuna import visualization as draw
    from plotly.colors import sample_colorscale

    figure = draw.plot_parallel_coordinate(study, **chosen)
    for trace in _traces(figure):
        if trace.mode == "lines":
            color = sample_colorscale(LOW_TO_HIGH, [float(trace.y[0])])[0]
            trace.update(line={"color": color, "width": 1.5}, opacity=0.8)
    return figure


Plot = tuple[str, str, "Callable[[], go.Figure]"]


def plots(study: "optuna.Study", settings: Settings) -> Iterator[Plot]:
    """Title, one sentence, and how to draw each plot that fits the study."""
    from optuna import visualization as draw

    metrics = list(settings.metrics)
    if len(metrics) > 1:
        yield "Pareto front", "Trials that no other one beats in every metric.", lambda: draw.plot_pareto_front(study)
    for number, metric in enumerate(metrics):
        chosen: dict[str, Any] = {"target_name": metric}
        if len(metrics) > 1:
            chosen["target"] = lambda trial, number=number: trial.values[number]
        yield (
            f"History of {metric}",
            "Every finished trial in the order of its beginning.",
            lambda chosen=chosen: draw.plot_optimization_history(study, **chosen),
        )
        yield (
            f"Importance of the parameters for {metric}",
            "The share of the variation between trials that each parameter accounts for (PED-ANOVA).",
            lambda chosen=chosen: draw.plot_param_importances(study, **chosen),
        )
        yield (
            f"Parallel coordinates of {metric}",
            "A line is a trial.",
            lambda chosen=chosen: _draw_parallel_coordinates(study, chosen),
        )
        yield f"Slices of {metric}", "A point is a trial.", lambda chosen=chosen: draw.plot_slice(study, **chosen)
    if len(metrics) == 1:
        yield (
            "Learning curves",
            "What each trial reported while it ran; pruned ones end early.",
            lambda: draw.plot_intermediate_values(study),
        )
    yield "Timeline", "When each trial ran, and how it ended.", lambda: draw.plot_timeline(study)


def _row(trial: "optuna.trial.FrozenTrial", settings: Settings) -> list[str]:
    values = [f"{value:.5g}" for value in trial.values] if trial.values else [""] * len(settings.metrics)
    params = [_short(trial.params.get(key, "")) for key in settings.space.keys]
    seconds = trial.duration.total_seconds() if trial.duration else 0.0
    return [
        str(trial.number),
        state_of(trial),
        *values,
        *params,
        f"{seconds:.1f}",
        html.unescape(str(trial.user_attrs.get(REASON, ""))),
    ]


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
