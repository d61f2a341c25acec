-- Deliveries in order, the health of connections, and the end of deliveries that nobody could send.
--
-- Functions that have a newer version here stay: processes of the version before use them until they are replaced. The exceptions are
-- those that would send a delivery out of its order.

-- Order ----------------------------------------------------------------------------------------------------------------

-- Events with an ordering key form a line per (connection, key). A place in it is drawn while the key's turn is held until the commit,
-- so the order of places is the order of commits. Places that were drawn in vain leave gaps; nothing looks for them.
create sequence ordering_places as bigint;
grant usage on sequence ordering_places to customhouse_service;

alter table events add column ordering_key bytea, add column ordering_place bigint;

-- Of a line, one row at most is not blocked, its head: that one can be claimed, or is leased. The others wait for its end.
alter table delivery_queue
  add column ordering_key bytea check (octet_length(ordering_key) = 32),
  add column ordering_place bigint,
  add column blocked boolean not null default false,
  add constraint delivery_queue_line_check check (
    (ordering_key is null) = (ordering_place is null) and (not blocked or (ordering_key is not null and owner is null)));
create index delivery_queue_line on delivery_queue (tenant_id, connection_id, ordering_key, ordering_place) where ordering_key is not null;
create unique index delivery_queue_head on delivery_queue (tenant_id, connection_id, ordering_key)
  where ordering_key is not null and not blocked;
create index delivery_queue_next on delivery_queue (tenant_id, connection_id, next_at) where owner is null and not blocked;
drop index delivery_queue_turn;

-- Who adds to a line or ends its head takes the key's turn first, all of a transaction's turns in one ascending go before any other
-- lock: so there is no ring, and a transaction holds at most 1024 of them, however many keys it has.
create function hold_lines_v1(p_key bytea[]) returns void
language plpgsql set search_path = customhouse, pg_temp as $$
begin
  perform pg_advisory_xact_lock(20531, turn) from (
    select distinct get_byte(key, 0) * 4 + get_byte(key, 1) / 64 as turn from unnest(p_key) key where key is not null order by turn
  ) turns;
end
$$;

-- Let the first of each line be its head; the caller is in the tenant and holds the turns. A head that is leased stays until it ends,
-- even if a retried delivery with an earlier place came meanwhile. Rows keep their own time, so a retry's wait is not cut short.
-- Line by line, by plans that do not depend on how long the queue was when they were made: it is empty at one moment and long at the next.
create function advance_lines_v1(p_tenant text, p_connection uuid[], p_key bytea[]) returns void
language plpgsql set search_path = customhouse, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off as $$
declare
  line record;
  head record;
  first record;
  has_head boolean;
begin
  for line in select distinct l.connection, l.key from unnest(p_connection, p_key) l (connection, key) where l.key is not null loop
    select h.delivery_id, h.owner into head from delivery_queue h
    where h.tenant_id = p_tenant and h.connection_id = line.connection and h.ordering_key = line.key and not h.blocked;
    has_head := found;
    continue when has_head and head.owner is not null;
    select f.delivery_id into first from delivery_queue f
    where f.tenant_id = p_tenant and f.connection_id = line.connection and f.ordering_key = line.key
    order by f.ordering_place limit 1;
    continue when not found or (has_head and first.delivery_id = head.delivery_id);
    if has_head then
      update delivery_queue q set blocked = true
      where q.tenant_id = p_tenant and q.delivery_id = head.delivery_id and not q.blocked and q.owner is null;
      -- Somebody has claimed it meanwhile.
      continue when not found;
    end if;
    update delivery_queue q set blocked = false where q.tenant_id = p_tenant and q.delivery_id = first.delivery_id and q.blocked;
  end loop;
end
$$;

