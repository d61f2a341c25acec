"""How AWS decides on a KMS request, as far as the two documents of deploy/aws use the language.

Follows the evaluation logic of the IAM user guide: an explicit deny wins, no allow is a refusal. A key policy that names a principal
lets it in by itself; an identity policy counts only where the key policy admits the account's root. What is not implemented raises:
a document that uses more than this needs a better evaluator, not a silent yes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Statement = Mapping[str, Any]
_KNOWN: Final = {"Sid", "Effect", "Principal", "Action", "NotAction", "Resource", "NotResource", "Condition"}


@dataclass(frozen=True, slots=True)
class Request:
    """One call: who, what, on which key, and the condition keys that AWS would fill."""

    principal: str
    """ARN of a user or role; a session has the ARN of its role (`aws:PrincipalArn`)."""
    action: str
    resource: str
    context: Mapping[str, str | Sequence[str]]


def allowed(request: Request, *, key_policy: Iterable[Statement], identity_policy: Iterable[Statement] = ()) -> bool:
    """Decide a request on a key, within one account."""
    of_key = [statement for statement in key_policy if applies(statement, request)]
    of_identity = [statement for statement in identity_policy if applies(statement, request)]
    if any(statement["Effect"] == "Deny" for statement in of_key + of_identity):
        return False
    admits = [statement for statement in of_key if statement["Effect"] == "Allow"]
    if any(_names(statement["Principal"], request.principal) for statement in admits):
        return True
    return bool(admits) and any(statement["Effect"] == "Allow" for statement in of_identity)


def applies(statement: Statement, request: Request) -> bool:
    """Tell whether a statement speaks about this request."""
    unknown = set(statement) - _KNOWN
    if unknown or statement["Effect"] not in {"Allow", "Deny"}:
        raise NotImplementedError(f"the evaluator does not know {sorted(unknown) or statement['Effect']}")
    if "Principal" in statement and not _admits(statement["Principal"], request.principal):
        return False
    return (
        _matches(statement, "Action", request.action, ignore_case=True)
        and _matches(statement, "Resource", request.resource, ignore_case=False)
        and all(
            _holds(operator, key, _listed(values), request.context)
            for operator, block in statement.get("Condition", {}).items()
            for key, values in block.items()
        )
    )


def _names(principal: Any, arn: str) -> bool:
    return principal == "*" or arn in _listed(principal["AWS"]) or "*" in _listed(principal["AWS"])


def _admits(principal: Any, arn: str) -> bool:
    if principal != "*" and set(principal) != {"AWS"}:
        raise NotImplementedError(f"the evaluator knows AWS principals only, not {principal}")
    account = arn.split(":")[4]
    return _names(principal, arn) or bool({account, f"arn:aws:iam::{account}:root"} & set(_listed(principal["AWS"])))


def _matches(statement: Statement, word: str, value: str, *, ignore_case: bool) -> bool:
    negated = f"Not{word}" in statement
    if negated == (word in statement):
        raise ValueError(f"a statement has exactly one of {word} and Not{word}")
    patterns = _listed(statement[f"Not{word}" if negated else word])
    return negated != any(_like(pattern, value, ignore_case=ignore_case) for pattern in patterns)


def _holds(operator: str, key: str, expected: Sequence[str], context: Mapping[str, str | Sequence[str]]) -> bool:
    # Names of condition keys are not case-sensitive.
    found = {name.lower(): value for name, value in context.items()}.get(key.lower())
    if operator == "Null":
        return any((found is None) == (value == "true") for value in expected)
    if operator == "ForAllValues:StringEquals":
        # True also where the key is missing: the reason for a Null condition beside it.
        return all(value in expected for value in _listed(found or ()))
    if found is not None and not isinstance(found, str):
        raise NotImplementedError(f"{operator} on the multivalued key {key}")
    match operator:
        case "StringEquals":
            return found is not None and found in expected
        case "StringNotEquals":
            return found is None or found not in expected
        case "StringLike":
            return found is not None and any(_like(pattern, found, ignore_case=False) for pattern in expected)
        case "Bool":
            return found is not None and found.lower() in [value.lower() for value in expected]
        case _:
            raise NotImplementedError(f"the evaluator does not know {operator}")


def _like(pattern: str, value: str, *, ignore_case: bool) -> bool:
    expression = "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern)
    return re.fullmatch(expression, value, re.DOTALL | (re.IGNORECASE if ignore_case else 0)) is not None


def _listed(value: str | Iterable[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
