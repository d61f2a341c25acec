-- The keyring: wrapped keys. tenant_keys and data_keys may live in a database of their own (KEYRING_DATABASE_URL).

-- name: active_tenant_key
select key_id as tenant_key_id, kms_key, wrapped as tenant_wrapped, state as tenant_state
from tenant_keys where tenant_id = $1 and state = 'active'

-- name: tenant_key
select key_id as tenant_key_id, kms_key, wrapped as tenant_wrapped, state as tenant_state
from tenant_keys where tenant_id = $1 and key_id = $2

-- name: lock_tenant
-- Making and destroying the keys of one tenant take turns.
select pg_advisory_xact_lock(hashtextextended('tenant_keys' || chr(31) || $1::text, 0))

-- name: tenant_was_destroyed
select exists (select from tenant_keys where tenant_id = $1 and state = 'destroyed')

-- name: add_tenant_key
insert into tenant_keys (tenant_id, key_id, kms_key, wrapped, created_at) values ($1, $2, $3, $4, $5)
on conflict (tenant_id) where state = 'active' do nothing

-- name: data_key_by_id
select d.key_id, d.purpose, d.scope, d.wrapped, d.state, d.tenant_key_id, t.kms_key, t.wrapped as tenant_wrapped, t.state as tenant_state
from data_keys d join tenant_keys t on t.tenant_id = d.tenant_id and t.key_id = d.tenant_key_id
where d.tenant_id = $1 and d.key_id = $2

-- name: live_data_keys
-- The active key first, then those before and after it in a rotation.
select d.key_id, d.purpose, d.scope, d.wrapped, d.state, d.tenant_key_id, t.kms_key, t.wrapped as tenant_wrapped, t.state as tenant_state
from data_keys d join tenant_keys t on t.tenant_id = d.tenant_id and t.key_id = d.tenant_key_id
where d.tenant_id = $1 and d.purpose = $2 and d.scope = $3 and d.state <> 'destroyed'
order by d.state

-- name: destroyed_data_key
-- Where no key lives: "destroyed" and "never made" can be told apart.
select d.key_id, d.purpose, d.scope, d.wrapped, d.state, d.tenant_key_id, t.kms_key, t.wrapped as tenant_wrapped, t.state as tenant_state
from data_keys d join tenant_keys t on t.tenant_id = d.tenant_id and t.key_id = d.tenant_key_id
where d.tenant_id = $1 and d.purpose = $2 and d.scope = $3 and d.state = 'destroyed'
limit 1

-- name: data_keys_of_scope
select d.key_id, d.purpose, d.scope, d.wrapped, d.state, d.tenant_key_id, t.kms_key, t.wrapped as tenant_wrapped, t.state as tenant_state
from data_keys d join tenant_keys t on t.tenant_id = d.tenant_id and t.key_id = d.tenant_key_id
where d.tenant_id = $1 and d.purpose = $2 and d.scope = $3 and d.state <> 'destroyed'

-- name: lock_scope
-- Making and destroying the key of one scope take turns.
select pg_advisory_xact_lock(hashtextextended(concat_ws(chr(31), 'data_keys', $1::text, $2::text, $3::text), 0))

-- name: hold_tenant_key
select key_id from tenant_keys where tenant_id = $1 and key_id = $2 and state = 'active' for share

-- name: scope_was_destroyed
select exists (select from data_keys where tenant_id = $1 and purpose = $2 and scope = $3 and state = 'destroyed')

-- name: add_data_key
insert into data_keys (tenant_id, key_id, purpose, scope, tenant_key_id, wrapped, created_at) values ($1, $2, $3, $4, $5, $6, $7)
on conflict (tenant_id, purpose, scope) where state = 'active' do nothing

-- name: destroy_scope
update data_keys set wrapped = null, state = 'destroyed', destroyed_at = $4
where tenant_id = $1 and purpose = $2 and scope = $3 and state <> 'destroyed'
returning key_id

-- name: add_tombstone
-- A scope that was closed before it ever had a key: it will not get one.
insert into data_keys (tenant_id, key_id, purpose, scope, tenant_key_id, wrapped, state, destroyed_at)
select $1, $5, $2, $3, t.key_id, null, 'destroyed', $4
from tenant_keys t where t.tenant_id = $1
  and not exists (select from data_keys where tenant_id = $1 and purpose = $2 and scope = $3)
order by t.created_at desc limit 1

-- name: destroy_tenant_keys
update tenant_keys set wrapped = null, state = 'destroyed', destroyed_at = $2
where tenant_id = $1 and state <> 'destroyed'
returning key_id

-- name: destroy_data_keys
update data_keys set wrapped = null, state = 'destroyed', destroyed_at = $2
where tenant_id = $1 and state <> 'destroyed'
