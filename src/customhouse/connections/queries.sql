-- Sessions -------------------------------------------------------------------------------------------------------------

-- name: host
select own.name from tenants own where own.tenant_id = $1 and own.status = 'active'

-- name: insert_session
insert into connect_sessions (tenant_id, session_id, link_hash, user_id, provider, mode, connection_id, renews, return_url, facts_sealed,
                              created_at, deadline)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)

-- name: resolve_link
select tenant_id, session_id from resolve_connect_link_v1($1)

-- name: resolve_state
select tenant_id, session_id from resolve_connect_state_v1($1)

-- name: session
select s.session_id, s.user_id, s.provider, s.mode, s.connection_id, s.renews, s.return_url, s.facts_sealed, s.state, s.reason,
       s.browser_hash, s.consented_at, s.created_at, s.deadline, t.name as tenant_name, t.status as tenant_status,
       g.requested as held, c.mode as held_mode
from connect_sessions s
join tenants t on t.tenant_id = s.tenant_id
left join connection_grants g on s.renews and g.tenant_id = s.tenant_id and g.connection_id = s.connection_id
left join connections c on s.renews and c.tenant_id = s.tenant_id and c.connection_id = s.connection_id
where s.tenant_id = $1 and s.session_id = $2

-- name: lock_session
select session_id, user_id, provider, mode, connection_id, renews, return_url, facts_sealed, state, reason, browser_hash, consented_at,
       created_at, deadline
from connect_sessions where tenant_id = $1 and session_id = $2 for update

-- name: consent
update connect_sessions set state = 'authorizing', browser_hash = $3, consented_at = $4, deadline = $5
where tenant_id = $1 and session_id = $2

-- name: drop_states
delete from connect_states where tenant_id = $1 and session_id = $2

-- name: insert_state
insert into connect_states (tenant_id, state_hash, session_id, provider, browser_hash, verifier_sealed, redirect_uri, expires_at)
values ($1, $2, $3, $4, $5, $6, $7, $8)

-- name: take_state
-- R28: whoever deletes the row has it.
delete from connect_states where tenant_id = $1 and state_hash = $2
returning session_id, provider, browser_hash, verifier_sealed, redirect_uri, expires_at

-- name: begin_exchange
insert into connect_exchanges (tenant_id, session_id, code_sealed, verifier_sealed, redirect_uri, started_at) values ($1, $2, $3, $4, $5, $6)

-- name: exchange
select code_sealed, verifier_sealed, redirect_uri, started_at from connect_exchanges where tenant_id = $1 and session_id = $2

-- name: end_exchange
delete from connect_exchanges where tenant_id = $1 and session_id = $2

-- name: set_session
update connect_sessions set state = $3, deadline = $4 where tenant_id = $1 and session_id = $2

-- name: end_session
update connect_sessions set state = $3, reason = $4, deadline = $5, facts_sealed = null where tenant_id = $1 and session_id = $2

-- name: sessions_due
select tenant_id, session_id, over from connect_sessions_due_v1($1, make_interval(secs => $2), $3)

-- name: forget_session
delete from connect_sessions where tenant_id = $1 and session_id = $2 and state in ('confirmed', 'ended')

-- Grants ---------------------------------------------------------------------------------------------------------------

-- name: connection
select c.connection_id, c.provider, c.user_id, c.mode, c.status, c.status_reason, c.grant_version, c.mac, g.requested, g.granted,
       g.account_index
from connections c
left join connection_grants g on g.tenant_id = c.tenant_id and g.connection_id = c.connection_id
where c.tenant_id = $1 and c.connection_id = $2

-- name: lock_connection
select connection_id, provider, user_id, mode, status, status_reason, grant_version, mac from connections
where tenant_id = $1 and connection_id = $2 for update

-- name: insert_connection
insert into connections (tenant_id, connection_id, provider, user_id, mode, status, mac) values ($1, $2, $3, $4, $5, 'pending', $6)

-- name: insert_pending
insert into pending_grants (tenant_id, session_id, connection_id, requested, granted, missing, scopes_known, manifest_version,
                            account_index, shared_index, account_sealed, tokens_sealed, access_expires_at, refresh_expires_at, api_origin,
                            granted_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)

-- name: take_pending
delete from pending_grants where tenant_id = $1 and session_id = $2
returning connection_id, requested, granted, missing, scopes_known, manifest_version, account_index, shared_index, account_sealed,
          tokens_sealed,
          access_expires_at, refresh_expires_at, api_origin, granted_at

