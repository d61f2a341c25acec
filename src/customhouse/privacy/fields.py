"""The closed lists: names that hold a person, names of personal fields, and how a name is read.

`docs/reference/privacy.md` prints these lists; a test compares. A name is read without regard to its spelling (`workEmail`,
`Work-E-Mail`, `work_email`), to a qualifier in front (`billing_phone`), to a person in front (`customer_city`) and to a number of
one or two digits behind (`phone2`).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from typing import Final

from customhouse.privacy.classes import PiiClass
from customhouse.privacy.text import plain


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


PERSON_CONTAINERS: Final = _words(
    """
    person persons people individual individuals contact contacts lead leads customer customers consumer consumers user users member
    members employee employees staff attendee attendees participant participants recipient recipients sender senders owner owners
    assignee assignees author authors creator creators organizer organizers organiser organisers guest guests invitee invitees
    inviter patient patients student students teacher teachers pupil pupils spouse coach coaches coachee coachees mentor mentors
    mentee mentees candidate candidates applicant applicants subscriber subscribers manager managers supervisor supervisors reporter
    requester requesters approver approvers reviewer reviewers speaker speakers caller callers callee signer signers signatory
    signatories cardholder account_holder beneficiary payee payer buyer shopper visitor visitors donor donors tenant_user end_user
    end_users cc bcc reply_to kontakt kontakte kunde kunden benutzer mitarbeiter persona personas pessoa pessoas personne personnes
    """
)
"""Names whose value is about a person: an object, a list of objects, or a bare value that then must be an opaque id."""

_KNOWN: Final[dict[PiiClass, str]] = {
    PiiClass.EMAIL: """
        email e_mail emails e_mails email_address e_mail_address email_addresses mail mail_address mailbox email_id
        work_email personal_email private_email home_email business_email company_email secondary_email
        correo correo_electronico courriel adresse_email indirizzo_email poczta""",
    PiiClass.PHONE: """
        phone phones phone_number phone_numbers telephone telephones telephone_number tel mobile mobiles mobile_phone
        mobile_number cell cellphone cell_phone cell_number fax fax_number landline whatsapp whatsapp_number msisdn sms_number
        telefon telefono telefone telefoon telefonnummer telefonnumer handy handynummer mobil mobilnummer movil celular cellulare
        portable telemovel""",
    PiiClass.NAME: """
        first_name last_name given_name family_name middle_name full_name surname forename maiden_name nickname
        first_names last_names vorname nachname familienname prenom nom_de_famille apellido apellidos nombre_completo cognome
        voornaam achternaam imie nazwisko sobrenome nome_completo fornamn efternamn""",
    PiiClass.ADDRESS: """
        home_address street_address postal_address mailing_address residential_address delivery_address shipping_address
        billing_address address_line street house_number strasse hausnummer""",
    PiiClass.DATE_OF_BIRTH: """
        date_of_birth dob birth_date birthdate birthday day_of_birth year_of_birth birth_year geburtsdatum geburtstag
        fecha_nacimiento fecha_de_nacimiento date_de_naissance data_di_nascita data_nascimento data_de_nascimento geboortedatum
        data_urodzenia fodelsedatum""",
    PiiClass.NATIONAL_ID: """
        national_id national_ids national_id_number ssn social_security social_security_number tax_id taxpayer_id tin itin passport
        passport_number passport_no drivers_license driver_license drivers_license_number driver_license_number driving_licence
        driving_license id_card id_card_number identity_card identity_number personal_number personal_id_number personnummer nino
        national_insurance_number nhs_number steuer_id steueridentifikationsnummer sozialversicherungsnummer nir
        numero_securite_sociale dni nie codice_fiscale bsn burgerservicenummer pesel nif cpf my_number medical_record_number
        insurance_number health_insurance_number""",
    PiiClass.BANK_ACCOUNT: """
        iban ibans bank_account bank_account_number bank_account_no sort_code routing_number kontonummer""",
    PiiClass.PAYMENT_CARD: """
        card_number credit_card credit_card_number debit_card debit_card_number cc_number card_pan cvv cvc cvv2 card_cvc card_cvv
        card_security_code kartennummer""",
    PiiClass.IP_ADDRESS: """
        ip ips ip_address ip_addresses ipv4 ipv6 ip_addr client_ip remote_ip remote_addr source_ip last_ip login_ip x_forwarded_for
        x_real_ip""",
    PiiClass.ONLINE_ID: """
        username user_name login_name screen_name skype skype_name telegram twitter twitter_handle instagram instagram_handle
        facebook linkedin linkedin_url twitter_url facebook_url instagram_url facebook_id twitter_id apple_id skype_id wechat_id
        line_id telegram_id""",
    PiiClass.CREDENTIAL: """
        password passwords passwd passphrase passwort secret secrets client_secret signing_secret webhook_secret api_key api_keys
        apikey api_secret access_token refresh_token id_token auth_token bearer_token session_token private_key secret_key
        access_key authorization authorization_header cookie set_cookie mot_de_passe contrasena""",
    PiiClass.OTHER: """
        gender sex ethnicity race nationality citizenship religion marital_status sexual_orientation political_opinion
        trade_union_membership place_of_birth birth_place birthplace diagnosis disability blood_type""",
}
KNOWN_FIELDS: Final = {name: pii_class for pii_class, names in _KNOWN.items() for name in names.split()}
"""Names that mean personal data wherever they stand."""

_PERSON_ONLY: Final[dict[PiiClass, str]] = {
    PiiClass.EMAIL: "reply_to",
    PiiClass.NAME: "name names display_name legal_name preferred_name initials salutation honorific nom nombre nome imiona",
    PiiClass.ADDRESS: "address addresses city town village district state province region county zip zip_code postcode postal_code country "
    "location adresse ort plz",
    PiiClass.ONLINE_ID: "handle handles nick login screenname avatar avatar_url photo photo_url picture profile_url website url",
    PiiClass.OTHER: "age title job_title position role department company company_name organization organisation employer salary "
    "language locale timezone time_zone bio about notes note comment",
}
PERSON_FIELDS: Final = {name: pii_class for pii_class, names in _PERSON_ONLY.items() for name in names.split()}
"""Names too common to mean a person everywhere: personal only in a person object, or behind a person's name (`customer_city`)."""

