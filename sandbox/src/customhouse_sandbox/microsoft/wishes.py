"""What a subscription to changes must be (§6.4): addresses on this machine, an end that is near enough, a certificate that fits."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any, Final

from customhouse_sandbox.microsoft import hooks
from customhouse_sandbox.microsoft.hooks import Subscription
from customhouse_sandbox.outgoing import is_here
from customhouse_sandbox.state import Realm

_ALONE_SECONDS: Final = 3600
"""How far ahead a subscription may end that tells nobody of its lifecycle."""
_LONGEST_SECRET: Final = 128
_CHANGES: Final = {"recordings": {"created"}, "transcripts": {"created"}, "messages": {"created", "updated", "deleted"}}


def wrong(realm: Realm, said: dict[str, Any], kind: str) -> str:
    """Return what is wrong with the wish for a subscription to a kind of thing; empty: nothing."""
    changes, secret = said.get("changeType"), said.get("clientState", "")
    if not isinstance(changes, str) or not set(changes.split(",")) <= _CHANGES[kind]:
        return f"The changeType is one or more of {', '.join(sorted(_CHANGES[kind]))}."
    if not isinstance(secret, str) or len(secret) > _LONGEST_SECRET:
        return f"The clientState has at most {_LONGEST_SECRET} characters."
    lifecycle = said.get("lifecycleNotificationUrl", "")
    if not _is_address(said.get("notificationUrl")) or not (lifecycle == "" or _is_address(lifecycle)):
        return "The notification addresses are on this machine: http://127.0.0.1:PORT/…"
    if ended := _wrong_end(realm, said.get("expirationDateTime"), alone=lifecycle == ""):
        return ended
    return _wrong_certificate(said) if said.get("includeResourceData") else ""


def _is_address(value: Any) -> bool:
    # Graph wants https; the sandbox wants plain HTTP on this machine, and nothing else.
    return isinstance(value, str) and is_here(value)


def _wrong_end(realm: Realm, value: Any, *, alone: bool) -> str:
    end = moment(value)
    left = end - realm.now()
    if left <= 0:
        return "The expirationDateTime is a moment of the future."
    if left > float(realm.facts["subscription_minutes"]) * 60:
        return "The expirationDateTime is further ahead than this resource allows."
    if alone and left > _ALONE_SECONDS:
        return "A lifecycleNotificationUrl is needed on this resource when the expirationDateTime is more than 1 hour ahead."
    return ""


def moment(value: Any) -> float:
    """Return an RFC 3339 moment; 0 where it is none."""
    try:
        found = datetime.fromisoformat(value)
        return 0.0 if found.tzinfo is None else found.timestamp()
    except (TypeError, ValueError, OverflowError):
        return 0.0


def _wrong_certificate(said: dict[str, Any]) -> str:
    name, text = said.get("encryptionCertificateId"), said.get("encryptionCertificate")
    if said["includeResourceData"] is not True or not isinstance(name, str) or not 0 < len(name) <= _LONGEST_SECRET:
        return f"includeResourceData is true or false; an encryptionCertificateId has 1 to {_LONGEST_SECRET} characters."
    try:
        hooks.public_key(base64.b64decode(text if isinstance(text, str) else "", validate=True))
    except ValueError:
        return "The encryptionCertificate is base64 of a certificate in DER, with an RSA key of 2048 to 4096 bits."
    return ""


def wrong_change(realm: Realm, one: Subscription, said: dict[str, Any]) -> str:
    """Return what is wrong with a change of a subscription; empty: nothing."""
    known = {"expirationDateTime", "notificationUrl", "encryptionCertificate", "encryptionCertificateId"}
    if not said or not set(said) <= known:
        return f"What can be changed is {', '.join(sorted(known))}."
    if "notificationUrl" in said and not _is_address(said["notificationUrl"]):
        return "The notification address is on this machine: http://127.0.0.1:PORT/…"
    if "expirationDateTime" in said and (ended := _wrong_end(realm, said["expirationDateTime"], alone=not one.lifecycle)):
        return ended
    if {"encryptionCertificate", "encryptionCertificateId"} & set(said):
        return _wrong_certificate({**said, "includeResourceData": bool(one.certificate)})
    return ""
