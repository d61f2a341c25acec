"""Invented people and numbers in twelve locales, for the labelled corpus.

Nobody here exists. Domains are those of RFC 2606. Telephone numbers come from ranges that the regulators published for fiction
(DE, FR, SE, GB, US) or, where none is published, end in a subscriber part of zeros. Bank accounts use a bank code and an account
of zeros, cards begin like the well-known test numbers, and of identity numbers only examples and reserved ranges are used.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from stdnum import luhn
from stdnum.iso7064 import mod_97_10
from stdnum.it import codicefiscale
from stdnum.pl import pesel


@dataclass(frozen=True, slots=True)
class Locale:
    """What one locale writes differently."""

    tag: str
    given: tuple[str, ...]
    family: tuple[str, ...]
    city: str
    street: str
    national: tuple[str, ...]
    """Telephone patterns; `#` is a random digit."""
    code: str
    trunk: str
    bank: tuple[str, str]
    """Country and BBAN."""
    notes: tuple[str, ...]
    """Sentences with a `{}` for something personal."""
    plain: tuple[str, ...]
    """Sentences without anything personal."""
    phone_label: str


LOCALES = (
    Locale(
        "de-DE", ("Annika", "Jörg", "Mareike", "Uwe"), ("Müller-Lüdenscheidt", "Krähenbühl", "Sanftleben"), "Görlitz", "Lindenallee 12",
        ("030 23125 ###", "(030) 23125-###", "030/23125###", "0171 39200##", "0171-39200##"), "49", "0", ("DE", "000000000000000000"),
        ("Bitte unter {} zurückrufen.", "Rückfragen an {}", "Neue Angabe: {} (seit gestern)"),
        ("Paket liegt beim Nachbarn.", "Rechnung über 1.234,56 EUR, fällig am 22.11.2026."), "Telefon",
    ),
    Locale(
        "fr-FR", ("Élodie", "Théo", "Maëlys"), ("Lefèvre-Dumont", "Quimper", "Bélanger"), "Aurillac", "14 rue des Tilleuls",
        ("01 99 00 ## ##", "06 39 98 ## ##", "01.99.00.##.##", "06-39-98-##-##"), "33", "0", ("FR", "00000000000000000000000"),
        ("Merci de rappeler {} demain.", "Contact : {}", "Le client a laissé {} comme coordonnée."),
        ("Colis déposé à l'accueil, 2 cartons.", "Facture de 1 234,56 € réglée le 22/11/2026."), "Téléphone",
    ),
    Locale(
        "it-IT", ("Ginevra", "Nicolò", "Beatrice"), ("Dell'Orto", "Castelfranchi", "Perù"), "Cuneo", "Via dei Glicini 9",
        ("347 000 00##", "347 00000##", "02 0000 00##"), "39", "", ("IT", "X0000000000000000000000"),
        ("Richiamare {} dopo le 15.", "Scrivere a {}", "Il nuovo recapito è {}."),
        ("Consegna lasciata in portineria.", "Importo 1.234,56 EUR, scadenza 22/11/2026."), "Cellulare",
    ),
    Locale(
        "es-ES", ("Íñigo", "Begoña", "Rocío"), ("Echeverría", "Núñez Olmo", "Ibáñez"), "Teruel", "Calle del Olmo 7",
        ("600 000 0##", "600 00 00 ##", "910 00 00 ##"), "34", "", ("ES", "00000000000000000000"),
        ("Llamar al {} por la tarde.", "Escribir a {}", "Dejó {} como contacto."),
        ("Paquete entregado en recepción.", "Factura de 1.234,56 € del 22-11-2026."), "Teléfono",
    ),
    Locale(
        "nl-NL", ("Sjoerd", "Femke", "Wietske"), ("van der Zwaluw", "Hoekstra", "IJzerman"), "Zutphen", "Lindelaan 3",
        ("06-100000##", "06 100000##", "020 200 00##", "020-20000##"), "31", "0", ("NL", "XXXX0000000000"),
        ("Graag terugbellen op {}.", "Mail naar {}", "Nieuw: {}, sinds maandag."),
        ("Pakket bij de buren afgegeven.", "Factuur van € 1.234,56, vervalt 22-11-2026."), "Telefoon",
    ),
    Locale(
        "pl-PL", ("Łucja", "Wojciech", "Żaneta"), ("Szczęsny", "Brzęczyszczykiewicz", "Ćwiek"), "Łomża", "ul. Lipowa 5",
        ("500 000 0##", "500-000-0##", "22 200 00 ##"), "48", "", ("PL", "000000000000000000000000"),
        ("Proszę oddzwonić: {}.", "Kontakt {}", "Nowe dane to {} od wczoraj."),
        ("Paczka u sąsiada.", "Faktura na 1 234,56 zł, termin 22.11.2026."), "Telefon",
    ),
    Locale(
        "pt-PT", ("Inês", "Gonçalo", "Conceição"), ("Falcão", "Magalhães Reis", "Brandão"), "Bragança", "Rua das Tílias 21",
        ("910 000 0##", "21 000 00##", "210 000 0##"), "351", "", ("PT", "000000000000000000000"),
        ("Ligar para {} amanhã.", "Enviar a {}", "O cliente indicou {} no balcão."),
        ("Encomenda deixada na portaria.", "Fatura de 1.234,56 €, vence a 22/11/2026."), "Telemóvel",
    ),
    Locale(
        "sv-SE", ("Åsa", "Göran", "Linnéa"), ("Sjöblad", "Öberg", "Västermark"), "Östersund", "Lindgatan 8",
        ("070-174 06 ##", "031-390 06 ##", "08-465 004 ##", "070 174 06 ##"), "46", "0", ("SE", "00000000000000000000"),
        ("Ring tillbaka på {}.", "Skriv till {}", "Ny uppgift: {} från idag."),
        ("Paketet står hos grannen.", "Faktura på 1 234,56 kr, förfaller 2026-11-22."), "Telefon",
    ),
    Locale(
        "en-GB", ("Imogen", "Alasdair", "Rhiannon"), ("Featherstone", "O'Dwyer", "Llewelyn-Pugh"), "Ludlow", "3 Lime Walk",
        ("07700 900###", "020 7946 0###", "(0117) 496 0###", "0117 4960 ###"), "44", "0", ("GB", "XXXX00000000000000"),
        ("Please ring {} after lunch.", "Reach the customer on {}", "They left {} as the way to answer."),
        ("Parcel left with the neighbour.", "Invoice for £1,234.56 due on 22/11/2026."), "Mobile",
    ),
    Locale(
        "en-US", ("Delphine", "Beau", "Marguerite"), ("Abernathy", "Castellanos-Roy", "Thibodeaux"), "Springfield", "1200 Linden Ave",
        ("(202) 555-01##", "202-555-01##", "202.555.01##", "1-202-555-01##", "202 555 01##"), "1", "", ("", ""),
        ("Call back at {} today.", "Send it to {}", "New contact is {}, thanks."),
        ("Package left at the front desk.", "Invoice for $1,234.56 due 11/22/2026."), "Phone",
    ),
    Locale(
        "ja-JP", ("さくら", "大輔", "陽菜"), ("架空", "見本", "例山"), "例示市", "見本町1-2-3",
        ("090-1000-00##", "03-3000-00##", "０９０−１０００−００##"), "81", "0", ("", ""),
        ("{}まで折り返しお願いします。", "連絡先は {} です", "新しい連絡先: {}"),
        ("荷物は受付に預けました。", "請求額 12,345円、期日は2026年11月22日。"), "電話番号",
    ),
    Locale(
        "pt-BR", ("Thaís", "João Vítor", "Iracema"), ("Saldanha", "Quintanilha", "Assunção"), "Ouro Preto", "Rua das Acácias 40",
        ("(11) 90000-00##", "11 90000-00##", "(21) 2000-00##"), "55", "", ("BR", "00000000000000000000000X0"),
        ("Retornar no {} hoje.", "Enviar para {}", "Novo contato: {}, desde ontem."),
        ("Pacote entregue na recepção.", "Nota de R$ 1.234,56, vence em 22/11/2026."), "Celular",
    ),
)  # fmt: skip


def digits(rng: random.Random, count: int) -> str:
    """Return random digits."""
    return "".join(rng.choices("0123456789", k=count))


def phone(rng: random.Random, locale: Locale) -> str:
    """Return a telephone number as the locale, or someone who writes abroad, would write it."""
    national = "".join(digits(rng, 1) if char == "#" else char for char in rng.choice(locale.national))
    form = rng.randrange(4)
    if form < 2:
        return national
    bare = "".join(char for char in unicodedata.normalize("NFKC", national) if char.isdecimal())
    if locale.code == "1":
        bare = bare.removeprefix("1")
    bare = bare.removeprefix(locale.trunk)
    if form == 2:
        return f"+{locale.code}{bare}"
    return f"{rng.choice(('+', '00'))}{locale.code} {bare[:2]} {bare[2:5]} {bare[5:]}"


def mail(rng: random.Random, locale: Locale) -> str:
    """Return an e-mail address at an example domain; now and then an internationalised one."""
    given = "".join(char for char in rng.choice(locale.given).lower() if char.isascii() and char.isalpha()) or "sakura"
    local = rng.choice((given, f"{given}.{digits(rng, 2)}", f"{given}+news", f"{given[0]}_{locale.tag[:2]}"))
    domains = ("example.com", "example.org", "mail.example.net", "team.example", "xn--bcher-kva.example", "bücher.example")
    return f"{local}@{rng.choice(domains)}"


def person_name(rng: random.Random, locale: Locale) -> str:
    """Return a full name."""
    return f"{rng.choice(locale.given)} {rng.choice(locale.family)}"


def iban(rng: random.Random, locale: Locale) -> str:
    """Return an IBAN with right check digits, grouped or not; German where the locale's country has none."""
    country, bban = locale.bank if locale.bank[0] else LOCALES[0].bank
    bban = bban[:-4] + bban[-4:].replace("0", digits(rng, 1))
    check = mod_97_10.calc_check_digits(bban + country)
    whole = country + check + bban
    return " ".join(whole[i : i + 4] for i in range(0, len(whole), 4)) if rng.random() < 0.5 else whole


