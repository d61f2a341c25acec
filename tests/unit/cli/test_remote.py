"""Where a service is and with which key it is called: what is accepted, and that a refusal repeats nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from customhouse import ids
from customhouse.cli.remote import base_of, base_of_settings, key_of, key_of_file, key_of_settings, read_object
from customhouse.config import load
from customhouse.errors import SettingsError
from customhouse.outbound.requests import check_key

KEY = b"ck_test_0123456789abcdefghijklmnopqrstuv"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://customs.example.com", "https://customs.example.com:443"),
        ("https://customs.example.com:8443/base/", "https://customs.example.com:8443/base"),
        ("http://127.0.0.1:8300", "http://127.0.0.1:8300"),
        ("http://localhost:8300/", "http://localhost:8300"),
        ("http://[::1]:8300", "http://[::1]:8300"),
        ("https://[2001:db8::1]", "https://[2001:db8::1]:443"),
    ],
)
def test_a_service_has_an_address(url: str, shown: str) -> None:
    assert str(base_of(url)) == shown


@pytest.mark.parametrize(
    "url",
    [
        "customs.example.com",
        "ftp://customs.example.com",
        "https://",
        "https://user:secret@customs.example.com",
        "https://customs.example.com?key=secret",
        "https://customs.example.com#secret",
        "https://customs.example.com:0",
        "https://customs.example.com:99999",
        "https://[::1",
        "http://customs.example.com",
        "http://10.0.0.1:8300",
        "http://127.0.0.1.example.com",
    ],
)
def test_what_is_no_address_or_would_show_the_key_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected a URL|use https") as caught:
        base_of(url)
    assert "secret" not in str(caught.value)


@given(st.text())
def test_any_address_is_read_or_refused(url: str) -> None:
    try:
        base = base_of(url)
    except ValueError:
        return
    assert base.secure or base.host in {"localhost", "::1"} or base.host.startswith("127.")


def settings_at(tmp_path: Path, **more: str) -> dict[str, str]:
    given = {"ENVIRONMENT": "dev", "DATA_DIR": str(tmp_path)} | more
    return {f"CUSTOMHOUSE_{name}": value for name, value in given.items()}


def test_the_settings_say_where_it_is_on_this_machine(tmp_path: Path) -> None:
    for listen, shown in (("0.0.0.0:8300", "127.0.0.1:8300"), ("[::]:8300", "[::1]:8300"), ("127.0.0.1:81", "127.0.0.1:81")):
        assert str(base_of_settings(load(settings_at(tmp_path, LISTEN=listen)))) == f"http://{shown}"
    with pytest.raises(SettingsError, match="--url"):
        base_of_settings(load(settings_at(tmp_path, LISTEN="127.0.0.1:0")))


def test_the_key_is_the_preset_one_or_that_of_the_first_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"There is no API key in .*platform_key"):
        key_of_settings(load(settings_at(tmp_path)))
    (tmp_path / "platform_key").write_bytes(KEY + b"\n")
    assert key_of_settings(load(settings_at(tmp_path))).reveal() == KEY
    preset = "ck_" + "a" * 32
    assert key_of_settings(load(settings_at(tmp_path, PLATFORM_KEY=preset))).reveal() == preset.encode()


@pytest.mark.parametrize("raw", [b"", b"secret", b"ck_" + b"x" * 5000, "ck_ä-secret".encode(), b"ck_a\r\nX-Other: secret"])
def test_what_is_no_key_is_refused_without_repeating_it(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(SettingsError, match="holds no API key") as caught:
        key_of(raw, "SOME_NAME")
    assert "secret" not in str(caught.value)
    path = tmp_path / "key"
    path.write_bytes(raw)
    with pytest.raises(SettingsError, match="holds no API key"):
        key_of_file(path)


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"a":1,"a":2}', b'{"a":NaN}', b"{'a': 1}", b'"secret"', b"\xff"])
def test_what_is_no_json_object_is_refused_without_repeating_it(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        read_object(raw)
    assert "secret" not in str(caught.value)
    assert read_object(b'{"order_id":"o_1"}') == {"order_id": "o_1"}


def test_a_key_that_was_drawn_passes_for_an_idempotency_key() -> None:
    for _ in range(2000):
        key = f"send_{ids.show('evt', ids.new()).removeprefix('evt_')}"
        assert check_key(key) == key