-- Accept events, as accept_batch_v1 does. e_ordering holds the key of each event, in the order in which those of one key stand in line;
-- it is empty where no event of the batch has a key: such a batch does nothing more than before.
create function accept_batch_v2(
  p_process uuid, p_lease interval, p_platform_version bigint,
  p_tenant text[], p_version bigint[], p_event_to integer[], p_key_to integer[], p_payload_to integer[], p_delivery_to integer[],
  e_uid uuid[], e_id text[], e_type text[], e_occurred timestamptz[], e_correlation text[], e_size integer[], e_privacy text[],
  e_ordering bytea[],
  k_event uuid[], k_hash bytea[], k_digest bytea[], p_key_life interval,
  p_event uuid[], p_variant smallint[], p_sealed bytea[],
  d_uid uuid[], d_event uuid[], d_connection uuid[], d_variant smallint[], d_policy bigint[], d_owned boolean[], p_life interval
) returns table (event_uid uuid, outcome text, first_uid uuid)
language plpgsql set search_path = customhouse, pg_temp as $$
#variable_conflict use_column
declare
  t text;
  i integer;
  ef integer; et integer; kf integer; kt integer; pf integer; pt integer; df integer; dt integer;
  found_version bigint;
  clashing uuid[];
  places bigint[] := '{}';
  moment timestamptz := now();
