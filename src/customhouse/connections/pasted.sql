-- name: key_holder
select connection_id from pasted_keys where tenant_id = $1 and key_index = $2

-- name: insert_key_connection
insert into connections (tenant_id, connection_id, provider, user_id, mode, status, mac) values ($1, $2, $3, $4, $5, 'active', $6)

-- name: put_key
insert into pasted_keys (tenant_id, connection_id, key_index, live, pasted_at, checked_at, next_check_at)
values ($1, $2, $3, $4, $5, $5, $6)
on conflict (tenant_id, connection_id) do update
set key_index = excluded.key_index, live = excluded.live, pasted_at = excluded.pasted_at, checked_at = excluded.checked_at,
    next_check_at = excluded.next_check_at, told_at = null

-- name: key_held
select c.provider, c.user_id, c.mode, c.status, c.status_reason, c.grant_version, c.mac, g.requested, g.granted, g.missing,
       g.account_index, g.account_sealed, g.user_sealed, t.token_generation, t.access_sealed, t.api_origin, k.key_index, k.live,
       k.pasted_at, k.checked_at, k.next_check_at, k.told_at
from connections c
join connection_grants g on g.tenant_id = c.tenant_id and g.connection_id = c.connection_id
join integration_tokens t on t.tenant_id = c.tenant_id and t.connection_id = c.connection_id
join pasted_keys k on k.tenant_id = c.tenant_id and k.connection_id = c.connection_id
where c.tenant_id = $1 and c.connection_id = $2

-- name: keys_due
select tenant_id, connection_id from pasted_keys_due_v1($1, $2)

-- name: claim_key
-- Whoever moves the moment makes the check.
update pasted_keys set next_check_at = $4 where tenant_id = $1 and connection_id = $2 and next_check_at <= $3 returning connection_id

-- name: key_checked
update pasted_keys set checked_at = $3, next_check_at = $4 where tenant_id = $1 and connection_id = $2

-- name: key_doubted
update pasted_keys set next_check_at = $3 where tenant_id = $1 and connection_id = $2

-- name: note_answered
insert into connection_health (tenant_id, connection_id, last_success_at) values ($1, $2, $3)
on conflict (tenant_id, connection_id) do update set failing_since = null, last_success_at = excluded.last_success_at

-- name: note_unanswered
insert into connection_health as h (tenant_id, connection_id, failing_since, last_failure_at, last_failure) values ($1, $2, $3, $3, $4)
on conflict (tenant_id, connection_id) do update
set failing_since = coalesce(h.failing_since, excluded.failing_since), last_failure_at = excluded.last_failure_at,
    last_failure = excluded.last_failure

-- name: key_told
update pasted_keys set told_at = $3 where tenant_id = $1 and connection_id = $2

-- name: key_states
select connection_id, live, pasted_at, checked_at from pasted_keys where tenant_id = $1 and connection_id = any ($2::uuid[])

-- name: destroy_inbound_secrets
update connection_secrets set state = 'destroyed', sealed = null
where tenant_id = $1 and connection_id = $2 and purpose = 'inbound' and state <> 'destroyed'

-- name: insert_inbound_secret
insert into connection_secrets (tenant_id, connection_id, key_id, purpose, state, sealed, activates_at)
values ($1, $2, $3, 'inbound', 'active', $4, $5)

-- name: inbound_key
select key_id from connection_secrets where tenant_id = $1 and connection_id = $2 and purpose = 'inbound' and state = 'active'
