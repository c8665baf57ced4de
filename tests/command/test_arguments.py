"""What is typed, as it is understood: words, flags, overrides with any character, and guesses."""

import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from tests.conftest import Cli, compose_config, write_image

import sightline
from sightline.command import read_arguments, read_overrides
from sightline.errors import BadInput

ODD_NAMES = [
    "my photos (1)",
    "a,b",
    "a=b",
    "[x]",
    "{x}",
    "#5",
    "c:d",
    "it's",
    'say "hi"',
    "5$ & more",
    "${oc.env:HOME}",
    "1e3",
    "1_000",
    "007",
    "true",
    "tail\\",
    "größe 🎈",
    "-rf",
    "a;b|c",
    "  two",
    "!",
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_path_may_stand_as_it_is(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    (read, *_) = read_arguments("train", [f"data.root={tmp_path / name}"]).overrides
    assert compose_config("train", read).data.root == str(tmp_path / name)
    read = read_arguments("predict", [f"images={name}", f"run={name}"]).overrides
    cfg = compose_config("predict", *read)
    assert (cfg.images, cfg.run) == (name, name)


def test_a_path_that_is_not_there_is_refused_as_a_path(cli: Cli) -> None:
    done = cli("train", "data.root=/no such (folder)/[x], #1")
    assert done.returncode == 2
    assert "error: data.root=/no such (folder)/[x], #1: no such folder" in done.stderr


def test_a_path_may_begin_with_a_tilde_that_is_no_home(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~photos").mkdir()
    (read, *_) = read_arguments("train", ["data.root=~photos"]).overrides
    cfg = compose_config("train", read, "data=folder")
    assert (cfg.data.root, cfg.data.name) == (str(tmp_path / "~photos"), "photos")
    done = cli("train", "data.root=~nobody-of-that-name/x")
    assert done.returncode == 2
    assert "error: data.root=~nobody-of-that-name/x: there is no such user, and no file" in done.stderr


def test_what_is_already_in_quotes_stays(tmp_path: Path) -> None:
    for text in ('"/a b"', "'/a (1)'", "/a\\ b", "${paths.data}/x", "null", "auto", "s3://bucket/a"):
        assert read_arguments("train", [f"data.root={text}", "data=folder"]).overrides[0] == f"data.root={text}"


def test_several_paths_are_several_runs_with_the_flag(tmp_path: Path) -> None:
    for name in ("a (1)", "b", "c,d"):
        (tmp_path / name).mkdir()
    two = f"data.root={tmp_path}/a (1),{tmp_path}/b"
    assert read_arguments("train", ["-m", two]).overrides[0] == f"data.root='{tmp_path}/a (1)','{tmp_path}/b'"
    one = f"data.root={tmp_path}/c,d"
    assert read_arguments("train", ["-m", one]).overrides[0] == f"data.root='{tmp_path}/c,d'"
    with pytest.raises(BadInput, match="one run for each value; add -m, or for one path type 'data.root="):
        read_arguments("train", ["data.root=/nowhere/a,/nowhere/b"])


GRAMMAR = [
    ("model.name=resnet(18", "type 'model.name=\"resnet(18\"'"),
    ("model.name=it's", "type 'model.name=\"it'\"'\"'s\"'"),
    ("name=a#b", "type 'name=\"a#b\"'"),
    ('name="x', 'type \'name="\\"x"\''),
    ("model.name=a=b", "type 'model.name=\"a=b\"'"),
    ("model.name=${x", "type 'model.name=\"${x\"'"),
    ("model.lr=foo(1)", "type 'model.lr=\"foo(1)\"'"),
    ("model.lr=interval(1e-4", "do not match; write it like 'model.lr=interval(1,2)'"),
    ("data.classes=[a,", "do not match; write it like 'data.classes=[a,b]'"),
    ("evaluation.gates={a: 1", "do not match; write it like 'evaluation.gates={a: 1}'"),
    ("a=b=c", "a=b=c: no such key; --help lists the keys"),
    ("epochs=5(", "epochs=5(: no such key; type 'trainer.max_epochs=5('"),
    ("=3", "arguments are written key=value"),
    ("~", "arguments are written key=value"),
    ("", "arguments are written key=value"),
    ("@x=3", "arguments are written key=value"),
    ("model..lr=1", "model..lr=1: no such key; type model.lr=1"),
    ("model,lr=1", "model,lr=1: no such key; type model.lr=1"),
    ("a b=3", "a b=3: no such key; --help lists the keys"),
    ("ä=3", "ä=3: no such key; --help lists the keys"),
    ("a@b@c=1", "a@b@c=1: no such key"),
    ("seed=1,2,3", "seed=1,2,3: one run for each value; add -m"),
    ("stages=fit,test", "add -m, or for a list type stages=[fit,test]"),
    ("model.lr=interval(1,2)", "a range to search in; add hparams_search=optuna"),
    ("model=null", "model=null: to leave a group out write ~model"),
    ("model=", "model=: to leave a group out write ~model"),
    ("model/optimizer=null", "to leave a group out write ~model/optimizer"),
    ("hydra/launcher=null", "to leave a group out write ~hydra/launcher"),
    ("model.optimizer=adam", "chooses no option; type model/optimizer=adam"),
    ("+experiment=gtsrb", "a group's option is chosen without +; type experiment=gtsrb"),
    ("++model=resnet18", "type model=resnet18"),
    ("debug=true", "debug=true: no such option; type debug=one_batch; there are: limit, "),
    ("trainer={a: 1}", "no such option; there are: ddp, default"),
    ("data.root=", "data.root=: names nothing; write data.root=FOLDER"),
]


@pytest.mark.parametrize(("typed", "message"), GRAMMAR)
def test_no_grammar_page_reaches_anyone(typed: str, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        read_arguments("train", [typed])
    said = str(caught.value)
    assert message in said
    assert typed in said
    assert len(said.splitlines()) <= 1
    for riddle in ("hydra.cc", "LexerNoViableAlt", "token recognition", "mismatched input", "no viable alternative"):
        assert riddle not in said


@pytest.mark.parametrize("text", ["resnet(18", "it's", "a#b", 'x"', "a=b", "${x", "[x", "back\\slash"])
def test_what_the_message_shows_can_be_typed(text: str) -> None:
    """In a shell, which takes one pair of quotes off; what Hydra then reads is the text that was meant."""
    with pytest.raises(BadInput) as caught:
        read_arguments("train", [f"model.name={text}#"])
    (argument,) = shlex.split(str(caught.value).partition("; type ")[2])
    assert OverridesParser.create().parse_override(argument).value() == f"{text}#"


@pytest.mark.parametrize(
    "argument",
    ["stages=[fit, test]", "data.columns={path: photo, label: kind}", "evaluation.gates={test/accuracy: 0.9}"],
)
def test_a_bracket_that_a_shell_has_split_is_shown_in_quotes(argument: str) -> None:
    with pytest.raises(BadInput) as caught:
        read_arguments("train", ["seed=1", *shlex.split(argument), "name=a"])
    assert str(caught.value) == f"{argument}: a shell splits words at blanks; type '{argument}'"


def test_text_that_looks_like_a_number_stays_text() -> None:
    (read,) = read_arguments("train", ["name=2026_11_28"]).overrides
    assert compose_config("train", read).name == "2026_11_28"


WORDS = [
    ("--epochs 5", "--epochs 5: arguments are written key=value; type trainer.max_epochs=5"),
    ("--lr=0.1 seed=1 --batch-size 3", "type model.lr=0.1 data.batch_size=3"),
    ("--pretrained", "type model.pretrained=true"),
    ("--model resnet18", "type model=resnet18"),
    ("--model resnet34", "type model.name=resnet34"),
    ("--optimizer adam", "type model/optimizer=adam"),
    ("--seed 3", "type seed=3"),
    ("--data {here}", "type data.root={here}"),
    ("--foo 3", "--foo: no such option; there are --help, --version"),
    ("-x", "-x: no such option"),
    ("{here}", "{here}: arguments are written key=value; type data.root={here}"),
    ("gtsrb", "gtsrb: arguments are written key=value; type experiment=gtsrb"),
    ("seed", "seed: arguments are written key=value; type seed=VALUE"),
    ("epochs", "type trainer.max_epochs=VALUE"),
    ("foo", "foo: arguments are written key=value; --help lists the keys"),
    ("data.root={here}/my photos of 24", "type 'data.root=\"{here}/my photos of 24\"'"),
    ("seed=1 data.root={here} photos", "photos: arguments are written key=value"),
]


@pytest.mark.parametrize(("typed", "message"), WORDS)
def test_words_and_flags_of_others(typed: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        read_arguments("train", typed.format(here=tmp_path).split())
    assert message.format(here=tmp_path) in str(caught.value)


def test_flags_may_stand_anywhere() -> None:
    read = read_arguments("train", ["seed=1", "--cfg", "job", "name=x", "--resolve"])
    assert read.flags == ("--cfg", "job", "--resolve")
    assert read.overrides == ("seed=1", "name=x")
    assert read_arguments("train", ["seed=1,2", "-m"]).flags == ("-m",)
    assert read_arguments("train", ["--info", "defaults", "seed=1"]).flags == ("--info", "defaults")
    assert read_arguments("train", ["--info", "seed=1"]).overrides == ("seed=1",)
    assert read_arguments("train", ["launch=local_process"]).flags == ("-m",)
    assert read_arguments("train", ["help"]).flags == ("--help",)


def test_words_alone_are_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a b.jpg", "c=d.jpg", "e,f.jpg", "g.jpg"):
        (tmp_path / name).touch()

    def images(*typed: str) -> object:
        read = read_arguments("predict", ["run=latest", *typed], "images").overrides
        return compose_config("predict", *read).images

    assert images("g.jpg") == "g.jpg"
    assert images("a b.jpg", "c=d.jpg") == ["a b.jpg", "c=d.jpg"]
    assert images("images=g.jpg", "e,f.jpg") == ["g.jpg", "e,f.jpg"]
    assert images("images=[g.jpg,a b.jpg]") == ["g.jpg", "a b.jpg"]
    assert images("images=g.jpg,a b.jpg") == ["g.jpg", "a b.jpg"]
    assert images("images=g.jpg,nowhere.jpg") == ["g.jpg", "nowhere.jpg"]
    assert images("images=e,f.jpg") == "e,f.jpg"
    assert images("images=*.jpg") == "*.jpg"
    assert images("images=[eg]*.jpg") == "[eg]*.jpg"
    assert images("nowhere.jpg") == "nowhere.jpg"
    with pytest.raises(BadInput, match="name one alone, like pattern=vit"):
        read_arguments("models", ["vit", "resnet"], "pattern")


@pytest.mark.parametrize("task", ["train", "find_lr", "prepare"])
def test_a_data_root_alone_means_a_folder_of_photos(task: str) -> None:
    overrides, guesses = read_overrides(task, ["data.root=/photos"])
    trains = [("experiment", "photos")] if task != "prepare" else []
    assert [(guess.key, guess.value) for guess in guesses] == [("data", "folder"), *trains]
    assert overrides == ["data.root=/photos", *(f"{key}={value}" for key, value in [("data", "folder"), *trains])]
    cfg = compose_config(task, *overrides)
    assert cfg.data.source == "folder"
    assert task == "prepare" or cfg.model.pretrained == "auto"


def test_a_folder_has_the_recipe_for_photos_unless_another_is_named() -> None:
    given = ["data=folder", "data.root=/photos", "model=resnet18"]
    overrides, guesses = read_overrides("train", given)
    assert overrides == [*given, "experiment=photos"]
    assert [guess.key for guess in guesses] == ["experiment"]
    assert compose_config("train", *overrides).model.name == "resnet18"
    assert read_overrides("train", [*given, "experiment=gtsrb"]) == ([*given, "experiment=gtsrb"], [])


@pytest.mark.parametrize(
    "typed",
    [
        "data=gtsrb",
        "experiment=gtsrb",
        "data.root=null",
        "resume=/a/run",
        "hydra.mode=RUN",
        "hydra.mode=RUN launch=here",
    ],
)
def test_what_says_more_is_no_guess(typed: str) -> None:
    given = ["data.root=/photos", *typed.split()]
    assert read_overrides("train", given) == (given, [])
    assert read_overrides("evaluate", ["data.root=/photos"]) == (["data.root=/photos"], [])


def test_the_guess_is_taken_along(cli: Cli, tmp_path: Path) -> None:
    """To every job of a backend, of a sweep too; its line is printed where it was typed."""
    for number in range(4):
        for name in ("a", "b"):
            write_image(tmp_path / "photos" / "train" / name / f"{number}.png", (90, 9, 9), seed=number)
    words = [f"data.root={tmp_path / 'photos'}", f"paths.runs={tmp_path}", "launch.dry_run=true"]
    for more in (["launch=local_process"], ["launch=local_process", "hparams_search=optuna"]):
        done = cli("train", *words, *more)
        assert done.returncode == 0, done.stderr
        assert '"data=folder"' in done.stdout
        assert done.stderr.count("guessed data=folder (data.root is given, and neither data nor experiment)") == 1


def test_other_images_for_an_experiment_keep_its_settings(cli: Cli) -> None:
    """And a line says whose they are."""
    done = cli("train", "experiment=bikes", "data.root=/nowhere")
    assert done.returncode == 2
    assert "guessed" not in done.stderr
    assert "settings are those of experiment=bikes, the images are in /nowhere\n" in done.stderr


def test_from_python_a_data_root_alone_means_the_same(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with pytest.raises(BadInput, match="data.root=/no where: no such folder; set it to one"):
        sightline.train(overrides=["data.root=/no where"])
    assert "guessed data=folder (data.root is given, and neither data nor experiment)" in caplog.text