-- name: activate
update connections set status = $3, status_reason = $4, mode = $5, grant_version = $6, mac = $7, updated_at = now()
where tenant_id = $1 and connection_id = $2

-- name: end_connection
update connections set status = 'disconnected', status_reason = $3, updated_at = now()
where tenant_id = $1 and connection_id = $2 and status = 'pending'

-- name: put_grant
insert into connection_grants (tenant_id, connection_id, grant_version, requested, granted, missing, scopes_known, manifest_version,
                               account_index, shared_index, account_sealed, user_sealed)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
on conflict (tenant_id, connection_id) do update
set grant_version = excluded.grant_version, requested = excluded.requested, granted = excluded.granted, missing = excluded.missing,
    scopes_known = excluded.scopes_known, manifest_version = excluded.manifest_version, account_index = excluded.account_index,
    shared_index = excluded.shared_index,
    account_sealed = excluded.account_sealed, user_sealed = excluded.user_sealed

-- name: insert_consent
insert into consents (tenant_id, connection_id, grant_version, session_id, user_id, mode, requested, granted, manifest_version,
                      consented_at, confirmed_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)

-- name: held_tokens
select token_generation, access_sealed, refresh_sealed, access_expires_at, api_origin from integration_tokens
where tenant_id = $1 and connection_id = $2 for update

-- name: put_tokens
insert into integration_tokens (tenant_id, connection_id, token_generation, access_sealed, refresh_sealed, access_expires_at,
                                refresh_expires_at, api_origin, issued_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
on conflict (tenant_id, connection_id) do update
set token_generation = excluded.token_generation, access_sealed = excluded.access_sealed, refresh_sealed = excluded.refresh_sealed,
    access_expires_at = excluded.access_expires_at, refresh_expires_at = excluded.refresh_expires_at, api_origin = excluded.api_origin,
    issued_at = excluded.issued_at, refreshed_at = null

-- name: drop_tokens
delete from integration_tokens where tenant_id = $1 and connection_id = $2

-- name: shown_grants
select g.connection_id, g.grant_version, g.requested, g.granted, g.missing, g.scopes_known, g.manifest_version, g.account_sealed,
       t.token_generation, t.access_expires_at, t.refreshed_at, u.last_used_at, u.scopes as used
from connection_grants g left join integration_tokens t on t.tenant_id = g.tenant_id and t.connection_id = g.connection_id
left join connection_uses u on u.tenant_id = g.tenant_id and u.connection_id = g.connection_id
where g.tenant_id = $1 and g.connection_id = any ($2::uuid[])

-- name: grant
select missing, scopes_known from connection_grants where tenant_id = $1 and connection_id = $2

-- name: set_status
update connections set status = $3, status_reason = $4, updated_at = now() where tenant_id = $1 and connection_id = $2

-- name: outgrown
select tenant_id, connection_id from outgrown_connections_v1($1, $2, $3, $4)

-- name: want_consent
update connections c set status = 'reauthorization_required', status_reason = $4, updated_at = now()
from connection_grants g
where c.tenant_id = $1 and c.connection_id = $2 and c.status in ('active', 'degraded')
  and g.tenant_id = $1 and g.connection_id = $2 and not g.requested @> $3::text[]
returning c.connection_id

-- Revocation -----------------------------------------------------------------------------------------------------------

-- name: put_in_escrow
insert into revocation_escrow (tenant_id, revocation_id, connection_id, provider, reason, account_index, api_origin, tokens_sealed,
                               ends_key, next_at, ends_at, key_id, access_expires_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)

-- name: revocations_due
select tenant_id, revocation_id from revocations_due_v1($1, $2)

-- name: claim_revocation
select connection_id, provider, reason, account_index, api_origin, tokens_sealed, access_sealed, refresh_sealed, token_generation,
       access_expires_at, key_id, tenant_key_id, wrapped_key, pending_session, ends_key, attempts, asked_at, ends_at
from claim_revocation_v2($1, $2, $3)

-- name: begin_attempt
update revocation_escrow set attempts = attempts + 1 where tenant_id = $1 and revocation_id = $2 returning attempts

-- name: end_revocation
delete from revocation_escrow where tenant_id = $1 and revocation_id = $2 returning connection_id, provider, reason, ends_key, attempts

-- name: sharing
select grants_sharing_v2($1) as sharing

-- name: postpone_revocation
update revocation_escrow set next_at = $3, asked_at = $4 where tenant_id = $1 and revocation_id = $2

-- Reading credentials --------------------------------------------------------------------------------------------------

-- name: read_tokens
select * from read_tokens_v1($1, $2, $3, $4, $5)

-- name: record_reads
select * from record_reads_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)

