"""Graph's change notifications (§6.4): thin or with encrypted content, several subscriptions in one, and events of their lifecycle."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from customhouse_sandbox import signing
from customhouse_sandbox.clock import rfc3339
from customhouse_sandbox.microsoft import directory
from customhouse_sandbox.microsoft.chats import messages
from customhouse_sandbox.microsoft.identity import LOGIN, OWNER
from customhouse_sandbox.microsoft.meetings import described, meetings
from customhouse_sandbox.outgoing import Outgoing
from customhouse_sandbox.state import Application, End, Grant, Person, Realm

PUBLISHER: Final = "0bf30f3b-4a52-48df-9a82-234910c4a086"
"""The application that notifications come from (§6.4)."""
WITHDRAWN: Final = "withdrawn"
"""What an application hears when the consent is gone: as the fact says."""
CHANGES: Final = {"callRecording.created": "recordings", "callTranscript.created": "transcripts", "chatMessage.created": "messages"}
LIFECYCLE: Final = ("reauthorizationRequired", "subscriptionRemoved", "missed")
_TYPES: Final = {
    "recordings": "#Microsoft.Graph.callRecording",
    "transcripts": "#Microsoft.Graph.callTranscript",
    "messages": "#Microsoft.Graph.chatMessage",
}
_OVER: Final = frozenset({End.DEAUTHORIZED, End.ADMIN, End.OWNER_GONE})
_TOKEN_SECONDS: Final = 3600


@dataclass(slots=True)
class Subscription:
    """What an application asked to be told."""

    id: str
    grant: Grant
    tenant: str
    resource: str
    """As it was asked for."""
    kind: str
    """`recordings`, `transcripts` or `messages`."""
    within: str
    """The one meeting or chat that it is about; empty: all of the person's."""
    changes: tuple[str, ...]
    address: str
    lifecycle: str
    """Where events of its lifecycle go; empty: nowhere."""
    secret: str = field(repr=False)
    """`clientState`."""
    ends_at: float
    certificate: bytes = field(default=b"", repr=False)
    """DER; empty: no content is told."""
    certificate_id: str = ""
    removed: bool = False


def subscriptions(realm: Realm) -> dict[str, Subscription]:
    """Return the subscriptions by their id."""
    found: dict[str, Subscription] = realm.store.setdefault("subscriptions", {})
    return found


def stands(realm: Realm, one: Subscription) -> bool:
    """Tell whether a subscription is there at all."""
    return not one.removed and realm.now() < one.ends_at


def speaks(realm: Realm, one: Subscription) -> bool:
    """Tell whether a subscription still tells of changes."""
    over = one.grant.ended in _OVER and realm.facts["subscriptions_end_with_grant"] == "yes"
    return stands(realm, one) and not over


def mine(realm: Realm, application: str, person: str) -> list[Subscription]:
    """Return what an application asked to be told in a person's name."""
    return [one for one in subscriptions(realm).values() if (one.grant.application, one.grant.person) == (application, person)]


def notify(realm: Realm, application: Application, person: Person, event: str, url: str) -> list[Outgoing]:
    """Return the notifications of an event, for each subscription that asked for it: one request for each address.

    Raises:
        ValueError: there is no such event, or the address is not on this machine.
    """
    if event == WITHDRAWN:
        event = realm.facts["withdrawal_told"]
        if event == "nothing":
            return []
    if event in CHANGES:
        return _changed(realm, application, person, event, url)
    if event not in LIFECYCLE:
        raise ValueError(f"Microsoft's events here are {', '.join((*CHANGES, *LIFECYCLE))}.")
    bundles: dict[str, list[dict[str, Any]]] = {}
    for one in mine(realm, application.key, person.login):
        if stands(realm, one) and one.lifecycle:
            bundles.setdefault(url or one.lifecycle, []).append({**_head(realm, one), "lifecycleEvent": event})
            one.removed = event == "subscriptionRemoved"
    return [_posted(realm, event, address, {"value": items}) for address, items in bundles.items()]


def _changed(realm: Realm, application: Application, person: Person, event: str, url: str) -> list[Outgoing]:
    kind, change = CHANGES[event], event.partition(".")[2]
    bundles: dict[str, list[dict[str, Any]]] = {}
    rich: dict[str, set[str]] = {}
    for one in mine(realm, application.key, person.login):
        found = _newest(realm, person, one) if (one.kind, speaks(realm, one)) == (kind, True) and change in one.changes else None
        if found is not None:
            address = url or one.address
            bundles.setdefault(address, []).append(_item(realm, one, change, *found))
            if one.certificate:
                rich.setdefault(address, set()).add(one.tenant)
    posted = []
    for address, items in bundles.items():
        said: dict[str, Any] = {"value": items}
        if address in rich:
            said["validationTokens"] = [_validation(realm, application, tenant) for tenant in sorted(rich[address])]
        posted.append(_posted(realm, event, address, said))
    return posted


