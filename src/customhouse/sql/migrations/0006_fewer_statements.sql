-- Fewer and steadier statements: what accepting, recording, loading, releasing, claiming and recovering cost.
--
-- A batch of many tenants is one statement per table, not one per tenant. Each row enters its tenant as it is made: its tenant_id is
-- what set_config('app.tenant_id', …) answers, and the policy compares it with that setting when it checks this row. Were rows ever
-- made ahead of their checks, the policy would refuse them. Where rows are read, the look-up needs that answer, so it comes after it.
--
-- Plans do not depend on what the planner believes about delivery_queue, which is empty at one moment and long at the next: while it
-- is thought to be tiny, reading all rows of a tenant or of a process looks as good as a look-up by key. So rows are looked up one by
-- one, or by their place; `owner` is compared in a form that no index answers; and plans are made once, not for each batch.
--
-- The functions of the version before stay, because its processes use them until they are replaced; those that cross tenants go.

-- Of a process, what is past its time comes first.
create index delivery_queue_leased on delivery_queue (owner, lease_until) where owner is not null;
drop index delivery_queue_owned;

-- Accept events, as accept_batch_v2 does.
create function accept_batch_v3(
  p_process uuid, p_lease interval, p_platform_version bigint,
  p_tenant text[], p_version bigint[], p_event_to integer[], p_key_to integer[], p_payload_to integer[], p_delivery_to integer[],
  e_uid uuid[], e_id text[], e_type text[], e_occurred timestamptz[], e_correlation text[], e_size integer[], e_privacy text[],
  e_ordering bytea[],
  k_event uuid[], k_hash bytea[], k_digest bytea[], p_key_life interval,
  p_event uuid[], p_variant smallint[], p_sealed bytea[],
  d_uid uuid[], d_event uuid[], d_connection uuid[], d_variant smallint[], d_policy bigint[], d_owned boolean[], p_life interval
) returns table (event_uid uuid, outcome text, first_uid uuid)
language plpgsql set search_path = customhouse, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off as $$
#variable_conflict use_column
declare
  t text;
  i integer;
  ef integer; et integer; kf integer; kt integer; df integer; dt integer;
  found_version bigint;
  platform_version bigint;
  verdict text;
  offered bigint := 0;
  kept bigint;
  turned_away uuid[] := '{}';
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
    perform set_config('app.tenant_id', t, true);
    select version into found_version from tenants where tenant_id = t and status = 'active';
    verdict := case when not found then 'gone' end;
    if platform_version is null then
      select version into platform_version from tenants where tenant_id = '_platform';
    end if;
    if verdict is null and (found_version <> p_version[i] or platform_version is distinct from p_platform_version) then
      verdict := 'stale';
    end if;
    if verdict is null then
      offered := offered + p_key_to[i] - case i when 1 then 0 else p_key_to[i - 1] end;
    else
      ef := case i when 1 then 1 else p_event_to[i - 1] + 1 end;
      turned_away := turned_away || e_uid[ef:p_event_to[i]];
      return query select u, verdict, null::uuid from unnest(e_uid[ef:p_event_to[i]]) u;
    end if;
  end loop;

  if offered > 0 then
    insert into event_keys (tenant_id, key_hash, event_uid, body_digest, expires_at)
    select set_config('app.tenant_id', p_tenant[k.i], true), k.hash, k.event, k.digest, moment + p_key_life
    from (
      select width_bucket((g.at - 1)::integer, p_key_to) + 1 as i, g.hash, g.event, g.digest
      from unnest(k_hash, k_event, k_digest) with ordinality g (hash, event, digest, at)
      where g.event <> all (turned_away)
      order by 1, g.hash, g.at
    ) k
    on conflict (tenant_id, key_hash) do nothing;
    get diagnostics kept = row_count;

    -- Somebody was here before: look who, tenant by tenant.
    for i in 1 .. case when kept < offered then cardinality(p_tenant) else 0 end loop
      t := p_tenant[i];
      kf := case i when 1 then 1 else p_key_to[i - 1] + 1 end;
      kt := p_key_to[i];
      perform set_config('app.tenant_id', t, true);

      clashing := array(
        select distinct k.event
        from unnest(k_hash[kf:kt], k_event[kf:kt]) k (hash, event)
        cross join lateral (
          select held.event_uid from event_keys held where held.tenant_id = t and held.key_hash = k.hash offset 0) held
        where held.event_uid <> k.event and k.event <> all (turned_away));
      continue when cardinality(clashing) = 0;

      -- Whoever met only an event of this very batch that is turned away itself comes again: its key is free by then.
      return query
        with clash as (
          select distinct on (k.event) k.event, held.event_uid as first, held.body_digest = k.digest as same,
                 held.event_uid = any (clashing) as passing
          from unnest(k_hash[kf:kt], k_event[kf:kt], k_digest[kf:kt]) k (hash, event, digest)
          cross join lateral (
            select held.event_uid, held.body_digest from event_keys held
            where held.tenant_id = t and held.key_hash = k.hash offset 0) held
          where held.event_uid <> k.event and k.event = any (clashing)
          order by k.event, passing, same, held.event_uid
        )
        select c.event, case when c.passing then 'stale' when c.same then 'duplicate' else 'conflict' end,
               case when not c.passing then c.first end
        from clash c;

      delete from event_keys held
      where held.ctid = any (array(
        select mine.place
        from unnest(k_hash[kf:kt], k_event[kf:kt]) k (hash, event)
        cross join lateral (
          select own.ctid as place from event_keys own
          where own.tenant_id = t and own.key_hash = k.hash and own.event_uid = k.event offset 0) mine
        where k.event = any (clashing)));
      turned_away := turned_away || clashing;
    end loop;
  end if;

  insert into events (tenant_id, event_uid, event_id, event_type, occurred_at, correlation_id, size_bytes, privacy, delivery_ids,
                      ordering_key, ordering_place)
  select set_config('app.tenant_id', p_tenant[width_bucket((e.at - 1)::integer, p_event_to) + 1], true),
         e.uid, e.id, e.type, e.occurred, e.correlation, e.size, e.privacy::jsonb, coalesce(d.ids, '{}'), e.ordering, e.place
  from unnest(e_uid, e_id, e_type, e_occurred, e_correlation, e_size, e_privacy, e_ordering, places) with ordinality
         e (uid, id, type, occurred, correlation, size, privacy, ordering, place, at)
  left join (
    select x.event, array_agg(x.uid order by x.uid) as ids from unnest(d_uid, d_event) x (uid, event) group by x.event
  ) d on d.event = e.uid
  where e.uid <> all (turned_away);

  insert into payloads (tenant_id, event_uid, variant, sealed)
  select set_config('app.tenant_id', p_tenant[width_bucket((p.at - 1)::integer, p_payload_to) + 1], true), p.event, p.variant, p.sealed
  from unnest(p_event, p_variant, p_sealed) with ordinality p (event, variant, sealed, at)
  where p.event <> all (turned_away);

  insert into deliveries (tenant_id, delivery_id, event_uid, connection_id, variant, policy_version)
  select set_config('app.tenant_id', p_tenant[width_bucket((d.at - 1)::integer, p_delivery_to) + 1], true),
         d.uid, d.event, d.connection, d.variant, d.policy
  from unnest(d_uid, d_event, d_connection, d_variant, d_policy) with ordinality d (uid, event, connection, variant, policy, at)
  where d.event <> all (turned_away);

  if cardinality(e_ordering) = 0 then
    insert into delivery_queue (tenant_id, delivery_id, event_uid, connection_id, variant, policy_version, next_at, expires_at, owner,
                                lease_until)
    select set_config('app.tenant_id', p_tenant[width_bucket((d.at - 1)::integer, p_delivery_to) + 1], true),
           d.uid, d.event, d.connection, d.variant, d.policy, moment, moment + p_life,
           case when d.owned then p_process end, case when d.owned then moment + p_lease end
    from unnest(d_uid, d_event, d_connection, d_variant, d_policy, d_owned) with ordinality
           d (uid, event, connection, variant, policy, owned, at)
    where d.event <> all (turned_away);
  else
    for i in 1 .. cardinality(p_tenant) loop
      t := p_tenant[i];
      ef := case i when 1 then 1 else p_event_to[i - 1] + 1 end;
      et := p_event_to[i];
      df := case i when 1 then 1 else p_delivery_to[i - 1] + 1 end;
      dt := p_delivery_to[i];
      perform set_config('app.tenant_id', t, true);
      -- Behind whatever of its line is there, and behind what stands earlier in this batch. What has a place is never handed off.
      insert into delivery_queue (tenant_id, delivery_id, event_uid, connection_id, variant, policy_version, next_at, expires_at, owner,
                                  lease_until, ordering_key, ordering_place, blocked)
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
      where d.event <> all (turned_away);
    end loop;
  end if;

  return query select u, 'accepted', null::uuid from unnest(e_uid) u where u <> all (turned_away);
  perform set_config('app.tenant_id', '', true);
