"""What a server is told by its environment."""

import pytest

from sightline.errors import BadInput
from sightline.serve_settings import PREFIX, ServeSettings, from_environment
from tests.conftest import compose_task


def test_variables_become_settings() -> None:
    chosen = from_environment(
        {
            "PATH": "/bin",
            "SIGHTLINE_SERVE_TOKEN": "secret",
            "SIGHTLINE_SERVE_HOST": "0.0.0.0",
            "SIGHTLINE_SERVE_PORT": "9000",
            "SIGHTLINE_SERVE_THREADS": "auto",
            "SIGHTLINE_SERVE_OPEN": "true",
            "SIGHTLINE_SERVE_DEADLINE_SECONDS": "2",
            "SIGHTLINE_SERVE_S3_PREFIXES": '["s3://bucket/in"]',
            "SIGHTLINE_SERVE_CAPTURE": "s3://bucket/captured",
            "SIGHTLINE_SERVE_OUTPUT": "",
        }
    )
    assert chosen == ServeSettings(
        host="0.0.0.0",
        port=9000,
        open=True,
        deadline_seconds=2,
        s3_prefixes=["s3://bucket/in"],
        capture="s3://bucket/captured",
    )
    assert from_environment({"SIGHTLINE_SERVE_THREADS": "3"}).threads == 3


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("PORTS", "80", "SIGHTLINE_SERVE_PORT"),
        ("PORT", "http", "a whole number"),
        ("PORT", "70000", "at most 65,535"),
        ("THREADS", "0", "at least 1"),
        ("THREADS", "all", "a whole number"),
        ("PRECISION", "bf16", "fp32, int8"),
        ("OPEN", "yes", "true or false"),
        ("OPEN", "1", "true or false"),
        ("DEADLINE_SECONDS", "0", "above 0"),
        ("CAPTURE_PERCENT", "120", "at most 100"),
        ("S3_PREFIXES", "s3://bucket", "like"),
        ("S3_PREFIXES", "[1]", "like"),
    ],
)
def test_what_does_not_fit_is_named(key: str, value: str, said: str) -> None:
    with pytest.raises(BadInput, match=f"{PREFIX}{key}") as raised:
        from_environment({f"{PREFIX}{key}": value})
    assert said in str(raised.value)


def test_the_command_line_has_the_same_keys_and_rules() -> None:
    assert compose_task("serve", "run=latest").serve == ServeSettings()
    with pytest.raises(BadInput, match="serve.precision"):
        compose_task("serve", "run=latest", "serve.precision=bf16")
