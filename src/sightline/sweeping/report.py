"""`report.html`: Optuna's own plots on one page that needs no network."""

import html
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.sweeping.results import state_of, summarise, write_text
from sightline.sweeping.settings import Settings
from sightline.sweeping.study import REASON, is_counted

if TYPE_CHECKING:
    import optuna
    import plotly.graph_objects as go

MOST_ROWS = 500
FAINT, MIDDLING = "rgba(128, 136, 148, 0.3)", "#808894"
ON_ANY_PAGE = {"paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "font": {"color": MIDDLING}}
"""Plots that are as readable on a light page as on a dark one."""


def write_report(study: "optuna.Study", settings: Settings) -> Path:
    """Write the page: the best trial, the plots that this study has enough trials for, and the table of trials."""
    from jinja2 import Environment, PackageLoader
    from plotly.offline import get_plotlyjs

    sections = []
    for title, text, make in plots(study, settings):
        try:
            with warnings.catch_warnings():  # that an importance rests on few trials: the page shows how many
                warnings.simplefilter("ignore")
                figure = make()
        except (ValueError, RuntimeError, ZeroDivisionError) as error:  # too few trials, or all of them equal
            sections.append({"title": title, "text": f"{text} Not drawn: {error}", "plot": ""})
        else:
            figure.update_layout(template="none", margin={"t": 30}, title=None, **ON_ANY_PAGE)
            figure.update_xaxes(gridcolor=FAINT, zerolinecolor=FAINT, linecolor=FAINT)
            figure.update_yaxes(gridcolor=FAINT, zerolinecolor=FAINT, linecolor=FAINT, automargin=True)
            plot = figure.to_html(full_html=False, include_plotlyjs=False, config={"displayModeBar": False})
            sections.append({"title": title, "text": text, "plot": plot})
    template = Environment(loader=PackageLoader("sightline.sweeping", "."), autoescape=True).get_template(
        "report.html.j2"
    )
    page = template.render(
        name=settings.name,
        results=summarise(study, settings),
        metrics=dict(settings.metrics),
        sections=sections,
        columns=["trial", "state", *settings.metrics, *settings.space.keys, "seconds", "remark"],
        rows=[_row(trial, settings) for trial in study.get_trials(deepcopy=False) if is_counted(trial)][-MOST_ROWS:],
        plotly=get_plotlyjs(),
    )
    path = settings.folder / "report.html"
    write_text(path, page)
    return path


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
            lambda chosen=chosen: draw.plot_parallel_coordinate(study, **chosen),
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
