"""The door that counts statements cuts PostgreSQL's protocol rightly, wherever the bytes were cut."""

from __future__ import annotations

from itertools import pairwise

from benchmarks.meters import Counter, Frames
from hypothesis import given
from hypothesis import strategies as st

GREETING = (8 + 4).to_bytes(4) + (196608).to_bytes(4) + b"user"
MESSAGES = st.lists(st.tuples(st.sampled_from(b"EQPBDSCHXdcfFp"), st.binary(max_size=40)), max_size=30)


@given(MESSAGES, st.lists(st.integers(0, 2000), max_size=8))
def test_each_execute_and_each_simple_query_counts_once(messages: list[tuple[int, bytes]], cuts: list[int]) -> None:
    wire = GREETING + b"".join(bytes([kind]) + (len(body) + 4).to_bytes(4) + body for kind, body in messages)
    counter = Counter()
    frames = Frames(counter)
    places = sorted({min(cut, len(wire)) for cut in cuts} | {0, len(wire)})
    for begin, end in pairwise(places):
        frames.feed(wire[begin:end])
    assert counter.statements == sum(kind in b"EQ" for kind, _ in messages)