QUALIFIERS: Final = _words(
    """
    work personal private home business primary secondary main other alternate alternative office company direct emergency billing
    shipping delivery contact mobile default preferred current previous old new verified unverified masked raw hs from to
    """
)
"""Words that may stand in front of a known name without changing what it is."""

_SUFFIXES: Final = frozenset({"e164", "raw", "value", "normalized", "normalised", "formatted", "text", "string", "plain"})

NEUTRAL_FIELDS: Final = frozenset({"version", "versions", "build", "release", "firmware", "gtin", "ean", "upc", "isbn", "barcode", "sku"})
"""Names that end so hold codes that only look like numbers of a person: unformatted national phone numbers and four-part versions in
them are not taken for phones and addresses. Every other detector stays on."""

VALUE_FIELDS: Final = _words("value values raw text string plain normalized formatted address addresses primary secondary work home main")
"""Members of an object called `email` that are the address."""

_ID_NAMES: Final = frozenset({"id", "uid", "uuid", "guid"})
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_JOINTS: Final = re.compile(r"[\s_\-./:\[\]]+")
_TRAILING_NUMBER: Final = re.compile(r"(?<=[a-z])_?\d{1,2}$")
_MAX_NAME: Final = 64
_CANONICAL: Final = {name.replace("_", ""): name for name in (*PERSON_FIELDS, *PERSON_CONTAINERS, *KNOWN_FIELDS)}


def normal_name(key: str) -> str:
    """Return a key in snake_case without accents and invisible characters: `Work-EMail`, `workEMail` and `work_e_mail` are the same."""
    if not key.isascii():
        key = "".join(c for c in unicodedata.normalize("NFKD", plain(key)) if not unicodedata.combining(c))
    return _JOINTS.sub("_", _HUMP.sub("_", key)).strip("_").lower()


def canonical_name(key: str) -> str:
    """Return the name by which an allow-list knows a key: of the closed lists where they have it, else in snake_case."""
    name = normal_name(key)
    return _CANONICAL.get(name.replace("_", ""), name)


