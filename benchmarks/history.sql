-- One day of history: `base` holds a row per event, the others follow from it. $-words are filled in by history.py with names and
-- numbers of its own; nothing of this runs in the service.

-- name: base
create temp table base on commit drop as
select i, tenant_id, connection_id, at,
       (lpad(to_hex(ms), 12, '0') || '7' || lpad(to_hex(i % 4096), 3, '0') || '8' || substr(digest, 1, 15))::uuid as event_uid,
       (lpad(to_hex(ms), 12, '0') || '7' || lpad(to_hex(i % 4096), 3, '0') || '9' || substr(digest, 1, 15))::uuid as delivery_id,
       case when dice < 0.004 then 'failed' when dice < 0.005 then 'cancelled' when dice < 0.035 then 'second' else 'first' end as fate
from (
  select i, md5($day::text || '-' || i::text) as digest, random() as dice, floor($tenants * power(random(), 2))::int as n,
         ($from_ms + floor(($until_ms - $from_ms) * (i::float8 / $count)))::bigint as ms
  from generate_series(0, $count - 1) i
) drawn
join (select (row_number() over (order by tenant_id)) - 1 as n, tenant_id, connection_id from connections where tenant_id like 'bench-%') own
  using (n)
cross join lateral (select to_timestamp(ms / 1000.0) as at) moment

-- name: events
insert into $table (tenant_id, event_uid, event_id, event_type, occurred_at, correlation_id, size_bytes, privacy, delivery_ids)
select tenant_id, event_uid, case when i % 4 = 0 then 'evt-' || i end, (array['order.created', 'order.paid', 'person.updated'])[i % 3 + 1],
       at, 'req_' || substr(md5(i::text), 1, 26), 900 + i % 300,
       '[{"policy": "tenant:0", "pii_fields": ["person.work_email"], "contains_pii": true, "removed_fields": ["person.phone"]}]',
       array[delivery_id]
from base order by i

-- name: deliveries
insert into $table (tenant_id, delivery_id, event_uid, connection_id, variant, policy_version)
select tenant_id, delivery_id, event_uid, connection_id, 0, 0 from base order by i

-- name: attempts
insert into $table (tenant_id, delivery_id, attempt, attempt_id, outcome, reason, sent, at, status_code, error, latency_ms, request_bytes,
                    response_bytes, body_sha256)
select tenant_id, delivery_id, n, gen_random_uuid(),
       case when n < last then 'retrying' when fate in ('failed', 'cancelled') then fate else 'delivered' end,
       case when n < last then null when fate = 'failed' then 'attempts_exhausted' when fate = 'cancelled' then 'disconnected' end,
       fate <> 'cancelled', at + make_interval(secs => 0.01 + power(5, n - 1) - 1), case when fate = 'cancelled' then null when n < last or fate = 'failed' then 503 else 204 end,
       null, case when fate <> 'cancelled' then 3 + i % 60 end, case when fate <> 'cancelled' then 1300 + i % 300 end,
       case when fate <> 'cancelled' then 0 end, case when fate <> 'cancelled' then sha256(event_uid::text::bytea) end
from base
cross join lateral (select case fate when 'failed' then 9 when 'second' then 2 else 1 end as last) many
cross join lateral generate_series(1, last) n
order by i, n

-- name: payloads
insert into $table (tenant_id, event_uid, variant, sealed)
select tenant_id, event_uid, 0, decode(repeat(md5(i::text), 70), 'hex') from base order by i

-- name: event_keys
insert into event_keys (tenant_id, key_hash, event_uid, body_digest, expires_at)
select tenant_id, sha256(event_uid::text::bytea), event_uid, sha256(i::text::bytea), at + interval '7 days' from base where i % 2 = 0
order by i

-- name: waiting
insert into delivery_queue (tenant_id, delivery_id, event_uid, connection_id, variant, policy_version, attempts, next_at, expires_at)
select b.tenant_id, w.delivery_id, b.event_uid, b.connection_id, 0, 0, 7, now() + interval '6 hours' + interval '1 second' * (b.i % 20000),
       now() + interval '1 day'
from (select * from base where fate = 'first' order by i limit $waiting) b
cross join lateral (select (substr(b.delivery_id::text, 1, 19) || 'a' || substr(b.delivery_id::text, 21))::uuid as delivery_id) w

-- name: waiting_deliveries
insert into deliveries (tenant_id, delivery_id, event_uid, connection_id, variant, policy_version)
select tenant_id, delivery_id, event_uid, connection_id, variant, policy_version from delivery_queue
