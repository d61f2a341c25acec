"""AWS KMS as the key service, against moto over HTTP: contexts, keys that are disabled and enabled, refusals, and a KMS that is away."""

from __future__ import annotations

import json
import logging
import socket
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from uuid import uuid4

import anyio
import boto3
import pytest

from customhouse.crypto import kms_aws
from customhouse.crypto.kms_aws import AwsKeyService
from customhouse.errors import CustomhouseError, KeyServiceUnavailable, SettingsError, Unsealable
from tests.kms import REGION, Warden, World, failure, moto, world_of

pytestmark = pytest.mark.anyio

CONTEXT = {"tenant_id": "acme", "purpose": "tenant-key", "environment": "prod"}


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Warden]]:
    with moto() as found:
        yield found


@pytest.fixture
def world(server: tuple[str, Warden], monkeypatch: pytest.MonkeyPatch) -> World:
    return world_of(*server, monkeypatch)


# What works -------------------------------------------------------------------------------------------------------------------


async def test_a_wrapped_key_opens_in_its_context_and_after_a_restart(world: World) -> None:
    fresh, wrapped = await world.service().generate(CONTEXT)
    assert len(fresh) == 32
    assert fresh.reveal() not in wrapped
    assert await world.service().unwrap(wrapped, dict(reversed(CONTEXT.items()))) == fresh
    assert world.service().name == f"aws:{world.arn}"


async def test_every_call_names_the_context_and_pins_the_key(world: World) -> None:
    service = world.service()
    _, wrapped = await service.generate(CONTEXT)
    await service.unwrap(wrapped, CONTEXT)
    used = [(operation, asked["KeyId"], asked["EncryptionContext"]) for operation, asked in world.warden.calls if operation != "CreateKey"]
    assert used == [("GenerateDataKey", world.arn, CONTEXT), ("Decrypt", world.arn, CONTEXT)]


async def test_a_check_wraps_and_unwraps_once_in_the_environment(world: World) -> None:
    await world.service().check()
    assert [operation for operation, _ in world.warden.calls if operation != "CreateKey"] == ["GenerateDataKey", "Decrypt"]
    assert world.warden.calls[-1][1]["EncryptionContext"] == {"environment": "prod", "purpose": "check", "tenant_id": "_platform"}


async def test_many_calls_at_once_are_answered_by_few_threads(world: World) -> None:
    service = world.service()
    _, wrapped = await service.generate(CONTEXT)
    before = {thread for thread in threading.enumerate() if "AnyIO" in thread.name}
    found = []

    async def unwrap() -> None:
        found.append(await service.unwrap(wrapped, CONTEXT))

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(unwrap)
    assert len(found) == 20
    assert len({thread for thread in threading.enumerate() if "AnyIO" in thread.name} - before) <= 4


async def test_plaintext_keys_do_not_reach_the_debug_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("botocore").setLevel(logging.NOTSET)
    with caplog.at_level(logging.DEBUG):
        await world.service().check()
    assert "Plaintext" not in caplog.text
    assert "EncryptionContext" not in caplog.text


# What is refused ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "context",
    [
        {},
        {**CONTEXT, "tenant_id": "other"},
        {**CONTEXT, "environment": "dev"},
        {**CONTEXT, "purpose": "check"},
        {"tenant_id": "acme"},
        {**CONTEXT, "more": "x"},
        {**CONTEXT, "purpose": ""},
    ],
)
async def test_another_context_does_not_open(world: World, context: Mapping[str, str]) -> None:
    _, wrapped = await world.service().generate(CONTEXT)
    with pytest.raises(Unsealable):
        await world.service().unwrap(wrapped, context)


async def test_an_empty_context_is_refused_before_anything_is_sent(world: World) -> None:
    with pytest.raises(CustomhouseError):
        await world.service().generate({})
    assert [operation for operation, _ in world.warden.calls] == ["CreateKey"]