def card(rng: random.Random) -> str:
    """Return a payment card number of a test range, grouped in one of the usual ways."""
    head = rng.choice(("411111000000", "555555000000", "222300000000", "601100000000")) + digits(rng, 3)
    number = head + luhn.calc_check_digit(head)
    return rng.choice((" ", "-", "")).join(number[i : i + 4] for i in range(0, 16, 4))


def ip(rng: random.Random) -> str:
    """Return an address of a documentation range (RFC 5737, RFC 3849)."""
    four = f"{rng.choice(('192.0.2', '198.51.100', '203.0.113'))}.{rng.randrange(1, 255)}"
    return rng.choice((four, f"2001:db8::{rng.randrange(1, 9999):x}:{rng.randrange(1, 9999):x}"))


def national_id(rng: random.Random, locale: Locale) -> str:
    """Return an identity number that is nobody's: a published example, a reserved range, an impossible name or date."""
    serial = digits(rng, 3)
    forms: dict[str, Callable[[], str]] = {
        "it-IT": lambda: (head := f"XXXYYY8{serial[0]}A01H501") + codicefiscale.calc_check_digit(head),
        "pl-PL": lambda: "PESEL " + (head := f"858510{serial}1") + pesel.calc_check_digit(head),
        "pt-BR": lambda: rng.choice(("123.456.789-09", "111.444.777-35", "529.982.247-25")),
        "fr-FR": lambda: (head := f"1000099999{serial}") + f"{97 - int(head) % 97:02}",
        "sv-SE": lambda: (head := "850510-98" + serial[0]) + luhn.calc_check_digit(head.replace("-", "")),
        "en-GB": lambda: f"QQ {serial[:2]} {serial[1:]} 56 C",
        "es-ES": lambda: rng.choice(("00000000T", "12345678Z", "X0000000T")),
    }
    return forms.get(locale.tag, lambda: f"987-65-432{serial[0]}")()


def credential(rng: random.Random) -> str:
    """Return something of the shape of a credential; it opens nothing."""
    filler = "EXAMPLE" * 3 + digits(rng, 6)
    return rng.choice(("sk" + "_live_", "gh" + "p_", "xo" + "xb-", "gl" + "pat-", "wh" + "sec_")) + filler
