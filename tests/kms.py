"""AWS KMS for tests: moto over HTTP, behind a warden that refuses what KMS refuses and moto does not."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Final, cast
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import boto3
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from mypy_boto3_kms.client import KMSClient
from werkzeug.serving import make_server

from customhouse.crypto.kms_aws import AwsKeyService

REGION: Final = "eu-central-1"


@dataclass(slots=True)
class Warden:
    """Stands before moto and refuses what KMS refuses and moto does not: the use of keys that are disabled or about to be deleted."""

    moto: WSGIApplication
    states: dict[str, str] = field(default_factory=dict)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    answer: Callable[[str], tuple[str, bytes] | None] = lambda _: None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        operation = environ.get("HTTP_X_AMZ_TARGET", "").removeprefix("TrentService.")
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = BytesIO(body)
        if operation:
            asked = json.loads(body)
            self.calls.append((operation, asked))
            key = str(asked.get("KeyId", "")).rpartition("/")[2]
            if refused := self.answer(operation) or self._refusal(operation, key):
                start_response(refused[0], [("Content-Type", "application/x-amz-json-1.1"), ("Content-Length", str(len(refused[1])))])
                return [refused[1]]
            changed = {"DisableKey": "Disabled", "EnableKey": "Enabled", "ScheduleKeyDeletion": "PendingDeletion"}.get(operation)
            if changed:
                self.states[key] = changed
        return self.moto(environ, start_response)

    def _refusal(self, operation: str, key: str) -> tuple[str, bytes] | None:
        code = {"Disabled": "DisabledException", "PendingDeletion": "KMSInvalidStateException"}.get(self.states.get(key, ""))
        return failure(code) if code and operation in {"GenerateDataKey", "Decrypt"} else None


def failure(code: str) -> tuple[str, bytes]:
    """Return an error as KMS words it."""
    return "400 Bad Request", json.dumps({"__type": code, "message": "arn:aws:kms: in a message"}).encode()


@contextmanager
def moto() -> Iterator[tuple[str, Warden]]:
    """Run a KMS (and IAM) on loopback; yield its address and its warden."""
    warden = Warden(cast("WSGIApplication", DomainDispatcherApplication(create_backend_app)))
    server = make_server("127.0.0.1", 0, warden, threaded=True, request_handler=MotoRequestHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}", warden
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass(frozen=True, slots=True)
class World:
    """A KMS with one key."""

    url: str
    warden: Warden
    client: KMSClient
    arn: str

    @property
    def key_id(self) -> str:
        """The id alone: what moto takes where it changes a key."""
        return self.arn.rpartition("/")[2]

    def service(self, arn: str | None = None) -> AwsKeyService:
        return AwsKeyService(arn or self.arn, environment="prod")

    def other_key(self) -> str:
        return self.client.create_key()["KeyMetadata"]["Arn"]


def world_of(url: str, warden: Warden, monkeypatch: pytest.MonkeyPatch) -> World:
    """Point AWS's own variables at a KMS, and make a key in it."""
    for name, value in {
        "AWS_ENDPOINT_URL_KMS": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    warden.answer = lambda _: None
    warden.calls.clear()
    client = boto3.client("kms", region_name=REGION)
    return World(url, warden, client, client.create_key()["KeyMetadata"]["Arn"])
