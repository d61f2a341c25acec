"""What the detectors know, what they leave alone, and that neither depends on the shape of the text around it."""

import string
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from customhouse.privacy import suspicion
from customhouse.privacy.classes import PiiClass
from customhouse.privacy.detectors import detect, detect_slowly, identifier_carries_pii
from customhouse.privacy.suspicion import gives_names, holds_json, is_clean_shape, is_suspect, unclear

PIECES = [
    "ada@example.com", "ada [at] example [dot] com", "ada at example dot com", "ada＠example。com", "ada%40example.com",
    "ada%2540example.com",
    "ada&#64;example.com", "ada\\u0040example.com", "YWRhQGV4YW1wbGUuY29t", "δοκιμή@παράδειγμα.ελ", "ada @ example.com",
    "a\u200bda@exa\u00admple.com",
    "+49 30 23125 123", "+493023125123", "0049 30 23125123", "＋４９ ３０ ２３１２５１２３", "030 23125 123", "0171-3920012", "03023125123",
    "(202) 555-0123", "202-555-0123", "tel 2025550123", "Telefon: 3920012", "06 39 98 12 34", "06.39.98.12.34", "070-174 06 05",
    "600 000 012", "347 000 0012", "06-10000012", "22 200 00 12", "(11) 90000-0012", "090-1000-0012", "電話0310000012", "07700 900123",
    "DE89 3704 0044 0532 0130 00", "GB29NWBK60161331926819", "fr1420041010050500013m02606",
    "4111 1111 1111 1111", "4111111111111111", "3782-822463-10005",
    "123.456.789-09", "RSSMRA85T10A562S", "AB123456C", "AB 12 34 56 C", "12345678Z", "X1234567L", "850510-1231", "987-65-4321",
    "1 85 05 78 006 084 91",
    "PESEL 44051401359", "BSN: 111222333", "Steuer-ID 36574261809",
    "192.0.2.17", "2001:db8::17", "[2001:db8:0:0:0:0:0:17]",
    "sk" + "_live_EXAMPLEEXAMPLE00", "gh" + "p_EXAMPLEEXAMPLEEXAMPLE0000", "AK" + "IAEXAMPLEEXAMPLE00", "-----BEGIN RSA PRIVATE KEY-----",
    "Bearer abcDEF0123456789abc", "xo" + "xb-0000000000-EXAMPLE",
]  # fmt: skip

CLEAN = [
    "2026-11-22T09:30:00Z", "2026-11-22 09:30", "22.11.2026 09:30", "11/22/2026", "09:30:00", "INV-2026-000123",
    "ORD-00012345", "order 4711",
    "550e8400-e29b-41d4-a716-446655440000", "evt_01k5tq4z8nfx3s9gq2v7d4h6bc",
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "v2.14.3", "2.14.3-rc.1", "v1.2.3.4", "1.234.567,89 EUR", "$1,234.50", "52.520008, 13.404954", "-33.868820,151.209290",
    "127.0.0.1", "10.0.0.0/8",
    "00:1A:2B:3C:4D:5E", "std::vector<int>", "logo@2x.png", "package@1.2.3", "@media screen", "4711 1234", "2025550123",
    "1764000000000", "1 000 000",
    "https://example.com/orders/4711?page=2&sort=asc", "text/html; charset=utf-8", "eu-central-1",
    "basic understanding of things", "100 % wool",
    "a look at the dot com years", "ISO-8859-1", "EAN 4006381333931", "Größe 42, Farbe grün", "注文番号 12345",
    "1111 1111 1111 1111", "AA-12-34",
    "sk_test", "the bearer of good news", "3.14159265358979", "1e-7", "Q4/2026",
    "::1", "fe80::1:2:3", "999.1.1.1", "0.0.0.1", "1:2:3:4:5:6:7:8:9", "169.254.1.1",
    "§ 312 BGB", "12 x 34 x 56 mm", "SHA-256", "2026W47",
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(PIECES)))
def test_each_piece_of_personal_data_is_found_alone_and_in_a_sentence(number: int) -> None:
    piece = PIECES[number]

    assert detect(piece), piece
    assert detect(f"Please note: {piece}, thank you."), piece
    assert detect(f"({piece})\nand more"), piece


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4111&nbsp;1111&nbsp;1111&nbsp;1111", PiiClass.PAYMENT_CARD),
        ("DE89&nbsp;3704&nbsp;0044&nbsp;0532&nbsp;0130&nbsp;00", PiiClass.BANK_ACCOUNT),
        ("call +49&nbsp;170&nbsp;3920012", PiiClass.PHONE),
        ("ada &lt;at&gt; example.com", PiiClass.EMAIL),
        ("ada&nbsp;at&nbsp;example&nbsp;dot&nbsp;com", PiiClass.EMAIL),
        ("192&period;0&period;2&period;17", PiiClass.IP_ADDRESS),
        ("Telnr: 3920012", PiiClass.PHONE),
        ("phonenumber=3920012", PiiClass.PHONE),
        ("BSNnummer: 111222333", PiiClass.NATIONAL_ID),
    ],
)
def test_named_characters_of_html_and_labels_in_one_word_hide_nothing(text: str, expected: PiiClass) -> None:
    assert detect(text) == (expected,)
    assert detect(f"First line\n{text}\nof three") == (expected,)


