"""The only outbound connector: what is dialled was vetted first, and what comes back is bounded.

`targets` reads an URL, `resolver` vets every answer of the DNS (`addresses`), `clients` pins one HTTP client to the vetted address,
`client.Egress` posts and reports an `Outcome`.
"""

from customhouse.egress.addresses import Allow, vet
from customhouse.egress.client import Egress
from customhouse.egress.clients import ClientOptions
from customhouse.egress.identities import Identity, identity_of
from customhouse.egress.outcomes import FAILURES, Failure, Outcome
from customhouse.egress.targets import Target, parse_target

__all__ = ["FAILURES", "Allow", "ClientOptions", "Egress", "Failure", "Identity", "Outcome", "Target", "identity_of", "parse_target", "vet"]