begin
  if cardinality(e_ordering) > 0 then
    perform hold_lines_v1(e_ordering);
    places := array(
      select case when e.key is not null then nextval('ordering_places') end
      from unnest(e_ordering) with ordinality e (key, at) order by e.at);
  end if;

  for i in 1 .. cardinality(p_tenant) loop
    t := p_tenant[i];
    ef := case i when 1 then 1 else p_event_to[i - 1] + 1 end;
    et := p_event_to[i];
    kf := case i when 1 then 1 else p_key_to[i - 1] + 1 end;
    kt := p_key_to[i];
    pf := case i when 1 then 1 else p_payload_to[i - 1] + 1 end;
    pt := p_payload_to[i];
    df := case i when 1 then 1 else p_delivery_to[i - 1] + 1 end;
    dt := p_delivery_to[i];
    perform set_config('app.tenant_id', t, true);

    select version into found_version from tenants where tenant_id = t and status = 'active';
    if not found then
      return query select u, 'gone', null::uuid from unnest(e_uid[ef:et]) u;
      continue;
    end if;
    if found_version <> p_version[i]
       or (select version from tenants where tenant_id = '_platform') is distinct from p_platform_version then
      return query select u, 'stale', null::uuid from unnest(e_uid[ef:et]) u;
      continue;
    end if;

    clashing := '{}';
    if kt >= kf then
      insert into event_keys as held (tenant_id, key_hash, event_uid, body_digest, expires_at)
      select t, k.hash, k.event, k.digest, moment + p_key_life
      from unnest(k_hash[kf:kt], k_event[kf:kt], k_digest[kf:kt]) with ordinality k (hash, event, digest, place)
      order by k.hash, k.place
      on conflict (tenant_id, key_hash) do nothing;

      select coalesce(array_agg(distinct k.event), '{}') into clashing
      from unnest(k_hash[kf:kt], k_event[kf:kt]) k (hash, event)
      join event_keys held on held.tenant_id = t and held.key_hash = k.hash
      where held.event_uid <> k.event;

      -- Whoever met only an event of this very batch that is turned away itself comes again: its key is free by then.
      return query
        with clash as (
          select distinct on (k.event) k.event, held.event_uid as first, held.body_digest = k.digest as same,
                 held.event_uid = any (clashing) as passing
          from unnest(k_hash[kf:kt], k_event[kf:kt], k_digest[kf:kt]) k (hash, event, digest)
          join event_keys held on held.tenant_id = t and held.key_hash = k.hash
          where held.event_uid <> k.event
          order by k.event, passing, same, held.event_uid
        )
        select c.event, case when c.passing then 'stale' when c.same then 'duplicate' else 'conflict' end,
               case when not c.passing then c.first end
        from clash c;

      if cardinality(clashing) > 0 then
        delete from event_keys held
        using unnest(k_hash[kf:kt], k_event[kf:kt]) k (hash, event)
        where held.tenant_id = t and held.key_hash = k.hash and held.event_uid = k.event and k.event = any (clashing);
      end if;
    end if;

    insert into events (tenant_id, event_uid, event_id, event_type, occurred_at, correlation_id, size_bytes, privacy, delivery_ids,
                        ordering_key, ordering_place)
    select t, e.uid, e.id, e.type, e.occurred, e.correlation, e.size, e.privacy::jsonb, coalesce(d.ids, '{}'), e.ordering, e.place
    from unnest(e_uid[ef:et], e_id[ef:et], e_type[ef:et], e_occurred[ef:et], e_correlation[ef:et], e_size[ef:et], e_privacy[ef:et],
                e_ordering[ef:et], places[ef:et])
           e (uid, id, type, occurred, correlation, size, privacy, ordering, place)
    left join (
      select x.event, array_agg(x.uid order by x.uid) as ids from unnest(d_uid[df:dt], d_event[df:dt]) x (uid, event) group by x.event
    ) d on d.event = e.uid
    where e.uid <> all (clashing);

    insert into payloads (tenant_id, event_uid, variant, sealed)
    select t, p.event, p.variant, p.sealed
    from unnest(p_event[pf:pt], p_variant[pf:pt], p_sealed[pf:pt]) p (event, variant, sealed)
    where p.event <> all (clashing);

    insert into deliveries (tenant_id, delivery_id, event_uid, connection_id, variant, policy_version)
    select t, d.uid, d.event, d.connection, d.variant, d.policy
    from unnest(d_uid[df:dt], d_event[df:dt], d_connection[df:dt], d_variant[df:dt], d_policy[df:dt]) d (uid, event, connection, variant, policy)
    where d.event <> all (clashing);

    if cardinality(e_ordering) = 0 then
      insert into delivery_queue (tenant_id, delivery_id, event_uid, connection_id, variant, policy_version, next_at, expires_at, owner, lease_until)
      select t, d.uid, d.event, d.connection, d.variant, d.policy, moment, moment + p_life,
             case when d.owned then p_process end, case when d.owned then moment + p_lease end
      from unnest(d_uid[df:dt], d_event[df:dt], d_connection[df:dt], d_variant[df:dt], d_policy[df:dt], d_owned[df:dt])
             d (uid, event, connection, variant, policy, owned)
      where d.event <> all (clashing);
    else
      -- Behind whatever of its line is there, and behind what stands earlier in this batch. What has a place is never handed off.
      insert into delivery_queue (tenant_id, delivery_id, event_uid, connection_id, variant, policy_version, next_at, expires_at, owner, lease_until,
                                  ordering_key, ordering_place, blocked)
      select t, d.uid, d.event, d.connection, d.variant, d.policy, moment, moment + p_life,
             case when d.owned and e.ordering is null then p_process end,
             case when d.owned and e.ordering is null then moment + p_lease end,
             e.ordering, e.place,
             e.ordering is not null and (
               row_number() over (partition by d.connection, e.ordering order by e.place) > 1
               or exists (
                 select from delivery_queue q where q.tenant_id = t and q.connection_id = d.connection and q.ordering_key = e.ordering))
      from unnest(d_uid[df:dt], d_event[df:dt], d_connection[df:dt], d_variant[df:dt], d_policy[df:dt], d_owned[df:dt])
             d (uid, event, connection, variant, policy, owned)
      join unnest(e_uid[ef:et], e_ordering[ef:et], places[ef:et]) e (uid, ordering, place) on e.uid = d.event
      where d.event <> all (clashing);
    end if;

    return query select u, 'accepted', null::uuid from unnest(e_uid[ef:et]) u where u <> all (clashing);
  end loop;
  perform set_config('app.tenant_id', '', true);
end
$$;

-- Write what came of attempts, as record_batch_v1 does. r_connection and r_ordering name the line of each delivery, both empty where no
-- delivery of the batch has one: such a batch does nothing more than before.
create function record_batch_v2(
  p_process uuid, p_drop_payloads boolean,
  p_tenant text[], p_to integer[],
  r_delivery uuid[], r_lease integer[], r_outcome text[], r_reason text[], r_sent boolean[], r_attempt_id uuid[], r_at timestamptz[],
  r_status integer[], r_error text[], r_latency integer[], r_request integer[], r_response integer[], r_sha bytea[], r_retry_in double precision[],
  r_connection uuid[], r_ordering bytea[]
) returns setof uuid
language plpgsql set search_path = customhouse, pg_temp as $$
declare
  t text;
  i integer;
  f integer; l integer;
