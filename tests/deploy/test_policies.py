"""The two documents of deploy/aws let the Integration Service role use the key in context, and nobody do anything else.

Each statement is judged by itself against a plain description of when it should speak, so that none hides behind another; the documents
are judged whole. Every way to drop, widen, narrow or turn a part of them must then be noticed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, Final

import pytest
from tests.deploy.policy_evaluator import Request, allowed, applies

DEPLOY: Final = Path(__file__).parents[2] / "deploy" / "aws"
DOCUMENTS: Final = {name: json.loads((DEPLOY / f"{name}-policy.json").read_text(encoding="utf-8"))["Statement"] for name in ("key", "iam")}

ACCOUNT: Final = "arn:aws:iam::111122223333:"
SERVICE: Final = f"{ACCOUNT}role/customhouse-integration-service"
KEEPER: Final = f"{ACCOUNT}role/customhouse-key-administrator"
OTHERS: Final = (
    f"{ACCOUNT}role/database-administrator",
    f"{ACCOUNT}role/AdministratorAccess",
    f"{ACCOUNT}user/customhouse-integration-service",
    f"{ACCOUNT}root",
    "arn:aws:iam::444455556666:role/customhouse-integration-service",
)
KEY: Final = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
KEYS: Final = (
    KEY,
    KEY.replace("1234abcd", "5678abcd"),
    KEY.replace("eu-central-1", "us-east-1"),
    KEY.replace("111122223333", "444455556666"),
)

USE: Final = ("kms:Decrypt", "kms:GenerateDataKey")
NEVER: Final = (
    "kms:Encrypt",
    "kms:GenerateDataKeyPair",
    "kms:GenerateDataKeyPairWithoutPlaintext",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
    "kms:CreateGrant",
)
MANAGE: Final = (
    "kms:DescribeKey",
    "kms:GetKeyPolicy",
    "kms:GetKeyRotationStatus",
    "kms:ListGrants",
    "kms:ListResourceTags",
    "kms:EnableKey",
    "kms:DisableKey",
    "kms:EnableKeyRotation",
    "kms:RevokeGrant",
    "kms:CancelKeyDeletion",
    "kms:TagResource",
    "kms:UntagResource",
    "kms:UpdateKeyDescription",
)
WITH_SECOND_FACTOR: Final = ("kms:PutKeyPolicy", "kms:ScheduleKeyDeletion")
FOREIGN: Final = ("kms:ReplicateKey", "kms:ImportKeyMaterial", "kms:DisableKeyRotation", "kms:UpdateAlias")
ACTIONS: Final = (*USE, *NEVER, *MANAGE, *WITH_SECOND_FACTOR, *FOREIGN)

RIGHT: Final = {"environment": "prod", "purpose": "tenant-key", "tenant_id": "acme"}
CONTEXTS: Final = (
    RIGHT,
    {**RIGHT, "tenant_id": "other"},
    {**RIGHT, "purpose": "check"},
    {},
    {**RIGHT, "environment": "dev"},
    {**RIGHT, "purpose": "payload"},
    {**RIGHT, "more": "x"},
    {**RIGHT, "Tenant_Id": "acme"},
    {"environment": "prod", "purpose": "tenant-key", "Tenant_Id": "acme"},
    *({name: value for name, value in RIGHT.items() if name != missing} for missing in RIGHT),
)


@dataclass(frozen=True, slots=True)
class Situation:
    """One request, described so that the expectation can be written without the language of policies."""

    principal: str
    action: str
    key: str
    encryption_context: Mapping[str, str]
    second_factor: bool

    @property
    def in_context(self) -> bool:
        """The encryption context is what the service sends."""
        context = self.encryption_context
        return set(context) == set(RIGHT) and context["environment"] == "prod" and context["purpose"] in ("tenant-key", "check")

    def request(self) -> Request:
        """Fill the condition keys as AWS does."""
        context: dict[str, str | Sequence[str]] = {"aws:PrincipalArn": self.principal}
        for name, value in self.encryption_context.items():
            context[f"kms:EncryptionContext:{name}"] = value
        if self.encryption_context:
            context["kms:EncryptionContextKeys"] = list(self.encryption_context)
        if self.second_factor:
            context["aws:MultiFactorAuthPresent"] = "true"
        return Request(self.principal, self.action, self.key, context)


def situations() -> Iterator[Situation]:
    """Everybody, every action; contexts and keys vary where the action uses a key, the second factor where it manages one."""
    for principal, action in product((SERVICE, KEEPER, *OTHERS), ACTIONS):
        using = action in USE
        for context, key in product(CONTEXTS, KEYS) if using else product(({}, RIGHT), KEYS[:2]):
            for second_factor in (False,) if using else (False, True):
                yield Situation(principal, action, key, context, second_factor)
    yield Situation(SERVICE, "s3:GetObject", "arn:aws:s3:::exports/2026.csv", {}, second_factor=False)


SITUATIONS: Final = tuple((situation, situation.request()) for situation in situations())


# What the documents should say ----------------------------------------------------------------------------------------------

Says = Callable[[Situation], bool]
SAYS: Final[Mapping[str, Mapping[str, tuple[str, Says]]]] = {
    "key": {
        "TheIntegrationServiceUsesTheKeyInContext": ("Allow", lambda s: s.principal == SERVICE and s.action in USE and s.in_context),
        "KeyAdministratorsManageTheKey": ("Allow", lambda s: s.principal == KEEPER and s.action in MANAGE),
        "KeyAdministratorsChangeThePolicyOrEndTheKeyWithASecondFactor": (
            "Allow",
            lambda s: s.principal == KEEPER and s.action in WITH_SECOND_FACTOR and s.second_factor,
        ),
        "NobodyElseUsesTheKeyWhateverIsAllowedElsewhere": ("Deny", lambda s: s.action in USE and s.principal != SERVICE),
        # Names of condition keys are not case-sensitive, so a Tenant_Id passes here; the Allow refuses it.
        "NobodyUsesItWithoutATenant": (
            "Deny",
            lambda s: s.action in USE and not {"tenant_id", "Tenant_Id"} & set(s.encryption_context),
        ),
        "NobodyUsesItForAnotherEnvironment": ("Deny", lambda s: s.action in USE and s.encryption_context.get("environment") != "prod"),
        "NobodyMovesWhatItWrappedNorHandsItOn": ("Deny", lambda s: s.action in NEVER),
    },
    "iam": {
        "UseTheRootKeyInContext": ("Allow", lambda s: s.action in USE and s.key == KEY and s.in_context),
        "UseNoOtherKey": ("Deny", lambda s: s.action in USE and s.key != KEY),
        "NothingElseWithKeysWhateverIsAllowedElsewhere": ("Deny", lambda s: s.action.startswith("kms:") and s.action not in USE),
    },
}


# Judging a document ---------------------------------------------------------------------------------------------------------

EVERYTHING: Final = {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}
Statements = Sequence[Mapping[str, Any]]


@lru_cache(maxsize=1000)
def speaks(statement: str) -> tuple[bool, ...]:
    """Return about which situations a statement, given as JSON, speaks."""
    parsed = json.loads(statement)
    return tuple(applies(parsed, request) for _, request in SITUATIONS)


def faults(name: str, statements: Statements) -> Iterator[str]:
    """Yield where a document says something else than it should."""
    if [statement["Sid"] for statement in statements] != list(SAYS[name]):
        yield "other statements"
        return
    for statement, (effect, says) in zip(statements, SAYS[name].values(), strict=True):
        if statement["Effect"] != effect:
            yield f"{statement['Sid']}: effect"
        for (situation, _), spoke in zip(SITUATIONS, speaks(json.dumps(statement)), strict=True):
            if spoke != says(situation):
                yield f"{statement['Sid']}: {situation}"


# Changing a document ----------------------------------------------------------------------------------------------------------


def mutations(statements: Statements) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield every way to drop, widen, narrow or turn one part of a document, with its label."""
    for place, original in enumerate(statements):
        yield f"{original['Sid']}: dropped", [dict(s) for s in statements if s is not original]
        for label, changed in variants(original):
            yield f"{original['Sid']}: {label}", [changed if at == place else dict(s) for at, s in enumerate(statements)]


