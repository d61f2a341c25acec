-- name: refreshable
select c.provider, c.mode, c.status, c.status_reason, c.grant_version, c.mac, g.requested, g.granted, g.missing, g.scopes_known,
       g.account_index, coalesce(g.shared_index, g.account_index) as shared_index, t.token_generation, t.refresh_sealed, t.access_expires_at, t.refresh_expires_at,
       t.api_origin,
       case when r.generation = t.token_generation then greatest(extract(epoch from r.not_before - now()), 0)::float8 end as pause,
       case when r.generation = t.token_generation then r.failures else 0 end as failures,
       greatest(extract(epoch from r.lease_until - now()), 0)::float8 as leased
from connections c
left join connection_grants g on g.tenant_id = c.tenant_id and g.connection_id = c.connection_id
left join integration_tokens t on t.tenant_id = c.tenant_id and t.connection_id = c.connection_id
left join token_refreshes r on r.tenant_id = c.tenant_id and r.connection_id = c.connection_id
where c.tenant_id = $1 and c.connection_id = $2

-- name: share_connection
-- Held against a disconnect (for update) until the journal is written.
select status, status_reason, grant_version from connections where tenant_id = $1 and connection_id = $2 for share

-- name: held_generation
select token_generation from integration_tokens where tenant_id = $1 and connection_id = $2 for share

-- name: take_lease
-- Nobody has it, or who had it has been silent for too long: then its call counts as one whose answer is lost.
insert into token_refreshes as r (tenant_id, connection_id, generation, holder, lease_until, started_at, attempts)
values ($1, $2, $3, $4, now() + make_interval(secs => $5), now(), 1)
on conflict (tenant_id, connection_id) do update
set generation = excluded.generation, holder = excluded.holder, lease_until = excluded.lease_until, started_at = excluded.started_at,
    attempts = case when r.generation = excluded.generation then r.attempts + 1 else 1 end,
    lost = case when r.generation = excluded.generation then r.lost + (r.holder is not null)::integer else 0 end,
    lost_since = case when r.generation = excluded.generation
                      then coalesce(r.lost_since, case when r.holder is not null then r.started_at end) end,
    failures = case when r.generation = excluded.generation then r.failures else 0 end,
    reason = case when r.generation = excluded.generation then r.reason end,
    failing_since = case when r.generation = excluded.generation then r.failing_since end,
    not_before = null
where (r.holder is null or r.lease_until <= now())
  and (r.not_before is null or r.not_before <= now() or r.generation <> excluded.generation)
returning attempts, lost, extract(epoch from now() - lost_since)::float8 as lost_for

-- name: keep_lease
update token_refreshes set lease_until = now() + make_interval(secs => $4) where tenant_id = $1 and connection_id = $2 and holder = $3

-- name: end_lease
-- Nothing was stored. A late holder finds that the lease has gone on to somebody else, and changes nothing.
update token_refreshes
set holder = null, lease_until = null, failures = failures + 1, reason = $4, failing_since = coalesce(failing_since, now()),
    not_before = now() + make_interval(secs => $5), checked_at = now(), lost = lost + $6::boolean::integer,
    lost_since = case when $6::boolean then coalesce(lost_since, started_at) else lost_since end
where tenant_id = $1 and connection_id = $2 and holder = $3
returning failures

-- name: give_lease_back
-- No call was made, or what came of it says nothing about this connection.
update token_refreshes set holder = null, lease_until = null, checked_at = now()
where tenant_id = $1 and connection_id = $2 and holder = $3

-- name: lose_lease
-- The token was spent, and what came for it is not stored here.
update token_refreshes
set holder = null, lease_until = null, checked_at = now(), lost = lost + 1, lost_since = coalesce(lost_since, started_at)
where tenant_id = $1 and connection_id = $2 and holder = $3

-- name: end_lease_stored
update token_refreshes
set holder = case when holder = $3 then null else holder end, lease_until = case when holder = $3 then null else lease_until end,
    stored_by = $3, failures = 0, reason = $4, failing_since = case when $4::text is null then null else coalesce(failing_since, now()) end,
    not_before = null, checked_at = now(), lost = 0, lost_since = null
where tenant_id = $1 and connection_id = $2

-- name: stored_by
select stored_by from token_refreshes where tenant_id = $1 and connection_id = $2

-- name: renew_tokens
update integration_tokens
set token_generation = $3 + 1, access_sealed = $4, refresh_sealed = $5, access_expires_at = $6, refresh_expires_at = $7, api_origin = $8,
    issued_at = $9, refreshed_at = $9
where tenant_id = $1 and connection_id = $2 and token_generation = $3
returning token_generation

-- name: sealed_grant
select grant_version, account_sealed, user_sealed from connection_grants where tenant_id = $1 and connection_id = $2

-- name: change_grant
update connection_grants
set grant_version = $3, granted = $4, missing = $5, scopes_known = true, account_sealed = $6, user_sealed = $7
where tenant_id = $1 and connection_id = $2

-- name: change_guarded
update connections set status = $3, status_reason = $4, grant_version = $5, mac = $6, updated_at = now()
where tenant_id = $1 and connection_id = $2

-- name: need_consent
update connections set status = 'reauthorization_required', status_reason = $3, updated_at = now()
where tenant_id = $1 and connection_id = $2 and status in ('active', 'degraded', 'reauthorization_required')
  and (status <> 'reauthorization_required' or status_reason is distinct from $3)
returning connection_id

-- name: tell_refreshed
select pg_notify('customhouse_refreshed', $1)

-- name: refreshes_due
select tenant_id, connection_id, provider, generation from refreshes_due_v1($1, $2, $3, $4)

-- Brakes ---------------------------------------------------------------------------------------------------------------

-- name: brakes
select provider, kind, reason, since, greatest(extract(epoch from until - now()), 0)::float8 as wait from provider_brakes

-- name: pull_brake
insert into provider_brakes as b (provider, kind, reason, since, until) values ($1, $2, $3, now(), now() + make_interval(secs => $4))
on conflict (provider, kind) do update
set reason = excluded.reason, times = b.times + 1,
    until = case b.kind when 'slow' then greatest(b.until, excluded.until) else excluded.until end
returning times

-- name: try_brake
-- One call at a time may try whether the provider accepts us again; whoever dies over it holds nobody up for long.
update provider_brakes set until = now() + make_interval(secs => $2) where provider = $1 and kind = 'refused' and until <= now()
returning provider

-- name: brake
select greatest(extract(epoch from until - now()), 0)::float8 as wait from provider_brakes where provider = $1 and kind = 'refused'

-- name: let_go
delete from provider_brakes where provider = $1 and kind = $2 returning reason, times
