-- name: roster_head
select own.version, platform.version as platform_version
from tenants own, tenants platform
where own.tenant_id = $1 and own.status = 'active' and platform.tenant_id = '_platform'

-- name: roster_event_types
select tenant_id, event_type, description, schema::text as schema, pii::text as pii, created_at, updated_at from event_types

-- name: roster_connections
select connection_id, provider, mode, status, grant_version, url_sealed, headers_sealed, event_types, signature_profile, signature_algorithm,
       retry_schedule, rate_per_second, rate_burst, client_certificate_sealed, client_key_sealed, mac
from connections where tenant_id = $1 and provider = 'webhook' and status in ('active', 'degraded', 'paused')

-- name: roster_secrets
select s.connection_id, s.key_id, s.state, s.activates_at, s.valid_until, s.sealed from connection_secrets s
where s.tenant_id = $1 and s.purpose = 'signing' and s.state <> 'destroyed'

-- name: accept_batch
select event_uid, outcome, first_uid from accept_batch_v3(
  $1, make_interval(secs => $2), $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
  make_interval(secs => $21), $22, $23, $24, $25, $26, $27, $28, $29, $30, make_interval(secs => $31))

-- name: accepted_among
select event_uid from accepted_among_v1($1, $2) as found (event_uid)

-- name: record_batch
select attempt_id from record_batch_v3(
  $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20) as written (attempt_id)

-- name: claim_due
select tenant_id, connection_id, delivery_id, lease from claim_due_v4($1, $2, $3, make_interval(secs => $4), $5, $6, $7, $8)

-- name: load_batch
select * from load_batch_v3($1, $2, $3)

-- name: release_batch
select release_batch_v2($1, $2, $3, $4, make_interval(secs => $5))

-- name: recover_leases
select recover_leases_v2(make_interval(secs => $1)) as recovered

-- name: stalled_lines
select tenant_id, delivery_id from stalled_lines_v1($1)

-- name: mend_lines
select mend_lines_v1($1, $2)

-- name: overdue_deliveries
select tenant_id, delivery_id from overdue_deliveries_v1($1)

-- name: expire_batch
select expire_batch_v1($1, $2, $3) as expired

-- name: note_health
select note_health_v1($1, $2, $3, $4, $5, $6)

-- name: fleet_health
select tried, failing from fleet_health_v1(make_interval(secs => $1))

-- name: long_failing
select tenant_id, connection_id from long_failing_v1(make_interval(secs => $1), $2)

-- name: begin_brake
insert into brakes (name) values ($1) on conflict (name) do nothing returning since

-- name: end_brake
delete from brakes where name = $1 returning since

-- name: queue_depth
select due, waiting, leased from queue_depth_v2()

-- name: heartbeat
insert into processes (process_id) values ($1) on conflict (process_id) do update set heartbeat_at = now()

-- name: live_processes
select count(*) as alive from processes where heartbeat_at > now() - make_interval(secs => $1)

-- name: farewell
delete from processes where process_id = $1

-- name: event_by_uid
select event_uid, event_id, event_type, occurred_at, correlation_id, size_bytes, privacy::text as privacy, delivery_ids
from events where tenant_id = $1 and event_uid = $2

-- name: event_by_id
select event_uid, event_id, event_type, occurred_at, correlation_id, size_bytes, privacy::text as privacy, delivery_ids
from events where tenant_id = $1 and event_id = $2 order by event_uid desc limit 1

-- name: attempts
select attempt, attempt_id, outcome, reason, sent, at, status_code, error, latency_ms, request_bytes, response_bytes
from attempts where tenant_id = $1 and delivery_id = $2 order by attempt

-- name: insert_connection
insert into connections (tenant_id, connection_id, provider, status, description, url_sealed, url_host, mac, headers_sealed,
                         event_types, signature_profile, signature_algorithm, retry_schedule, rate_per_second, rate_burst,
                         client_certificate_sealed, client_key_sealed, certificate_expires_at, user_id)
values ($1, $2, 'webhook', 'active', $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)

-- name: insert_secret
insert into connection_secrets (tenant_id, connection_id, key_id, purpose, state, sealed, activates_at)
values ($1, $2, $3, 'signing', 'active', $4, $5)