end
$$;

-- Write what came of attempts, as record_batch_v2 does.
create function record_batch_v3(
  p_process uuid, p_drop_payloads boolean,
  p_tenant text[], p_to integer[],
  r_delivery uuid[], r_lease integer[], r_outcome text[], r_reason text[], r_sent boolean[], r_attempt_id uuid[], r_at timestamptz[],
  r_status integer[], r_error text[], r_latency integer[], r_request integer[], r_response integer[], r_sha bytea[], r_retry_in double precision[],
  r_connection uuid[], r_ordering bytea[]
) returns setof uuid
language plpgsql set search_path = customhouse, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off as $$
declare
  t text;
  i integer;
  k integer;
  f integer; l integer;
  made integer;
  places integer[] := '{}';
  tenants integer[] := '{}';
  attempts integer[] := '{}';
begin
  if cardinality(r_ordering) > 0 then
    perform hold_lines_v1(r_ordering);
  end if;
  for i in 1 .. case when p_drop_payloads then cardinality(p_tenant) else 0 end loop
    f := case i when 1 then 1 else p_to[i - 1] + 1 end;
    perform set_config('app.tenant_id', p_tenant[i], true);
    perform hold_payloads_v1(p_tenant[i], r_delivery[f:p_to[i]]);
  end loop;

  for i in 1 .. cardinality(p_tenant) loop
    t := p_tenant[i];
    f := case i when 1 then 1 else p_to[i - 1] + 1 end;
    l := p_to[i];
    perform set_config('app.tenant_id', t, true);
    for k in f .. l loop
      if r_outcome[k] <> 'retrying' then
        delete from delivery_queue q
        where q.tenant_id = t and q.delivery_id = r_delivery[k] and q.lease = r_lease[k] and q.owner is not distinct from p_process
        returning q.attempts + 1 into made;
      else
        update delivery_queue q
        set owner = null, lease_until = null, lease = q.lease + 1, attempts = q.attempts + 1,
            next_at = now() + make_interval(secs => r_retry_in[k]), body_sha256 = coalesce(q.body_sha256, r_sha[k])
        where q.tenant_id = t and q.delivery_id = r_delivery[k] and q.lease = r_lease[k] and q.owner is not distinct from p_process
        returning q.attempts into made;
      end if;
      if found then
        places := places || k;
        tenants := tenants || i;
        attempts := attempts || made;
      end if;
    end loop;
  end loop;

  return query
    insert into attempts (tenant_id, delivery_id, attempt, attempt_id, outcome, reason, sent, at, status_code, error, latency_ms,
                          request_bytes, response_bytes, body_sha256)
    select set_config('app.tenant_id', p_tenant[w.tenant], true), r_delivery[w.place], w.attempt, r_attempt_id[w.place],
           r_outcome[w.place], r_reason[w.place], r_sent[w.place], r_at[w.place], r_status[w.place], r_error[w.place],
           r_latency[w.place], r_request[w.place], r_response[w.place], r_sha[w.place]
    from unnest(places, tenants, attempts) w (place, tenant, attempt)
    returning attempt_id;

  for i in 1 .. case when p_drop_payloads or cardinality(r_ordering) > 0 then cardinality(p_tenant) else 0 end loop
    t := p_tenant[i];
    f := case i when 1 then 1 else p_to[i - 1] + 1 end;
    l := p_to[i];
    perform set_config('app.tenant_id', t, true);
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

