"""The closed list of notices."""

from __future__ import annotations

from typing import Any

import pytest

from customhouse.notices.kinds import KINDS, check, reference


def test_every_kind_says_what_happened_and_what_to_do_in_plain_sentences() -> None:
    for name, kind in KINDS.items():
        assert kind.subject.isascii(), name
        assert kind.subject.isprintable(), name
        assert len(kind.subject) <= 78, name
        for text in (kind.sentence, kind.advice):
            assert text.isascii(), name
            assert text[0].isupper(), name
            assert text.endswith("."), name
        assert f"| `{name}` |" in reference()


@pytest.mark.parametrize(
    ("kind", "detail"),
    [
        ("connection.gone", {}),
        ("connection.created", {"email": "x"}),
        ("connection.created", {"provider": "Ada Lovelace"}),
        ("connection.created", {"provider": "ada@example.com"}),
        ("connection.created", {"provider": ""}),
        ("connection.created", {"provider": "x" * 129}),
        ("connection.created", {"provider": ["zoom"]}),
        ("connection.created", {"provider": None}),
        ("connection.created", {"provider": 4915112345678}),
    ],
)
def test_what_a_kind_does_not_declare_is_a_mistake_of_ours(kind: str, detail: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=kind):
        check(kind, detail)


def test_words_ids_and_numbers_are_what_a_detail_may_hold() -> None:
    assert check("connection.created", {"provider": "google-drive", "mode": "act"}) is KINDS["connection.created"]
    assert check("connection.degraded", {"reason": 7}) is KINDS["connection.degraded"]