-- name: connections
-- Of a webhook, health is what its deliveries showed; of a grant, what the renewals of its tokens showed, and what holds for its provider.
select c.connection_id, c.provider, user_id, mode, status, status_reason, c.grant_version, description, url_sealed, headers_sealed, url_host,
       event_types, signature_profile, signature_algorithm, retry_schedule, rate_per_second, rate_burst, client_certificate_sealed, mac,
       created_at, updated_at,
       coalesce(h.failing_since, r.failing_since, b.since) as failing_since,
       coalesce(h.last_success_at, t.issued_at) as last_success_at,
       coalesce(h.last_failure_at, case when r.reason is not null then r.checked_at end, b.since) as last_failure_at,
       coalesce(h.last_failure, r.reason, b.reason) as last_failure,
       array(select s.key_id from connection_secrets s
             where s.tenant_id = c.tenant_id and s.connection_id = c.connection_id and s.purpose = 'signing' order by s.key_id) as key_ids,
       array(select s.state from connection_secrets s
             where s.tenant_id = c.tenant_id and s.connection_id = c.connection_id and s.purpose = 'signing' order by s.key_id) as key_states,
       array(select s.activates_at from connection_secrets s
             where s.tenant_id = c.tenant_id and s.connection_id = c.connection_id and s.purpose = 'signing' order by s.key_id) as key_begins,
       array(select s.valid_until from connection_secrets s
             where s.tenant_id = c.tenant_id and s.connection_id = c.connection_id and s.purpose = 'signing' order by s.key_id) as key_ends
from connections c left join connection_health h using (tenant_id, connection_id)
left join integration_tokens t using (tenant_id, connection_id)
left join token_refreshes r
  on r.tenant_id = t.tenant_id and r.connection_id = t.connection_id and r.generation = t.token_generation and r.reason is not null
left join provider_brakes b on b.provider = c.provider and b.kind = 'refused'
where c.tenant_id = $1
  and ($2::uuid is null or c.connection_id = $2)
  and ($3::uuid is null or c.connection_id < $3)
  and ($4::text is null or user_id = $4)
  and ($5::text is null or c.provider = $5)
  and ($6::text is null or status = $6)
  and ($8::boolean is null
       or $8 = (status = 'active' and coalesce(h.failing_since, r.failing_since, b.since) is null
                 and coalesce(certificate_expires_at > now(), true)))
order by c.connection_id desc
limit $7

-- name: lock_connection
select connection_id, provider, user_id, mode, status, status_reason, grant_version, description, url_sealed, headers_sealed, url_host,
       event_types, signature_profile, signature_algorithm, retry_schedule, rate_per_second, rate_burst, client_certificate_sealed,
       client_key_sealed, certificate_expires_at, mac, created_at, updated_at
from connections where tenant_id = $1 and connection_id = $2 for update

-- name: update_connection
update connections
set description = $3, url_sealed = $4, url_host = $5, mac = $6, headers_sealed = $7, event_types = $8, signature_profile = $9,
    signature_algorithm = $10, retry_schedule = $11, rate_per_second = $12, rate_burst = $13, client_certificate_sealed = $14,
    client_key_sealed = $15, certificate_expires_at = $16, status = $17,
    status_reason = case when status = $17 then status_reason end, updated_at = now()
where tenant_id = $1 and connection_id = $2

-- name: disable_connection
update connections set status = 'disabled', status_reason = $3, updated_at = now()
where tenant_id = $1 and connection_id = $2 and status in ('active', 'degraded', 'paused')
returning connection_id

-- name: disable_failing
update connections c set status = 'disabled', status_reason = $3, updated_at = now()
from connection_health h
where c.tenant_id = $1 and c.connection_id = $2 and c.status in ('active', 'degraded')
  and h.tenant_id = $1 and h.connection_id = $2
  and h.failing_since <= now() - make_interval(secs => $4) and h.last_failure_at >= h.failing_since + make_interval(secs => $4)
returning h.failing_since

-- name: forget_health
delete from connection_health where tenant_id = $1 and connection_id = $2

-- name: end_connection
update connections
set status = 'disconnected', status_reason = 'disconnected', url_sealed = null, headers_sealed = null, client_certificate_sealed = null,
    client_key_sealed = null, certificate_expires_at = null, updated_at = now()
where tenant_id = $1 and connection_id = $2

-- name: destroy_secrets
update connection_secrets set state = 'destroyed', sealed = null where tenant_id = $1 and connection_id = $2 and state <> 'destroyed'

-- name: hold_waiting_lines
select hold_lines_v1(array(
  select distinct q.ordering_key from delivery_queue q where q.tenant_id = $1 and q.connection_id = $2 and q.ordering_key is not null))

-- name: hold_waiting_payloads
select hold_payloads_v1($1, array(select q.delivery_id from delivery_queue q where q.tenant_id = $1 and q.connection_id = $2))

-- name: drop_ended_payloads
select drop_ended_payloads_v1($1, $2)

-- name: cancel_deliveries
with gone as (
  delete from delivery_queue q where q.tenant_id = $1 and q.connection_id = $2 returning q.delivery_id, q.attempts
)
insert into attempts (tenant_id, delivery_id, attempt, attempt_id, outcome, reason, sent, at)
select $1, g.delivery_id, g.attempts + 1, gen_random_uuid(), 'cancelled', $3, false, now() from gone g
returning delivery_id