def is_known(name: str) -> bool:
    """Return whether a canonical name means personal data wherever it stands."""
    return name in KNOWN_FIELDS


@dataclass(frozen=True, slots=True)
class FieldName:
    """What a key says about its value."""

    name: str
    """The canonical name, by which allow-lists match."""
    pii_class: PiiClass | None = None
    """The class, where the name means personal data wherever it stands."""
    class_in_person: PiiClass | None = None
    """The class inside a person object."""
    container: bool = False
    """The value is about a person."""
    opaque_id: bool = False
    """The value should be an opaque id."""
    neutral: bool = False
    """One of `NEUTRAL_FIELDS`."""
    printable: bool = False
    """Each part of the key is in a closed list, so it may be printed."""
    in_person: bool = False
    """A flattened member of a person object: `person.colour`, `contact[colour]`."""


NAMELESS: Final = FieldName("")
"""A value without a name: the document itself."""
_FLAT: Final = re.compile(r"[./:\[\]]+")


def read_name(key: str) -> FieldName:
    """Return what a key says about its value; of a key longer than 64 characters, what its end says, and that it is no name to allow."""
    if len(key) > _MAX_NAME:
        return replace(read_name(key[-_MAX_NAME:]), name="", opaque_id=False, neutral=False, printable=False)
    name = canonical_name(key)
    parts = [canonical_name(part) for part in _FLAT.split(key) if part]
    in_person = len(parts) > 1 and any(part in PERSON_CONTAINERS for part in parts[:-1])
    if in_person:
        name = parts[-1]
    everywhere, behind_person = _class_of(name), _class_of(name, in_person=True)
    opaque = name in _ID_NAMES or name.endswith("_id")
    stem = name.removesuffix("_id")
    if opaque and everywhere is None and stem != name:
        everywhere = _class_of(stem)
        behind_person = behind_person or everywhere
    tail = _TRAILING_NUMBER.sub("", name)
    container = everywhere is None and not in_person and (tail in PERSON_CONTAINERS or _ends_with_container(tail))
    return FieldName(
        name=name,
        pii_class=everywhere or (behind_person if in_person else None),
        class_in_person=everywhere or behind_person,
        container=container,
        opaque_id=opaque and everywhere is None,
        neutral=name.rsplit("_", 1)[-1] in NEUTRAL_FIELDS,
        printable=key.isprintable() and _is_printable(name, len(parts)),
        in_person=in_person,
    )


def _class_of(name: str, *, in_person: bool = False) -> PiiClass | None:
    # As it stands first: `ipv4` is a name of the lists, with its number.
    bare = _TRAILING_NUMBER.sub("", name)
    found = _class_of_words(name, in_person=in_person)
    return _class_of_words(bare, in_person=in_person) if found is None and bare != name else found


def _class_of_words(name: str, *, in_person: bool) -> PiiClass | None:
    table = PERSON_FIELDS if in_person else {}
    while True:
        found = KNOWN_FIELDS.get(name) or table.get(name)
        if found is not None:
            return found
        squashed = _CANONICAL.get(name.replace("_", ""))
        if squashed is not None and squashed != name:
            name = squashed
            continue
        head, _, rest = name.partition("_")
        if rest and head in PERSON_CONTAINERS:
            table = PERSON_FIELDS
        elif not rest or head not in QUALIFIERS:
            front, _, last = name.rpartition("_")
            if not front or last not in _SUFFIXES:
                return None
            rest = front
        name = rest


def _ends_with_container(name: str) -> bool:
    front, _, last = name.rpartition("_")
    return bool(front) and last in PERSON_CONTAINERS


def _is_printable(name: str, parts: int) -> bool:
    if parts > 1:
        return False
    if name in KNOWN_FIELDS or name in PERSON_FIELDS or name in PERSON_CONTAINERS or name in _ID_NAMES:
        return True
    bare = _TRAILING_NUMBER.sub("", name)
    if bare in KNOWN_FIELDS or bare in PERSON_FIELDS:
        return True
    head, _, rest = name.partition("_")
    return bool(rest) and (head in QUALIFIERS or head in PERSON_CONTAINERS) and _is_printable(rest, 1)
