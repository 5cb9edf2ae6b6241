from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest

from aihub_backup.core.options import OptionsError, dump, option, parse, schema, secret, split
from aihub_backup.core.redaction import sensitive


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@sensitive
@dataclass(frozen=True)
class Options:
    host: str = option(label="Host", help="Where the server listens.")
    port: int = option(5432, minimum=1, maximum=65535)
    tls: bool = option(True)
    ratio: float = option(0.5)
    mode: Literal["fast", "safe"] = option("safe")
    colour: Colour = option(Colour.RED)
    tables: tuple[str, ...] = option(factory=tuple, maximum=3)
    labels: dict[str, str] = option(factory=dict)
    folder: Path | None = option(None)
    patience: timedelta = option(timedelta(seconds=30))
    name: str = option("", pattern=r"[a-z]*", maximum=5)
    password: str = secret("", label="Password")

    def __post_init__(self) -> None:
        if self.mode == "fast" and not self.tls:
            raise ValueError("Fast mode needs TLS.")


def errors_of(values: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(OptionsError) as caught:
        parse(Options, values)
    return caught.value.errors


def test_it_reads_form_values() -> None:
    found = parse(Options, {"host": "db", "port": "5433", "tls": "off", "tables": "a\n b \n", "colour": "blue"})

    assert (found.port, found.tls, found.tables, found.colour) == (5433, False, ("a", "b"), Colour.BLUE)


def test_it_reads_what_it_has_dumped() -> None:
    options = Options("db", tables=("a",), labels={"a": "b"}, folder=Path("/x"), password="hunter22", ratio=1.5)

    assert parse(Options, dump(options)) == options


def test_an_empty_value_means_the_default() -> None:
    found = parse(Options, {"host": "db", "port": "", "folder": "", "password": None})

    assert found == Options("db")


@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        ({}, "host", "required"),
        ({"host": ""}, "host", "required"),
        ({"host": 5}, "host", "text"),
        ({"host": "a\0b"}, "host", "NUL"),
        ({"host": "db", "port": "many"}, "port", "whole number"),
        ({"host": "db", "port": True}, "port", "whole number"),
        ({"host": "db", "port": 1.5}, "port", "whole number"),
        ({"host": "db", "port": 0}, "port", "at least 1"),
        ({"host": "db", "port": 70000}, "port", "at most 65535"),
        ({"host": "db", "tls": "perhaps"}, "tls", "true or false"),
        ({"host": "db", "ratio": "nan"}, "ratio", "number"),
        ({"host": "db", "ratio": []}, "ratio", "number"),
        ({"host": "db", "mode": "slow"}, "mode", "fast, safe"),
        ({"host": "db", "colour": "green"}, "colour", "red, blue"),
        ({"host": "db", "tables": 5}, "tables", "list"),
        ({"host": "db", "tables": ["a", "b", "c", "d"]}, "tables", "at most 3 long"),
        ({"host": "db", "labels": ["a"]}, "labels", "mapping"),
        ({"host": "db", "name": "A"}, "name", "match"),
        ({"host": "db", "hots": "x"}, "hots", "no such option"),
    ],
)
def test_it_names_every_wrong_field(values: dict[str, Any], field: str, words: str) -> None:
    assert words in errors_of(values)[field]


def test_it_reports_all_wrong_fields_at_once() -> None:
    assert set(errors_of({"port": "x", "mode": "y"})) == {"host", "port", "mode"}


def test_a_class_may_check_fields_against_each_other() -> None:
    assert errors_of({"host": "db", "mode": "fast", "tls": False}) == {"": "Fast mode needs TLS."}


def test_it_separates_secrets() -> None:
    assert split(Options, {"host": "db", "password": "hunter22"}) == ({"host": "db"}, {"password": "hunter22"})


def test_it_does_not_show_secrets() -> None:
    assert "hunter22" not in repr(Options("db", password="hunter22"))
    assert "host='db'" in repr(Options("db", password="hunter22"))


def test_its_schema_is_write_only_for_secrets() -> None:
    found = schema(Options)

    assert found["required"] == ["host"]
    assert found["properties"]["password"] == {
        "type": "string", "title": "Password", "writeOnly": True, "format": "password",
    }  # fmt: skip
    assert found["properties"]["port"] == {
        "type": "integer", "title": "Port", "minimum": 1, "maximum": 65535, "default": 5432,
    }  # fmt: skip
    assert found["properties"]["tables"]["items"] == {"type": "string"}
    assert found["properties"]["mode"]["enum"] == ["fast", "safe"]
    assert found["properties"]["tables"]["maxItems"] == 3
    assert found["properties"]["folder"]["default"] is None
