-- Each of the windows reads one index from its newer end, so that a search costs what it looks at, however long the history is.

-- name: window_of_tenant
select d.delivery_id from deliveries d
where d.tenant_id = $1 and d.delivery_id >= $2 and d.delivery_id < $3
order by d.delivery_id desc limit $4

-- name: window_of_connection
select d.delivery_id from deliveries d
where d.tenant_id = $1 and d.connection_id = $5 and d.delivery_id >= $2 and d.delivery_id < $3
order by d.delivery_id desc limit $4

-- name: window_of_queue
select q.delivery_id from delivery_queue q
where q.tenant_id = $1 and q.delivery_id >= $2 and q.delivery_id < $3
order by q.delivery_id desc limit $4

-- name: window_of_unhappy
select a.delivery_id from attempts a
where a.tenant_id = $1 and a.outcome in ('failed', 'cancelled', 'expired') and a.outcome = $5
  and a.delivery_id >= $2 and a.delivery_id < $3
  and not exists (select from attempts b where b.tenant_id = $1 and b.delivery_id = a.delivery_id and b.attempt > a.attempt)
order by a.delivery_id desc limit $4

-- name: search
select d.delivery_id, d.event_uid, d.connection_id, d.variant, d.policy_version, e.event_id, e.event_type, e.privacy::text as privacy,
       q.owner is not null as leased, q.attempts as attempts_made, q.next_at, coalesce(q.blocked, false) as blocked,
       (q.delivery_id is not null) as queued, last.outcome, last.reason
from unnest($2::uuid[]) wanted (id)
join deliveries d on d.tenant_id = $1 and d.delivery_id = wanted.id
join events e on e.tenant_id = $1 and e.event_uid = d.event_uid
left join delivery_queue q on q.tenant_id = $1 and q.delivery_id = wanted.id
left join lateral (
  select a.outcome, a.reason from attempts a where a.tenant_id = $1 and a.delivery_id = wanted.id order by a.attempt desc limit 1
) last on true
where ($3::uuid is null or d.connection_id = $3)
  and ($4::text is null or e.event_type = $4)
  and ($5::text is null or $5 = case
        when q.delivery_id is null then coalesce(last.outcome, 'cancelled')
        when q.owner is not null then 'delivering'
        when q.attempts > 0 then 'retrying'
        else 'pending' end)
order by d.delivery_id desc