-- name: lock_reader
select true from bulk_read_counts where tenant_id = $1 and actor_id = $2 order by window_at desc limit 1 for update

-- name: raise_alarm
insert into bulk_read_alarms (tenant_id, actor_id, raised_at, window_at, connections, threshold, stopped_until)
select $1, $2, $3, $4, $5, $6, $7
where not exists (select from bulk_read_alarms where tenant_id = $1 and actor_id = $2 and raised_at > $8)
returning true

-- Disconnect -----------------------------------------------------------------------------------------------------------

-- name: tokens_to_move
select token_generation, access_sealed, refresh_sealed, access_expires_at, api_origin from integration_tokens
where tenant_id = $1 and connection_id = $2 for update

-- name: grant_index
select coalesce(shared_index, account_index) as shared_index from connection_grants where tenant_id = $1 and connection_id = $2

-- name: lock_sharing
-- Who ends one of several connections that stand on one grant: one after the other, so that exactly one of them is the last.
select pg_advisory_xact_lock(hashtextextended('grant' || chr(31) || encode($1::bytea, 'hex'), 0))

-- name: move_to_escrow
-- The statement before has read the row for update: nobody changed it since.
insert into revocation_escrow (tenant_id, revocation_id, connection_id, provider, reason, account_index, api_origin, access_sealed,
                               refresh_sealed, token_generation, access_expires_at, ends_key, next_at, ends_at, key_id, tenant_key_id,
                               wrapped_key)
select tenant_id, $3, connection_id, $4, $5, $6, api_origin, access_sealed, refresh_sealed, token_generation, access_expires_at, true, $7,
       $8, $9, $10, $11
from integration_tokens where tenant_id = $1 and connection_id = $2

-- name: pending_to_escrow
-- A new grant that waits for the host's word, as it lies; the key that it is sealed under is named in its header.
with taken as (
  delete from pending_grants where tenant_id = $1 and connection_id = $2
  returning tenant_id, session_id, connection_id, coalesce(shared_index, account_index) as shared_index, tokens_sealed, access_expires_at,
            api_origin
)
insert into revocation_escrow (tenant_id, revocation_id, connection_id, provider, reason, account_index, api_origin, tokens_sealed,
                               pending_session, access_expires_at, ends_key, next_at, ends_at, key_id)
select tenant_id, session_id, connection_id, $3, 'disconnected', shared_index, api_origin, tokens_sealed, session_id, access_expires_at,
       false, $4, $5, encode(substring(tokens_sealed from 2 for 16), 'hex')::uuid
from taken

-- name: waits
select true from pending_grants where tenant_id = $1 and session_id = $2

-- name: note_subscriptions
update disconnect_receipts set subscriptions_ended = subscriptions_ended + $3 where tenant_id = $1 and connection_id = $2

-- name: give_key_to_escrow
-- What of this connection waited already, under the key that leaves the keyring.
update revocation_escrow set tenant_key_id = $4, wrapped_key = $5
where tenant_id = $1 and connection_id = $2 and key_id = $3 and tenant_key_id is null

-- name: keep_renewed
update revocation_escrow
set tokens_sealed = $3, access_sealed = null, refresh_sealed = null, token_generation = null, access_expires_at = $4, api_origin = $5,
    asked_at = null, pending_session = null
where tenant_id = $1 and revocation_id = $2

-- name: lock_escrow
-- What a disconnect moved while these tokens were renewed.
select revocation_id from revocation_escrow
where tenant_id = $1 and connection_id = $2 and token_generation = $3 and key_id = $4 for update

-- name: maybe_spent
-- A refresh token that was shown in a call whose answer nobody has, or has yet.
select exists (select from token_refreshes where tenant_id = $1 and connection_id = $2 and generation = $3
               and (holder is not null or lost > 0))

-- name: note_spent
-- The answer to the revoker's own showing of a refresh token was lost.
insert into token_refreshes as r (tenant_id, connection_id, generation, started_at, attempts, lost, lost_since)
select e.tenant_id, e.connection_id, e.token_generation, now(), 1, 1, now()
from revocation_escrow e where e.tenant_id = $1 and e.revocation_id = $2 and e.token_generation is not null
on conflict (tenant_id, connection_id) do update
set lost = case when r.generation = excluded.generation then r.lost + 1 else 1 end, lost_since = coalesce(r.lost_since, now()),
    generation = excluded.generation