def variants(statement: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the changes of one statement."""
    yield "effect turned", {**statement, "Effect": "Deny" if statement["Effect"] == "Allow" else "Allow"}
    for word in ("Action", "NotAction"):
        for action in statement.get(word, ()):
            yield f"without {action}", {**statement, word: [other for other in statement[word] if other != action]}
        if word in statement:
            yield "every action", {**statement, word: ["kms:*"]}
            yield "one action more", {**statement, word: [*statement[word], "kms:ReplicateKey"]}
    for word, others in (
        ("Principal", ("*", f"{ACCOUNT}root", *OTHERS[:1])),
        ("Resource", ("*", KEYS[1])),
        ("NotResource", ("*", KEYS[1])),
    ):
        for other in others:
            if word in statement and statement[word] != other:
                yield f"{word} {other}", {**statement, word: {"AWS": other} if word == "Principal" else other}
    for label, condition in conditions(statement.get("Condition", {})):
        yield label, {**statement, "Condition": condition}


def conditions(condition: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the changes of a condition block."""
    for operator, block in condition.items():
        rest = {name: dict(found) for name, found in condition.items() if name != operator}
        yield f"without {operator}", rest
        for key, values in block.items():
            others = {name: value for name, value in block.items() if name != key}
            yield f"without {operator} {key}", {**rest, operator: others}
            for other in other_values(operator, values):
                yield f"{operator} {key} = {other}", {**rest, operator: {**others, key: other}}
            if operator in {"StringEquals", "StringNotEquals"}:
                opposite = "StringNotEquals" if operator == "StringEquals" else "StringEquals"
                yield f"{opposite} {key}", {**rest, operator: others, opposite: {key: values}}
                yield f"StringLike {key} = *", {**rest, operator: others, "StringLike": {key: "*"}}


def other_values(operator: str, values: str | list[str]) -> list[str | list[str]]:
    """Return values that mean something else."""
    if operator in {"Null", "Bool"}:
        return ["false" if values == "true" else "true"]
    listed = [values] if isinstance(values, str) else values
    fewer: list[str | list[str]] = [[value for value in listed if value != without] for without in listed] if len(listed) > 1 else []
    return [*fewer, *[[*listed, more] for more in ("dev", "payload", "more", "Tenant_Id", OTHERS[0]) if more_matters(more, listed)]]


def more_matters(more: str, listed: Sequence[str]) -> bool:
    """Tell whether a further value is of the kind that is listed."""
    kinds = (
        {"prod", "dev"},
        {"tenant-key", "check", "payload"},
        {"environment", "purpose", "tenant_id", "more", "Tenant_Id"},
        {SERVICE, OTHERS[0]},
    )
    return any(more in kind and set(listed) <= kind for kind in kinds)


MUTATIONS: Final = [(name, label, changed) for name, document in DOCUMENTS.items() for label, changed in mutations(document)]


# Tests ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_decides_every_situation_as_it_should(name: str) -> None:
    assert list(faults(name, DOCUMENTS[name])) == []


@pytest.mark.parametrize(("name", "label", "changed"), MUTATIONS, ids=[f"{name} {label}" for name, label, _ in MUTATIONS])
def test_every_change_of_a_document_is_noticed(name: str, label: str, changed: list[dict[str, Any]]) -> None:
    assert changed != DOCUMENTS[name]
    assert next(faults(name, changed), None) is not None, f"nobody notices: {label}"


def decide(principal: str, action: str, context: Mapping[str, str], key: str = KEY, *, second_factor: bool = False) -> bool:
    """Decide with both documents, and an identity policy that allows everything to everybody but the service."""
    identity = DOCUMENTS["iam"] if principal == SERVICE else [EVERYTHING]
    request = Situation(principal, action, key, context, second_factor).request()
    return allowed(request, key_policy=DOCUMENTS["key"], identity_policy=identity)


@pytest.mark.parametrize("action", USE)
@pytest.mark.parametrize("tenant", ["acme", "other", "_platform"])
def test_the_service_uses_the_key_for_a_tenant(action: str, tenant: str) -> None:
    assert decide(SERVICE, action, {**RIGHT, "tenant_id": tenant})


@pytest.mark.parametrize("context", [context for context in CONTEXTS if context not in CONTEXTS[:3]])
def test_without_the_right_context_not_even_the_service_uses_the_key(context: Mapping[str, str]) -> None:
    assert not any(decide(SERVICE, action, context) for action in USE)


@pytest.mark.parametrize("principal", [KEEPER, *OTHERS])
def test_administrators_of_the_database_the_account_and_the_key_never_decrypt(principal: str) -> None:
    for action, context, second_factor in product((*USE, *NEVER), CONTEXTS, (False, True)):
        assert not decide(principal, action, context, second_factor=second_factor)


def test_the_service_manages_no_key_and_uses_no_other() -> None:
    assert not any(decide(SERVICE, action, RIGHT, second_factor=True) for action in ACTIONS if action not in USE)
    assert not any(decide(SERVICE, action, RIGHT, key) for action, key in product(USE, KEYS[1:]))


def test_the_documents_ask_for_the_context_that_the_service_sends() -> None:
    """The code and the documents name the same three keys and the same purposes."""
    from customhouse.crypto.kms import check_context
    from customhouse.vault.roots import PURPOSE

    assert decide(SERVICE, "kms:GenerateDataKey", check_context("prod"))
    assert decide(SERVICE, "kms:GenerateDataKey", {**check_context("prod"), "purpose": PURPOSE})


def test_there_are_enough_mutations_to_mean_something() -> None:
    assert len(MUTATIONS) > 100


@pytest.mark.parametrize(
    "statement",
    [
        {"Effect": "Allow", "Action": "kms:*", "Resource": "*", "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}},
        {"Effect": "Allow", "Action": "kms:*", "Resource": "*", "NotPrincipal": {"AWS": SERVICE}},
        {"Effect": "Allow", "Action": "kms:*", "Resource": "*", "Principal": {"Service": "lambda.amazonaws.com"}},
        {"Effect": "Maybe", "Action": "kms:*", "Resource": "*"},
    ],
    ids=["operator", "element", "principal", "effect"],
)
def test_what_the_evaluator_does_not_know_it_does_not_judge(statement: Mapping[str, Any]) -> None:
    with pytest.raises(NotImplementedError):
        applies(statement, SITUATIONS[0][1])
