"""Which way a metric is better is known in one place."""

import pytest

from sightline.errors import GateNotMet
from sightline.evaluation.gates import check_gates
from sightline.metrics import mode_of
from sightline.sweeping.settings import direction_of

MIN = (
    "val/nll val/brier test/ece test/ece_calibrated train/seconds num_parameters val/loss test/corruption/noise/3/loss"
)
MAX = "val/accuracy test/macro_f1 train/images_per_second test/corruption/mean_accuracy"


@pytest.mark.parametrize("name", MIN.split())
def test_less_is_better(name: str) -> None:
    assert mode_of(name) == "min"
    assert direction_of(name) == "minimize"
    check_gates({name: 0.1}, {name: 0.2})
    with pytest.raises(GateNotMet, match="at most"):
        check_gates({name: 0.3}, {name: 0.2})


@pytest.mark.parametrize("name", MAX.split())
def test_more_is_better(name: str) -> None:
    assert mode_of(name) == "max"
    assert direction_of(name) == "maximize"
    check_gates({name: 0.3}, {name: 0.2})
    with pytest.raises(GateNotMet, match="at least"):
        check_gates({name: 0.1}, {name: 0.2})