def test_no_long_string_is_kept() -> None:
    suspicion._are_few.cache_clear()
    unclear(["!" * length for length in range(100, 200)])

    assert suspicion._are_few.cache_info().currsize == 0


@pytest.mark.parametrize("number", range(len(CLEAN)))
def test_what_only_looks_personal_is_left_alone(number: int) -> None:
    assert detect(CLEAN[number]) == (), CLEAN[number]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ada@example.com", PiiClass.EMAIL),
        ("+49 30 23125 123", PiiClass.PHONE),
        ("DE89 3704 0044 0532 0130 00", PiiClass.BANK_ACCOUNT),
        ("4111 1111 1111 1111", PiiClass.PAYMENT_CARD),
        ("123.456.789-09", PiiClass.NATIONAL_ID),
        ("192.0.2.17", PiiClass.IP_ADDRESS),
        ("sk" + "_live_EXAMPLEEXAMPLE00", PiiClass.CREDENTIAL),
    ],
)
def test_each_class_is_named_by_itself(text: str, expected: PiiClass) -> None:
    assert detect(text) == (expected,)


def test_two_classes_in_one_text_are_both_named() -> None:
    assert set(detect("ada@example.com or +49 30 23125 123")) == {PiiClass.EMAIL, PiiClass.PHONE}


def test_a_code_field_takes_no_four_part_version_and_no_barcode_for_personal_data() -> None:
    assert detect("1.2.3.4", neutral=True) == ()
    assert detect("036000291452", neutral=True) == ()
    assert detect("ada@example.com", neutral=True) == (PiiClass.EMAIL,)


@pytest.mark.parametrize(
    "text",
    [
        "ada@example.com", "user:ada_at_example.com", "ada-at-example-dot-com", "tel:00493023125123", "phone-491701234567",
        "user-0171-3920012",
        "DE89370400440532013000", "4111111111111111", "card_4111111111111111", "987-65-4321", "sk" + "_live_EXAMPLEEXAMPLE00", "192.0.2.17",
    ],
)  # fmt: skip
def test_an_identifier_that_tells_who_somebody_is_carries_personal_data(text: str) -> None:
    assert identifier_carries_pii(text)


@pytest.mark.parametrize(
    "text",
    [
        "crm-sync-4711", "person.updated", "evt_01k5tq4z8nfx3s9gq2v7d4h6bc", "550e8400-e29b-41d4-a716-446655440000",
        "order:2026-11-22:0001",
        "sync-20261122-093000", "2026-11-22T09:30:00Z", "invoice.paid.v2", "1764000000000", "batch_at_noon", "INV-2026-000123",
        "customhouse.ping",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "look-at-me.job", "a", "1732267800.123456",
    ],
)  # fmt: skip
def test_an_ordinary_identifier_carries_none(text: str) -> None:
    assert not identifier_carries_pii(text)


