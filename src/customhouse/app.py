"""The composition root: settings in, a running service out. The only place that joins parts to features."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final
from uuid import UUID

from customhouse import __version__, ids
from customhouse.audit import log, tags
from customhouse.audit.log import SYSTEM
from customhouse.clock import Clock, SystemClock
from customhouse.config import AwsKey, Environment, Settings, secret_at
from customhouse.connections.brakes import Brakes
from customhouse.connections.bulk import Alarms
from customhouse.connections.bulk import Rules as BulkRules
from customhouse.connections.confirming import Confirming
from customhouse.connections.declining import Declining
from customhouse.connections.dormant import Dormancy
from customhouse.connections.ending import Ending
from customhouse.connections.keeping import Keeping
from customhouse.connections.keeping import notes as refusals
from customhouse.connections.looking import Looks
from customhouse.connections.mass import MassEnding
from customhouse.connections.pasted import KeyStates, forget_inbound
from customhouse.connections.pasting import PastedKeys
from customhouse.connections.places import GRANTS, HELD_TENANT_KEYS
from customhouse.connections.ports import Announce, Cancelled
from customhouse.connections.probing import Prober
from customhouse.connections.proxying import Proxy
from customhouse.connections.reading import Reader
from customhouse.connections.receipts import Receipts, of_webhook
from customhouse.connections.rechecking import Rechecking
from customhouse.connections.refreshing import Refresher
from customhouse.connections.refusing import Refusing
from customhouse.connections.register import Register
from customhouse.connections.renewing import CALL_SECONDS, Renewing
from customhouse.connections.returning import Returning
from customhouse.connections.revoking import Revoker
from customhouse.connections.sessions import Sessions
from customhouse.connections.settling import Settling
from customhouse.connections.speaking import Speaker
from customhouse.connections.storing import Storing
from customhouse.connections.sweeping import Sweeping
from customhouse.connections.telling import Telling
from customhouse.connections.views import Grants
from customhouse.connections.withdrawing import Withdrawals
from customhouse.crypto.kms import KeyService
from customhouse.crypto.kms_aws import AwsKeyService
from customhouse.crypto.kms_local import load_local_key
from customhouse.db import Database, Executor, Migrator
from customhouse.egress.client import Egress
from customhouse.egress.fetching import Fetcher
from customhouse.egress.relaying import Relay
from customhouse.egress.smtp import Smtp
from customhouse.embedded.cluster import Cluster, open_cluster
from customhouse.errors import CustomhouseError, SettingsError
from customhouse.failpoints import Failpoints
from customhouse.jobs.upkeep import periodic, upkeep_partitions
from customhouse.jobs.worker import Periodic, Worker
from customhouse.logs import get
from customhouse.metrics import PROCESSES_REPLACED, Metrics
from customhouse.notices.inbox import Notices
from customhouse.notices.letters import host_of
from customhouse.notices.mailing import Mailing
from customhouse.outbound.accept import Acceptor
from customhouse.outbound.certificates import CertificateWatch
from customhouse.outbound.claims import Claims
from customhouse.outbound.deliver import Sender
from customhouse.outbound.disabling import Disabler
from customhouse.outbound.endpoints import Endpoints, Rules
from customhouse.outbound.engine import Engine
from customhouse.outbound.failures import Failures
from customhouse.outbound.health import Health
from customhouse.outbound.operational import Operational
from customhouse.outbound.operations import Operations
from customhouse.outbound.payloads import Payloads
from customhouse.outbound.places import ENDPOINTS
from customhouse.outbound.presence import Presence
from customhouse.outbound.reads import Reads
from customhouse.outbound.recorder import Recorder
from customhouse.outbound.roster import Rosters
from customhouse.outbound.rotation import Rotations
from customhouse.outbound.sweeps import Sweeps
from customhouse.outbound.throttle import Throttle
from customhouse.providers.catalogue import Catalogue
from customhouse.providers.declared import LARGEST_FILE, read
from customhouse.sql.migrate import Migration, compare, migrate, migrations
from customhouse.supervisor.member import Member
from customhouse.supervisor.tallies import WRITE_SECONDS, Share
from customhouse.tenants.api_keys import ApiKeys
from customhouse.tenants.event_types import EventTypes
from customhouse.tenants.policies import Policies
from customhouse.tenants.store import Tenants
from customhouse.types import PLATFORM, Json, JsonObject, Secret, TenantId
from customhouse.vault.deeds import KeyDeed, KeyEvent
from customhouse.vault.inventory import Counting
from customhouse.vault.keyring import Keyring
from customhouse.vault.rotating import MARGIN, Rotating
from customhouse.vault.vault import Vault

_log: Final = get("customhouse.app")
EMBEDDED_LOGIN: Final = "customhouse_app"
_CONNECT_SECONDS: Final = 5.0
_KEY_CHECK_SECONDS: Final = 3.0
_ATTEMPT_MARGIN: Final = 5.0
_RECORDED = "select version, checksum from schema_migrations"
_ALONE: Final = Member("serve")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that has to be in order; `advice` says what to do when it is not."""

    name: str
    ok: bool
    advice: str = ""