-- name: revocations_of
select revocation_id from revocation_escrow where tenant_id = $1 and connection_id = $2

-- name: held_access
select token_generation, access_sealed, access_expires_at, api_origin from integration_tokens where tenant_id = $1 and connection_id = $2

-- name: connections_of_account
select tenant_id, connection_id from connections_of_account_v1($1)

-- name: connections_to_end
select tenant_id, connection_id from connections_to_end_v1($1, $2, $3, $4, $5, $6)

-- name: connections_shown
select connection_id, provider, user_id, mode, status, created_at from connections
where tenant_id = $1 and connection_id = any ($2::uuid[]) order by connection_id

-- name: disconnects_unfinished
select tenant_id, connection_id from disconnects_unfinished_v1($1, $2)

-- name: dormant_connections
select tenant_id, connection_id from dormant_connections_v1($1, $2, $3, $4)

-- name: last_use
select greatest(c.updated_at, u.last_used_at) as used_at, d.told_at
from connections c
left join connection_uses u on u.tenant_id = c.tenant_id and u.connection_id = c.connection_id
left join connection_dormancy d on d.tenant_id = c.tenant_id and d.connection_id = c.connection_id
where c.tenant_id = $1 and c.connection_id = $2

-- name: tell_dormant
insert into connection_dormancy (tenant_id, connection_id, told_at) values ($1, $2, $3)
on conflict (tenant_id, connection_id) do update set told_at = excluded.told_at

-- Receipts -------------------------------------------------------------------------------------------------------------

-- name: receipt
select connection_id, version, provider, reason, operation_id, revocation_id, revocation_status, verified, attempts, shared,
       tokens_destroyed, key_destroyed, escrow_until, actions_cancelled, deliveries_cancelled, subscriptions_ended, notified, instructions,
       audit_entry_id, at, updated_at
from disconnect_receipts where tenant_id = $1 and connection_id = $2

-- name: open_receipt
insert into disconnect_receipts (tenant_id, connection_id, provider, reason, operation_id, revocation_id, revocation_status, shared,
                                 tokens_destroyed, escrow_until, actions_cancelled, deliveries_cancelled, notified, instructions,
                                 audit_entry_id, at, updated_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $16)

-- name: release_key
update disconnect_receipts set key_released = true, key_destroyed = tokens_destroyed, version = version + 1, updated_at = $3
where tenant_id = $1 and connection_id = $2 and not key_released
returning connection_id, version, revocation_status, verified, attempts, shared, tokens_destroyed, key_destroyed

-- name: count_attempt
update disconnect_receipts set attempts = $4, version = version + 1, updated_at = $5
where tenant_id = $1 and connection_id = $2 and revocation_id = $3
returning connection_id, version, revocation_status, verified, attempts, shared, tokens_destroyed, key_destroyed

-- name: settle_receipt
update disconnect_receipts
set revocation_status = $4, verified = $5, attempts = $6, shared = $7, instructions = $8, tokens_destroyed = true,
    key_destroyed = key_released, escrow_until = null, version = version + 1, updated_at = $9
where tenant_id = $1 and connection_id = $2 and revocation_id = $3 and not tokens_destroyed
returning connection_id, version, provider, reason, operation_id, revocation_id, revocation_status, verified, attempts, shared,
          tokens_destroyed, key_destroyed, escrow_until, actions_cancelled, deliveries_cancelled, subscriptions_ended, notified,
          instructions, audit_entry_id, at, updated_at

-- Calls at providers ---------------------------------------------------------------------------------------------------

-- name: hold_calls
insert into connection_uses as held (tenant_id, connection_id, last_used_at, hold_until) values ($1, $2, $3, $4)
on conflict (tenant_id, connection_id) do update set hold_until = greatest(held.hold_until, excluded.hold_until)

-- name: mark_refused
update connections c set status = 'reauthorization_required', status_reason = $3, updated_at = now()
from integration_tokens t
where c.tenant_id = $1 and c.connection_id = $2 and c.status in ('active', 'degraded')
  and t.tenant_id = $1 and t.connection_id = $2 and t.token_generation = $4
returning c.connection_id