begin
  if cardinality(r_ordering) > 0 then
    perform hold_lines_v1(r_ordering);
  end if;
  for i in 1 .. cardinality(p_tenant) loop
    t := p_tenant[i];
    f := case i when 1 then 1 else p_to[i - 1] + 1 end;
    l := p_to[i];
    perform set_config('app.tenant_id', t, true);
    if p_drop_payloads then
      perform hold_payloads_v1(t, r_delivery[f:l]);
    end if;

    return query
      with result as (
        select * from unnest(r_delivery[f:l], r_lease[f:l], r_outcome[f:l], r_reason[f:l], r_sent[f:l], r_attempt_id[f:l], r_at[f:l],
                             r_status[f:l], r_error[f:l], r_latency[f:l], r_request[f:l], r_response[f:l], r_sha[f:l], r_retry_in[f:l])
          r (delivery, lease, outcome, reason, sent, attempt_id, at, status, error, latency, request, response, sha, retry_in)
      ),
      finished as (
        delete from delivery_queue q using result r
        where q.tenant_id = t and q.delivery_id = r.delivery and q.owner = p_process and q.lease = r.lease and r.outcome <> 'retrying'
        returning q.delivery_id, q.lease, q.attempts
      ),
      again as (
        update delivery_queue q
        set owner = null, lease_until = null, lease = q.lease + 1, attempts = q.attempts + 1,
            next_at = now() + make_interval(secs => r.retry_in), body_sha256 = coalesce(q.body_sha256, r.sha)
        from result r
        where q.tenant_id = t and q.delivery_id = r.delivery and q.owner = p_process and q.lease = r.lease and r.outcome = 'retrying'
        returning q.delivery_id, q.lease - 1 as lease, q.attempts - 1 as attempts
      ),
      written as (
        select * from finished union all select * from again
      )
      insert into attempts (tenant_id, delivery_id, attempt, attempt_id, outcome, reason, sent, at, status_code, error, latency_ms,
                            request_bytes, response_bytes, body_sha256)
      select t, r.delivery, w.attempts + 1, r.attempt_id, r.outcome, r.reason, r.sent, r.at, r.status, r.error, r.latency, r.request,
             r.response, r.sha
      from result r join written w on w.delivery_id = r.delivery and w.lease = r.lease
      returning attempt_id;

    if p_drop_payloads then
      perform drop_ended_payloads_v1(t, r_delivery[f:l]);
    end if;
    if cardinality(r_ordering) > 0 then
      perform advance_lines_v1(t, r_connection[f:l], r_ordering[f:l]);
    end if;
  end loop;
  perform set_config('app.tenant_id', '', true);
end
$$;

-- As load_batch_v1, with the key of the line.
create function load_batch_v2(p_process uuid, p_tenant text[], p_delivery uuid[])
returns table (tenant_id text, tenant_version bigint, platform_version bigint, delivery_id uuid, lease integer, event_uid uuid, event_id text,
               event_type text, connection_id uuid, variant smallint, policy_version bigint, attempts integer, expires_at timestamptz,
               body_sha256 bytea, ordering_key bytea, sealed bytea)
language plpgsql set search_path = customhouse, pg_temp as $$
#variable_conflict use_column
declare
  t text;
