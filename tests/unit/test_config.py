"""Settings: what is accepted, what is refused, and that a refusal names the setting and not the value."""

from __future__ import annotations

import os
import stat
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from customhouse.config import (
    PREFIX,
    SETTINGS,
    Address,
    AwsKey,
    Environment,
    KeyFile,
    LogLevel,
    MailRelay,
    Settings,
    from_environment,
    load,
    problems,
    secret_at,
)
from customhouse.errors import SettingsError
from customhouse.types import Secret

ARN = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
PROD = {"KMS_KEY": f"aws:{ARN}", "PUBLIC_URL": "https://customs.example.com", "DATA_DIR": "/srv/customhouse"}
DEV = {"ENVIRONMENT": "dev", "DATA_DIR": "/srv/customhouse"}
CANARY = "canary-4711-do-not-show"


def environ(*parts: dict[str, str], **more: str) -> dict[str, str]:
    return {PREFIX + name: text for part in (*parts, more) for name, text in part.items()}


def refusal(given: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        load(given)
    return caught.value.detail


def test_prod_is_assumed_and_the_defaults_are_those_of_the_table() -> None:
    found = load(environ(PROD))
    assert found == Settings(
        environment=Environment.PROD,
        database_url=None,
        migrate_database_url=None,
        database_pool_size=10,
        data_dir=Path("/srv/customhouse"),
        kms_key=AwsKey(ARN),
        kms_previous_keys=(),
        kms_cache_ttl=300,
        allow_local_key=False,
        allow_test_keys=False,
        dormant_after=timedelta(days=90),
        key_max_age=timedelta(days=180),
        platform_key=None,
        public_url="https://customs.example.com",
        listen=Address("127.0.0.1", 8300),
        metrics_listen=None,
        trusted_proxies=(),
        egress_allow=(),
        providers_file=None,
        return_urls=(),
        smtp_url=None,
        smtp_from=None,
        token_export=False,
        bulk_read_window=timedelta(hours=1),
        bulk_read_cap=1000,
        bulk_read_stop=timedelta(),
        payload_retention=timedelta(hours=72),
        signature_header_prefix="X-Queast",
        max_body_bytes=262144,
        delivery_timeout=15.0,
        disable_after=timedelta(days=5),
        retry_schedule=(5.0, 30.0, 120.0, 600.0, 3600.0, 14400.0, 43200.0, 86400.0),
        worker_concurrency=256,
        connection_concurrency=32,
        processes=None,
        accept_wait=1.0,
        log_level=LogLevel.INFO,
        failpoints="",
    )


def test_dev_needs_nothing_at_all() -> None:
    found = load({PREFIX + "ENVIRONMENT": "dev", "HOME": "/home/ada"})
    data = Path("/var/lib/customhouse") if os.geteuid() == 0 else Path("/home/ada/.local/share/customhouse")
    assert found.data_dir == data
    assert found.kms_key == KeyFile(data / "keys" / "local.key")
    assert found.public_url == "http://127.0.0.1:8300"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"SMTP_URL": "smtps://mail.example.com:465"}, "SMTP_FROM"),
        ({"SMTP_FROM": "customhouse@example.com"}, "SMTP_URL"),
        ({"SMTP_URL": "smtp://mail.example.com:25", "SMTP_FROM": "customhouse@example.com"}, "SMTP_URL"),
    ],
)
def test_half_a_mail_relay_and_one_in_clear_are_refused_in_prod(given: dict[str, str], named: str) -> None:
    assert f"CUSTOMHOUSE_{named}: " in refusal(environ(PROD, given))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_a_relay_on_this_machine_may_take_mail_in_clear(host: str) -> None:
    found = load(environ(PROD, {"SMTP_URL": f"smtp://{host}:25", "SMTP_FROM": "customhouse@example.com"}))
    assert found.smtp_url == MailRelay("smtp", host.strip("[]"), 25, None, None)


