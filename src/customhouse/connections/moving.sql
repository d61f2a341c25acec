-- What is sealed under the keys of connections, for their rotation: `find_…` locks what it finds and waits for nobody, `put_…` writes it
-- back, `left_…` tells which keys are still named. $1 tenant, $2 connections, $3 the key of each (16 bytes).

-- name: find_grants
select connection_id, connection_id::text as row, grant_version as generation, account_sealed, user_sealed from connection_grants
where tenant_id = $1 and connection_id = any ($2::uuid[])
  and (substring(account_sealed from 2 for 16) = any ($3::bytea[]) or substring(user_sealed from 2 for 16) = any ($3::bytea[]))
for no key update skip locked

-- name: put_grants
update connection_grants g set account_sealed = n.account, user_sealed = n.about
from unnest($2::text[], $3::uuid[], $4::bytea[], $5::bytea[]) n (row, connection_id, account, about)
where g.tenant_id = $1 and g.connection_id = n.connection_id

-- name: left_grants
select substring(account_sealed from 2 for 16) as key from connection_grants
where tenant_id = $1 and connection_id = any ($2::uuid[]) and substring(account_sealed from 2 for 16) = any ($3::bytea[])
union
select substring(user_sealed from 2 for 16) from connection_grants
where tenant_id = $1 and connection_id = any ($2::uuid[]) and substring(user_sealed from 2 for 16) = any ($3::bytea[])

-- name: find_tokens
select connection_id, connection_id::text as row, token_generation as generation, access_sealed, refresh_sealed from integration_tokens
where tenant_id = $1 and connection_id = any ($2::uuid[])
  and (substring(access_sealed from 2 for 16) = any ($3::bytea[]) or substring(refresh_sealed from 2 for 16) = any ($3::bytea[]))
for no key update skip locked

-- name: put_tokens
update integration_tokens t set access_sealed = n.access, refresh_sealed = n.refresh
from unnest($2::text[], $3::uuid[], $4::bytea[], $5::bytea[]) n (row, connection_id, access, refresh)
where t.tenant_id = $1 and t.connection_id = n.connection_id

-- name: left_tokens
select substring(access_sealed from 2 for 16) as key from integration_tokens
where tenant_id = $1 and connection_id = any ($2::uuid[]) and substring(access_sealed from 2 for 16) = any ($3::bytea[])
union
select substring(refresh_sealed from 2 for 16) from integration_tokens
where tenant_id = $1 and connection_id = any ($2::uuid[]) and substring(refresh_sealed from 2 for 16) = any ($3::bytea[])

-- name: find_pending
select connection_id, session_id::text as row, 0::bigint as generation, account_sealed, tokens_sealed from pending_grants
where tenant_id = $1 and connection_id = any ($2::uuid[])
  and (substring(account_sealed from 2 for 16) = any ($3::bytea[]) or substring(tokens_sealed from 2 for 16) = any ($3::bytea[]))
for no key update skip locked

-- name: put_pending
update pending_grants p set account_sealed = n.account, tokens_sealed = n.tokens
from unnest($2::text[], $3::uuid[], $4::bytea[], $5::bytea[]) n (row, connection_id, account, tokens)
where p.tenant_id = $1 and p.session_id = n.row::uuid

-- name: left_pending
select substring(account_sealed from 2 for 16) as key from pending_grants
where tenant_id = $1 and connection_id = any ($2::uuid[]) and substring(account_sealed from 2 for 16) = any ($3::bytea[])
union
select substring(tokens_sealed from 2 for 16) from pending_grants
where tenant_id = $1 and connection_id = any ($2::uuid[]) and substring(tokens_sealed from 2 for 16) = any ($3::bytea[])

-- name: left_escrow
-- Nobody but the revoker opens what waits here, at most for seven days: its key waits with it.
-- A row without the id of its key is from before that was written down: it holds whatever key the connection has.
select h.key from unnest($2::uuid[], $3::bytea[]) h (connection_id, key)
where exists (select from revocation_escrow r where r.tenant_id = $1 and r.connection_id = h.connection_id
              and (r.key_id is null or uuid_send(r.key_id) = h.key))

-- name: held_tenant_keys
-- Tenant keys that wrap the key of something in escrow. $2: which are asked about.
select tenant_key_id from revocation_escrow where tenant_id = $1 and tenant_key_id = any ($2::uuid[])