@dataclass(slots=True)
class Store:
    """Where the data is: a server of the operator's, or the embedded one that lives as long as this object."""

    dsn: Secret
    cluster: Cluster | None = None

    def close(self) -> None:
        """Stop the embedded server, if it is ours."""
        if self.cluster is not None:
            self.cluster.stop()


def open_store(settings: Settings) -> Store:
    """Return the database of these settings; blocks while an embedded server starts.

    Raises:
        SettingsError: there is no embedded server for this machine.
        DatabaseUnavailable: it does not start.
    """
    if settings.database_url is not None:
        return Store(settings.database_url)
    cluster = open_cluster(settings.data_dir / "postgres")
    return Store(Secret(cluster.dsn("app").encode()), cluster)


async def migrate_store(store: Store, settings: Settings) -> tuple[Migration, ...]:
    """Bring the schema to this version: the embedded server's always, another's by `MIGRATE_DATABASE_URL`.

    Raises:
        SettingsError: there is no owner's login to migrate with.
        DatabaseUnavailable: nobody answers.
    """
    if store.cluster is not None:
        async with Migrator.connect(Secret(store.cluster.dsn("owner").encode())) as migrator:
            return await migrate(migrator, login=EMBEDDED_LOGIN)
    if settings.migrate_database_url is None:
        raise SettingsError("Set CUSTOMHOUSE_MIGRATE_DATABASE_URL to the login that owns the schema; the service's own may not change it.")
    async with Migrator.connect(settings.migrate_database_url) as migrator:
        return await migrate(migrator)


def key_service(settings: Settings) -> KeyService:
    """Return the key service of these settings.

    Raises:
        SettingsError: the key file is missing, readable by others or damaged.
    """
    if isinstance(settings.kms_key, AwsKey):
        return AwsKeyService(settings.kms_key.arn, environment=settings.environment.value)
    return load_local_key(settings.kms_key.path, create=settings.environment is Environment.DEV)


def previous_key_services(settings: Settings) -> tuple[KeyService, ...]:
    """Return the key services of before, which only open. Raises: as `key_service` does; a key file that is gone is not made."""
    return tuple(
        AwsKeyService(key.arn, environment=settings.environment.value) if isinstance(key, AwsKey) else load_local_key(key.path)
        for key in settings.kms_previous_keys
    )


def catalogue_of(settings: Settings) -> Catalogue:
    """Return the providers of these settings.

    Raises:
        SettingsError: the providers file cannot be read.
        Invalid: it is not in order; the faults name each place.
    """
    if settings.providers_file is None:
        return Catalogue()
    prod = settings.environment is Environment.PROD
    try:
        with settings.providers_file.open("rb") as file:
            raw = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise SettingsError(f"CUSTOMHOUSE_PROVIDERS_FILE cannot be read ({error.strerror}).") from None
    return read(raw, lambda place: secret_at(variable=place.env, file=place.file, prod=prod), https_required=prod)


