-- name: advance_previous
-- The key that signed until a later one took over.
update connection_secrets s set state = 'previous', valid_until = coalesce(s.valid_until, $3)
where s.tenant_id = $1 and s.connection_id = $2 and s.purpose = 'signing' and s.state = 'active'
  and exists (select from connection_secrets n where n.tenant_id = $1 and n.connection_id = $2 and n.purpose = 'signing'
              and n.state = 'next' and n.activates_at <= $3)

-- name: advance_next
update connection_secrets set state = 'active'
where tenant_id = $1 and connection_id = $2 and purpose = 'signing' and state = 'next' and activates_at <= $3
returning key_id

-- name: advance_ended
update connection_secrets set state = 'destroyed', sealed = null
where tenant_id = $1 and connection_id = $2 and purpose = 'signing' and state = 'previous' and (valid_until is null or valid_until <= $3)
returning key_id

-- name: live_secrets
select key_id, state, activates_at, valid_until from connection_secrets
where tenant_id = $1 and connection_id = $2 and purpose = 'signing' and state <> 'destroyed'

-- name: rotated
select key_id, activates_at, previous_until from connection_secrets where tenant_id = $1 and connection_id = $2 and key_id = $3

-- name: destroy_next
update connection_secrets set state = 'destroyed', sealed = null
where tenant_id = $1 and connection_id = $2 and purpose = 'signing' and state = 'next'
returning key_id

-- name: end_overlap
update connection_secrets set valid_until = least(valid_until, $3), state = case when $4 then 'previous' else state end
where tenant_id = $1 and connection_id = $2 and purpose = 'signing' and state in ('active', 'previous')

-- name: insert_key
insert into connection_secrets (tenant_id, connection_id, key_id, purpose, state, sealed, activates_at, previous_until)
values ($1, $2, $3, 'signing', $4, $5, $6, $7)

-- name: turns_due
select tenant_id, connection_id from signing_turns_due_v1($1, $2)