async def test_altered_cut_empty_and_oversized_blobs_do_not_open(world: World) -> None:
    _, wrapped = await world.service().generate(CONTEXT)
    for blob in (wrapped[:-1] + bytes([wrapped[-1] ^ 1]), b"", wrapped + bytes(6144)):
        with pytest.raises(Unsealable):
            await world.service().unwrap(blob, CONTEXT)


async def test_what_another_key_wrapped_is_not_accepted(world: World) -> None:
    _, wrapped = await world.service(world.other_key()).generate(CONTEXT)
    with pytest.raises((Unsealable, KeyServiceUnavailable)):
        await world.service().unwrap(wrapped, CONTEXT)


async def test_a_key_that_is_disabled_midway_stops_everything_until_it_is_enabled(world: World) -> None:
    service = world.service()
    fresh, wrapped = await service.generate(CONTEXT)
    world.client.disable_key(KeyId=world.key_id)
    for call in (lambda: service.generate(CONTEXT), lambda: service.unwrap(wrapped, CONTEXT), service.check):
        with pytest.raises(KeyServiceUnavailable, match="disabled: enable it"):
            await call()
    world.client.enable_key(KeyId=world.key_id)
    assert await service.unwrap(wrapped, CONTEXT) == fresh


async def test_a_key_that_waits_for_its_deletion_says_what_to_do(world: World) -> None:
    service = world.service()
    _, wrapped = await service.generate(CONTEXT)
    world.client.schedule_key_deletion(KeyId=world.key_id, PendingWindowInDays=7)
    with pytest.raises(KeyServiceUnavailable, match="cancel"):
        await service.unwrap(wrapped, CONTEXT)


async def test_a_key_that_does_not_exist_says_which_setting(world: World) -> None:
    with pytest.raises(KeyServiceUnavailable, match="CUSTOMHOUSE_KMS_KEY"):
        await world.service(f"arn:aws:kms:{REGION}:123456789012:key/{uuid4()}").check()


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("AccessDeniedException", "policies of deploy/aws"),
        ("ThrottlingException", "throttles"),
        ("ExpiredTokenException", "renew"),
        ("UnrecognizedClientException", "credentials"),
        ("InvalidSignatureException", "clock"),
        ("InvalidKeyUsageException", "symmetric"),
        ("KMSInternalException", "KMSInternalException"),
    ],
)
async def test_each_refusal_of_kms_says_what_to_do_and_no_arn(world: World, code: str, says: str) -> None:
    world.warden.answer = lambda _: failure(code)
    with pytest.raises(KeyServiceUnavailable, match=says) as caught:
        await world.service().unwrap(b"x", CONTEXT)
    assert "arn:" not in caught.value.detail


async def test_throttling_is_tried_twice_and_no_more(world: World) -> None:
    world.warden.answer = lambda _: failure("ThrottlingException")
    with pytest.raises(KeyServiceUnavailable):
        await world.service().unwrap(b"x", CONTEXT)
    assert [operation for operation, _ in world.warden.calls].count("Decrypt") == kms_aws.TRIES


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"<html>", b'{"Plaintext": "AAAA"}', b'{"Plaintext": 1, "KeyId": 2, "CiphertextBlob": 3}', b"\xff\xfe"],
)
async def test_an_endpoint_that_is_no_kms_is_an_unavailable_key_service(world: World, body: bytes) -> None:
    world.warden.answer = lambda _: ("200 OK", body)
    with pytest.raises(KeyServiceUnavailable):
        await world.service().check()


async def test_an_answer_for_another_key_is_refused(world: World) -> None:
    other = world.other_key()
    world.warden.answer = lambda _: ("200 OK", json.dumps({"Plaintext": "A" * 43 + "=", "KeyId": other}).encode())
    with pytest.raises(KeyServiceUnavailable, match="another key"):
        await world.service().unwrap(b"x", CONTEXT)


