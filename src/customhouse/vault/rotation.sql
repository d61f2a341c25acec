-- Rotation: how a key gets its successor, and when it ends.

-- name: holders
select tenant_id from key_holders_v1($1, $2)

-- name: turning
select tenant_id from key_turns_v1($1, $2)

-- What was begun --------------------------------------------------------------------------------------------------------

-- name: begin
insert into key_rotations (rotation_id, kind, only_tenant, cutoff, started_at) values ($1, $2, $3, $4, $5)
on conflict (kind, coalesce(only_tenant, '')) where finished_at is null do nothing

-- name: under_way
select rotation_id, cutoff, started_at from key_rotations
where kind = $1 and only_tenant is not distinct from $2 and finished_at is null

-- name: finish
update key_rotations set finished_at = $2 where rotation_id = $1 and finished_at is null

-- name: unfinished
select kind, only_tenant, cutoff, started_at from key_rotations where finished_at is null order by started_at

-- Tenant keys -----------------------------------------------------------------------------------------------------------

-- name: tenant_key_due
-- The active key, where it is older than the cutoff or wrapped by another root key than that of now.
select key_id as tenant_key_id, kms_key, wrapped as tenant_wrapped, state as tenant_state
from tenant_keys where tenant_id = $1 and state = 'active' and (created_at < $2 or kms_key <> $3)

-- name: retire_tenant_key
update tenant_keys set state = 'retired', retired_at = $3 where tenant_id = $1 and key_id = $2 and state = 'active'

-- name: retired_tenant_keys
select key_id as tenant_key_id, kms_key, wrapped as tenant_wrapped, state as tenant_state
from tenant_keys where tenant_id = $1 and state = 'retired' order by retired_at

-- name: wrapping_tenant_keys
select key_id as tenant_key_id, kms_key, wrapped as tenant_wrapped, state as tenant_state
from tenant_keys t where tenant_id = $1 and state = 'retired'
  and exists (select from data_keys d where d.tenant_id = $1 and d.tenant_key_id = t.key_id and d.state <> 'destroyed')
order by retired_at

-- name: lock_wrapped
-- What somebody else changes at this moment is left for the next time: whoever waits for nobody stands in nobody's way.
select d.key_id, d.purpose, d.scope, d.wrapped, d.state, d.tenant_key_id, t.kms_key, t.wrapped as tenant_wrapped, t.state as tenant_state
from data_keys d join tenant_keys t on t.tenant_id = d.tenant_id and t.key_id = d.tenant_key_id
where d.tenant_id = $1 and d.tenant_key_id = $2 and d.state <> 'destroyed' and d.key_id <> all ($3::uuid[])
order by d.key_id limit $4
for update of d skip locked

-- name: rewrap
update data_keys d set wrapped = n.wrapped, tenant_key_id = $2
from unnest($3::uuid[], $4::bytea[]) n (key_id, wrapped)
where d.tenant_id = $1 and d.key_id = n.key_id

-- name: touch_retired
-- It wrapped something until now.
update tenant_keys set retired_at = $3 where tenant_id = $1 and key_id = $2 and state = 'retired'

-- name: end_tenant_key
update tenant_keys t set wrapped = null, state = 'destroyed', destroyed_at = $3
where t.tenant_id = $1 and t.key_id = $2 and t.state = 'retired' and t.retired_at <= $4
  and not exists (select from data_keys d where d.tenant_id = $1 and d.tenant_key_id = $2 and d.state <> 'destroyed')
returning t.key_id

-- Connection keys -------------------------------------------------------------------------------------------------------
-- `offset 0`, `case` and joins with what was asked for make each a look-up by scope, however many keys a tenant has and whatever the
-- planner believes about their states, which a rotation turns over within seconds.

-- name: due
select a.key_id, a.scope from data_keys a
where a.tenant_id = $1 and a.purpose = 'connection' and a.state = 'active' and a.created_at < $2 and a.key_id > $3
  and not exists (select from data_keys o where o.tenant_id = $1 and o.purpose = 'connection' and o.scope = a.scope
                  and case o.state when 'next' then true when 'retired' then true else false end offset 0)
order by a.key_id limit $4

-- name: lock_scopes
-- Making, turning and destroying the keys of a scope take turns; in one order, so that two of us never wait for each other.
select count(pg_advisory_xact_lock(at.place)) from (
  select hashtextextended(concat_ws(chr(31), 'data_keys', $1::text, 'connection', s.scope), 0) as place
  from unnest($2::text[]) s (scope) order by 1) at

-- name: add_next
insert into data_keys (tenant_id, key_id, purpose, scope, tenant_key_id, wrapped, state, created_at)
select $1, n.key_id, 'connection', n.scope, $2, n.wrapped, 'next', $3
from unnest($4::uuid[], $5::text[], $6::bytea[]) n (key_id, scope, wrapped)
where exists (select from data_keys a where a.tenant_id = $1 and a.purpose = 'connection' and a.scope = n.scope and a.state = 'active' offset 0)
  and not exists (select from data_keys o where o.tenant_id = $1 and o.purpose = 'connection' and o.scope = n.scope
                  and case o.state when 'retired' then true else false end offset 0)
