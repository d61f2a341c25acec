"""The classes of personal data: the closed vocabulary of field lists, detectors and event type declarations."""

from __future__ import annotations

from enum import StrEnum, unique


@unique
class PiiClass(StrEnum):
    """What a piece of personal data is. The value is the word used in an event type's `pii` member."""

    EMAIL = "email"
    PHONE = "phone"
    NAME = "name"
    ADDRESS = "address"
    DATE_OF_BIRTH = "date_of_birth"
    NATIONAL_ID = "national_id"
    BANK_ACCOUNT = "bank_account"
    PAYMENT_CARD = "payment_card"
    IP_ADDRESS = "ip_address"
    ONLINE_ID = "online_id"
    CREDENTIAL = "credential"
    OTHER = "other"
    PERSON = "person"


CLASS_NAMES = frozenset(str(pii_class) for pii_class in PiiClass)
"""The words themselves."""

MEANING: dict[PiiClass, str] = {
    PiiClass.EMAIL: "an e-mail address",
    PiiClass.PHONE: "a telephone, mobile or fax number",
    PiiClass.NAME: "a name of a person",
    PiiClass.ADDRESS: "a postal address or a part of one",
    PiiClass.DATE_OF_BIRTH: "a date of birth",
    PiiClass.NATIONAL_ID: "a number that a state gave a person: social security, tax, passport, licence, health",
    PiiClass.BANK_ACCOUNT: "an IBAN or another bank account number",
    PiiClass.PAYMENT_CARD: "a payment card number, or its security code",
    PiiClass.IP_ADDRESS: "an IP address, version 4 or 6",
    PiiClass.ONLINE_ID: "a user name or a social handle",
    PiiClass.CREDENTIAL: "a secret: API key, token, private key, password; never let out, whatever the allow-list says",
    PiiClass.OTHER: "anything else about a person",
    PiiClass.PERSON: "a whole object about a person: only allow-listed fields and opaque ids in it pass",
}
"""One line per class, as printed in `docs/reference/privacy.md`."""