def test_the_data_folder_follows_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    dev = {PREFIX + "ENVIRONMENT": "dev"}
    assert load({**dev, "HOME": "/home/ada"}).data_dir == Path("/home/ada/.local/share/customhouse")
    assert load({**dev, "HOME": "/home/ada", "XDG_DATA_HOME": "/data"}).data_dir == Path("/data/customhouse")
    assert load({**dev, "HOME": "/home/ada", "XDG_DATA_HOME": "relative"}).data_dir == Path("/home/ada/.local/share/customhouse")
    assert "CUSTOMHOUSE_DATA_DIR" in refusal(dev)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert load({**dev, "HOME": "/root"}).data_dir == Path("/var/lib/customhouse")


def test_every_setting_is_read() -> None:
    found = load(
        environ(
            ENVIRONMENT="dev",
            DATABASE_URL="postgresql://app:pw@db:5432/customhouse",
            MIGRATE_DATABASE_URL="postgresql://owner:pw@db/customhouse",
            DATABASE_POOL_SIZE="20",
            DATA_DIR="/data with space/ü",
            KMS_KEY="file:/keys/root.key",
            KMS_CACHE_TTL="60",
            ALLOW_LOCAL_KEY="true",
            ALLOW_TEST_KEYS="true",
            DORMANT_AFTER="0",
            KEY_MAX_AGE="90d",
            KMS_PREVIOUS_KEYS=f"aws:{ARN}, file:/keys/old.key,",
            PLATFORM_KEY="ck_" + "a" * 32,
            PUBLIC_URL="http://localhost:8300/base/",
            LISTEN="[::1]:0",
            METRICS_LISTEN="localhost:9100",
            TRUSTED_PROXIES="10.0.0.1, fd00::/8",
            EGRESS_ALLOW="192.168.0.0/16",
            PROVIDERS_FILE="/etc/customhouse/providers.toml",
            SMTP_URL="smtps://ada%40host:p%40ss%2Fword@mail.example.com:465",
            SMTP_FROM="customhouse@example.com",
            PAYLOAD_RETENTION="0",
            SIGNATURE_HEADER_PREFIX="X-Acme",
            MAX_BODY_BYTES="1024",
            DELIVERY_TIMEOUT="2.5",
            RETRY_SCHEDULE="1s, 2m",
            DISABLE_AFTER="0",
            WORKER_CONCURRENCY="8",
            CONNECTION_CONCURRENCY="4",
            PROCESSES="3",
            ACCEPT_WAIT="0.25",
            RETURN_URLS="http://localhost:3000, https://app.example.com,",
            LOG_LEVEL="debug",
            TOKEN_EXPORT="on",
            BULK_READ_WINDOW="10m",
            BULK_READ_CAP="0",
            BULK_READ_STOP="2h",
            FAILPOINTS="accept.after_commit=kill:3",
        )
    )
    assert found == Settings(
        environment=Environment.DEV,
        database_url=Secret(b"postgresql://app:pw@db:5432/customhouse"),
        migrate_database_url=Secret(b"postgresql://owner:pw@db/customhouse"),
        database_pool_size=20,
        data_dir=Path("/data with space/ü"),
        kms_key=KeyFile(Path("/keys/root.key")),
        kms_previous_keys=(AwsKey(ARN), KeyFile(Path("/keys/old.key"))),
        kms_cache_ttl=60,
        allow_local_key=True,
        allow_test_keys=True,
        dormant_after=timedelta(0),
        key_max_age=timedelta(days=90),
        platform_key=Secret(b"ck_" + b"a" * 32),
        public_url="http://localhost:8300/base",
        listen=Address("::1", 0),
        metrics_listen=Address("localhost", 9100),
        trusted_proxies=(ip_network("10.0.0.1/32"), ip_network("fd00::/8")),
        egress_allow=(ip_network("192.168.0.0/16"),),
        providers_file=Path("/etc/customhouse/providers.toml"),
        return_urls=("http://localhost:3000", "https://app.example.com"),
        smtp_url=MailRelay("smtps", "mail.example.com", 465, "ada@host", Secret(b"p@ss/word")),
        smtp_from="customhouse@example.com",
        token_export=True,
        bulk_read_window=timedelta(minutes=10),
        bulk_read_cap=0,
        bulk_read_stop=timedelta(hours=2),
        payload_retention=timedelta(),
        signature_header_prefix="X-Acme",
        max_body_bytes=1024,
        delivery_timeout=2.5,
        disable_after=timedelta(),
        retry_schedule=(1.0, 120.0),
        worker_concurrency=8,
        connection_concurrency=4,
        processes=3,
        accept_wait=0.25,
        log_level=LogLevel.DEBUG,
        failpoints="accept.after_commit=kill:3",
    )
    assert str(found.listen) == "[::1]:0"
    assert str(found.metrics_listen) == "localhost:9100"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ENVIRONMENT", "production"),
        ("ENVIRONMENT", "PROD"),
        ("DATABASE_URL", "mysql://db/customhouse"),
        ("DATABASE_URL", "postgresql:///customhouse"),
        ("DATABASE_URL", "postgresql://db:99999/customhouse"),
        ("DATABASE_URL", "postgresql://[::1/customhouse"),
        ("PROVIDERS_FILE", "providers.toml"),
        ("SMTP_URL", "mail.example.com:465"),
        ("SMTP_URL", "http://mail.example.com:465"),
        ("SMTP_URL", "smtps://mail.example.com"),
        ("SMTP_URL", "smtps://mail.example.com:0"),
        ("SMTP_URL", "smtps://mail.example.com:99999"),
        ("SMTP_URL", "smtps://mail.example.com:465/path"),
        ("SMTP_URL", "smtps://mail.example.com:465?tls=no"),
        ("SMTP_URL", "smtps://user@mail.example.com:465"),
        ("SMTP_URL", "smtps://:word@mail.example.com:465"),
        ("SMTP_URL", "smtps://user:a%0d%0ab@mail.example.com:465"),
        ("SMTP_URL", "smtps://user:%ff@mail.example.com:465"),
        ("SMTP_URL", "smtps://[::1:465"),
        ("SMTP_FROM", "Customhouse <customhouse@example.com>"),
        ("SMTP_FROM", "customhouse"),
        ("SMTP_FROM", "customhouse@example..com"),
        ("SMTP_FROM", "a@example.com,b@example.com"),
        ("DATABASE_POOL_SIZE", "1"),
        ("DATABASE_POOL_SIZE", "ten"),
        ("DATABASE_POOL_SIZE", "١٢"),
        ("DATABASE_POOL_SIZE", "1_0"),
        ("DATABASE_POOL_SIZE", "-5"),
        ("DATA_DIR", "data"),
        ("DATA_DIR", "~/data"),
        ("KMS_KEY", "none"),
        ("KMS_KEY", "file:relative.key"),
        ("KMS_KEY", "aws:alias/customhouse"),
        ("KMS_KEY", "aws:arn:aws:kms:eu-central-1:123456789012:alias/customhouse"),
        ("KMS_CACHE_TTL", "9"),
        ("KMS_CACHE_TTL", "3601"),
        ("ALLOW_LOCAL_KEY", "yes"),
        ("ALLOW_LOCAL_KEY", "True"),
        ("PLATFORM_KEY", "ck_short"),
        ("PLATFORM_KEY", "sk_" + "a" * 40),
        ("PUBLIC_URL", "customs.example.com"),
        ("PUBLIC_URL", "https://"),
        ("PUBLIC_URL", "https://user:pw@customs.example.com"),
        ("PUBLIC_URL", "https://customs.example.com?x=1"),
        ("PUBLIC_URL", "https://customs.example.com:99999"),
        ("PUBLIC_URL", "https://customs.example.com:0"),
        ("PUBLIC_URL", "javascript:alert(1)"),
        ("LISTEN", "8300"),
        ("LISTEN", ":8300"),
        ("LISTEN", "127.0.0.1:65536"),
        ("LISTEN", "::1:8300"),
        ("LISTEN", "[127.0.0.1]:8300"),
        ("LISTEN", "[fe80::1%eth0/x]:8300"),
        ("LISTEN", "-host:8300"),
        ("TRUSTED_PROXIES", "0.0.0.0/0"),
        ("TRUSTED_PROXIES", "::/0"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("TRUSTED_PROXIES", "proxy.internal"),
        ("EGRESS_ALLOW", "0.0.0.0/0"),
        ("EGRESS_ALLOW", "all"),
        ("PAYLOAD_RETENTION", "72"),
        ("RETRY_SCHEDULE", ""),
        ("RETRY_SCHEDULE", "5s,0"),
        ("RETRY_SCHEDULE", "5s;30s"),
        ("RETRY_SCHEDULE", "2d"),
        ("RETRY_SCHEDULE", ",".join(["1s"] * 21)),
        ("PAYLOAD_RETENTION", "-1h"),
        ("PAYLOAD_RETENTION", "0h"),
        ("PAYLOAD_RETENTION", "31d"),
        ("PAYLOAD_RETENTION", "999999999d"),
        ("SIGNATURE_HEADER_PREFIX", "X Acme"),
        ("SIGNATURE_HEADER_PREFIX", "X-Acme:"),
        ("SIGNATURE_HEADER_PREFIX", "X" * 65),
        ("MAX_BODY_BYTES", "1000001"),
        ("DELIVERY_TIMEOUT", "0"),
        ("DELIVERY_TIMEOUT", "61"),
        ("DELIVERY_TIMEOUT", "nan"),
        ("DELIVERY_TIMEOUT", "1e1"),
        ("WORKER_CONCURRENCY", "0"),
        ("CONNECTION_CONCURRENCY", "0"),
        ("LOG_LEVEL", "verbose"),
        ("FAILPOINTS", "nowhere=kill:1"),
        ("FAILPOINTS", "accept.after_commit=sleep:1"),
        ("LISTEN", "127.0.0.1:8300\n"),
        ("LISTEN", "  "),
        ("DATA_DIR", "/data\udc80"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(name: str, text: str) -> None:
    found = problems(environ(DEV, {name: text}))
    assert PREFIX + name in [problem.name for problem in found]


def test_all_problems_are_told_at_once() -> None:
    text = refusal(environ(LISTEN="nowhere", LOG_LEVEL="loud", NONSENSE="1", DATA_DIR="/srv/customhouse"))
    assert text.startswith("5 settings are not in order:")
    for name in ("LISTEN", "LOG_LEVEL", "NONSENSE", "KMS_KEY", "PUBLIC_URL"):
        assert f"\n- {PREFIX}{name}: " in text


def test_one_problem_reads_as_one() -> None:
    assert refusal(environ(PROD, LOG_LEVEL="loud")).startswith("1 setting is not in order:")


def test_an_unknown_name_is_refused_with_the_nearest_known_one() -> None:
    assert "do you mean CUSTOMHOUSE_DATABASE_URL?" in refusal(environ(PROD, DATABSE_URL="x"))
    assert "do you mean CUSTOMHOUSE_LISTEN?" in refusal({**environ(PROD), "Customhouse_listen": "127.0.0.1:1"})
    assert "settings.md lists them all" in refusal(environ(PROD, QQQ="x"))


@pytest.mark.parametrize("name", ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_8300_TCP", "PORT_8300_TCP_ADDR"])
def test_variables_of_kubernetes_are_explained(name: str) -> None:
    assert "enableServiceLinks: false" in refusal(environ(PROD, {name: "tcp://10.0.0.1:8300"}))


def test_foreign_variables_are_left_alone() -> None:
    assert (
        load({**environ(PROD), "PATH": "/bin", "CUSTOM": "1", "MY_CUSTOMHOUSE_X": "1", "AWS_REGION": "x"}).environment is Environment.PROD
    )


@pytest.mark.parametrize("name", [setting.name for setting in SETTINGS])
def test_an_empty_value_is_a_value_for_lists_alone(name: str) -> None:
    blank = {setting.name for setting in SETTINGS if setting.blank}
    assert blank == {"KMS_PREVIOUS_KEYS", "TRUSTED_PROXIES", "EGRESS_ALLOW", "RETURN_URLS", "FAILPOINTS"}
    found = problems(environ(DEV, {name: ""}))
    assert (not found) is (name in blank)


def test_prod_refuses_what_suits_development_only() -> None:
    assert "ALLOW_LOCAL_KEY=true" in refusal(environ(PROD, KMS_KEY="file:/keys/root.key"))
    assert load(environ(PROD, KMS_KEY="file:/keys/root.key", ALLOW_LOCAL_KEY="true")).kms_key == KeyFile(Path("/keys/root.key"))
    assert "must begin with https://" in refusal(environ(PROD, PUBLIC_URL="http://customs.example.com"))
    assert "CUSTOMHOUSE_FAILPOINTS" in refusal(environ(PROD, FAILPOINTS="accept.after_commit=kill:1"))
    assert "CUSTOMHOUSE_KMS_KEY" in refusal(environ(PUBLIC_URL="https://c.example", DATA_DIR="/d"))
    assert "CUSTOMHOUSE_PUBLIC_URL" in refusal(environ(KMS_KEY=f"aws:{ARN}", DATA_DIR="/d"))


def test_an_unreadable_environment_is_judged_as_prod() -> None:
    text = refusal(environ(DEV, ENVIRONMENT="devel", FAILPOINTS="accept.after_commit=kill:1"))
    assert "CUSTOMHOUSE_ENVIRONMENT" in text
    assert "CUSTOMHOUSE_FAILPOINTS" in text


def test_the_service_may_not_be_the_owner_of_its_tables() -> None:
    same = {"DATABASE_URL": "postgresql://boss:a@db/c", "MIGRATE_DATABASE_URL": "postgresql://boss:b@db/c"}
    assert "must not own its tables" in refusal(environ(PROD, same))


def test_a_secret_comes_from_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"ck_" + b"k" * 40 + b"\n")
    path.chmod(0o600)
    assert load(environ(PROD, PLATFORM_KEY_FILE=str(path))).platform_key == Secret(b"ck_" + b"k" * 40)
    assert "given twice" in refusal(environ(PROD, PLATFORM_KEY_FILE=str(path), PLATFORM_KEY="ck_" + "k" * 40))


def test_only_secrets_come_from_files(tmp_path: Path) -> None:
    path = tmp_path / "listen"
    path.write_text("127.0.0.1:1", encoding="ascii")
    assert "CUSTOMHOUSE_LISTEN_FILE" in refusal(environ(PROD, LISTEN_FILE=str(path)))


def test_a_file_that_everybody_may_read_is_refused_in_prod(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"ck_" + b"k" * 40)
    path.chmod(0o644)
    assert "chmod o-r" in refusal(environ(PROD, PLATFORM_KEY_FILE=str(path)))
    assert load(environ(DEV, PLATFORM_KEY_FILE=str(path))).platform_key is not None
    path.chmod(0o640)
    assert load(environ(PROD, PLATFORM_KEY_FILE=str(path))).platform_key is not None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        (b"\xff\xfe", "not UTF-8"),
        (b"a" * 70000, "too large"),
        (b"", "is empty"),
        (b"ck_a\nb", "cannot be printed"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o600)
    assert words in refusal(environ(PROD, PLATFORM_KEY_FILE=str(path)))


def test_no_secret_shows_in_the_settings() -> None:
    found = load(
        environ(
            PROD,
            DATABASE_URL=f"postgresql://app:{CANARY}@db/c",
            MIGRATE_DATABASE_URL=f"postgresql://owner:{CANARY}@db/c",
            PLATFORM_KEY=f"ck_{CANARY}-{'k' * 32}",
        )
    )
    assert CANARY not in repr(found)
    assert CANARY not in str(found)
    assert repr(found).count("Secret(***)") == 3


@pytest.mark.parametrize("name", [setting.name for setting in SETTINGS])
def test_no_refusal_repeats_the_value(name: str) -> None:
    for text in (f"{CANARY}\n", f"x {CANARY}:99999999", f"://{CANARY}@["):
        for problem in problems(environ(DEV, {name: text})):
            assert CANARY not in str(problem)


def test_defaults_of_a_command_stand_below_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.setenv(PREFIX + "DATA_DIR", "/srv/customhouse")
    monkeypatch.setenv(PREFIX + "LOG_LEVEL", "error")
    found = from_environment({"ENVIRONMENT": "dev", "LOG_LEVEL": "debug"})
    assert found.environment is Environment.DEV
    assert found.log_level is LogLevel.ERROR


_names = st.sampled_from([setting.name for setting in SETTINGS] + [s.name + "_FILE" for s in SETTINGS]) | st.text(max_size=20)
_texts = (
    st.text(max_size=40)
    | st.text(st.characters(codec=None), max_size=10)
    | st.sampled_from(
        ["dev", "prod", "true", "0", "72h", "10", "127.0.0.1:1", "https://a.example", "postgresql://a@b/c", "file:/a", f"aws:{ARN}", "/tmp"]
    )
)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.dictionaries(_names, _texts, max_size=8))
def test_any_environment_gives_settings_or_one_typed_refusal(parts: dict[str, str]) -> None:
    given_environ = environ(parts)
    wrong = problems(given_environ)
    if wrong:
        text = refusal(given_environ)
        assert all(str(problem) in text for problem in wrong)
    else:
        found = load(given_environ)
        assert found.environment is Environment.DEV or found.public_url.startswith("https:")


def test_a_file_is_judged_by_the_descriptor_that_is_read(tmp_path: Path) -> None:
    path, link = tmp_path / "key", tmp_path / "link"
    path.write_bytes(b"ck_" + b"k" * 40)
    path.chmod(0o644)
    link.symlink_to(path)
    assert stat.S_ISLNK(link.lstat().st_mode)
    assert "chmod o-r" in refusal(environ(PROD, PLATFORM_KEY_FILE=str(link)))


def test_a_secret_is_fetched_from_the_place_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{CANARY}\n", encoding="utf-8")
    file.chmod(0o600)
    monkeypatch.setenv("SOME_SECRET", CANARY)
    assert secret_at(file=str(file), prod=True) == secret_at(variable="SOME_SECRET", prod=True) == Secret(CANARY.encode())
    file.chmod(0o644)
    with pytest.raises(ValueError, match="every user of this machine"):
        secret_at(file=str(file), prod=True)
    assert secret_at(file=str(file), prod=False) == Secret(CANARY.encode())


@pytest.mark.parametrize("text", ["", "  ", f"{CANARY}\n{CANARY}", f"{CANARY}\x07"], ids=["empty", "blank", "two lines", "a bell"])
def test_a_secret_that_is_none_is_refused_without_being_shown(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SECRET", text)
    with pytest.raises(ValueError, match="is empty, or holds") as refused:
        secret_at(variable="SOME_SECRET", prod=True)
    assert CANARY not in str(refused.value)


def test_a_secret_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_SECRET", raising=False)
    with pytest.raises(ValueError, match="not set"):
        secret_at(variable="SOME_SECRET", prod=True)
    with pytest.raises(ValueError, match="cannot be read"):
        secret_at(file=str(tmp_path / "missing"), prod=True)


def test_a_root_key_of_before_is_another_than_that_of_now_and_named_once() -> None:
    assert "KMS_PREVIOUS_KEYS: names the key of CUSTOMHOUSE_KMS_KEY" in refusal(environ(PROD, KMS_PREVIOUS_KEYS=f"aws:{ARN}"))
    twice = refusal(environ(PROD, KMS_PREVIOUS_KEYS="file:/a.key,file:/a.key"))
    assert "KMS_PREVIOUS_KEYS: names a key twice" in twice
    assert "KMS_PREVIOUS_KEYS" in refusal(environ(PROD, KMS_PREVIOUS_KEYS="a.key"))
    assert load(environ(PROD, KMS_PREVIOUS_KEYS="")).kms_previous_keys == ()