def _newest(realm: Realm, person: Person, one: Subscription) -> tuple[str, dict[str, Any]] | None:
    """Return the path and the whole of the newest thing that a subscription is about; None where there is none."""
    if one.kind == "messages":
        written = [message for message in messages(realm) if message["chatId"] == one.within]
        return (f"chats('{one.within}')/messages('{written[-1]['id']}')", written[-1]) if written else None
    for meeting in reversed(meetings(realm, person)):
        artifacts = meeting.recordings if one.kind == "recordings" else meeting.transcripts
        if artifacts and one.within in {"", meeting.id}:
            path = f"users('{person.id}')/onlineMeetings('{meeting.id}')/{one.kind}('{artifacts[-1].id}')"
            return path, described(realm, one.kind, meeting, artifacts[-1], person)
    return None


def _head(realm: Realm, one: Subscription) -> dict[str, Any]:
    said: dict[str, Any] = {"subscriptionId": one.id, "subscriptionExpirationDateTime": rfc3339(one.ends_at), "tenantId": one.tenant}
    if one.secret:
        said["clientState"] = one.secret
    if realm.facts["item_ids"] == "present":
        said["id"] = directory.guid(realm.mint.next("notification"))
    return said


def _item(realm: Realm, one: Subscription, change: str, path: str, whole: dict[str, Any]) -> dict[str, Any]:
    data = {"id": whole["id"], "@odata.type": _TYPES[one.kind], "@odata.id": path}
    said = {**_head(realm, one), "changeType": change, "resource": path, "resourceData": data}
    if one.certificate:
        said["encryptedContent"] = _encrypted(one, json.dumps(whole).encode())
    return said


def _encrypted(one: Subscription, plain: bytes) -> dict[str, str]:
    """Return content as §6.4 has it: a key for this item alone under RSA-OAEP, AES-CBC below it, and an HMAC over what came out."""
    key = os.urandom(32)
    public = public_key(one.certificate)
    sealed = public.encrypt(key, padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None))  # noqa: S303 - as Graph does (§6.4)
    padder = PKCS7(128).padder()
    cipher = Cipher(algorithms.AES(key), modes.CBC(key[:16])).encryptor()
    data = cipher.update(padder.update(plain) + padder.finalize()) + cipher.finalize()
    return {
        "data": base64.b64encode(data).decode(),
        "dataSignature": base64.b64encode(hmac.new(key, data, hashlib.sha256).digest()).decode(),
        "dataKey": base64.b64encode(sealed).decode(),
        "encryptionCertificateId": one.certificate_id,
        "encryptionCertificateThumbprint": hashlib.sha1(one.certificate).hexdigest().upper(),  # noqa: S324 - a name
    }


def public_key(certificate: bytes) -> rsa.RSAPublicKey:
    """Return the key of a certificate in DER.

    Raises:
        ValueError: it is no certificate, or its key is not RSA with 2048 to 4096 bits (§6.4).
    """
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except UnsupportedAlgorithm:
        key = None
    if not isinstance(key, rsa.RSAPublicKey) or not 2048 <= key.key_size <= 4096:  # noqa: PLR2004 - §6.4
        raise ValueError("The key is RSA, of 2048 to 4096 bits.")
    return key


def _validation(realm: Realm, application: Application, tenant: str) -> str:
    """Return a token that says who notifies, for one application and tenant (§6.4)."""
    now = int(realm.now())
    claims = {"aud": application.id, "iat": now, "nbf": now, "exp": now + _TOKEN_SECONDS, "tid": tenant}
    if realm.facts["validation_tokens"] == "v1":
        return signing.signed(OWNER, {**claims, "iss": f"https://sts.windows.net/{tenant}/", "appid": PUBLISHER, "ver": "1.0"})
    return signing.signed(OWNER, {**claims, "iss": f"{LOGIN}/{tenant}/v2.0", "azp": PUBLISHER, "ver": "2.0"})


def _posted(realm: Realm, event: str, url: str, said: dict[str, Any]) -> Outgoing:
    return Outgoing(realm.name, event, url, (("Content-Type", "application/json; charset=utf-8"),), json.dumps(said).encode())