words = st.text(alphabet=string.ascii_letters + string.digits + " .,:;+-()/@%&[]{}<>\"'=_#\n\u00e9\u96fb\u8a71", max_size=30)
texts = st.lists(
    st.one_of(
        words,
        st.sampled_from(PIECES),
        st.sampled_from(CLEAN),
        st.from_regex(r"[A-Za-z]{0,6}[ :-]?[\d .()/+-]{5,24}[A-Za-z]{0,2}", fullmatch=True),
    ),
    max_size=5,
).map("".join)


@given(texts)
@settings(max_examples=200, derandomize=True, deadline=None)
@example("電話番号0310000012")
def test_what_is_not_suspect_has_nothing_in_it(text: str) -> None:
    if not is_suspect(text) or is_clean_shape(text):
        assert detect_slowly(text) == ()


@given(texts)
@settings(max_examples=200, derandomize=True, deadline=None)
@example("ada at example\ndot\ncom")
@example("ada at example\tDOT\tcom")
def test_a_hidden_address_is_suspect_whatever_parts_its_words(text: str) -> None:
    assert is_suspect(text) or detect_slowly(text) == ()


shapes = st.from_regex(r"[a-z]{1,4}[_-][0-9]{1,13}|([A-Za-z0-9]{0,11}[ ,;!_/.-]){0,6}[A-Za-z0-9]{0,13}|[0-9./ -]{0,16}", fullmatch=True)


@given(st.lists(st.one_of(texts, shapes, st.text(max_size=20)), max_size=6))
@settings(max_examples=200, derandomize=True, deadline=None)
@example(["-----BEGIN PRIVATE KEY"])
@example(["10.1.2.3", "a@b.de", "ab::1:2"])
@example(["tel 1234567", "tel 123 456", "AB 12 34 56 C", "12345 67", "bsn 123456782"])
@example(["ada at example dot com", "ada at example DoT com"])
@example(["npm_" + "a" * 30, "YWRhQGV4YW1wbGUuY29t", "basic understanding", "Basic QWxhZGRpbjpvcGVu"])
@example(["1", "2", "3", "4", "5", "6"])
@example(["a\nb", "ada@example.com"])
@example(["12 34 5", "67 89 0"])
@example(["call o_1000000000", "bsn_123456782", "tel_1701234567", "my_123456789"])
def test_what_is_clear_at_first_sight_has_nothing_in_it(found: list[str]) -> None:
    doubtful = set(unclear(found))
    for number, text in enumerate(found):
        if number not in doubtful:
            assert detect_slowly(text) == ()
            assert not gives_names(text)
            assert not holds_json(text)
        else:
            assert not is_clean_shape(text)


@given(st.text(max_size=200))
@settings(max_examples=200, derandomize=True, deadline=None)
def test_any_text_is_read_without_an_error(text: str) -> None:
    assert set(detect(text)) <= set(PiiClass)
    assert identifier_carries_pii(text) in (True, False)


TRIGGERS = [
    "a@", "1 ", "0-", "1.1.", "a at ", "[at]", "I+I-", "%40", "&#64;", "+1 ", ":a", "(1) ", "eyJa.", "4111 ", "DE12 ", "x" * 64 + ".",
    "1" * 7 + " ", "tel ", '":', "?a=", "0301234567 ", "tel 12 ",
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(TRIGGERS)))
def test_eight_times_the_text_takes_far_less_than_eight_times_eight_the_work(number: int) -> None:
    """CPU time, not wall time, and a wide margin: 8 is linear, 64 quadratic."""
    unit = TRIGGERS[number]

    def work(size: int) -> float:
        text = unit * (size // len(unit)) + "!x9"
        before = time.process_time()
        detect(text)
        return time.process_time() - before

    assert work(96 * 1024) < 32 * max(work(12 * 1024), 0.005)


@pytest.mark.parametrize(
    ("text", "pii_class"),
    [
        ("\u0660\u0661\u0665\u0661\u0661\u0662\u0663\u0664\u0665\u0666\u0667", PiiClass.PHONE),
        ("+\u0664\u0669 \u0661\u0665\u0661 \u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668", PiiClass.PHONE),
        ("\u0964 \u096a\u0967\u0967\u0967 1111 \u0967\u0967\u0967\u0967 1111", PiiClass.PAYMENT_CARD),
    ],
)
def test_a_number_is_found_in_the_digits_of_every_script(text: str, pii_class: PiiClass) -> None:
    assert pii_class in detect(text)