begin
  for t in select distinct unnest(p_tenant) loop
    perform set_config('app.tenant_id', t, true);
    return query
      select t, own.version, platform.version, q.delivery_id, q.lease, q.event_uid, e.event_id, e.event_type, q.connection_id, q.variant,
             q.policy_version, q.attempts, q.expires_at, q.body_sha256, q.ordering_key, p.sealed
      from unnest(p_tenant, p_delivery) x (tenant, delivery)
      join delivery_queue q on q.tenant_id = t and q.delivery_id = x.delivery and q.owner = p_process
      join tenants own on own.tenant_id = t
      join tenants platform on platform.tenant_id = '_platform'
      left join events e on e.tenant_id = t and e.event_uid = q.event_uid
      left join payloads p on p.tenant_id = t and p.event_uid = q.event_uid and p.variant = q.variant
      where x.tenant = t;
  end loop;
  perform set_config('app.tenant_id', '', true);
end
$$;

-- As claim_due_v2, and of a line its head only.
drop function claim_due_v2(uuid, integer, integer, interval, uuid[], text, uuid, integer);
create function claim_due_v3(
  p_process uuid, p_limit integer, p_each integer, p_lease interval, p_skip uuid[],
  p_after_tenant text, p_after_connection uuid, p_visits integer
) returns table (tenant_id text, connection_id uuid, delivery_id uuid, lease integer)
language plpgsql security definer set search_path = customhouse, pg_temp set enable_seqscan = off as $$
#variable_conflict use_column
declare
  at_tenant text := p_after_tenant;
  at_connection uuid := p_after_connection;
  wrapped boolean := p_after_tenant = '';
  free integer := p_limit;
  claimed integer;
  next_one record;
begin
  for visit in 1 .. p_visits loop
    select q.tenant_id, q.connection_id into next_one
    from customhouse.delivery_queue q
    where q.owner is null and not q.blocked and (q.tenant_id, q.connection_id) > (at_tenant, at_connection)
    order by q.tenant_id, q.connection_id
    limit 1;
    if not found then
      at_tenant := '';
      at_connection := '00000000-0000-0000-0000-000000000000';
      exit when wrapped;
      wrapped := true;
      continue;
    end if;
    exit when wrapped and p_after_tenant <> ''
      and (next_one.tenant_id, next_one.connection_id) > (p_after_tenant, p_after_connection);
    at_tenant := next_one.tenant_id;
    at_connection := next_one.connection_id;
    continue when at_connection = any (p_skip);
    return query
      update customhouse.delivery_queue q
      set owner = p_process, lease = q.lease + 1, lease_until = now() + p_lease
      from (
        select d.tenant_id, d.delivery_id from customhouse.delivery_queue d
        where d.owner is null and not d.blocked and d.tenant_id = at_tenant and d.connection_id = at_connection and d.next_at <= now()
        order by d.next_at
        limit least(p_each, free)
        for update skip locked
      ) due
      where q.tenant_id = due.tenant_id and q.delivery_id = due.delivery_id
      returning q.tenant_id, q.connection_id, q.delivery_id, q.lease;
    get diagnostics claimed = row_count;
    free := free - claimed;
    exit when free <= 0;
  end loop;
  return query select at_tenant, at_connection, null::uuid, null::integer;
end
$$;

drop function queue_depth_v1();
create function queue_depth_v2() returns table (due bigint, waiting bigint, leased bigint)
language sql stable security definer set search_path = customhouse, pg_temp as $$
  select count(*) filter (where q.owner is null and not q.blocked and q.next_at <= now()),
         count(*) filter (where q.owner is null and (q.blocked or q.next_at > now())),
         count(*) filter (where q.owner is not null)
  from customhouse.delivery_queue q
$$;

-- A line without a head, as a disconnect that meets an accept can leave one, or a hand that deletes rows: one row of each.
create function stalled_lines_v1(p_limit integer) returns table (tenant_id text, delivery_id uuid)
language sql stable security definer set search_path = customhouse, pg_temp as $$
  select distinct on (q.tenant_id, q.connection_id, q.ordering_key) q.tenant_id, q.delivery_id
  from customhouse.delivery_queue q
  where q.blocked and not exists (
    select from customhouse.delivery_queue h
    where h.tenant_id = q.tenant_id and h.connection_id = q.connection_id and h.ordering_key = q.ordering_key and not h.blocked)
  limit p_limit
$$;