on conflict (tenant_id, purpose, scope) where state = 'next' do nothing
returning key_id, scope

-- name: ready
select n.key_id, n.scope from data_keys n
where n.tenant_id = $1 and n.purpose = 'connection' and n.state = 'next' and n.created_at <= $2
order by n.key_id limit $3

-- name: retire
update data_keys a set state = 'retired', retired_at = $3
from unnest($2::text[]) s (scope)
where a.tenant_id = $1 and a.purpose = 'connection' and a.scope = s.scope and a.state = 'active'
  and exists (select from data_keys n where n.tenant_id = $1 and n.purpose = 'connection' and n.scope = s.scope
              and n.state = 'next' and n.created_at <= $4 offset 0)
returning a.key_id, a.scope

-- name: take_over
update data_keys n set state = 'active' where n.tenant_id = $1 and n.key_id = any ($2::uuid[]) and n.state = 'next'

-- name: to_end
-- Replaced for long enough; with the key that replaced each.
select r.key_id, r.scope from data_keys r
where r.tenant_id = $1 and r.purpose = 'connection' and r.state = 'retired' and r.retired_at <= $2 and r.key_id > $3
order by r.key_id limit $4

-- name: pairs
select d.key_id, d.purpose, d.scope, d.wrapped, d.state, d.tenant_key_id, t.kms_key, t.wrapped as tenant_wrapped, t.state as tenant_state
from data_keys d join tenant_keys t on t.tenant_id = d.tenant_id and t.key_id = d.tenant_key_id
where d.tenant_id = $1 and d.purpose = 'connection' and d.scope = any ($2::text[]) and d.state in ('active', 'retired')

-- name: end
update data_keys set wrapped = null, state = 'destroyed', destroyed_at = $3
where tenant_id = $1 and key_id = any ($2::uuid[]) and state = 'retired'
returning key_id, scope

-- How far it is ---------------------------------------------------------------------------------------------------------

-- name: outlook
-- $2: what was made, replaced or last used before this moment can go on now.
select count(*) filter (where d.state = 'next') as next, count(*) filter (where d.state = 'retired') as retired,
       count(*) filter (where d.since <= $2) as overdue, min(d.since) filter (where d.since > $2) as since
from (
  select d.state, case d.state when 'next' then d.created_at else d.retired_at end as since
  from data_keys d where d.tenant_id = $1 and d.state in ('next', 'retired')
  union all
  select k.state, k.retired_at from tenant_keys k where k.tenant_id = $1 and k.state = 'retired') d

-- name: count_due
select count(*) from data_keys a
where a.tenant_id = $1 and a.purpose = 'connection' and a.state = 'active' and a.created_at < $2
  and not exists (select from data_keys o where o.tenant_id = $1 and o.purpose = 'connection' and o.scope = a.scope
                  and case o.state when 'next' then true when 'retired' then true else false end offset 0)

-- name: count_keys
select d.purpose, d.state, count(*) as count, min(d.created_at) as oldest,
       count(*) filter (where d.created_at < $3::timestamptz) as due,
       count(*) filter (where d.created_at >= $2::timestamptz - interval '30 days') as month,
       count(*) filter (where d.created_at >= $2::timestamptz - interval '365 days') as year
from data_keys d where d.tenant_id = $1 group by d.purpose, d.state

-- name: list_tenant_keys
select k.key_id, k.kms_key, k.state, k.created_at, k.retired_at, k.destroyed_at,
       (select count(*) from data_keys d where d.tenant_id = $1 and d.tenant_key_id = k.key_id and d.state <> 'destroyed') as wraps
from tenant_keys k where k.tenant_id = $1 order by k.created_at

-- name: list_retired
select d.key_id, d.scope, d.retired_at from data_keys d
where d.tenant_id = $1 and d.purpose = 'connection' and d.state = 'retired' order by d.retired_at limit $2

-- Moving ----------------------------------------------------------------------------------------------------------------

-- name: hold_tenant
-- The first lock, and the only one that is waited for: changes of connections are told through this row.
select from tenants where tenant_id = $1 for no key update

-- name: hold_sealing
-- Alone, where nobody seals anything of the connection at this moment.
select c.id from unnest($2::uuid[]) c (id)
where pg_try_advisory_xact_lock(hashtextextended(concat_ws(chr(31), 'sealing', $1::text, c.id::text), 0))

-- name: end_sealing
insert into ended_keys (tenant_id, connection_id, key_id, ended_at)
select $1, n.connection_id, n.key_id, $4 from unnest($2::uuid[], $3::uuid[]) n (connection_id, key_id)
on conflict do nothing
