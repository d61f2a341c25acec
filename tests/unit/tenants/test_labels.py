"""Names and descriptions: no personal data, nothing that plays tricks on a terminal or a page."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from customhouse.privacy.detectors import detect
from customhouse.tenants.labels import label_faults


@pytest.mark.parametrize("text", ["Acme Ltd", "Zoë’s café 東京", "می‌خواهم", "👩‍💻 team", "order 2026-11-22"])
def test_a_name_that_people_give_is_acceptable(text: str) -> None:
    assert label_faults(text, "/name", shortest=1, longest=200) == ()


@pytest.mark.parametrize(
    "text", ["", "a" * 201, "a\x1b[2Jb", "a\x00", "abc\u202edef", "\u2066a", "a\u2028b", "ada@example.com", "+49 151 12345678"]
)
def test_a_name_that_tells_too_much_or_hides_something_is_refused(text: str) -> None:
    faults = label_faults(text, "/name", shortest=1, longest=200)

    assert {fault.pointer for fault in faults} == {"/name"}
    assert not text or text not in repr(faults)


@given(st.text(max_size=60))
@settings(max_examples=200, derandomize=True, deadline=None)
def test_what_passes_holds_no_personal_data_and_nothing_unseen(text: str) -> None:
    if not label_faults(text, "/name", longest=40):
        assert len(text) <= 40
        assert not detect(text)
        assert not any(ord(char) < 32 and char not in "\n\t" for char in text)
        assert not set(text) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