-- What claimed deliveries need to be sent, as load_batch_v2 does.
create function load_batch_v3(p_process uuid, p_tenant text[], p_delivery uuid[])
returns table (tenant_id text, tenant_version bigint, platform_version bigint, delivery_id uuid, lease integer, event_uid uuid, event_id text,
               event_type text, connection_id uuid, variant smallint, policy_version bigint, attempts integer, expires_at timestamptz,
               body_sha256 bytea, ordering_key bytea, sealed bytea)
language plpgsql set search_path = customhouse, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off as $$
#variable_conflict use_column
declare
  platform bigint;
begin
  perform set_config('app.tenant_id', p_tenant[1], true);
  select version into platform from tenants where tenant_id = '_platform';
  return query
    select x.tenant, own.version, platform, q.delivery_id, q.lease, q.event_uid, e.event_id, e.event_type, q.connection_id, q.variant,
           q.policy_version, q.attempts, q.expires_at, q.body_sha256, q.ordering_key, p.sealed
    from (
      select set_config('app.tenant_id', g.tenant, true) as tenant, g.delivery from unnest(p_tenant, p_delivery) g (tenant, delivery) offset 0
    ) x
    cross join lateral (
      select * from delivery_queue q
      where q.tenant_id = x.tenant and q.delivery_id = x.delivery and q.owner is not distinct from p_process offset 0
    ) q
    cross join lateral (select own.version from tenants own where own.tenant_id = x.tenant offset 0) own
    left join lateral (
      select e.event_id, e.event_type from events e where e.tenant_id = x.tenant and e.event_uid = q.event_uid offset 0
    ) e on true
    left join lateral (
      select p.sealed from payloads p where p.tenant_id = x.tenant and p.event_uid = q.event_uid and p.variant = q.variant offset 0
    ) p on true;
  perform set_config('app.tenant_id', '', true);
