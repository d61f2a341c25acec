"""What a pasted key may do: its shape, the answers to harmless calls, and what they prove. Nothing is believed that was not shown.

There is no call that lists a key's permissions (`providers.manifest.RestrictedKey`), so each is tried: what is needed has to answer, and
what must not be held has to be refused for want of a permission. Every other answer is a doubt, and a doubt is never taken for a proof.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from http import HTTPStatus
from typing import Final

from customhouse.connections.speaking import Speaker
from customhouse.egress.fetching import Reply
from customhouse.errors import CredentialRefused, Fault
from customhouse.metrics import KEY_PROBES, Metrics
from customhouse.providers import calls
from customhouse.providers.failures import Failure, classify, read
from customhouse.providers.manifest import Probe, Provider, RestrictedKey
from customhouse.providers.members import text_at
from customhouse.providers.replies import Account, account_in_refusal, parse_identity
from customhouse.providers.vocabulary import Kind, Reason, Step
from customhouse.types import Secret

_AT_ONCE: Final = 4
"""Probes of one key under way at a time: sandboxes of providers take few calls a second."""
_LONGEST_MESSAGE: Final = 2048
POINTER: Final = "/credentials/api_key"


class Outcome(StrEnum):
    """What one probe showed."""

    MAY = "may"
    LACKS = "lacks"
    DEAD = "dead"
    """The provider does not accept the key at all."""
    DOUBT = "doubt"


@dataclass(frozen=True, slots=True)
class Seen:
    """One probe's outcome; `account` is whom the refusal named, `why` the code of a doubt or of a dead key."""

    outcome: Outcome
    account: str | None = None
    why: str | None = None


class Verdict(StrEnum):
    """What all probes of a key come to; the worst that is certain, before what is not."""

    WIDER = "wider"
    """It may do something that it must not."""
    DEAD = "dead"
    DOUBT = "doubt"
    NARROWER = "narrower"
    """Something is missing."""
    FIT = "fit"


@dataclass(frozen=True, slots=True)
class Findings:
    """What the probes of one key showed.

    Attributes:
        verdict: what they come to.
        granted: the permissions that answered, in the manifest's order.
        missing: those that were refused.
        wider: the patterns of what it may and must not.
        account: whose key it is; None: nothing said so.
        why: the code of a doubt, or of a dead key.
    """

    verdict: Verdict
    granted: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    wider: tuple[str, ...] = ()
    account: Account | None = None
    why: str | None = None


def check_shape(provider: Provider, auth: RestrictedKey, key: str, *, live: bool, test: bool) -> None:
    """Refuse what is not a key of the right kind, before anything is sent or stored.

    Args:
        provider: whose key it is said to be.
        auth: its manifest.
        key: what was pasted.
        live: whether keys for real money are taken here.
        test: whether keys for test data are.

    Raises:
        CredentialRefused: with what to do; nothing of the key is repeated.
    """
    for one in auth.refused:
        if key.startswith(one.prefix):
            raise _refused(f"This is not a restricted key. {one.why} {_how(auth)}")
    if re.fullmatch(auth.pattern, key, re.ASCII) is None:
        raise _refused(f"This is not a key of {provider.name}. A key is {auth.looks}, without blanks. {_how(auth)}")
    if not live and key.startswith(auth.live_prefix):
        raise _refused(f"Keys for real money are not taken in a dev environment: use one that begins with {auth.test_prefix}.")
    if not test and key.startswith(auth.test_prefix):
        raise _refused(
            f"Keys for test data are not taken here: use one that begins with {auth.live_prefix}, "
            "or let the operator set CUSTOMHOUSE_ALLOW_TEST_KEYS."
        )


def check_webhook_secret(provider: Provider, auth: RestrictedKey, secret: str) -> None:
    """Refuse what is not the signing secret of a webhook endpoint at this provider.

    Raises:
        CredentialRefused: nothing of the secret is repeated.
    """
    if not auth.webhook_pattern or re.fullmatch(auth.webhook_pattern, secret, re.ASCII) is None:
        what = f"This is not the signing secret of a webhook endpoint at {provider.name}: copy it from the endpoint's own page."
        raise CredentialRefused(what, (Fault("/credentials/webhook_secret", "is not of the form that is needed"),))


def judge(provider: Provider, auth: RestrictedKey, reply: Reply) -> Seen:
    """Say what the answer to one probe shows."""
    if reply.status is None or reply.error is not None:
        return Seen(Outcome.DOUBT, why="provider_unavailable")
    body, answers = read(reply.body), auth.answers
    if reply.status == HTTPStatus.OK:
        # A page of a proxy is no answer of the provider's, whatever its status.
        return Seen(Outcome.MAY) if text_at(body, answers.good) else Seen(Outcome.DOUBT, why="reply_unreadable")
    failure = classify(provider, Step.API, reply.status, reply.body)
    if failure.kind is Kind.TRANSIENT:
        return Seen(Outcome.DOUBT, why=str(failure.reason))
    if text_at(body, answers.kind) not in answers.kinds:
        return Seen(Outcome.DOUBT, why="reply_unreadable")
    if reply.status == HTTPStatus.UNAUTHORIZED:
        return Seen(Outcome.DEAD, why=str(failure.reason))
    if reply.status == HTTPStatus.FORBIDDEN:
        said = (text_at(body, answers.message) or "")[:_LONGEST_MESSAGE]
        if re.search(answers.lacking, said, re.ASCII) is None:
            return Seen(Outcome.DOUBT, why="refusal_unclear")
        named = account_in_refusal(provider, reply.body)
        return Seen(Outcome.LACKS, None if named is None else named.id)
    # The call was let in and found wanting: whoever may not is refused before that.
    return Seen(Outcome.MAY, why="refused_otherwise")