async def test_a_short_key_in_the_answer_is_refused(world: World) -> None:
    world.warden.answer = lambda _: ("200 OK", json.dumps({"Plaintext": "AAAA", "KeyId": world.arn}).encode())
    with pytest.raises(Unsealable):
        await world.service().unwrap(b"x", CONTEXT)


async def test_an_answer_that_does_not_open_again_fails_the_check(world: World) -> None:
    world.warden.answer = lambda operation: failure("InvalidCiphertextException") if operation == "Decrypt" else None
    with pytest.raises(KeyServiceUnavailable, match="just wrapped"):
        await world.service().check()


async def test_without_credentials_the_refusal_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(KeyServiceUnavailable, match="credentials"):
        await world.service().check()


async def test_a_kms_that_nobody_answers_for_is_unavailable(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", f"http://127.0.0.1:{probe.getsockname()[1]}")
        with pytest.raises(KeyServiceUnavailable, match="EndpointConnectionError"):
            await world.service().check()


async def test_a_kms_that_hangs_is_given_up_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kms_aws, "READ_SECONDS", 0.1)
    monkeypatch.setattr(kms_aws, "TRIES", 1)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(KeyServiceUnavailable, match="ReadTimeoutError"):
            await world.service().check()


@pytest.mark.parametrize(
    "arn",
    [
        "",
        "1234abcd-12ab-34cd-56ef-1234567890ab",
        "alias/customhouse",
        "arn:aws:kms:eu-central-1:111122223333:alias/customhouse",
        "arn:aws:kms:eu-central-1:111122223333:key/*",
        "arn:aws:s3:::bucket",
        "arn:aws:kms::111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab\n",
    ],
)
async def test_anything_but_the_arn_of_a_key_is_refused(arn: str) -> None:
    with pytest.raises(SettingsError, match="ARN"):
        AwsKeyService(arn, environment="prod")


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        "arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab",
        "arn:aws-cn:kms:cn-north-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    ],
)
async def test_the_arn_of_a_key_in_any_partition_is_accepted(arn: str) -> None:
    assert AwsKeyService(arn, environment="prod").name == f"aws:{arn}"


# Who may ----------------------------------------------------------------------------------------------------------------------


@contextmanager
def enforced(world: World) -> Iterator[None]:
    """Let moto check signatures and identity policies from now on."""

    def reset(calls: bytes) -> None:
        # Not a form: moto reads the number from the body.
        address, kind = f"{world.url}/moto-api/reset-auth", {"Content-Type": "text/plain"}
        with urllib.request.urlopen(urllib.request.Request(address, data=calls, headers=kind), timeout=5) as answer:
            assert answer.status == 200

    reset(b"0")
    try:
        yield
    finally:
        reset(b"inf")


def access_key(world: World, user: str, actions: list[str]) -> tuple[str, str]:
    """Make a user who may do these things; moto judges identity policies by action alone."""
    iam = boto3.client("iam", region_name=REGION, endpoint_url=world.url)
    iam.create_user(UserName=user)
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}
    iam.put_user_policy(UserName=user, PolicyName="p", PolicyDocument=json.dumps(policy))
    made = iam.create_access_key(UserName=user)["AccessKey"]
    return made["AccessKeyId"], made["SecretAccessKey"]


async def test_only_who_may_decrypt_decrypts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    service = access_key(world, "integration-service", ["kms:GenerateDataKey", "kms:Decrypt"])
    administrator = access_key(world, "database-administrator", ["rds:*", "kms:DescribeKey"])

    def become(who: tuple[str, str]) -> AwsKeyService:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", who[0])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", who[1])
        return world.service()

    fresh, wrapped = await become(service).generate(CONTEXT)
    with enforced(world):
        assert await become(service).unwrap(wrapped, CONTEXT) == fresh
        with pytest.raises(KeyServiceUnavailable, match="policies of deploy/aws"):
            await become(administrator).unwrap(wrapped, CONTEXT)
        with pytest.raises(KeyServiceUnavailable):
            await become((service[0], "another secret")).unwrap(wrapped, CONTEXT)