end
$$;

-- Give rows back, as release_batch_v1 does.
create function release_batch_v2(p_process uuid, p_tenant text[], p_delivery uuid[], p_lease integer[], p_in interval) returns void
language plpgsql set search_path = customhouse, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off as $$
declare
  k integer;
begin
  for k in 1 .. cardinality(p_delivery) loop
    perform set_config('app.tenant_id', p_tenant[k], true);
    update delivery_queue q
    set owner = null, lease_until = null, lease = q.lease + 1, next_at = now() + p_in
    where q.tenant_id = p_tenant[k] and q.delivery_id = p_delivery[k] and q.lease = p_lease[k] and q.owner is not distinct from p_process;
  end loop;
  perform set_config('app.tenant_id', '', true);
end
$$;

-- Claim what is due, as claim_due_v3 did: rows are taken by their place.
drop function claim_due_v3(uuid, integer, integer, interval, uuid[], text, uuid, integer);
create function claim_due_v4(
  p_process uuid, p_limit integer, p_each integer, p_lease interval, p_skip uuid[],
  p_after_tenant text, p_after_connection uuid, p_visits integer
) returns table (tenant_id text, connection_id uuid, delivery_id uuid, lease integer)
language plpgsql security definer set search_path = customhouse, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off as $$
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
      where q.ctid = any (array(
        select d.ctid from customhouse.delivery_queue d
        where d.owner is null and not d.blocked and d.tenant_id = at_tenant and d.connection_id = at_connection and d.next_at <= now()
        order by d.next_at
        limit least(p_each, free)
        for update skip locked
      ))
      returning q.tenant_id, q.connection_id, q.delivery_id, q.lease;
    get diagnostics claimed = row_count;
    free := free - claimed;
    exit when free <= 0;
  end loop;
  return query select at_tenant, at_connection, null::uuid, null::integer;
end
$$;

-- Free the leases of processes that are silent, and those past their time, as recover_leases_v1 did, without reading any others.
drop function recover_leases_v1(interval);
create function recover_leases_v2(p_silence interval) returns integer
language plpgsql security definer set search_path = customhouse, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off as $$
declare
  at_owner uuid := '00000000-0000-0000-0000-000000000000';
  lives boolean;
  free integer := 5000;
  freed integer;
begin
  while free > 0 loop
    select q.owner into at_owner from customhouse.delivery_queue q where q.owner > at_owner order by q.owner limit 1;
    exit when not found;
    lives := exists (select from customhouse.processes p where p.process_id = at_owner and p.heartbeat_at > now() - p_silence);
    update customhouse.delivery_queue q
    set owner = null, lease_until = null, lease = q.lease + 1, next_at = now()
    where q.ctid = any (array(
      select d.ctid from customhouse.delivery_queue d
      where d.owner = at_owner and d.lease_until < case when lives then now() else 'infinity' end
      order by d.owner, d.lease_until
      limit free
      for update skip locked
    ));
    get diagnostics freed = row_count;
    free := free - freed;
  end loop;
  delete from customhouse.processes p where p.heartbeat_at < now() - p_silence * 10;
  return 5000 - free;
end
$$;

do $$
declare
  name text;
begin
  grant create on schema customhouse to customhouse_crossing;
  foreach name in array array['claim_due_v4(uuid, integer, integer, interval, uuid[], text, uuid, integer)', 'recover_leases_v2(interval)'] loop
    execute format('alter function %s owner to customhouse_crossing', name);
    execute format('revoke all on function %s from public', name);
    execute format('grant execute on function %s to customhouse_service', name);
  end loop;
  revoke create on schema customhouse from customhouse_crossing;
end
$$;