def weigh(auth: RestrictedKey, seen: Iterable[tuple[Probe, Seen]]) -> Findings:
    """Say what the probes of a key come to, all of them or as far as they went.

    A list that is needed must answer well; that it was refused for another reason than a permission proves nothing. What must not be held
    counts as held by every answer that is neither a refusal for want of a permission nor a doubt.
    """
    judged = list(seen)
    forbidden = set(auth.forbidden)
    outcomes = {probe: one.outcome for probe, one in judged}
    wider = tuple(dict.fromkeys(probe.shows for probe in auth.forbidden if outcomes.get(probe) is Outcome.MAY))
    named = {one.account for _, one in judged if one.account is not None}
    account = Account(next(iter(named)), next(iter(named))) if len(named) == 1 else None
    if wider:
        return Findings(Verdict.WIDER, wider=wider, account=account)
    dead = [one for _, one in judged if one.outcome is Outcome.DEAD]
    if dead and len(dead) == len(judged):
        return Findings(Verdict.DEAD, why=dead[0].why)
    doubts = [one.why for _, one in judged if one.outcome in {Outcome.DOUBT, Outcome.DEAD}]
    doubts += [one.why for probe, one in judged if probe not in forbidden and probe.method == "GET" and one.why == "refused_otherwise"]
    if doubts or len(named) > 1 or not outcomes.keys() >= {*auth.allowed, *auth.forbidden}:
        return Findings(Verdict.DOUBT, account=account, why=doubts[0] if doubts else "answers_differ")
    shown = dict.fromkeys(probe.shows for probe in auth.allowed)
    missing = tuple(name for name in shown if any(outcomes[probe] is Outcome.LACKS for probe in auth.allowed if probe.shows == name))
    granted = tuple(name for name in shown if name not in missing)
    return Findings(Verdict.NARROWER if missing else Verdict.FIT, granted, missing, account=account)


class Prober:
    """Tries keys at their provider. It holds no database connection, and nothing that it learns but the findings."""

    def __init__(self, speaker: Speaker, metrics: Metrics) -> None:
        """Take the way out, and where it is counted."""
        self._speaker = speaker
        self._metrics = metrics

    async def probe(self, provider: Provider, auth: RestrictedKey, key: Secret) -> Findings:
        """Make every probe, and ask whose key it is; the first alone, so that a dead key costs one call."""
        found = await self._found(provider, auth, key)
        self._metrics.counter(KEY_PROBES, outcome=found.verdict.value).inc()
        return found

    async def _found(self, provider: Provider, auth: RestrictedKey, key: Secret) -> Findings:
        first, rest = auth.allowed[0], (*auth.allowed[1:], *auth.forbidden)
        seen = [(first, await self._one(provider, auth, first, key))]
        if seen[0][1].outcome in {Outcome.DEAD, Outcome.DOUBT}:
            return weigh(auth, seen)
        places = asyncio.Semaphore(_AT_ONCE)

        async def one(probe: Probe) -> tuple[Probe, Seen]:
            async with places:
                return probe, await self._one(provider, auth, probe, key)

        seen += await asyncio.gather(*map(one, rest))
        found = weigh(auth, seen)
        if found.verdict not in {Verdict.FIT, Verdict.NARROWER}:
            return found
        return await self._identified(provider, found, key)

    async def _one(self, provider: Provider, auth: RestrictedKey, probe: Probe, key: Secret) -> Seen:
        return judge(provider, auth, await self._speaker.ask(provider, calls.key_probe(provider, probe, key=key)))

    async def _identified(self, provider: Provider, found: Findings, key: Secret) -> Findings:
        """Add who the account is, as far as the key may know; what its refusals said has to agree."""
        reply = await self._speaker.ask(provider, calls.key_identity(provider, key=key))
        told = (
            Failure(Kind.TRANSIENT, Reason.UNAVAILABLE)
            if reply.status is None or reply.error
            else parse_identity(provider, reply.status, reply.body)
        )
        if isinstance(told, Failure):
            if found.account is not None:
                return found
            away = told.kind is Kind.TRANSIENT
            return replace(found, verdict=Verdict.DOUBT, why=str(told.reason) if away else "account_unknown")
        if found.account is not None and found.account.id != told.id:
            return replace(found, verdict=Verdict.DOUBT, account=None, why="answers_differ")
        return replace(found, account=told)


def listed(names: Sequence[str]) -> str:
    """Return names for a sentence."""
    return ", ".join(names)


def refuse_unfit(provider: Provider, auth: RestrictedKey, found: Findings) -> None:
    """Refuse a key that may not be kept.

    Raises:
        CredentialRefused: it may too much or too little, or the provider does not know it.
    """
    if found.verdict is Verdict.WIDER:
        faults = tuple(Fault(POINTER, f"may do what {name} allows, and must not") for name in found.wider)
        raise _refused(f"This key may do more than is needed, so it was not kept: set {listed(found.wider)} to None. {_how(auth)}", faults)
    if found.verdict is Verdict.DEAD:
        raise _refused(f"{provider.name} does not accept this key: it was deleted, has run out, or was not copied whole. {_how(auth)}")
    if found.verdict is Verdict.NARROWER:
        faults = tuple(Fault(POINTER, f"lacks {name}") for name in found.missing)
        raise _refused(f"This key may not do what is needed: give it {listed(found.missing)}. {_how(auth)}", faults)


def _how(auth: RestrictedKey) -> str:
    return f"A key with just the right permissions is made at {auth.create_url}"


def _refused(what: str, faults: tuple[Fault, ...] = ()) -> CredentialRefused:
    return CredentialRefused(what, faults or (Fault(POINTER, "is not acceptable"),))
