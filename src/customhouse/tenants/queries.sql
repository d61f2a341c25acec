-- name: insert_tenant
insert into tenants (tenant_id, name) values ($1, $2) on conflict do nothing returning created_at

-- name: get_tenant
select tenant_id, name, status, version, created_at from tenants where tenant_id = $1

-- name: insert_api_key
insert into api_keys (tenant_id, key_id, name, scopes, token_hash, expires_at) values ($1, $2, $3, $4, $5, $6) returning created_at

-- name: resolve_api_key
select tenant_id, key_id from resolve_api_key_v1($1)

-- name: get_api_key
select key_id, name, scopes, token_hash, created_at, expires_at, revoked_at from api_keys where tenant_id = $1 and key_id = $2

-- name: list_api_keys
select key_id, name, scopes, created_at, expires_at, revoked_at from api_keys
where tenant_id = $1 and ($2::uuid is null or key_id < $2) order by key_id desc limit $3

-- name: revoke_api_key
update api_keys set revoked_at = now() where tenant_id = $1 and key_id = $2 and revoked_at is null returning key_id

-- name: live_preset_keys
select key_id, token_hash from api_keys
where tenant_id = $1 and (name = $2 or token_hash = $3) and revoked_at is null and (expires_at is null or expires_at > now())

-- name: count_live_api_keys
select count(*) from api_keys where tenant_id = $1 and revoked_at is null and (expires_at is null or expires_at > now())

-- name: latest_policy
select version, allowed_fields, connections::text as connections, on_violation, created_at from privacy_policies
where tenant_id = $1 order by version desc limit 1

-- name: policy_at
select version, allowed_fields, connections::text as connections, on_violation, created_at from privacy_policies
where tenant_id = $1 and version = $2

-- name: lock_tenant
select version from tenants where tenant_id = $1 for update

-- name: insert_policy
insert into privacy_policies (tenant_id, version, allowed_fields, connections, on_violation) values ($1, $2, $3, $4::text::jsonb, $5)
returning created_at

-- name: known_connections
select connection_id from connections where tenant_id = $1 and connection_id = any ($2::uuid[])

-- name: upsert_event_type
insert into event_types (tenant_id, event_type, description, schema, pii) values ($1, $2, $3, $4::text::jsonb, $5::text::jsonb)
on conflict (tenant_id, event_type) do update
set description = excluded.description, schema = excluded.schema, pii = excluded.pii, updated_at = now()
returning created_at, updated_at

-- name: event_types
-- The operator's declaration stands over a tenant's of the same name; names sort by their bytes, whatever the database's locale.
select distinct on (event_type collate "C")
       tenant_id, event_type, description, schema::text as schema, pii::text as pii, created_at, updated_at from event_types
where ($1::text is null or event_type collate "C" > $1)
order by event_type collate "C", tenant_id = '_platform' desc limit $2

-- name: event_type
select tenant_id, event_type, description, schema::text as schema, pii::text as pii, created_at, updated_at from event_types
where event_type = $1 order by tenant_id = '_platform' desc limit 1

-- name: platform_event_type
select 1 from event_types where tenant_id = '_platform' and event_type = $1

-- name: remember
insert into idempotency_keys (tenant_id, key_hash, body_digest, result_id) values ($1, $2, $3, $4)
on conflict (tenant_id, key_hash) do nothing returning result_id

-- name: remembered
select body_digest, result_id from idempotency_keys where tenant_id = $1 and key_hash = $2