-- Give the lines of these deliveries, which wait in one tenant, their heads.
create function mend_lines_v1(p_tenant text, p_delivery uuid[]) returns void
language plpgsql set search_path = customhouse, pg_temp as $$
declare
  connections uuid[];
  keys bytea[];
begin
  select array_agg(q.connection_id), array_agg(q.ordering_key) into connections, keys
  from delivery_queue q where q.tenant_id = p_tenant and q.delivery_id = any (p_delivery) and q.ordering_key is not null;
  perform hold_lines_v1(keys);
  perform advance_lines_v1(p_tenant, connections, keys);
end
$$;

-- The end of what could not be sent in time --------------------------------------------------------------------------------

-- Whoever holds a delivery ends it; these are held by nobody. Not a hot query, so it has no index of its own: every accept would pay.
create function overdue_deliveries_v1(p_limit integer) returns table (tenant_id text, delivery_id uuid)
language sql stable security definer set search_path = customhouse, pg_temp as $$
  select q.tenant_id, q.delivery_id from customhouse.delivery_queue q where q.owner is null and q.expires_at <= now() limit p_limit
$$;

-- End those of them in one tenant that nobody has taken since; answers how many.
create function expire_batch_v1(p_tenant text, p_drop_payloads boolean, p_delivery uuid[]) returns integer
language plpgsql set search_path = customhouse, pg_temp as $$
declare
  connections uuid[];
  keys bytea[];
  ended uuid[];
begin
  select array_agg(q.connection_id), array_agg(q.ordering_key) into connections, keys
  from delivery_queue q where q.tenant_id = p_tenant and q.delivery_id = any (p_delivery) and q.ordering_key is not null;
  perform hold_lines_v1(keys);
  if p_drop_payloads then
    perform hold_payloads_v1(p_tenant, p_delivery);
  end if;
  with locked as (
    select q.delivery_id from delivery_queue q
    where q.tenant_id = p_tenant and q.delivery_id = any (p_delivery) and q.owner is null and q.expires_at <= now()
    order by q.delivery_id
    for update skip locked
  ),
  gone as (
    delete from delivery_queue q using locked where q.tenant_id = p_tenant and q.delivery_id = locked.delivery_id
    returning q.delivery_id, q.attempts
  ),
  written as (
    insert into attempts (tenant_id, delivery_id, attempt, attempt_id, outcome, reason, sent, at)
    select p_tenant, g.delivery_id, g.attempts + 1, gen_random_uuid(), 'expired', 'life_exhausted', false, now() from gone g
    returning delivery_id
  )
  select coalesce(array_agg(delivery_id), '{}') into ended from written;
  if p_drop_payloads then
    perform drop_ended_payloads_v1(p_tenant, ended);
  end if;
  perform advance_lines_v1(p_tenant, connections, keys);
  return cardinality(ended);
end
$$;

-- Health ---------------------------------------------------------------------------------------------------------------

-- How a connection does: written when that changes, and about once a minute while it stays the same; never per delivery.
create table connection_health (
  tenant_id        text not null,
  connection_id    uuid not null,
  failing_since    timestamptz,
  last_success_at  timestamptz,
  last_failure_at  timestamptz,
  last_failure     text,
  primary key (tenant_id, connection_id),
  foreign key (tenant_id, connection_id) references connections (tenant_id, connection_id),
  check (failing_since <= last_failure_at)
);
create index connection_health_failing on connection_health (failing_since) where failing_since is not null;
alter table connection_health enable row level security;
alter table connection_health force row level security;
create policy own_tenant on connection_health to customhouse_service
  using (tenant_id = nullif(current_setting('app.tenant_id', true), ''))
  with check (tenant_id = nullif(current_setting('app.tenant_id', true), ''));
grant select, insert, update, delete on connection_health to customhouse_service;

-- Write what was seen of connections, one row each, sorted. p_success is the last success or null; p_since and p_failure are the first and
-- the last failure; p_since is null where a success came after them. Older news changes nothing that newer news said.
create function note_health_v1(
  p_tenant text[], p_connection uuid[], p_success timestamptz[], p_since timestamptz[], p_failure timestamptz[], p_reason text[]
) returns void
language plpgsql set search_path = customhouse, pg_temp as $$
declare
  t text;