class App:
    """All parts of one process, wired."""

    def __init__(
        self, settings: Settings, database: Database, keys: KeyService, clock: Clock | None = None, member: Member = _ALONE
    ) -> None:
        """Wire the parts; nothing runs yet. `member` is this process's part of the work where there are several."""
        self.settings = settings
        self.database = database
        self.key_service = keys
        self.catalogue = catalogue_of(settings)
        self.clock = clock or SystemClock()
        self.metrics = Metrics(__version__)
        self.process_id = ids.new()
        environment = settings.environment.value
        https_required = settings.environment is not Environment.DEV
        failpoints = Failpoints(settings.failpoints)
        self.vault = Vault(
            Keyring(database),
            keys,
            self.clock,
            self._witness,
            environment=environment,
            cache_ttl=settings.kms_cache_ttl,
            metrics=self.metrics,
            previous=previous_key_services(settings),
        )
        self._wire_rotation(failpoints, root=keys.name)
        self.tenants = Tenants(database, self.vault, self.clock)
        self.api_keys = ApiKeys(database, self.vault, self.clock)
        self.policies = Policies(database, self.clock)
        self.event_types = EventTypes(database, self.clock)
        drop_payloads = not settings.payload_retention
        self.operational = Operational(database, self.vault, self.clock)
        self.notices = Notices(database, self.vault, self.clock, self.operational, mails=settings.smtp_url is not None)
        self.mailing = self._mailing()
        self.rotations = Rotations(database, self.vault, self.clock)
        rules = Rules(https_required, settings.egress_allow, settings.signature_header_prefix)
        self.endpoints = Endpoints(
            database, self.vault, self.clock, self.operational, self.rotations, rules, self._keep_receipt, drop_payloads=drop_payloads
        )
        self.reads = Reads(database)
        self.operations = Operations(database, self.operational, self.clock, settings.payload_retention)
        self.payloads = Payloads(database, self.vault, self.clock, settings.payload_retention)
        self.rosters = Rosters(
            database,
            self.vault,
            self.clock,
            https_required=https_required,
            environment=environment,
            header_prefix=settings.signature_header_prefix,
        )
        self.egress = Egress(
            allow=settings.egress_allow,
            https_required=https_required,
            clock=self.clock,
            connect_timeout=min(_CONNECT_SECONDS, settings.delivery_timeout),
            total_timeout=settings.delivery_timeout,
        )
        self.throttle = Throttle()
        sender = Sender(database, self.rosters, self.egress, self.clock, failpoints, self.throttle, schedule=settings.retry_schedule)
        failures = Failures(self.operational, self.rosters)
        recorder = Recorder(database, failpoints, self.process_id, failures, drop_payloads=drop_payloads)
        self.health = Health(database, self.clock)
        self.disabler = Disabler(database, self.operational, self.clock, self.metrics, after=settings.disable_after)
        self.engine = Engine(
            database,
            sender,
            recorder,
            self.clock,
            self.metrics,
            self.process_id,
            concurrency=settings.worker_concurrency,
            per_connection=settings.connection_concurrency,
            attempt_seconds=settings.delivery_timeout + _ATTEMPT_MARGIN,
            accept_wait=settings.accept_wait,
            on_gone=self.disabler.gone,
            on_sent=self.health.note,
        )
        self.acceptor = Acceptor(
            database, self.vault, self.rosters, self.engine, self.clock, self.metrics, failpoints, environment=environment
        )
        self.presence = Presence(database, self.engine, self.throttle, self.clock, self.metrics)
        self._claims = Claims(database, self.vault, self.rosters, self.engine, self.clock)
        self.sweeps = Sweeps(database, self.metrics, drop_payloads=drop_payloads)
        self.certificates = CertificateWatch(database, self.operational, self.clock)
        self._wire_connect(failpoints, https_required=https_required)
        jobs = (
            *periodic(database, settings.payload_retention),
            Periodic("signing_keys.advance", "* * * * *", self._advance_keys),
            Periodic("deliveries.expire", "*/5 * * * *", self._expire),
            Periodic("lines.mend", "*/5 * * * *", self._mend_lines),
            Periodic("certificates.tell", "23 * * * *", self._tell_certificates),
            Periodic("connections.disable", "*/5 * * * *", self._disable_failing),
            Periodic("connect.end_sessions", "* * * * *", self.sweeping.sessions),
            Periodic("connect.revoke", "* * * * *", self.revoker.end_due),
            Periodic("connect.finish_disconnects", "* * * * *", self.ending.finish_due),
            Periodic("tokens.renew", "* * * * *", self.keeping.due),
            Periodic("keys.turn", "* * * * *", self.rotating.finish_due),
            Periodic("connect.mark_outgrown", "*/10 * * * *", self.sweeping.outgrown),
            Periodic("connect.recheck_keys", "* * * * *", self.rechecking.due),
            Periodic("connect.pause_dormant", "17 * * * *", self.dormancy.due),
            Periodic("notices.purge", "31 4 * * *", self._purge_notices),
            *(() if self.mailing is None else (Periodic("notices.mail", "* * * * *", self._mail_notices),)),
        )
        self._worker = Worker(database, self.metrics, jobs) if member.jobs else None
        self._share = None if member.tallies is None else Share(Path(member.tallies))
        if member.replaces:
            self.metrics.counter(PROCESSES_REPLACED).inc()
        self._hearing = False
        self._key_check: tuple[float, Check | None] = (0.0, None)
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(cls, settings: Settings, store: Store, clock: Clock | None = None, member: Member = _ALONE) -> App:
        """Connect and wire; refuse a database whose schema is not this version's.

        Raises:
            SettingsError: the login is too powerful, or migrations are pending.
            DatabaseUnavailable: nobody answers.
        """
        keys = key_service(settings)
        database = await Database.connect(store.dsn, size=settings.database_pool_size)
        try:
            app = cls(settings, database, keys, clock, member)
            await app._refuse_pending_migrations()
        except BaseException:
            await database.close()
            raise
        return app

    async def start(self, *, first_key: bool = True) -> Secret | None:
        """Start the background work; return the first platform key if one was just made, to be shown once.

        Args:
            first_key: see to it that there is one; a process without an API leaves that to those that have one.

        Raises:
            KeyServiceUnavailable: there is no plaintext mode: without the key service nothing starts.
            DatabaseUnavailable: nobody answers.
        """
        await self.vault.create_tenant_key(PLATFORM)
        token = await self.api_keys.first_platform_key(self.settings.platform_key) if first_key else None
        await upkeep_partitions(self.database, self.settings.payload_retention)
        await self.presence.beat()
        heard = asyncio.Event()

        def ready() -> None:
            self._on_ready()
            heard.set()

        self._run("listen", lambda: self.database.listen(self._on_change, self._on_lost, ready, self.refresher.told))
        self._run("presence", self.presence.run)
        self._run("claims", self._claims.run)
        self._run("health", self.health.run)
        if self._worker is not None:
            self._run("jobs", self._worker.run)
        if self._share is not None:
            self._run("tallies", self._share_counts)
        self._run("keys", self.vault.keep_fresh)
        await asyncio.wait_for(heard.wait(), timeout=30)
        _log.info("started", version=__version__, process_id=ids.show("prc", self.process_id))
        return token

    async def stop(self) -> None:
        """Take nothing more in, finish what is under way, give the rest back, close."""
        renewals = asyncio.create_task(self.refresher.close())
        await self.acceptor.close()
        await self.looks.close()
        await self.register.close()
        for task in self._tasks:
            if task.get_name() in {"claims", "jobs"}:
                task.cancel()
        await self.engine.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.health.flush()
        await renewals
        await self.presence.farewell()
        if self._share is not None:
            self._share.write(self.metrics.render().decode())
        await self.egress.aclose()
        await self.fetcher.aclose()
        await self.patient_fetcher.aclose()
        await self.relay.aclose()
        await self.vault.close()
        await self.database.close()
        _log.info("stopped", process_id=ids.show("prc", self.process_id))

    def exposition(self) -> bytes:
        """Return what `/metrics` shows: the counts of this process, or of all of its group together."""
        counted = self.metrics.render()
        return counted if self._share is None else self._share.whole(counted.decode()).encode()

    async def ready(self) -> list[Check]:
        """Look at everything that a request needs."""
        checks = []
        try:
            pending = await self.pending_migrations()
            checks += [
                Check("database", ok=True),
                Check("migrations", not pending, "run `customhouse db migrate`"),
            ]
        except CustomhouseError as error:
            checks.append(Check("database", ok=False, advice=error.detail))
        checks.append(await self._key_service_check())
        checks.append(Check("changes", self._hearing, "the LISTEN connection is down; it comes back by itself with the database"))
        return checks

    async def report(self) -> JsonObject:
        """Return what `/readyz` says: whether the service can do its work, what was looked at, and what an operator should know."""
        checks = await self.ready()
        notes: list[Json] = ["prod runs on a local key file (ALLOW_LOCAL_KEY)"] if self.local_key_in_prod else []
        with suppress(CustomhouseError):
            notes += refusals(await self.brakes.refusing())
        shown: list[Json] = [{"name": one.name, "ok": one.ok, "advice": None if one.ok else one.advice} for one in checks]
        return {"ready": all(check.ok for check in checks), "checks": shown, "notes": notes}

    async def _key_service_check(self) -> Check:
        """Ask the key service, at most every few seconds: the page that asks needs no key of its own."""
        asked_at, check = self._key_check
        now = self.clock.monotonic()
        if check is None or now - asked_at > _KEY_CHECK_SECONDS:
            try:
                await self.key_service.check()
                check = Check("key_service", ok=True)
            except CustomhouseError as error:
                check = Check("key_service", ok=False, advice=error.detail)
            self._key_check = (now, check)
        return check

    @property
    def local_key_in_prod(self) -> bool:
        """Whether `prod` runs on a local key file: every report has to say so (rulings §6)."""
        return self.settings.environment is Environment.PROD and not isinstance(self.settings.kms_key, AwsKey)

    async def pending_migrations(self) -> tuple[Migration, ...]:
        """Return what the database lacks.

        Raises:
            SettingsError: it is newer than this version.
            DatabaseUnavailable: nobody answers.
        """
        rows = await self.database.call(_RECORDED)
        return compare({row["version"]: row["checksum"] for row in rows}, migrations()).pending

    async def _refuse_pending_migrations(self) -> None:
        pending = await self.pending_migrations()
        if pending:
            raise SettingsError(f"{len(pending)} migration(s) are pending: run `customhouse db migrate`.")

    # Wiring -------------------------------------------------------------------------------------------------------------

    def _wire_connect(self, failpoints: Failpoints, *, https_required: bool) -> None:
        """Wire what people connect by consent."""
        database, vault, clock, catalogue = self.database, self.vault, self.clock, self.catalogue
        self.fetcher = Fetcher(https_required=https_required, clock=clock)
        self.speaker = Speaker(catalogue, self.fetcher)
        told = Telling(self.operational, self.notices, vault)
        self.receipts = Receipts(database, clock)
        self.revoker = Revoker(database, vault, clock, catalogue, self.speaker, self.receipts, told, failpoints)
        self.sessions = Sessions(
            database, vault, clock, catalogue, public_url=self.settings.public_url, return_urls=self.settings.return_urls
        )
        self.declining = Declining(database, vault, clock, self.sessions, told)
        self.returning = Returning(database, vault, clock, self.sessions, self.speaker, self.revoker, told, failpoints)
        self.confirming = Confirming(database, vault, clock, catalogue, self.sessions, self.revoker, told, failpoints)
        self.sweeping = Sweeping(database, vault, clock, catalogue, self.sessions, self.confirming, self.speaker, self.revoker, told)
        cancels = [self._cancel_deliveries, forget_inbound]
        self.ending = Ending(database, vault, clock, catalogue, self.revoker, self.receipts, told, failpoints, cancels)
        self.grants = Grants(database, vault, clock, told)
        self._wire_refresh(told, failpoints, https_required=https_required)
        self._wire_reading(failpoints, told)
        self._wire_keys(told)
        self.dormancy = Dormancy(database, clock, told, after=self.settings.dormant_after)
        self.mass_ending = MassEnding(database, clock, self.ending, self.revoker, self.receipts)
        self.withdrawals = Withdrawals(database, vault, clock, catalogue, self.speaker, self.refresher, self.ending)

    def _wire_reading(self, failpoints: Failpoints, told: Telling) -> None:
        """Wire what reads and uses credentials."""
        settings = self.settings
        rules = BulkRules(settings.bulk_read_window, settings.bulk_read_cap, settings.bulk_read_stop)
        alarms = Alarms(self.database, self.clock, told, self.metrics, rules)
        self.register = Register(self.database, self.clock, self.metrics, failpoints, alarms, rules)
        self.looks = Looks(self.database, self.clock)
        self.reader = Reader(self.looks, self.vault, self.clock, self.catalogue, self.refresher, self.register)
        self.relay = Relay(https_required=settings.environment is not Environment.DEV, clock=self.clock)
        refusing = Refusing(self.database, self.clock, told)
        self.proxy = Proxy(self.database, self.clock, self.reader, self.refresher, refusing, self.speaker, self.relay, self.metrics)

    def _wire_refresh(self, told: Announce, failpoints: Failpoints, *, https_required: bool) -> None:
        """Wire what keeps access tokens fresh."""
        database, vault, clock, metrics = self.database, self.vault, self.clock, self.metrics
        self.patient_fetcher = Fetcher(https_required=https_required, clock=clock, total_timeout=CALL_SECONDS)
        speaker = Speaker(self.catalogue, self.patient_fetcher)
        self.brakes = Brakes(database, clock, told)
        storing = Storing(database, vault, clock, speaker, self.revoker, told, failpoints, metrics)
        self.settling = Settling(database, clock, storing, self.revoker, told, self.brakes, metrics)
        self.renewing = Renewing(database, vault, clock, self.catalogue, speaker, self.settling, self.brakes, failpoints, metrics)
        self.refresher = Refresher(self.renewing, clock)
        self.keeping = Keeping(database, clock, self.catalogue, self.refresher, self.brakes)

    def _wire_keys(self, told: Telling) -> None:
        """Wire what is connected by keys that customers make."""
        database, vault, clock, catalogue = self.database, self.vault, self.clock, self.catalogue
        prober, max_age = Prober(self.speaker, self.metrics), self.settings.key_max_age
        dev = self.settings.environment is Environment.DEV
        self.pasted_keys = PastedKeys(
            database, vault, clock, catalogue, prober, told, live=not dev, test=dev or self.settings.allow_test_keys
        )
        self.key_states = KeyStates(database, max_age=max_age)
        self.rechecking = Rechecking(database, vault, clock, catalogue, prober, told, max_age=max_age)

    def _wire_rotation(self, failpoints: Failpoints, *, root: str) -> None:
        """Wire what counts and replaces keys."""
        tables = (*GRANTS, *ENDPOINTS)
        self.rotating = Rotating(
            self.database,
            self.vault.opener,
            self._witness,
            self.clock,
            tables,
            HELD_TENANT_KEYS,
            failpoints,
            environment=self.settings.environment.value,
            wait=timedelta(seconds=self.settings.kms_cache_ttl) + MARGIN,
            metrics=self.metrics,
        )
        self.counting = Counting(self.database, self.clock, tables, root=root, wait=self.rotating.wait)

    def _run(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        async def guarded() -> None:
            while True:
                try:
                    await work()
                except Exception as error:  # noqa: BLE001 - a loop of the service must not end because of one surprise
                    _log.error("loop_interrupted", component=name, error=type(error).__name__)
                await asyncio.sleep(1.0)

        self._tasks.append(asyncio.get_running_loop().create_task(guarded(), name=name))

    async def _share_counts(self) -> None:
        assert self._share is not None  # else it is not run
        while True:
            self._share.write(self.metrics.render().decode())
            await asyncio.sleep(WRITE_SECONDS)

    async def _advance_keys(self) -> None:
        await self.rotations.advance_due()

    async def _expire(self) -> None:
        await self.sweeps.expire()

    async def _mend_lines(self) -> None:
        await self.sweeps.mend_lines()

    async def _tell_certificates(self) -> None:
        await self.certificates.tell_due()

    async def _disable_failing(self) -> None:
        await self.disabler.failing()

    async def _cancel_deliveries(self, conn: Executor, tenant: TenantId, connection_id: UUID) -> Cancelled:
        return Cancelled(deliveries=await self.endpoints.cancel_deliveries(conn, tenant, connection_id))

    async def _keep_receipt(self, conn: Executor, tenant: TenantId, connection_id: UUID, deliveries_cancelled: int, entry_id: UUID) -> None:
        await self.receipts.open(conn, tenant, of_webhook(connection_id, deliveries_cancelled, entry_id, self.clock.now()))

    async def _purge_notices(self) -> None:
        await self.notices.purge()

    async def _mail_notices(self) -> None:
        if self.mailing is not None:
            await self.mailing.send_due()

    def _mailing(self) -> Mailing | None:
        relay, sender = self.settings.smtp_url, self.settings.smtp_from
        if relay is None or sender is None:
            return None
        smtp = Smtp(
            host=relay.host,
            port=relay.port,
            security=relay.security,
            user=relay.user,
            password=relay.password,
            greeting=host_of(sender),
        )
        public_url = self.settings.public_url
        return Mailing(self.database, self.vault, self.clock, self.metrics, smtp, sender=sender, public_url=public_url)

    def _on_change(self, tenant: str) -> None:
        changed = TenantId(tenant)
        self.rosters.forget(changed)
        self.api_keys.forget(changed)
        self.vault.changed(changed)
        self.health.forget(changed)
        self.engine.ask_again(changed)

    def _on_ready(self) -> None:
        self._hearing = True
        self.rosters.hearing(hears=True)
        self.api_keys.hearing(hears=True)
        self.vault.changes_missed()

    def _on_lost(self) -> None:
        self._hearing = False
        self.rosters.hearing(hears=False)
        self.api_keys.hearing(hears=False)
        self.vault.changes_missed()

    async def _witness(self, tx: Executor | None, event: KeyEvent) -> None:
        """Write what the vault does into the ledger."""
        key_id = str(event.key_id)
        tag, detail = {
            KeyDeed.TENANT_KEY_CREATED: (tags.TENANT_KEY_CREATED, {"key_id": key_id, "kms_key": event.root}),
            KeyDeed.TENANT_KEY_UNWRAPPED: (tags.TENANT_KEY_UNWRAPPED, {"key_id": key_id, "kms_key": event.root}),
            KeyDeed.TENANT_KEY_REPLACED: (tags.TENANT_KEY_REPLACED, {"key_id": key_id, "kms_key": event.root}),
            KeyDeed.TENANT_KEY_DESTROYED: (tags.TENANT_KEY_DESTROYED, {"key_id": key_id}),
            KeyDeed.DATA_KEY_CREATED: (tags.DATA_KEY_CREATED, {"key_id": key_id, "purpose": event.purpose}),
            KeyDeed.CONNECTION_KEY_REPLACED: (tags.CONNECTION_KEY_REPLACED, {"key_id": key_id}),
            KeyDeed.CONNECTION_KEY_DESTROYED: (tags.CONNECTION_KEY_DESTROYED, {"key_id": key_id}),
        }[event.deed]
        about = UUID(event.scope) if event.purpose == "connection" and event.scope else None
        append = partial(
            log.append,
            clock=self.clock,
            tenant=event.tenant_id,
            origin=SYSTEM,
            tag=tag,
            subject="" if about else event.scope,
            connection_id=about,
            detail=detail,
        )
        if tx is not None:
            await append(tx)
            return
        async with self.database.transaction(event.tenant_id) as conn:
            await append(conn)
