"""Every setting there is, in one table: `docs/reference/settings.md` is made from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from customhouse.config import values

PREFIX: Final = "CUSTOMHOUSE_"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting."""

    name: str
    """Without the prefix; in lower case it is the field of `Settings`."""
    parse: Callable[[str], object]
    doc: str
    default: str | None = None
    """As one would write it; None: there is none, or it is worked out from the surroundings."""
    otherwise: str = ""
    """What the documentation says in place of a default."""
    secret: bool = False
    """It may also be given as `<NAME>_FILE`."""
    blank: bool = False
    """Empty text is a value; elsewhere it is an error, since a value that was lost on its way must not turn into a default."""


SETTINGS: Final[tuple[Setting, ...]] = (
    Setting(
        "ENVIRONMENT",
        values.one_of(values.Environment),
        "`prod` refuses what only suits a developer's machine: plain http, failpoints, a local key file. `customhouse up` and "
        "`demo` set `dev`.",
        "prod",
    ),
    Setting(
        "DATABASE_URL",
        values.database_url,
        "PostgreSQL 15 or later, as the service role that owns nothing. Unset: embedded PostgreSQL in `DATA_DIR`.",
        otherwise="embedded",
        secret=True,
    ),
    Setting(
        "MIGRATE_DATABASE_URL",
        values.database_url,
        "The same database as the owner of the schema. Only `customhouse db migrate` reads it; give it to that command alone.",
        otherwise="unset",
        secret=True,
    ),
    Setting("DATABASE_POOL_SIZE", values.whole(2, 200), "Connections to PostgreSQL per process, at most.", "10"),
    Setting(
        "DATA_DIR",
        values.folder,
        "Embedded PostgreSQL, local keys, the platform key made at the first start. On a local disk, for one user.",
        otherwise="`/var/lib/customhouse` as root, else `$XDG_DATA_HOME/customhouse` or `~/.local/share/customhouse`",
    ),
    Setting(
        "KMS_KEY",
        values.kms_key,
        "The root key: `aws:` and the ARN of a key in AWS KMS, or `file:` and the path of a local key. There is no mode without one.",
        otherwise="required; in `dev` `file:DATA_DIR/keys/local.key`, made at the first start",
    ),
    Setting(
        "KMS_PREVIOUS_KEYS",
        values.kms_keys,
        "Root keys of before, each as in `KMS_KEY`, separated by commas: they open what they wrapped until `customhouse keys rotate` has "
        "moved every tenant to `KMS_KEY`, and wrap nothing.",
        "",
        blank=True,
    ),
    Setting(
        "KMS_CACHE_TTL",
        values.whole(10, 3600),
        "Seconds for which an unwrapped tenant key may be used before the key service is asked again.",
        "300",
    ),
    Setting("ALLOW_LOCAL_KEY", values.flag, "Lets `prod` run on a `file:` key. `/readyz`, the panel and every report say so.", "false"),
    Setting(
        "ALLOW_TEST_KEYS",
        values.flag,
        "Lets `prod` take pasted keys for a provider's test data (`rk_test_…`). In `dev` only such keys are taken.",
        "false",
    ),
    Setting(
        "DORMANT_AFTER",
        values.duration(timedelta(days=3650)),
        "How long a connection by consent or key may go without a use before it is paused: `90d`. Host and user are told a week before. "
        "`0`: never.",
        "90d",
    ),
    Setting(
        "KEY_MAX_AGE",
        values.duration(timedelta(days=3650)),
        "How old a pasted key may become before host and user are asked to replace it, every 30 days: `180d`. `0`: they are never asked.",
        "180d",
    ),
    Setting(
        "PLATFORM_KEY",
        values.platform_key,
        "The first platform API key: `ck_` and at least 32 random characters. Unset: made at the first start and shown once.",
        otherwise="made at the first start",
        secret=True,
    ),
    Setting(
        "PUBLIC_URL",
        values.url,
        "Under what address people, providers and customers reach this service. `https` in `prod`.",
        otherwise="required; in `dev` `http://` and `LISTEN`",
    ),
    Setting("LISTEN", values.address, "Where the API listens, `host:port`; port 0 takes any free one.", "127.0.0.1:8300"),
    Setting(
        "METRICS_LISTEN",
        values.address,
        "Where `/metrics` listens on its own, `host:port`. Unset: on the API's port, for platform keys only.",
        otherwise="unset",
    ),
    Setting(
        "TRUSTED_PROXIES",
        values.networks,
        "Networks of reverse proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed, separated by commas.",
        "",
        blank=True,
    ),
    Setting(
        "EGRESS_ALLOW",
        values.networks,
        "Networks that webhooks may be sent to although they are private, separated by commas. Empty: public addresses only.",
        "",
        blank=True,
    ),
    Setting(
        "PROVIDERS_FILE",
        values.file,
        "A TOML file: this installation's client ids and secrets (by reference) at the providers, overridden endpoints, and providers of "
        "its own. `customhouse provider check` judges one. Unset: the built-in providers, none of them set up.",
        otherwise="unset",
    ),
    Setting(
        "RETURN_URLS",
        values.origins,
        "Origins of the host application, separated by commas: the only places to which browsers are sent back (`return_url`). "
        "`https` in `prod`. Empty: none, our own page says that it is done.",
        "",
        blank=True,
    ),
    Setting(
        "SMTP_URL",
        values.mail_relay,
        "The relay for e-mails about notices: `smtps://USER:PASSWORD@HOST:465`, `starttls://…:587`, or `smtp://HOST:25` in clear (in "
        "`prod` on this machine only). Unset: no e-mail, the inbox and the host's events alone.",
        otherwise="unset",
        secret=True,
    ),
    Setting(
        "SMTP_FROM",
        values.mail_address,
        "The address that these e-mails come from. Required with `SMTP_URL`.",
        otherwise="unset",
    ),
    Setting(
        "TOKEN_EXPORT",
        values.switch,
        "`on`: callers with the scope `tokens:read` may read access tokens. Never those of a grant with which something can be changed; "
        "the proxy is for these, and for all where this is `off`.",
        "off",
    ),
    Setting(
        "BULK_READ_WINDOW",
        values.span(timedelta(minutes=1), timedelta(days=1)),
        "Over what time the connections are counted whose credentials one API key reads: `1h`; at most `1d`.",
        "1h",
    ),
    Setting(
        "BULK_READ_CAP",
        values.whole(0, 1_000_000),
        "More distinct connections than this in a window raise the alarm about bulk reads, whatever is usual for the key. `0`: only three "
        "times of what is usual does.",
        "1000",
    ),
    Setting(
        "BULK_READ_STOP",
        values.duration(timedelta(days=7)),
        "How long a key reads no credentials after such an alarm: `1h`. `0`: it goes on, and the alarm is all.",
        "0",
    ),
    Setting(
        "PAYLOAD_RETENTION",
        values.duration(timedelta(days=30)),
        "How long a sealed payload is kept after its last delivery has ended, for replay: `72h`, `7d`; at most `30d`. `0`: not at all.",
        "72h",
    ),
    Setting(
        "SIGNATURE_HEADER_PREFIX",
        values.header_prefix,
        "The beginning of the signature headers' names in the `queast-v1` profile; receivers must know it.",
        "X-Queast",
    ),
    Setting(
        "MAX_BODY_BYTES",
        # The receiver library reads bodies of up to 1 MiB, envelope included.
        values.whole(1024, 1_000_000),
        "The largest event that is accepted, in bytes of JSON as sent to the API. A batch may hold this much per event.",
        "262144",
    ),
    Setting(
        "DELIVERY_TIMEOUT",
        values.seconds(1, 60),
        "Seconds for one delivery attempt in all: name look-up, connecting, sending, and reading the whole answer.",
        "15",
    ),
    Setting(
        "RETRY_SCHEDULE",
        values.schedule(timedelta(days=1), 20),
        "Waits before the second, third … attempt of a delivery, each drawn from ±20 %. A delivery lives 72 h at most.",
        "5s,30s,2m,10m,1h,4h,12h,24h",
    ),
    Setting(
        "DISABLE_AFTER",
        values.duration(timedelta(days=90)),
        "How long a webhook connection may fail without a success before it is disabled: `5d`; at most `90d`. `0`: for ever.",
        "5d",
    ),
    Setting("WORKER_CONCURRENCY", values.whole(1, 10_000), "Deliveries in flight per process, at most.", "256"),
    Setting("CONNECTION_CONCURRENCY", values.whole(1, 1000), "Of these, to one connection, at most.", "32"),
    Setting(
        "PROCESSES",
        values.whole(1, 64),
        "Processes that `up`, `serve` and `work` start on this machine. All that is said here `per process` counts for each of them.",
        otherwise="one per core that may be used, at most 4; `up`: 1",
    ),
    Setting(
        "ACCEPT_WAIT",
        values.seconds(0, 10),
        "Seconds for which a publish call is held, at most, while this process is behind with deliveries (never because an endpoint is). "
        "A tenant whose calls fill more than their share of what may wait gets 429. `0`: nobody is held or refused for that.",
        "1",
    ),
    Setting("LOG_LEVEL", values.one_of(values.LogLevel), "The least important lines that are written.", "info"),
    Setting(
        "FAILPOINTS",
        values.failpoints,
        "Where to kill the process, for tests (`docs/reference/failpoints.md`). Refused in `prod`.",
        "",
        blank=True,
    ),
)
