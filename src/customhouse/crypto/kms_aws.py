"""AWS KMS as the key service: `GenerateDataKey` and `Decrypt`, always with an encryption context, always on the one configured key.

Calls run in a few threads of their own with short time-outs: they are rare (per tenant and cache period), and a KMS that hangs
must not hold anything else. Region and account come from the ARN; credentials, and an endpoint other than Amazon's
(`AWS_ENDPOINT_URL_KMS`), from AWS's own variables.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, TypeVar

import anyio
import anyio.to_thread

from customhouse.crypto.envelope import KEY_BYTES
from customhouse.crypto.kms import Context, check_context
from customhouse.errors import CustomhouseError, KeyServiceUnavailable, SettingsError, Unsealable
from customhouse.types import Secret

if TYPE_CHECKING:
    from mypy_boto3_kms.client import KMSClient

_T = TypeVar("_T")

# A key ARN, not an alias: an alias can be pointed at another key by whoever may call UpdateAlias.
_ARN: Final = re.compile(
    r"arn:aws[a-z-]*:kms:([a-z]{2,4}(?:-[a-z]+)+-[0-9]+):[0-9]{12}:key/(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32})"
)
_LARGEST_BLOB: Final = 6144
"""Limit of `Decrypt` in the KMS API reference."""

CONNECT_SECONDS: Final = 2.0
READ_SECONDS: Final = 3.0
TRIES: Final = 2
"""Calls per request, the first included: with the time-outs, an answer or a refusal within about eleven seconds."""

_NOT_THIS: Final = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})
_ADVICE: Final = {
    "AccessDeniedException": "AWS KMS refused: give the role of this service the policies of deploy/aws",
    # A gateway on the way (VPC endpoint policy, proxy) answers without a code of KMS.
    "403": "the way to AWS KMS is refused: give the role of this service the policies of deploy/aws, and look at the endpoint's own policy",
    "DisabledException": "the KMS key is disabled: enable it",
    "KMSInvalidStateException": "the KMS key is not usable in its state: if its deletion is scheduled, cancel it and enable the key",
    "NotFoundException": "the KMS key does not exist in this account and region: check CUSTOMHOUSE_KMS_KEY",
    "InvalidKeyUsageException": "the KMS key is not a symmetric encryption key: check CUSTOMHOUSE_KMS_KEY",
    "KeyUnavailableException": "the KMS key is not available at the moment: repeat the call",
    "ThrottlingException": "AWS KMS throttles this account: repeat the call, and see its request quota",
    "UnrecognizedClientException": "AWS does not know these credentials: check what this service runs with",
    "InvalidClientTokenId": "AWS does not know these credentials: check what this service runs with",
    "InvalidSignatureException": "AWS does not accept the signature: check the secret access key and the clock of this machine",
    "ExpiredTokenException": "the AWS credentials have expired: renew them",
}


class AwsKeyService:
    """A `KeyService` on one AWS KMS key."""

    __slots__ = ("_arn", "_client", "_environment", "_limiter", "_lock", "_region")

    def __init__(self, arn: str, *, environment: str, threads: int = 4) -> None:
        """Take the ARN of a symmetric key, the name of this environment (for `check`), and how many calls may run at once.

        Raises:
            SettingsError: this is not the ARN of a key.
        """
        match = _ARN.fullmatch(arn)
        if match is None:
            raise SettingsError(
                "CUSTOMHOUSE_KMS_KEY: after `aws:` comes the ARN of a key (arn:aws:kms:REGION:ACCOUNT:key/ID), not an alias"
            )
        self._arn = arn
        self._region = match[1]
        self._environment = environment
        self._limiter = anyio.CapacityLimiter(threads)
        self._lock = threading.Lock()
        self._client: KMSClient | None = None

    @property
    def name(self) -> str:
        """`aws:` and the ARN of the key."""
        return f"aws:{self._arn}"

    async def generate(self, context: Mapping[str, str]) -> tuple[Secret, bytes]:
        """Return a fresh key and its wrapped form. Raises: see `KeyService`."""
        pairs = dict(context)
        if not Context(pairs).associated_data():
            raise CustomhouseError("an encryption context needs at least one pair and no empty text")

        def call(client: KMSClient) -> tuple[Secret, bytes]:
            answer = client.generate_data_key(KeyId=self._arn, KeySpec="AES_256", EncryptionContext=pairs)
            self._same_key(answer["KeyId"])
            return _material(answer["Plaintext"]), answer["CiphertextBlob"]

        return await self._run(call)

    async def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> Secret:
        """Return the key in `wrapped`. Raises: see `KeyService`."""
        pairs = dict(context)
        if not Context(pairs).associated_data() or not 0 < len(wrapped) <= _LARGEST_BLOB:
            raise Unsealable

        def call(client: KMSClient) -> Secret:
            # KeyId pins the key: without it KMS decrypts under whichever key the blob names.
            answer = client.decrypt(CiphertextBlob=wrapped, KeyId=self._arn, EncryptionContext=pairs)
            self._same_key(answer["KeyId"])
            return _material(answer["Plaintext"])

        return await self._run(call)

    async def check(self) -> None:
        """Wrap and unwrap once. Raises: see `KeyService`."""
        context = check_context(self._environment)
        fresh, wrapped = await self.generate(context)
        try:
            same = await self.unwrap(wrapped, context) == fresh
        except Unsealable:
            same = False
        if not same:
            raise KeyServiceUnavailable("AWS KMS does not open what it has just wrapped: check the endpoint that is configured")

    async def _run(self, call: Callable[[KMSClient], _T]) -> _T:
        return await anyio.to_thread.run_sync(self._call, call, limiter=self._limiter)

    def _call(self, call: Callable[[KMSClient], _T]) -> _T:
        # Here, because importing botocore takes a good part of a second, which a start with a key file need not pay.
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        try:
            return call(self._connected())
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", "unknown"))
            if code in _NOT_THIS:
                raise Unsealable from None
            raise KeyServiceUnavailable(_ADVICE.get(code, f"AWS KMS refused the call ({code})")) from error
        except BotoCoreError as error:
            raise KeyServiceUnavailable(
                f"AWS KMS cannot be reached or used ({type(error).__name__}): check network, endpoint, credentials"
            ) from error
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            # What an endpoint that is no KMS answers; botocore passes on whatever its parser met.
            raise KeyServiceUnavailable(f"the answer does not come from AWS KMS ({type(error).__name__}): check the endpoint") from error

    def _connected(self) -> KMSClient:
        import boto3  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415

        with self._lock:  # making a client is not thread-safe, using one is
            if self._client is None:
                # At DEBUG, botocore logs the bodies of answers, and with them plaintext keys.
                logging.getLogger("botocore").setLevel(logging.INFO)
                config = Config(
                    connect_timeout=CONNECT_SECONDS,
                    read_timeout=READ_SECONDS,
                    retries={"mode": "standard", "total_max_attempts": TRIES},
                    max_pool_connections=max(1, int(self._limiter.total_tokens)),
                    user_agent_extra="customhouse",
                )
                self._client = boto3.session.Session().client("kms", region_name=self._region, config=config)
            return self._client

    def _same_key(self, arn: str) -> None:
        if arn != self._arn:
            raise KeyServiceUnavailable("AWS KMS answered for another key than the configured one: check the endpoint")


def _material(plaintext: bytes) -> Secret:
    if len(plaintext) != KEY_BYTES:
        raise Unsealable
    return Secret(plaintext)
