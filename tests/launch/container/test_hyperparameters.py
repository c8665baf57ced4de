"""Overrides survive the trip as hyperparameters: what is composed there is what is composed here."""

import json

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from tests.conftest import compose_config

from sightline.config import to_plain
from sightline.errors import BadInput
from sightline.launch.container.hyperparameters import SCRIPT, script_of, to_hyperparameters, to_overrides

VALUES = [
    "plain",
    "two words",
    "' a space at both ends '",
    '"0.001"',
    "'0.001'",
    "0.001",
    "1e-3",
    '"x=y, (c) [d] {e}"',
    r"'it\'s'",
    r'"she said \"no\""',
    r"'a back\slash'",
    "'ends in one\\\\'",
    "'größe 犬 🐕'",
    "null",
    "'null'",
    "",
    "''",
    '""',
    "true",
    "[]",
    '["a=b",c,1,null,"d, e"]',
    '{a:1,b:{c:[x,"y z"]},d e:null}',
    '"[\\"a=b\\"]"',
    '"{"',
    r"a\,b\=c",
    "${seed}",
    r"'\${seed}'",
]


@pytest.mark.parametrize("value", VALUES)
def test_a_value_is_the_same_over_there(value: str) -> None:
    word = f"+model.arguments.value={value}"
    sent = json.loads(json.dumps(to_hyperparameters([word])))
    assert to_overrides(sent) == [word]
    assert composed(to_overrides(sent)) == composed([word])


def composed(words: list[str]) -> dict[str, object]:
    return to_plain(compose_config("train", *words))


def test_a_whole_command_is_the_same_over_there() -> None:
    words = [
        "experiment=gtsrb",
        "model=resnet50",
        "model.lr=0.01",
        "model.lr=0.02",
        "~callbacks",
        "+callbacks=early_stopping",
        "model/optimizer=sgd",
        "+model.scheduler.extra=true",
        "++model.arguments={zero_init_last:false}",
        "++model.arguments.drop_block_rate=0.1",
        "stages=[fit,test]",
        "model.weights=null",
        'name="signs-of-0.5"',
    ]
    sent = to_hyperparameters(words)
    assert sent["model.lr"] == "0.02"
    assert sent["++model.arguments.drop_block_rate"] == "0.1"
    assert sent["~callbacks"] == ""
    for order in (sorted(sent), sorted(sent, reverse=True)):
        assert composed(to_overrides({key: sent[key] for key in order})) == composed(words)


def test_what_says_where_to_run_stays_here() -> None:
    words = "launch=sagemaker launch.role=r hydra.mode=MULTIRUN hydra/sweeper=x ++hydra.verbose=true seed=1".split()
    assert to_hyperparameters([*words, "hparams_search=optuna"]) == {"seed": "1"}


@pytest.mark.parametrize(
    ("wrapped", "word"),
    [
        ('"gtsrb"', "k=gtsrb"),
        ('"0.001"', "k=0.001"),
        ('"[\\"a=b\\"]"', 'k=["a=b"]'),
        ('"gr\\u00f6\\u00dfe"', "k=größe"),
    ],
)
def test_a_value_that_another_client_quoted_is_taken_out(wrapped: str, word: str) -> None:
    assert to_overrides({"k": wrapped}) == [word]


def test_keys_for_entry_points_are_no_overrides() -> None:
    told = {"_tuning_objective_metric": "x", "sagemaker_program": '"train.py"', SCRIPT: "src/explain.py", "seed": "1"}
    assert to_overrides(told) == ["seed=1"]


def test_the_program_travels_when_it_is_another_one() -> None:
    assert script_of(to_hyperparameters(["seed=1"])) == "src/train.py"
    assert script_of(to_hyperparameters(["run=x"], "src/evaluate.py")) == "src/evaluate.py"
    for script in ("/bin/evil.py", "src/../../evil.py", "src/train.sh"):
        with pytest.raises(BadInput, match="below the project"):
            script_of({SCRIPT: script})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["k" * 257 + "=1"], "k" * 80 + ": its key has 257 letters and SageMaker takes 256"),
        (["model.name=" + "v" * 2501], "model.name: its value has 2501 letters and SageMaker takes 2500"),
        ([f"key{n}=1" for n in range(101)], "key100 is override number 101, and SageMaker takes 100"),
        (["name='a\nb'"], "name: its value has several lines"),
        (["a.b=1", "a={b:2}"], "a.b before a: both set the same thing"),
        (["a=1", "++a=2"], "a before ++a: both set the same thing"),
    ],
)
def test_what_does_not_fit_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(BadInput) as caught:
        to_hyperparameters(words)
    assert message in str(caught.value)


def test_limits_themselves_fit() -> None:
    assert len(to_hyperparameters([f"key{n}=1" for n in range(99)] + ["k" * 256 + "=" + "v" * 2500])) == 100


def test_every_word_here_is_one_that_hydra_takes() -> None:
    for value in VALUES:
        OverridesParser.create().parse_override(f"k={value}")
