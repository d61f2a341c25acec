"""The page about settings says what the code reads."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from customhouse import config

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"


def test_the_table_on_the_page_is_the_one_in_the_code() -> None:
    table = PAGE.read_text(encoding="utf-8").split("<!-- generated: `make schema` -->\n")[1].split("<!-- end -->")[0]
    assert table == config.reference(), "run `make schema`"


def test_every_setting_is_a_field_and_every_field_a_setting() -> None:
    assert {field.name for field in dataclasses.fields(config.Settings)} == {setting.name.lower() for setting in config.SETTINGS}


def test_every_default_is_one_that_could_be_written() -> None:
    for setting in config.SETTINGS:
        if setting.default is None:
            assert setting.otherwise, setting.name
        else:
            setting.parse(setting.default)