begin
  for t in select distinct tenant from unnest(p_tenant) tenant order by tenant loop
    perform set_config('app.tenant_id', t, true);
    insert into connection_health as h (tenant_id, connection_id, failing_since, last_success_at, last_failure_at, last_failure)
    select t, n.connection, n.since, n.success, n.failure, n.reason
    from unnest(p_tenant, p_connection, p_success, p_since, p_failure, p_reason) n (tenant, connection, success, since, failure, reason)
    join connections c on c.tenant_id = t and c.connection_id = n.connection
    where n.tenant = t
    order by n.connection
    on conflict (tenant_id, connection_id) do update set
      failing_since = case
        when excluded.failing_since is null then
          case when h.last_failure_at > excluded.last_success_at then h.failing_since end
        when h.last_success_at > excluded.last_failure_at then h.failing_since
        when h.failing_since is null or h.failing_since < excluded.last_success_at then excluded.failing_since
        else least(h.failing_since, excluded.failing_since)
      end,
      last_success_at = greatest(h.last_success_at, excluded.last_success_at),
      last_failure = case when h.last_failure_at > excluded.last_failure_at or excluded.last_failure_at is null then h.last_failure
                          else excluded.last_failure end,
      last_failure_at = greatest(h.last_failure_at, excluded.last_failure_at);
  end loop;
  perform set_config('app.tenant_id', '', true);
end
$$;

create policy crossing on connection_health for select to customhouse_crossing using (true);
grant select (tenant_id, connection_id, failing_since, last_success_at, last_failure_at) on connection_health to customhouse_crossing;
create policy crossing_health on connections for select to customhouse_crossing using (provider = 'webhook');
grant select (tenant_id, connection_id, provider, status) on connections to customhouse_crossing;

-- Of the connections that something was sent to within a period: how many there are, and how many fail.
create function fleet_health_v1(p_period interval) returns table (tried bigint, failing bigint)
language sql stable security definer set search_path = customhouse, pg_temp as $$
  select count(*), count(h.failing_since)
  from customhouse.connection_health h
  join customhouse.connections c on c.tenant_id = h.tenant_id and c.connection_id = h.connection_id
  where c.provider = 'webhook' and c.status in ('active', 'degraded')
    and greatest(h.last_success_at, h.last_failure_at) > now() - p_period
$$;

-- Connections that have failed, again and again, for at least a period.
create function long_failing_v1(p_period interval, p_limit integer) returns table (tenant_id text, connection_id uuid)
language sql stable security definer set search_path = customhouse, pg_temp as $$
  select h.tenant_id, h.connection_id
  from customhouse.connection_health h
  join customhouse.connections c on c.tenant_id = h.tenant_id and c.connection_id = h.connection_id
  where h.failing_since <= now() - p_period and h.last_failure_at >= h.failing_since + p_period
    and c.provider = 'webhook' and c.status in ('active', 'degraded')
  order by h.failing_since, h.tenant_id, h.connection_id
  limit p_limit
$$;

-- What is held back at the moment by a brake, so that it is told once.
create table brakes (
  name   text primary key,
  since  timestamptz not null default now()
);
grant select, insert, delete on brakes to customhouse_service;

do $$
declare
  name text;
begin
  grant create on schema customhouse to customhouse_crossing;
  foreach name in array array['claim_due_v3(uuid, integer, integer, interval, uuid[], text, uuid, integer)', 'queue_depth_v2()',
      'stalled_lines_v1(integer)', 'overdue_deliveries_v1(integer)', 'fleet_health_v1(interval)', 'long_failing_v1(interval, integer)'] loop
    execute format('alter function %s owner to customhouse_crossing', name);
    execute format('revoke all on function %s from public', name);
    execute format('grant execute on function %s to customhouse_service', name);
  end loop;
  revoke create on schema customhouse from customhouse_crossing;
end
$$;
