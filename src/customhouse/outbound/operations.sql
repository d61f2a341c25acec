-- name: operational_recipients
select connection_id from connections
where tenant_id = $1 and provider = 'webhook' and status in ('active', 'degraded', 'paused') and event_types && $2::text[]
order by connection_id

-- name: write_operational
with event as (
  insert into events (tenant_id, event_uid, event_type, occurred_at, correlation_id, size_bytes, privacy, delivery_ids)
  values ($1, $2, $3, $4, $5, $6, $7::text::jsonb, $9)
), payload as (
  insert into payloads (tenant_id, event_uid, variant, sealed) values ($1, $2, 0, $8)
), delivery as (
  insert into deliveries (tenant_id, delivery_id, event_uid, connection_id, variant, policy_version)
  select $1, d.id, $2, d.connection, 0, $11 from unnest($9::uuid[], $10::uuid[]) d (id, connection)
)
insert into delivery_queue (tenant_id, delivery_id, event_uid, connection_id, variant, policy_version, next_at, expires_at)
select $1, d.id, $2, d.connection, 0, $11, now(), now() + make_interval(secs => $12)
from unnest($9::uuid[], $10::uuid[]) d (id, connection)

-- name: hold_lines
select hold_lines_v1(array(
  select e.ordering_key from deliveries d join events e on e.tenant_id = $1 and e.event_uid = d.event_uid
  where d.tenant_id = $1 and d.delivery_id = any ($2) and e.ordering_key is not null))

-- name: advance_lines
select advance_lines_v1($1, array_agg(q.connection_id), array_agg(q.ordering_key))
from delivery_queue q where q.tenant_id = $1 and q.delivery_id = any ($2) and q.ordering_key is not null

-- name: hold_payloads
select hold_payloads_v1($1, $2)

-- name: share_connection
select status from connections where tenant_id = $1 and connection_id = $2 and provider = 'webhook' for share

-- name: standing
select d.delivery_id, d.event_uid, d.connection_id, d.variant, e.event_id, e.event_type,
       exists (select from delivery_queue q where q.tenant_id = d.tenant_id and q.delivery_id = d.delivery_id) as queued,
       (select a.outcome from attempts a
        where a.tenant_id = d.tenant_id and a.delivery_id = d.delivery_id order by a.attempt desc limit 1) as outcome,
       exists (select from payloads p where p.tenant_id = d.tenant_id and p.event_uid = d.event_uid and p.variant = d.variant) as kept,
       exists (select from delivery_queue q
               where q.tenant_id = d.tenant_id and q.delivery_id = any (e.delivery_ids) and q.variant = d.variant) as awaited,
       (select max(a.at + make_interval(secs => coalesce(a.latency_ms, 0) / 1000.0))
        from unnest(e.delivery_ids) sibling (id)
        join deliveries s on s.tenant_id = d.tenant_id and s.delivery_id = sibling.id and s.variant = d.variant
        join attempts a on a.tenant_id = d.tenant_id and a.delivery_id = sibling.id) as last_end
from unnest($2::uuid[]) wanted (id)
join deliveries d on d.tenant_id = $1 and d.delivery_id = wanted.id
join events e on e.tenant_id = $1 and e.event_uid = d.event_uid
order by d.delivery_id

-- name: requeue
insert into delivery_queue (tenant_id, delivery_id, event_uid, connection_id, variant, policy_version, attempts, next_at, expires_at, lease,
                            body_sha256, ordering_key, ordering_place, blocked)
select $1, d.delivery_id, d.event_uid, d.connection_id, d.variant, d.policy_version, coalesce(before.attempts, 0), now(), wanted.expires_at,
       -- Above every lease that the delivery ever had, which grows by less than one in a second: a late result of then writes nothing.
       extract(epoch from now() - timestamptz '2026-01-01 00:00:00+00')::integer,
       (select a.body_sha256 from attempts a
        where a.tenant_id = $1 and a.delivery_id = d.delivery_id and a.body_sha256 is not null order by a.attempt limit 1),
       -- In its first place; `advance_lines` says who is the head now.
       e.ordering_key, e.ordering_place, e.ordering_key is not null
from unnest($2::uuid[], $3::timestamptz[]) wanted (id, expires_at)
join deliveries d on d.tenant_id = $1 and d.delivery_id = wanted.id
join events e on e.tenant_id = $1 and e.event_uid = d.event_uid
cross join lateral (select max(a.attempt) as attempts from attempts a where a.tenant_id = $1 and a.delivery_id = d.delivery_id) before
order by d.delivery_id
on conflict (tenant_id, delivery_id) do nothing
returning delivery_id

-- name: unhappy_of_connection
select a.delivery_id
from attempts a
join deliveries d on d.tenant_id = $1 and d.delivery_id = a.delivery_id and d.connection_id = $2
where a.tenant_id = $1 and a.outcome in ('failed', 'cancelled', 'expired') and a.outcome = $3
  and a.delivery_id > $4 and a.delivery_id < $5
  and not exists (select from attempts b where b.tenant_id = $1 and b.delivery_id = a.delivery_id and b.attempt > a.attempt)
  and not exists (select from delivery_queue q where q.tenant_id = $1 and q.delivery_id = a.delivery_id)
order by a.delivery_id
limit $6

-- name: payload
select sealed from payloads where tenant_id = $1 and event_uid = $2 and variant = $3

-- name: first_body
select body_sha256 from attempts where tenant_id = $1 and delivery_id = $2 and body_sha256 is not null order by attempt limit 1
