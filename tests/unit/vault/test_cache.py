"""The cache of the vault: nothing is handed out late, nothing outlives its tenant key, the bounds hold."""

from __future__ import annotations

from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from customhouse.crypto.envelope import RecordKey
from customhouse.types import Secret, TenantId
from customhouse.vault.cache import KeyCache, Ring, Scope

TENANTS = [TenantId(name) for name in ("acme", "other", "third")]
FOREVER = float("inf")
TTL = 10.0


def key(number: int, fill: int = 0) -> RecordKey:
    """Return a key with an id of its own."""
    return RecordKey(UUID(int=number), Secret(bytes([fill]) * 32))


def ring(tenant: TenantId, number: int, now: float = 0.0, fill: int = 0) -> Ring:
    """Return a ring that lives for `TTL`."""
    return Ring(tenant, key(number, fill), expires=now + TTL, refresh_at=now + TTL * 0.8)


class CacheMachine(RuleBasedStateMachine):
    """Any order of adding, asking, doubting and dropping."""

    @initialize()
    def begin(self) -> None:
        self.cache = KeyCache(max_tenants=2, max_data_keys=3)
        self.now = 0.0

    @rule(tenant=st.sampled_from(TENANTS), number=st.integers(1, 2))
    def add_ring(self, tenant: TenantId, number: int) -> None:
        self.cache.add_ring(ring(tenant, number, self.now))

    @rule(tenant=st.sampled_from(TENANTS), number=st.integers(1, 2))
    def renew(self, tenant: TenantId, number: int) -> None:
        assert self.cache.renew(ring(tenant, number, self.now)).expires == self.now + TTL

    @rule(tenant=st.sampled_from(TENANTS), number=st.integers(1, 2), data=st.integers(10, 14), active=st.booleans())
    def add_data_key(self, tenant: TenantId, number: int, data: int, active: bool) -> None:
        held = self.cache.ring(tenant, UUID(int=number), self.now)
        if held is not None:
            scope: Scope | None = ("payload", str(data % 2)) if active else None
            self.cache.add_data_key(held, key(data), scope, FOREVER)
            found = self.cache.data_key(tenant, UUID(int=data), self.now)
            assert found is not None
            if scope:
                assert self.cache.active(tenant, scope, self.now) is found

    @rule(seconds=st.floats(0, 6))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(tenant=st.sampled_from(TENANTS))
    def doubt(self, tenant: TenantId) -> None:
        self.cache.doubt(tenant)
        assert not any(self.cache.data_key(tenant, UUID(int=data), self.now) for data in range(10, 15))
        assert all(held.doubted for held in self.cache.rings(tenant))

    @rule(tenant=st.sampled_from(TENANTS))
    def drop(self, tenant: TenantId) -> None:
        self.cache.drop_tenant(tenant)
        assert tenant not in self.cache.tenants()
        assert not any(self.cache.data_key(tenant, UUID(int=data), self.now) for data in range(10, 15))

    @invariant()
    def the_bounds_hold(self) -> None:
        assert len(self.cache.tenants()) <= 2
        assert len(self.cache) - sum(len(self.cache.rings(tenant)) for tenant in self.cache.tenants()) <= 3

    @invariant()
    def nothing_is_handed_out_late(self) -> None:
        for tenant in TENANTS:
            late = {data for held in self.cache.rings(tenant) if self.now >= held.expires for data in held.opened}
            assert not any(self.cache.data_key(tenant, data, self.now) for data in late)

    @invariant()
    def every_data_key_hangs_on_a_ring_that_is_held(self) -> None:
        opened = sum(len(held.opened) for tenant in self.cache.tenants() for held in self.cache.rings(tenant))
        assert len(self.cache) == opened + sum(len(self.cache.rings(tenant)) for tenant in self.cache.tenants())

    @invariant()
    def an_active_key_is_a_key_that_is_held(self) -> None:
        for tenant in TENANTS:
            for scope in (("payload", "0"), ("payload", "1")):
                found = self.cache.active(tenant, scope, self.now)
                assert found is None or self.cache.data_key(tenant, found.key_id, self.now) is found


TestCacheMachine = CacheMachine.TestCase
TestCacheMachine.settings = settings(derandomize=True, max_examples=100, stateful_step_count=30, deadline=None)


def test_a_ring_of_the_same_key_takes_the_place_of_the_old_and_of_what_it_opened() -> None:
    cache = KeyCache(max_tenants=2, max_data_keys=9)
    old = ring(TENANTS[0], 1)
    cache.add_ring(old)
    cache.add_data_key(old, key(10), ("payload", "x"), FOREVER)
    cache.add_ring(ring(TENANTS[0], 1))
    assert cache.active(TENANTS[0], ("payload", "x"), 0.0) is None
    assert len(cache) == 1


def test_a_ring_that_is_not_held_any_more_takes_no_data_key() -> None:
    cache = KeyCache(max_tenants=2, max_data_keys=9)
    gone = ring(TENANTS[0], 1)
    cache.add_ring(gone)
    cache.drop(gone)
    cache.add_data_key(gone, key(10), None, FOREVER)
    assert len(cache) == 0


def test_dropping_a_ring_twice_does_not_touch_its_successor() -> None:
    cache = KeyCache(max_tenants=2, max_data_keys=9)
    old, new = ring(TENANTS[0], 1), ring(TENANTS[0], 1)
    cache.add_ring(old)
    cache.add_ring(new)
    cache.drop(old)
    assert cache.ring(TENANTS[0], UUID(int=1), 0.0) is new


def test_a_renewed_ring_keeps_what_it_opened_unless_the_key_is_another() -> None:
    cache = KeyCache(max_tenants=2, max_data_keys=9)
    first = ring(TENANTS[0], 1)
    cache.add_ring(first)
    cache.add_data_key(first, key(10), None, FOREVER)
    assert cache.renew(ring(TENANTS[0], 1, 5.0)) is first
    assert cache.data_key(TENANTS[0], UUID(int=10), TTL + 1) is not None
    other = ring(TENANTS[0], 1, 5.0, fill=1)
    assert cache.renew(other) is other
    assert cache.data_key(TENANTS[0], UUID(int=10), 5.0) is None


def test_the_active_key_of_a_scope_can_be_replaced_while_the_older_one_still_opens() -> None:
    cache = KeyCache(max_tenants=2, max_data_keys=9)
    held = ring(TENANTS[0], 1)
    cache.add_ring(held)
    cache.add_data_key(held, key(10), ("connection", "c"), FOREVER)
    cache.add_data_key(held, key(11), ("connection", "c"), FOREVER)
    active = cache.active(TENANTS[0], ("connection", "c"), 0.0)
    assert active is not None
    assert active.key_id == UUID(int=11)
    cache.add_data_key(held, key(10), None, FOREVER)
    assert cache.data_key(TENANTS[0], UUID(int=10), 0.0) is not None
    assert cache.active(TENANTS[0], ("connection", "c"), 0.0) is active


def test_a_data_key_ends_with_its_own_time_though_its_ring_is_renewed() -> None:
    cache = KeyCache(max_tenants=2, max_data_keys=9)
    held = ring(TENANTS[0], 1)
    cache.add_ring(held)
    cache.add_data_key(held, key(10), ("connection", "c"), 4.0)
    cache.renew(ring(TENANTS[0], 1, 3.0))
    assert cache.active(TENANTS[0], ("connection", "c"), 3.9) is not None
    assert cache.active(TENANTS[0], ("connection", "c"), 4.0) is None
    assert cache.data_key(TENANTS[0], UUID(int=10), 4.0) is None
    assert len(cache) == 1
