"""The checks, numbered, and the judgement over one provider.

`customhouse provider check` runs them on a providers file; the tests run them on the catalogue with recorded replies, and prove each one
with a provider that breaks it. A message says what is wrong and what to write.
"""

from __future__ import annotations

from typing import Final

from customhouse.providers.contract import facts, replies, speech
from customhouse.providers.contract.subject import DEMANDS, Check, Fault, Subject

CHECKS: Final = (
    Check(1, "the manifest names itself", facts.judge_name),
    Check(2, "every address is https, on declared hosts", facts.judge_places),
    Check(3, "scopes are declared with reasons, and none is also forbidden", facts.judge_scopes),
    Check(4, "authorization requests carry state, challenge, redirect and scopes of their own", speech.judge_authorization),
    Check(5, "recorded replies are understood", replies.judge_replies),
    Check(6, "recorded failures concern whom they should", replies.judge_failures),
    # 7 to 10 judge webhooks, events and actions.
    Check(11, "what crosses is declared", facts.judge_flows),
    Check(12, "secrets do not show, and grants can be ended", speech.judge_secrets),
    Check(13, "recordings are invented and say where they are from", replies.judge_material),
)
"""Numbered as in the house's table of checks; 14 (the page) and 15 (exemptions) need more than one provider or all of the others."""


def judge(subject: Subject) -> tuple[Fault, ...]:
    """Return everything in which a provider breaks the contract, in the order of the checks; empty: it holds."""
    found = [Fault(check.number, detail, demand) for check in CHECKS for detail, demand in check.judge(subject)]
    exempt = {one.demand for one in subject.provider.exempt}
    unmet = {fault.demand for fault in found}
    kept = [fault for fault in found if not fault.demand or fault.demand not in exempt]
    for one in subject.provider.exempt:
        if one.demand not in DEMANDS:
            kept.append(Fault(15, f"there is no demand `{one.demand}` to be exempt from: use one of {', '.join(DEMANDS)}"))
        elif one.demand not in unmet:
            kept.append(Fault(15, f"the exemption from `{one.demand}` is not needed any more: remove it"))
        elif not one.reason.strip():
            kept.append(Fault(15, f"the exemption from `{one.demand}` gives no reason"))
    return tuple(sorted(kept, key=lambda fault: fault.number))
