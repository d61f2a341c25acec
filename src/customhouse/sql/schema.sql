-- What the migrations add up to. Made by `make schema`, for reading and for comparing; a database is made by `customhouse db migrate`.
-- The partitions, whose names hold dates, are left out.

set check_function_bodies = false;

do $$
declare
  role_name text;
begin
  foreach role_name in array array['customhouse_service', 'customhouse_crossing', 'customhouse_upkeep', 'customhouse_revoker'] loop
    if not exists (select from pg_roles where rolname = role_name) then
      execute format('create role %I nologin', role_name);
    end if;
  end loop;
end
$$;

CREATE SCHEMA customhouse;

CREATE TYPE customhouse.pgqueuer_status AS ENUM (
    'queued',
    'picked',
    'successful',
    'exception',
    'canceled',
    'deleted',
    'failed'
);

CREATE FUNCTION customhouse.accept_batch_v1(p_process uuid, p_lease interval, p_platform_version bigint, p_tenant text[], p_version bigint[], p_event_to integer[], p_key_to integer[], p_payload_to integer[], p_delivery_to integer[], e_uid uuid[], e_id text[], e_type text[], e_occurred timestamp with time zone[], e_correlation text[], e_size integer[], e_privacy text[], k_event uuid[], k_hash bytea[], k_digest bytea[], p_key_life interval, p_event uuid[], p_variant smallint[], p_sealed bytea[], d_uid uuid[], d_event uuid[], d_connection uuid[], d_variant smallint[], d_policy bigint[], d_owned boolean[], p_life interval) RETURNS TABLE(event_uid uuid, outcome text, first_uid uuid)
    LANGUAGE plpgsql
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  t text;
  i integer;
  ef integer; et integer; kf integer; kt integer; pf integer; pt integer; df integer; dt integer;
  found_version bigint;
  clashing uuid[];
  moment timestamptz := now();
begin
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

    insert into events (tenant_id, event_uid, event_id, event_type, occurred_at, correlation_id, size_bytes, privacy, delivery_ids)
    select t, e.uid, e.id, e.type, e.occurred, e.correlation, e.size, e.privacy::jsonb, coalesce(d.ids, '{}')
    from unnest(e_uid[ef:et], e_id[ef:et], e_type[ef:et], e_occurred[ef:et], e_correlation[ef:et], e_size[ef:et], e_privacy[ef:et])
           e (uid, id, type, occurred, correlation, size, privacy)
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

    insert into delivery_queue (tenant_id, delivery_id, event_uid, connection_id, variant, policy_version, next_at, expires_at, owner, lease_until)
    select t, d.uid, d.event, d.connection, d.variant, d.policy, moment, moment + p_life,
           case when d.owned then p_process end, case when d.owned then moment + p_lease end
    from unnest(d_uid[df:dt], d_event[df:dt], d_connection[df:dt], d_variant[df:dt], d_policy[df:dt], d_owned[df:dt])
           d (uid, event, connection, variant, policy, owned)
    where d.event <> all (clashing);

    return query select u, 'accepted', null::uuid from unnest(e_uid[ef:et]) u where u <> all (clashing);
  end loop;
  perform set_config('app.tenant_id', '', true);
end
$$;

CREATE FUNCTION customhouse.accept_batch_v2(p_process uuid, p_lease interval, p_platform_version bigint, p_tenant text[], p_version bigint[], p_event_to integer[], p_key_to integer[], p_payload_to integer[], p_delivery_to integer[], e_uid uuid[], e_id text[], e_type text[], e_occurred timestamp with time zone[], e_correlation text[], e_size integer[], e_privacy text[], e_ordering bytea[], k_event uuid[], k_hash bytea[], k_digest bytea[], p_key_life interval, p_event uuid[], p_variant smallint[], p_sealed bytea[], d_uid uuid[], d_event uuid[], d_connection uuid[], d_variant smallint[], d_policy bigint[], d_owned boolean[], p_life interval) RETURNS TABLE(event_uid uuid, outcome text, first_uid uuid)
    LANGUAGE plpgsql
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
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

CREATE FUNCTION customhouse.accept_batch_v3(p_process uuid, p_lease interval, p_platform_version bigint, p_tenant text[], p_version bigint[], p_event_to integer[], p_key_to integer[], p_payload_to integer[], p_delivery_to integer[], e_uid uuid[], e_id text[], e_type text[], e_occurred timestamp with time zone[], e_correlation text[], e_size integer[], e_privacy text[], e_ordering bytea[], k_event uuid[], k_hash bytea[], k_digest bytea[], p_key_life interval, p_event uuid[], p_variant smallint[], p_sealed bytea[], d_uid uuid[], d_event uuid[], d_connection uuid[], d_variant smallint[], d_policy bigint[], d_owned boolean[], p_life interval) RETURNS TABLE(event_uid uuid, outcome text, first_uid uuid)
    LANGUAGE plpgsql
    SET search_path TO 'customhouse', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
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

CREATE FUNCTION customhouse.accepted_among_v1(p_tenant text[], p_event uuid[]) RETURNS SETOF uuid
    LANGUAGE plpgsql
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
declare
  t text;
begin
  for t in select distinct unnest(p_tenant) loop
    perform set_config('app.tenant_id', t, true);
    return query
      select e.event_uid from events e
      join unnest(p_tenant, p_event) x (tenant, event) on x.tenant = t and e.event_uid = x.event
      where e.tenant_id = t;
  end loop;
  perform set_config('app.tenant_id', '', true);
end
$$;

CREATE FUNCTION customhouse.advance_lines_v1(p_tenant text, p_connection uuid[], p_key bytea[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'customhouse', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_sort TO 'off'
    AS $$
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

CREATE FUNCTION customhouse.certificates_expiring_v1(p_before timestamp with time zone, p_limit integer) RETURNS TABLE(tenant_id text, connection_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
  select c.tenant_id, c.connection_id from customhouse.connections c
  where c.certificate_expires_at <= p_before and c.certificate_told_for is distinct from c.certificate_expires_at
    and c.status in ('active', 'degraded', 'paused')
  order by c.certificate_expires_at, c.tenant_id, c.connection_id
  limit p_limit
$$;

ALTER FUNCTION customhouse.certificates_expiring_v1(p_before timestamp with time zone, p_limit integer) OWNER TO customhouse_crossing;

CREATE FUNCTION customhouse.claim_due_v4(p_process uuid, p_limit integer, p_each integer, p_lease interval, p_skip uuid[], p_after_tenant text, p_after_connection uuid, p_visits integer) RETURNS TABLE(tenant_id text, connection_id uuid, delivery_id uuid, lease integer)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'customhouse', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
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

ALTER FUNCTION customhouse.claim_due_v4(p_process uuid, p_limit integer, p_each integer, p_lease interval, p_skip uuid[], p_after_tenant text, p_after_connection uuid, p_visits integer) OWNER TO customhouse_crossing;

CREATE FUNCTION customhouse.claim_revocation_v1(p_revocation uuid, p_moment timestamp with time zone, p_until timestamp with time zone) RETURNS TABLE(connection_id uuid, provider text, reason text, account_index bytea, api_origin text, tokens_sealed bytea, access_sealed bytea, refresh_sealed bytea, token_generation bigint, access_expires_at timestamp with time zone, key_id uuid, tenant_key_id uuid, wrapped_key bytea, ends_key boolean, attempts integer, asked_at timestamp with time zone, ends_at timestamp with time zone)
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
  update customhouse.revocation_escrow r set next_at = p_until
  where r.tenant_id = nullif(current_setting('app.tenant_id', true), '') and r.revocation_id = p_revocation and r.next_at <= p_moment
  returning r.connection_id, r.provider, r.reason, r.account_index, r.api_origin, r.tokens_sealed, r.access_sealed, r.refresh_sealed,
            r.token_generation, r.access_expires_at, r.key_id, r.tenant_key_id, r.wrapped_key, r.ends_key, r.attempts, r.asked_at, r.ends_at
$$;

ALTER FUNCTION customhouse.claim_revocation_v1(p_revocation uuid, p_moment timestamp with time zone, p_until timestamp with time zone) OWNER TO customhouse_revoker;

CREATE FUNCTION customhouse.claim_revocation_v2(p_revocation uuid, p_moment timestamp with time zone, p_until timestamp with time zone) RETURNS TABLE(connection_id uuid, provider text, reason text, account_index bytea, api_origin text, tokens_sealed bytea, access_sealed bytea, refresh_sealed bytea, token_generation bigint, access_expires_at timestamp with time zone, key_id uuid, tenant_key_id uuid, wrapped_key bytea, pending_session uuid, ends_key boolean, attempts integer, asked_at timestamp with time zone, ends_at timestamp with time zone)
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
  update customhouse.revocation_escrow r set next_at = p_until
  where r.tenant_id = nullif(current_setting('app.tenant_id', true), '') and r.revocation_id = p_revocation and r.next_at <= p_moment
  returning r.connection_id, r.provider, r.reason, r.account_index, r.api_origin, r.tokens_sealed, r.access_sealed, r.refresh_sealed,
            r.token_generation, r.access_expires_at, r.key_id, r.tenant_key_id, r.wrapped_key, r.pending_session, r.ends_key, r.attempts,
            r.asked_at, r.ends_at
$$;

ALTER FUNCTION customhouse.claim_revocation_v2(p_revocation uuid, p_moment timestamp with time zone, p_until timestamp with time zone) OWNER TO customhouse_revoker;

CREATE FUNCTION customhouse.connect_sessions_due_v1(p_moment timestamp with time zone, p_forget interval, p_limit integer) RETURNS TABLE(tenant_id text, session_id uuid, over boolean)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
  select s.tenant_id, s.session_id, s.state in ('confirmed', 'ended') from customhouse.connect_sessions s
  where s.deadline <= p_moment and (s.state not in ('confirmed', 'ended') or s.deadline <= p_moment - p_forget)
  order by s.deadline
  limit p_limit
$$;

ALTER FUNCTION customhouse.connect_sessions_due_v1(p_moment timestamp with time zone, p_forget interval, p_limit integer) OWNER TO customhouse_crossing;

CREATE FUNCTION customhouse.connections_of_account_v1(p_account_index bytea) RETURNS TABLE(tenant_id text, connection_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
  select g.tenant_id, g.connection_id from customhouse.connection_grants g
  join customhouse.connections c on c.tenant_id = g.tenant_id and c.connection_id = g.connection_id
  where g.account_index = p_account_index and c.status not in ('pending', 'revoked', 'disconnected')
  order by g.tenant_id, g.connection_id
$$;

ALTER FUNCTION customhouse.connections_of_account_v1(p_account_index bytea) OWNER TO customhouse_crossing;

CREATE FUNCTION customhouse.connections_to_end_v1(p_provider text, p_tenant text, p_since timestamp with time zone, p_after_tenant text, p_after uuid, p_limit integer) RETURNS TABLE(tenant_id text, connection_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
  select c.tenant_id, c.connection_id from customhouse.connections c
  where c.status not in ('pending', 'revoked', 'disconnected') and c.provider <> 'webhook'
    and (p_provider is null or c.provider = p_provider) and (p_tenant is null or c.tenant_id = p_tenant)
    and (p_since is null or exists (select from customhouse.consents o where o.tenant_id = c.tenant_id
                                    and o.connection_id = c.connection_id and o.confirmed_at >= p_since))
    and (c.tenant_id, c.connection_id) > (p_after_tenant, p_after)
  order by c.tenant_id, c.connection_id
  limit p_limit
$$;

ALTER FUNCTION customhouse.connections_to_end_v1(p_provider text, p_tenant text, p_since timestamp with time zone, p_after_tenant text, p_after uuid, p_limit integer) OWNER TO customhouse_crossing;

CREATE FUNCTION customhouse.disconnects_unfinished_v1(p_before timestamp with time zone, p_limit integer) RETURNS TABLE(tenant_id text, connection_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
  select r.tenant_id, r.connection_id from customhouse.disconnect_receipts r
  where not r.key_released and r.updated_at <= p_before order by r.updated_at limit p_limit
$$;

ALTER FUNCTION customhouse.disconnects_unfinished_v1(p_before timestamp with time zone, p_limit integer) OWNER TO customhouse_crossing;

CREATE FUNCTION customhouse.dormant_connections_v1(p_warn timestamp with time zone, p_pause timestamp with time zone, p_told timestamp with time zone, p_limit integer) RETURNS TABLE(tenant_id text, connection_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
  select c.tenant_id, c.connection_id
  from customhouse.connections c
  left join customhouse.connection_uses u on u.tenant_id = c.tenant_id and u.connection_id = c.connection_id
  left join customhouse.connection_dormancy d on d.tenant_id = c.tenant_id and d.connection_id = c.connection_id
  cross join lateral (select greatest(c.updated_at, u.last_used_at) as used_at) l
  where c.provider <> 'webhook' and c.status in ('active', 'degraded')
    and ((l.used_at <= p_warn and (d.told_at is null or d.told_at < l.used_at))
      or (l.used_at <= p_pause and d.told_at >= l.used_at and d.told_at <= p_told))
  order by c.tenant_id, c.connection_id
  limit p_limit
$$;

ALTER FUNCTION customhouse.dormant_connections_v1(p_warn timestamp with time zone, p_pause timestamp with time zone, p_told timestamp with time zone, p_limit integer) OWNER TO customhouse_crossing;

CREATE FUNCTION customhouse.drop_ended_payloads_v1(p_tenant text, p_delivery uuid[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
begin
  delete from payloads p
  using (select distinct d.event_uid from deliveries d where d.tenant_id = p_tenant and d.delivery_id = any (p_delivery)) ended
  where p.tenant_id = p_tenant and p.event_uid = ended.event_uid
    and not exists (
      select from events e join delivery_queue q on q.tenant_id = p_tenant and q.delivery_id = any (e.delivery_ids)
      where e.tenant_id = p_tenant and e.event_uid = p.event_uid and q.variant = p.variant
    );
end
$$;

CREATE FUNCTION customhouse.expire_batch_v1(p_tenant text, p_drop_payloads boolean, p_delivery uuid[]) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
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

CREATE FUNCTION customhouse.fleet_health_v1(p_period interval) RETURNS TABLE(tried bigint, failing bigint)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
  select count(*), count(h.failing_since)
  from customhouse.connection_health h
  join customhouse.connections c on c.tenant_id = h.tenant_id and c.connection_id = h.connection_id
  where c.provider = 'webhook' and c.status in ('active', 'degraded')
    and greatest(h.last_success_at, h.last_failure_at) > now() - p_period
$$;

ALTER FUNCTION customhouse.fleet_health_v1(p_period interval) OWNER TO customhouse_crossing;

CREATE FUNCTION customhouse.fn_pgqueuer_changed() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    to_emit BOOLEAN := false;  -- Flag to decide whether to emit a notification
BEGIN
    -- Check operation type and set the emit flag accordingly
    IF TG_OP = 'UPDATE' AND OLD IS DISTINCT FROM NEW THEN
        to_emit := true;
    ELSIF TG_OP = 'DELETE' THEN
        to_emit := true;
    ELSIF TG_OP = 'INSERT' THEN
        to_emit := true;
    ELSIF TG_OP = 'TRUNCATE' THEN
        to_emit := true;
    END IF;

    -- Perform notification if the emit flag is set
    IF to_emit THEN
        PERFORM pg_notify(
            'ch_pgqueuer',
            json_build_object(
                'channel', 'ch_pgqueuer',
                'operation', lower(TG_OP),
                'sent_at', NOW(),
                'table', TG_TABLE_NAME,
                'type', 'table_changed_event'
            )::text
        );
    END IF;

    -- Return appropriate value based on the operation
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        RETURN NEW;
    ELSIF TG_OP = 'DELETE' THEN
        RETURN OLD;
    ELSE
        RETURN NULL; -- For TRUNCATE and other non-row-specific contexts
    END IF;

END;
$$;

CREATE FUNCTION customhouse.grants_sharing_v1(p_account_index bytea) RETURNS bigint
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
  select (select count(*) from customhouse.connection_grants g
          join customhouse.connections c on c.tenant_id = g.tenant_id and c.connection_id = g.connection_id
          where g.account_index = p_account_index and c.status not in ('pending', 'revoked', 'disconnected'))
       + (select count(*) from customhouse.pending_grants p where p.account_index = p_account_index)
$$;

ALTER FUNCTION customhouse.grants_sharing_v1(p_account_index bytea) OWNER TO customhouse_crossing;

CREATE FUNCTION customhouse.grants_sharing_v2(p_index bytea) RETURNS bigint
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
  select (select count(*) from customhouse.connection_grants g
          join customhouse.connections c on c.tenant_id = g.tenant_id and c.connection_id = g.connection_id
          where coalesce(g.shared_index, g.account_index) = p_index and c.status not in ('pending', 'revoked', 'disconnected'))
       + (select count(*) from customhouse.pending_grants p where coalesce(p.shared_index, p.account_index) = p_index)
$$;

ALTER FUNCTION customhouse.grants_sharing_v2(p_index bytea) OWNER TO customhouse_crossing;

CREATE FUNCTION customhouse.hold_lines_v1(p_key bytea[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
begin
  perform pg_advisory_xact_lock(20531, turn) from (
    select distinct get_byte(key, 0) * 4 + get_byte(key, 1) / 64 as turn from unnest(p_key) key where key is not null order by turn
  ) turns;
end
$$;

CREATE FUNCTION customhouse.hold_payloads_v1(p_tenant text, p_delivery uuid[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
begin
  perform pg_advisory_xact_lock(turn) from (
    select distinct hashtextextended('payloads' || d.event_uid::text, 0) as turn
    from deliveries d where d.tenant_id = p_tenant and d.delivery_id = any (p_delivery)
    order by turn
  ) turns;
end
$$;

CREATE FUNCTION customhouse.key_holders_v1(p_after text, p_limit integer) RETURNS TABLE(tenant_id text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
  select k.tenant_id from customhouse.tenant_keys k
  where k.state = 'active' and k.tenant_id > p_after order by k.tenant_id limit p_limit
$$;

ALTER FUNCTION customhouse.key_holders_v1(p_after text, p_limit integer) OWNER TO customhouse_crossing;

CREATE FUNCTION customhouse.key_turns_v1(p_after text, p_limit integer) RETURNS TABLE(tenant_id text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
  select t.tenant_id from (
    select d.tenant_id from customhouse.data_keys d where d.state in ('next', 'retired')
    union
    select k.tenant_id from customhouse.tenant_keys k where k.state = 'retired') t
  where t.tenant_id > p_after order by t.tenant_id limit p_limit
$$;

ALTER FUNCTION customhouse.key_turns_v1(p_after text, p_limit integer) OWNER TO customhouse_crossing;

CREATE FUNCTION customhouse.load_batch_v1(p_process uuid, p_tenant text[], p_delivery uuid[]) RETURNS TABLE(tenant_id text, tenant_version bigint, platform_version bigint, delivery_id uuid, lease integer, event_uid uuid, event_id text, event_type text, connection_id uuid, variant smallint, policy_version bigint, attempts integer, expires_at timestamp with time zone, body_sha256 bytea, sealed bytea)
    LANGUAGE plpgsql
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  t text;
begin
  for t in select distinct unnest(p_tenant) loop
    perform set_config('app.tenant_id', t, true);
    return query
      select t, own.version, platform.version, q.delivery_id, q.lease, q.event_uid, e.event_id, e.event_type, q.connection_id, q.variant,
             q.policy_version, q.attempts, q.expires_at, q.body_sha256, p.sealed
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

CREATE FUNCTION customhouse.load_batch_v2(p_process uuid, p_tenant text[], p_delivery uuid[]) RETURNS TABLE(tenant_id text, tenant_version bigint, platform_version bigint, delivery_id uuid, lease integer, event_uid uuid, event_id text, event_type text, connection_id uuid, variant smallint, policy_version bigint, attempts integer, expires_at timestamp with time zone, body_sha256 bytea, ordering_key bytea, sealed bytea)
    LANGUAGE plpgsql
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
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

CREATE FUNCTION customhouse.load_batch_v3(p_process uuid, p_tenant text[], p_delivery uuid[]) RETURNS TABLE(tenant_id text, tenant_version bigint, platform_version bigint, delivery_id uuid, lease integer, event_uid uuid, event_id text, event_type text, connection_id uuid, variant smallint, policy_version bigint, attempts integer, expires_at timestamp with time zone, body_sha256 bytea, ordering_key bytea, sealed bytea)
    LANGUAGE plpgsql
    SET search_path TO 'customhouse', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
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

CREATE FUNCTION customhouse.long_failing_v1(p_period interval, p_limit integer) RETURNS TABLE(tenant_id text, connection_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
  select h.tenant_id, h.connection_id
  from customhouse.connection_health h
  join customhouse.connections c on c.tenant_id = h.tenant_id and c.connection_id = h.connection_id
  where h.failing_since <= now() - p_period and h.last_failure_at >= h.failing_since + p_period
    and c.provider = 'webhook' and c.status in ('active', 'degraded')
  order by h.failing_since, h.tenant_id, h.connection_id
  limit p_limit
$$;

ALTER FUNCTION customhouse.long_failing_v1(p_period interval, p_limit integer) OWNER TO customhouse_crossing;

CREATE FUNCTION customhouse.mend_lines_v1(p_tenant text, p_delivery uuid[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
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

CREATE FUNCTION customhouse.note_health_v1(p_tenant text[], p_connection uuid[], p_success timestamp with time zone[], p_since timestamp with time zone[], p_failure timestamp with time zone[], p_reason text[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
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

CREATE FUNCTION customhouse.notice_mails_due_v1(p_moment timestamp with time zone, p_limit integer) RETURNS TABLE(tenant_id text, notice_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
  select n.tenant_id, n.notice_id from customhouse.notices n
  where n.mail = 'pending' and n.mail_next_at <= p_moment
  order by n.mail_next_at
  limit p_limit
$$;

ALTER FUNCTION customhouse.notice_mails_due_v1(p_moment timestamp with time zone, p_limit integer) OWNER TO customhouse_crossing;

CREATE FUNCTION customhouse.notices_past_v1(p_read_before timestamp with time zone, p_made_before timestamp with time zone, p_limit integer) RETURNS TABLE(tenant_id text, notice_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
  select n.tenant_id, n.notice_id from customhouse.notices n
  where n.created_at < p_read_before and (n.read_at < p_read_before or n.created_at < p_made_before) and n.mail <> 'pending'
  order by n.created_at
  limit p_limit
$$;

ALTER FUNCTION customhouse.notices_past_v1(p_read_before timestamp with time zone, p_made_before timestamp with time zone, p_limit integer) OWNER TO customhouse_crossing;

CREATE FUNCTION customhouse.outgrown_connections_v1(p_provider text, p_mode text, p_scopes text[], p_limit integer) RETURNS TABLE(tenant_id text, connection_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
  select c.tenant_id, c.connection_id
  from customhouse.connections c
  join customhouse.connection_grants g on g.tenant_id = c.tenant_id and g.connection_id = c.connection_id
  where c.provider = p_provider and c.mode = p_mode and c.status in ('active', 'degraded') and not g.requested @> p_scopes
  order by c.tenant_id, c.connection_id
  limit p_limit
$$;

ALTER FUNCTION customhouse.outgrown_connections_v1(p_provider text, p_mode text, p_scopes text[], p_limit integer) OWNER TO customhouse_crossing;

CREATE FUNCTION customhouse.overdue_deliveries_v1(p_limit integer) RETURNS TABLE(tenant_id text, delivery_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
  select q.tenant_id, q.delivery_id from customhouse.delivery_queue q where q.owner is null and q.expires_at <= now() limit p_limit
$$;

ALTER FUNCTION customhouse.overdue_deliveries_v1(p_limit integer) OWNER TO customhouse_crossing;

CREATE FUNCTION customhouse.pasted_keys_due_v1(p_moment timestamp with time zone, p_limit integer) RETURNS TABLE(tenant_id text, connection_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
  select k.tenant_id, k.connection_id from customhouse.pasted_keys k
  where k.next_check_at <= p_moment order by k.next_check_at limit p_limit
$$;

ALTER FUNCTION customhouse.pasted_keys_due_v1(p_moment timestamp with time zone, p_limit integer) OWNER TO customhouse_crossing;

CREATE FUNCTION customhouse.purge_keys_v1(p_limit integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
declare
  events integer;
  others integer;
begin
  delete from customhouse.event_keys k
  using (select e.tenant_id, e.key_hash from customhouse.event_keys e where e.expires_at < now() order by e.expires_at limit p_limit) old
  where k.tenant_id = old.tenant_id and k.key_hash = old.key_hash;
  get diagnostics events = row_count;
  delete from customhouse.idempotency_keys k
  using (select e.tenant_id, e.key_hash from customhouse.idempotency_keys e where e.expires_at < now() order by e.expires_at limit p_limit) old
  where k.tenant_id = old.tenant_id and k.key_hash = old.key_hash;
  get diagnostics others = row_count;
  return events + others;
end
$$;

ALTER FUNCTION customhouse.purge_keys_v1(p_limit integer) OWNER TO customhouse_crossing;

CREATE FUNCTION customhouse.queue_depth_v2() RETURNS TABLE(due bigint, waiting bigint, leased bigint)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
  select count(*) filter (where q.owner is null and not q.blocked and q.next_at <= now()),
         count(*) filter (where q.owner is null and (q.blocked or q.next_at > now())),
         count(*) filter (where q.owner is not null)
  from customhouse.delivery_queue q
$$;

ALTER FUNCTION customhouse.queue_depth_v2() OWNER TO customhouse_crossing;

CREATE FUNCTION customhouse.read_token_v1(p_tenant text, p_connection uuid, p_home text, p_actor text, p_moment timestamp with time zone) RETURNS TABLE(provider text, mode text, status text, status_reason text, grant_version bigint, mac bytea, requested text[], granted text[], scopes_known boolean, account_index bytea, token_generation bigint, access_sealed bytea, access_expires_at timestamp with time zone, api_origin text, hold_until timestamp with time zone, stopped_until timestamp with time zone)
    LANGUAGE plpgsql
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
declare
  stopped timestamptz;
begin
  if p_home <> p_tenant then
    perform set_config('app.tenant_id', p_home, true);
    select max(a.stopped_until) into stopped from bulk_read_alarms a
    where a.tenant_id = p_home and a.actor_id = p_actor and a.stopped_until > p_moment;
  end if;
  perform set_config('app.tenant_id', p_tenant, true);
  return query
    select c.provider, c.mode, c.status, c.status_reason, c.grant_version, c.mac, g.requested, g.granted, g.scopes_known, g.account_index,
           t.token_generation, t.access_sealed, t.access_expires_at, t.api_origin, u.hold_until,
           greatest(stopped, (select max(a.stopped_until) from bulk_read_alarms a
                              where a.tenant_id = p_tenant and a.actor_id = p_actor and a.stopped_until > p_moment))
    from connections c
    left join connection_grants g on g.tenant_id = p_tenant and g.connection_id = p_connection
    left join integration_tokens t on t.tenant_id = p_tenant and t.connection_id = p_connection
    left join connection_uses u on u.tenant_id = p_tenant and u.connection_id = p_connection
    where c.tenant_id = p_tenant and c.connection_id = p_connection;
  perform set_config('app.tenant_id', '', true);
end
$$;

CREATE FUNCTION customhouse.read_tokens_v1(p_tenant text[], p_connection uuid[], p_home text[], p_actor text[], p_moment timestamp with time zone) RETURNS TABLE(place integer, provider text, mode text, status text, status_reason text, grant_version bigint, mac bytea, requested text[], granted text[], scopes_known boolean, account_index bytea, token_generation bigint, access_sealed bytea, access_expires_at timestamp with time zone, api_origin text, hold_until timestamp with time zone, stopped_until timestamp with time zone)
    LANGUAGE plpgsql
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
declare
  i integer;
  t text;
  inside text;
  stopped timestamptz;
begin
  for i in 1 .. cardinality(p_tenant) loop
    t := p_tenant[i];
    stopped := null;
    if p_home[i] <> t then
      perform set_config('app.tenant_id', p_home[i], true);
      inside := p_home[i];
      select max(a.stopped_until) into stopped from bulk_read_alarms a
      where a.tenant_id = p_home[i] and a.actor_id = p_actor[i] and a.stopped_until > p_moment;
    end if;
    if inside is distinct from t then
      perform set_config('app.tenant_id', t, true);
      inside := t;
    end if;
    return query
      select i, c.provider, c.mode, c.status, c.status_reason, c.grant_version, c.mac, g.requested, g.granted, g.scopes_known,
             g.account_index, k.token_generation, k.access_sealed, k.access_expires_at, k.api_origin, u.hold_until,
             greatest(stopped, (select max(a.stopped_until) from bulk_read_alarms a
                                where a.tenant_id = t and a.actor_id = p_actor[i] and a.stopped_until > p_moment))
      from connections c
      left join connection_grants g on g.tenant_id = t and g.connection_id = p_connection[i]
      left join integration_tokens k on k.tenant_id = t and k.connection_id = p_connection[i]
      left join connection_uses u on u.tenant_id = t and u.connection_id = p_connection[i]
      where c.tenant_id = t and c.connection_id = p_connection[i];
  end loop;
  perform set_config('app.tenant_id', '', true);
end
$$;

CREATE FUNCTION customhouse.record_batch_v1(p_process uuid, p_drop_payloads boolean, p_tenant text[], p_to integer[], r_delivery uuid[], r_lease integer[], r_outcome text[], r_reason text[], r_sent boolean[], r_attempt_id uuid[], r_at timestamp with time zone[], r_status integer[], r_error text[], r_latency integer[], r_request integer[], r_response integer[], r_sha bytea[], r_retry_in double precision[]) RETURNS SETOF uuid
    LANGUAGE plpgsql
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
declare
  t text;
  i integer;
  f integer; l integer;
begin
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
  end loop;
  perform set_config('app.tenant_id', '', true);
end
$$;

CREATE FUNCTION customhouse.record_batch_v2(p_process uuid, p_drop_payloads boolean, p_tenant text[], p_to integer[], r_delivery uuid[], r_lease integer[], r_outcome text[], r_reason text[], r_sent boolean[], r_attempt_id uuid[], r_at timestamp with time zone[], r_status integer[], r_error text[], r_latency integer[], r_request integer[], r_response integer[], r_sha bytea[], r_retry_in double precision[], r_connection uuid[], r_ordering bytea[]) RETURNS SETOF uuid
    LANGUAGE plpgsql
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
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

CREATE FUNCTION customhouse.record_batch_v3(p_process uuid, p_drop_payloads boolean, p_tenant text[], p_to integer[], r_delivery uuid[], r_lease integer[], r_outcome text[], r_reason text[], r_sent boolean[], r_attempt_id uuid[], r_at timestamp with time zone[], r_status integer[], r_error text[], r_latency integer[], r_request integer[], r_response integer[], r_sha bytea[], r_retry_in double precision[], r_connection uuid[], r_ordering bytea[]) RETURNS SETOF uuid
    LANGUAGE plpgsql
    SET search_path TO 'customhouse', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
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

CREATE FUNCTION customhouse.record_reads_v1(a_tenant text[], a_entry uuid[], a_at timestamp with time zone[], a_tag text[], a_actor_type text[], a_actor text[], a_connection uuid[], a_subject text[], a_request text[], a_correlation text[], a_detail text[], u_tenant text[], u_connection uuid[], u_at timestamp with time zone[], u_scopes text[], s_tenant text[], s_actor text[], s_connection uuid[], p_window timestamp with time zone, p_history interval, p_ripe interval) RETURNS TABLE(tenant_id text, actor_id text, connections integer, usual integer)
    LANGUAGE plpgsql
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  t text;
  who text;
  places uuid[];
  fresh integer;
begin
  insert into audit_entries (tenant_id, entry_id, at, tag, actor_type, actor_id, connection_id, subject, request_id, correlation_id, detail)
  select set_config('app.tenant_id', e.tenant, true), e.entry, e.at, e.tag, e.actor_type, e.actor, e.connection, e.subject, e.request,
         e.correlation, e.detail::jsonb
  from unnest(a_tenant, a_entry, a_at, a_tag, a_actor_type, a_actor, a_connection, a_subject, a_request, a_correlation, a_detail)
         e (tenant, entry, at, tag, actor_type, actor, connection, subject, request, correlation, detail);

  if cardinality(u_tenant) > 0 then
    insert into connection_uses as held (tenant_id, connection_id, last_used_at, scopes)
    select set_config('app.tenant_id', u.tenant, true), u.connection, u.at, string_to_array(u.scopes, ' ')
    from unnest(u_tenant, u_connection, u_at, u_scopes) u (tenant, connection, at, scopes)
    on conflict (tenant_id, connection_id) do update
    set last_used_at = greatest(held.last_used_at, excluded.last_used_at),
        scopes = array(select distinct one from unnest(held.scopes || excluded.scopes) one order by one);
  end if;

  for t, who, places in
    select s.tenant, s.actor, array_agg(s.connection order by s.connection)
    from unnest(s_tenant, s_actor, s_connection) s (tenant, actor, connection)
    group by s.tenant, s.actor order by s.tenant, s.actor
  loop
    perform set_config('app.tenant_id', t, true);
    insert into bulk_read_counts (tenant_id, actor_id, window_at, connections, usual)
    select t, who, p_window, 0, case when bool_or(c.window_at <= p_window - p_ripe) then max(c.connections) filter (
             -- What an alarm was raised about counts as usual only when it has stood for a while.
             where c.window_at <= p_window - p_ripe or not exists (
               select from bulk_read_alarms a where a.tenant_id = t and a.actor_id = who and a.window_at = c.window_at)) end
    from bulk_read_counts c
    where c.tenant_id = t and c.actor_id = who and c.window_at >= p_window - p_history and c.window_at < p_window
    on conflict do nothing;
    if found then
      delete from bulk_read_seen old where old.tenant_id = t and old.window_at < p_window - p_ripe;
      delete from bulk_read_counts old where old.tenant_id = t and old.actor_id = who and old.window_at < p_window - p_history;
    end if;
    insert into bulk_read_seen (tenant_id, window_at, actor_id, connection_id)
    select t, p_window, who, place from unnest(places) place
    on conflict do nothing;
    get diagnostics fresh = row_count;
    return query
      update bulk_read_counts b set connections = b.connections + fresh
      where b.tenant_id = t and b.actor_id = who and b.window_at = p_window
      returning b.tenant_id, b.actor_id, b.connections, b.usual;
  end loop;
  perform set_config('app.tenant_id', '', true);
end
$$;

CREATE FUNCTION customhouse.recover_leases_v2(p_silence interval) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'customhouse', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
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

ALTER FUNCTION customhouse.recover_leases_v2(p_silence interval) OWNER TO customhouse_crossing;

CREATE FUNCTION customhouse.refreshes_due_v1(p_moment timestamp with time zone, p_provider text[], p_unused interval[], p_each integer) RETURNS TABLE(tenant_id text, connection_id uuid, provider text, generation bigint)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
  with candidate as (
    select t.tenant_id, t.connection_id, t.token_generation, t.access_expires_at, t.issued_at
    from customhouse.integration_tokens t where t.access_expires_at <= p_moment + interval '10 minutes'
    union
    select t.tenant_id, t.connection_id, t.token_generation, t.access_expires_at, t.issued_at
    from customhouse.integration_tokens t
    where t.access_expires_at is not null and t.issued_at <= p_moment - (select min(u) * 0.9 from unnest(p_unused) u)
  ), drawn as (
    select c.*, n.provider, asked.unused,
           (hashtextextended(c.connection_id::text, c.token_generation) & 1023) / 1024.0 as draw
    from candidate c
    join customhouse.connections n on n.tenant_id = c.tenant_id and n.connection_id = c.connection_id
    join unnest(p_provider, p_unused) asked (provider, unused) on asked.provider = n.provider
    left join customhouse.token_refreshes r on r.tenant_id = c.tenant_id and r.connection_id = c.connection_id
    where n.status in ('active', 'degraded') and (r.lease_until is null or r.lease_until <= now())
      and (r.not_before is null or r.not_before <= now())
  ), due as (
    select d.tenant_id, d.connection_id, d.provider, d.token_generation,
           row_number() over (partition by d.provider order by d.access_expires_at nulls last, d.connection_id) as place
    from drawn d
    where d.access_expires_at <= p_moment + least(interval '5 minutes', (d.access_expires_at - d.issued_at) / 4) * (1 + d.draw)
       or d.issued_at <= p_moment - d.unused * (1 - d.draw / 10)
  )
  select d.tenant_id, d.connection_id, d.provider, d.token_generation from due d where d.place <= p_each order by d.place
$$;

ALTER FUNCTION customhouse.refreshes_due_v1(p_moment timestamp with time zone, p_provider text[], p_unused interval[], p_each integer) OWNER TO customhouse_crossing;

CREATE FUNCTION customhouse.refuse_ended_keys() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'customhouse', 'pg_temp'
    AS $_$
declare
  name text;
  sealed bytea;
begin
  perform pg_advisory_xact_lock_shared(hashtextextended(concat_ws(chr(31), 'sealing', new.tenant_id, new.connection_id::text), 0));
  if exists (select from customhouse.ended_keys e where e.tenant_id = new.tenant_id and e.connection_id = new.connection_id) then
    foreach name in array tg_argv loop
      execute format('select ($1).%I', name) into sealed using new;
      if exists (select from customhouse.ended_keys e where e.tenant_id = new.tenant_id and e.connection_id = new.connection_id
                 and uuid_send(e.key_id) = substring(sealed from 2 for 16)) then
        raise exception 'a value was sealed under a key that has ended' using errcode = 'integrity_constraint_violation';
      end if;
    end loop;
  end if;
  return new;
end
$_$;

CREATE FUNCTION customhouse.release_batch_v1(p_process uuid, p_tenant text[], p_delivery uuid[], p_lease integer[], p_in interval) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
declare
  t text;
begin
  for t in select distinct unnest(p_tenant) loop
    perform set_config('app.tenant_id', t, true);
    update delivery_queue q
    set owner = null, lease_until = null, lease = q.lease + 1, next_at = now() + p_in
    from unnest(p_tenant, p_delivery, p_lease) x (tenant, delivery, lease)
    where x.tenant = t and q.tenant_id = t and q.delivery_id = x.delivery and q.owner = p_process and q.lease = x.lease;
  end loop;
  perform set_config('app.tenant_id', '', true);
end
$$;

CREATE FUNCTION customhouse.release_batch_v2(p_process uuid, p_tenant text[], p_delivery uuid[], p_lease integer[], p_in interval) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'customhouse', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
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

CREATE FUNCTION customhouse.resolve_api_key_v1(p_token_hash bytea) RETURNS TABLE(tenant_id text, key_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
  select k.tenant_id, k.key_id from customhouse.api_keys k where k.token_hash = p_token_hash
$$;

ALTER FUNCTION customhouse.resolve_api_key_v1(p_token_hash bytea) OWNER TO customhouse_crossing;

CREATE FUNCTION customhouse.resolve_connect_link_v1(p_link_hash bytea) RETURNS TABLE(tenant_id text, session_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
  select s.tenant_id, s.session_id from customhouse.connect_sessions s where s.link_hash = p_link_hash
$$;

ALTER FUNCTION customhouse.resolve_connect_link_v1(p_link_hash bytea) OWNER TO customhouse_crossing;

CREATE FUNCTION customhouse.resolve_connect_state_v1(p_state_hash bytea) RETURNS TABLE(tenant_id text, session_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
  select s.tenant_id, s.session_id from customhouse.connect_states s where s.state_hash = p_state_hash
$$;

ALTER FUNCTION customhouse.resolve_connect_state_v1(p_state_hash bytea) OWNER TO customhouse_crossing;

CREATE FUNCTION customhouse.revocations_due_v1(p_moment timestamp with time zone, p_limit integer) RETURNS TABLE(tenant_id text, revocation_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
  select r.tenant_id, r.revocation_id from customhouse.revocation_escrow r where r.next_at <= p_moment order by r.next_at limit p_limit
$$;

ALTER FUNCTION customhouse.revocations_due_v1(p_moment timestamp with time zone, p_limit integer) OWNER TO customhouse_crossing;

CREATE FUNCTION customhouse.signing_turns_due_v1(p_moment timestamp with time zone, p_limit integer) RETURNS TABLE(tenant_id text, connection_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
  select distinct s.tenant_id, s.connection_id from customhouse.connection_secrets s
  where s.purpose = 'signing'
    and ((s.state = 'next' and s.activates_at <= p_moment)
         or (s.state = 'previous' and (s.valid_until is null or s.valid_until <= p_moment)))
  limit p_limit
$$;

ALTER FUNCTION customhouse.signing_turns_due_v1(p_moment timestamp with time zone, p_limit integer) OWNER TO customhouse_crossing;

CREATE FUNCTION customhouse.stalled_lines_v1(p_limit integer) RETURNS TABLE(tenant_id text, delivery_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'customhouse', 'pg_temp'
    AS $$
  select distinct on (q.tenant_id, q.connection_id, q.ordering_key) q.tenant_id, q.delivery_id
  from customhouse.delivery_queue q
  where q.blocked and not exists (
    select from customhouse.delivery_queue h
    where h.tenant_id = q.tenant_id and h.connection_id = q.connection_id and h.ordering_key = q.ordering_key and not h.blocked)
  limit p_limit
$$;

ALTER FUNCTION customhouse.stalled_lines_v1(p_limit integer) OWNER TO customhouse_crossing;

CREATE FUNCTION customhouse.tell_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
  update customhouse.tenants set version = version + 1 where tenant_id = new.tenant_id;
  perform pg_notify('customhouse_changed', new.tenant_id);
  return null;
end
$$;

CREATE FUNCTION customhouse.tell_key_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
  perform pg_notify('customhouse_changed', new.tenant_id);
  return null;
end
$$;

CREATE FUNCTION customhouse.upkeep_partitions_v1(p_days_ahead integer, p_payload_days integer) RETURNS TABLE(made integer, dropped integer)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'customhouse', 'pg_temp'
    SET lock_timeout TO '200ms'
    SET "TimeZone" TO 'UTC'
    AS $$
#variable_conflict use_column
declare
  parent text;
  partition text;
  day date;
  stop date := current_date + p_days_ahead;
  step interval;
begin
  made := 0;
  dropped := 0;
  foreach parent in array array['events', 'payloads', 'deliveries', 'attempts', 'audit_entries'] loop
    step := case parent when 'audit_entries' then interval '1 month' else interval '1 day' end;
    day := case parent when 'audit_entries' then date_trunc('month', current_date - 1)::date else current_date - 1 end;
    while day <= stop loop
      partition := parent || '_' || to_char(day, case parent when 'audit_entries' then 'YYYYMM' else 'YYYYMMDD' end);
      if to_regclass(format('customhouse.%I', partition)) is null then
        execute format('create table customhouse.%I partition of customhouse.%I for values from (%L) to (%L)',
                       partition, parent, customhouse.uuid_floor(day::timestamptz), customhouse.uuid_floor((day + step)::timestamptz));
        made := made + 1;
      end if;
      day := (day + step)::date;
    end loop;
  end loop;
  -- Names are compared as text: the planner may look at names of other tables first, and those are no dates.
  for partition in
    select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'customhouse.payloads'::regclass and right(c.relname, 8) < to_char(current_date - p_payload_days, 'YYYYMMDD')
  loop
    execute format('drop table customhouse.%I', partition);
    dropped := dropped + 1;
  end loop;
  return next;
end
$$;

ALTER FUNCTION customhouse.upkeep_partitions_v1(p_days_ahead integer, p_payload_days integer) OWNER TO customhouse_upkeep;

CREATE FUNCTION customhouse.uuid_floor(p_moment timestamp with time zone) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
  select (lpad(to_hex((extract(epoch from p_moment) * 1000)::bigint), 12, '0') || '70008000000000000000')::uuid
$$;

CREATE TABLE customhouse.api_keys (
    tenant_id text NOT NULL,
    key_id uuid NOT NULL,
    name text NOT NULL,
    scopes text[] NOT NULL,
    token_hash bytea NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    expires_at timestamp with time zone,
    revoked_at timestamp with time zone,
    CONSTRAINT api_keys_scopes_check CHECK ((cardinality(scopes) > 0)),
    CONSTRAINT api_keys_token_hash_check CHECK ((octet_length(token_hash) = 32))
);

ALTER TABLE ONLY customhouse.api_keys FORCE ROW LEVEL SECURITY;

CREATE TABLE customhouse.attempts (
    tenant_id text NOT NULL,
    delivery_id uuid NOT NULL,
    attempt integer NOT NULL,
    attempt_id uuid NOT NULL,
    outcome text NOT NULL,
    reason text,
    sent boolean NOT NULL,
    at timestamp with time zone NOT NULL,
    status_code integer,
    error text,
    latency_ms integer,
    request_bytes integer,
    response_bytes integer,
    body_sha256 bytea,
    CONSTRAINT attempts_outcome_check CHECK ((outcome = ANY (ARRAY['delivered'::text, 'retrying'::text, 'failed'::text, 'cancelled'::text, 'expired'::text])))
)
PARTITION BY RANGE (delivery_id);

ALTER TABLE ONLY customhouse.attempts FORCE ROW LEVEL SECURITY;

ALTER TABLE customhouse.attempts OWNER TO customhouse_upkeep;

CREATE TABLE customhouse.audit_entries (
    tenant_id text NOT NULL,
    entry_id uuid NOT NULL,
    at timestamp with time zone NOT NULL,
    tag text NOT NULL,
    actor_type text NOT NULL,
    actor_id text NOT NULL,
    connection_id uuid,
    subject text DEFAULT ''::text NOT NULL,
    request_id text,
    correlation_id text,
    detail jsonb DEFAULT '{}'::jsonb NOT NULL
)
PARTITION BY RANGE (entry_id);

ALTER TABLE ONLY customhouse.audit_entries FORCE ROW LEVEL SECURITY;

ALTER TABLE customhouse.audit_entries OWNER TO customhouse_upkeep;

CREATE TABLE customhouse.brakes (
    name text NOT NULL,
    since timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE customhouse.bulk_read_alarms (
    tenant_id text NOT NULL,
    actor_id text NOT NULL,
    raised_at timestamp with time zone NOT NULL,
    window_at timestamp with time zone NOT NULL,
    connections integer NOT NULL,
    threshold integer NOT NULL,
    stopped_until timestamp with time zone
);

ALTER TABLE ONLY customhouse.bulk_read_alarms FORCE ROW LEVEL SECURITY;

CREATE TABLE customhouse.bulk_read_counts (
    tenant_id text NOT NULL,
    actor_id text NOT NULL,
    window_at timestamp with time zone NOT NULL,
    connections integer NOT NULL,
    usual integer
);

ALTER TABLE ONLY customhouse.bulk_read_counts FORCE ROW LEVEL SECURITY;

CREATE TABLE customhouse.bulk_read_seen (
    tenant_id text NOT NULL,
    window_at timestamp with time zone NOT NULL,
    actor_id text NOT NULL,
    connection_id uuid NOT NULL
);

ALTER TABLE ONLY customhouse.bulk_read_seen FORCE ROW LEVEL SECURITY;

CREATE TABLE customhouse.connect_exchanges (
    tenant_id text NOT NULL,
    session_id uuid NOT NULL,
    code_sealed bytea NOT NULL,
    verifier_sealed bytea NOT NULL,
    redirect_uri text NOT NULL,
    started_at timestamp with time zone NOT NULL
);

ALTER TABLE ONLY customhouse.connect_exchanges FORCE ROW LEVEL SECURITY;

CREATE TABLE customhouse.connect_sessions (
    tenant_id text NOT NULL,
    session_id uuid NOT NULL,
    link_hash bytea NOT NULL,
    user_id text NOT NULL,
    provider text NOT NULL,
    mode text NOT NULL,
    connection_id uuid NOT NULL,
    renews boolean NOT NULL,
    return_url text,
    facts_sealed bytea,
    state text DEFAULT 'open'::text NOT NULL,
    reason text,
    browser_hash bytea,
    consented_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    deadline timestamp with time zone NOT NULL,
    CONSTRAINT connect_sessions_browser_hash_check CHECK ((octet_length(browser_hash) = 32)),
    CONSTRAINT connect_sessions_link_hash_check CHECK ((octet_length(link_hash) = 32)),
    CONSTRAINT connect_sessions_mode_check CHECK ((mode = ANY (ARRAY['observe'::text, 'act'::text]))),
    CONSTRAINT connect_sessions_state_check CHECK ((state = ANY (ARRAY['open'::text, 'authorizing'::text, 'exchanging'::text, 'granted'::text, 'confirmed'::text, 'ended'::text])))
);

ALTER TABLE ONLY customhouse.connect_sessions FORCE ROW LEVEL SECURITY;

CREATE TABLE customhouse.connect_states (
    tenant_id text NOT NULL,
    state_hash bytea NOT NULL,
    session_id uuid NOT NULL,
    provider text NOT NULL,
    browser_hash bytea NOT NULL,
    verifier_sealed bytea NOT NULL,
    redirect_uri text NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    CONSTRAINT connect_states_browser_hash_check CHECK ((octet_length(browser_hash) = 32)),
    CONSTRAINT connect_states_state_hash_check CHECK ((octet_length(state_hash) = 32))
);

ALTER TABLE ONLY customhouse.connect_states FORCE ROW LEVEL SECURITY;

CREATE TABLE customhouse.connection_dormancy (
    tenant_id text NOT NULL,
    connection_id uuid NOT NULL,
    told_at timestamp with time zone NOT NULL
);

ALTER TABLE ONLY customhouse.connection_dormancy FORCE ROW LEVEL SECURITY;

CREATE TABLE customhouse.connection_grants (
    tenant_id text NOT NULL,
    connection_id uuid NOT NULL,
    grant_version bigint NOT NULL,
    requested text[] NOT NULL,
    granted text[] NOT NULL,
    missing text[] NOT NULL,
    scopes_known boolean NOT NULL,
    manifest_version integer NOT NULL,
    account_index bytea NOT NULL,
    account_sealed bytea NOT NULL,
    user_sealed bytea NOT NULL,
    shared_index bytea,
    CONSTRAINT connection_grants_account_index_check CHECK ((octet_length(account_index) = 32)),
    CONSTRAINT connection_grants_shared_index_check CHECK ((octet_length(shared_index) = 32))
);

ALTER TABLE ONLY customhouse.connection_grants FORCE ROW LEVEL SECURITY;

CREATE TABLE customhouse.connection_health (
    tenant_id text NOT NULL,
    connection_id uuid NOT NULL,
    failing_since timestamp with time zone,
    last_success_at timestamp with time zone,
    last_failure_at timestamp with time zone,
    last_failure text,
    CONSTRAINT connection_health_check CHECK ((failing_since <= last_failure_at))
);

ALTER TABLE ONLY customhouse.connection_health FORCE ROW LEVEL SECURITY;

CREATE TABLE customhouse.connection_secrets (
    tenant_id text NOT NULL,
    connection_id uuid NOT NULL,
    key_id text NOT NULL,
    purpose text NOT NULL,
    state text NOT NULL,
    sealed bytea,
    activates_at timestamp with time zone DEFAULT now() NOT NULL,
    valid_until timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    previous_until timestamp with time zone,
    CONSTRAINT connection_secrets_check CHECK (((state = 'destroyed'::text) = (sealed IS NULL))),
    CONSTRAINT connection_secrets_purpose_check CHECK ((purpose = ANY (ARRAY['signing'::text, 'inbound'::text]))),
    CONSTRAINT connection_secrets_state_check CHECK ((state = ANY (ARRAY['next'::text, 'active'::text, 'previous'::text, 'destroyed'::text])))
);

ALTER TABLE ONLY customhouse.connection_secrets FORCE ROW LEVEL SECURITY;

CREATE TABLE customhouse.connection_uses (
    tenant_id text NOT NULL,
    connection_id uuid NOT NULL,
    last_used_at timestamp with time zone NOT NULL,
    scopes text[] DEFAULT '{}'::text[] NOT NULL,
    hold_until timestamp with time zone
);

ALTER TABLE ONLY customhouse.connection_uses FORCE ROW LEVEL SECURITY;

CREATE TABLE customhouse.connections (
    tenant_id text NOT NULL,
    connection_id uuid NOT NULL,
    provider text NOT NULL,
    user_id text,
    mode text DEFAULT 'observe'::text NOT NULL,
    status text NOT NULL,
    status_reason text,
    grant_version bigint DEFAULT 1 NOT NULL,
    description text DEFAULT ''::text NOT NULL,
    url_sealed bytea,
    url_host text,
    event_types text[] DEFAULT '{}'::text[] NOT NULL,
    signature_profile text,
    signature_algorithm text DEFAULT 'v1'::text NOT NULL,
    mac bytea NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    headers_sealed bytea,
    retry_schedule integer[],
    rate_per_second double precision,
    rate_burst integer,
    client_certificate_sealed bytea,
    client_key_sealed bytea,
    certificate_expires_at timestamp with time zone,
    certificate_told_for timestamp with time zone,
    CONSTRAINT connections_client_certificate_check CHECK ((((client_certificate_sealed IS NULL) = (client_key_sealed IS NULL)) AND ((client_certificate_sealed IS NULL) = (certificate_expires_at IS NULL)))),
    CONSTRAINT connections_mode_check CHECK ((mode = ANY (ARRAY['observe'::text, 'act'::text]))),
    CONSTRAINT connections_rate_check CHECK (((rate_per_second IS NULL) = (rate_burst IS NULL))),
    CONSTRAINT connections_signature_algorithm_check CHECK ((signature_algorithm = ANY (ARRAY['v1'::text, 'v1a'::text]))),
    CONSTRAINT connections_signature_profile_check CHECK ((signature_profile = ANY (ARRAY['queast-v1'::text, 'standard-webhooks'::text]))),
    CONSTRAINT connections_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'active'::text, 'degraded'::text, 'paused'::text, 'reauthorization_required'::text, 'revoked'::text, 'disabled'::text, 'disconnected'::text])))
);

ALTER TABLE ONLY customhouse.connections FORCE ROW LEVEL SECURITY;

CREATE TABLE customhouse.consents (
    tenant_id text NOT NULL,
    connection_id uuid NOT NULL,
    grant_version bigint NOT NULL,
    session_id uuid NOT NULL,
    user_id text NOT NULL,
    mode text NOT NULL,
    requested text[] NOT NULL,
    granted text[] NOT NULL,
    manifest_version integer NOT NULL,
    consented_at timestamp with time zone NOT NULL,
    confirmed_at timestamp with time zone NOT NULL
);

ALTER TABLE ONLY customhouse.consents FORCE ROW LEVEL SECURITY;

CREATE TABLE customhouse.data_keys (
    tenant_id text NOT NULL,
    key_id uuid NOT NULL,
    purpose text NOT NULL,
    scope text NOT NULL,
    tenant_key_id uuid NOT NULL,
    wrapped bytea,
    state text DEFAULT 'active'::text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    destroyed_at timestamp with time zone,
    retired_at timestamp with time zone,
    CONSTRAINT data_keys_check CHECK (((state = 'destroyed'::text) = (wrapped IS NULL))),
    CONSTRAINT data_keys_state_check CHECK ((state = ANY (ARRAY['next'::text, 'active'::text, 'retired'::text, 'destroyed'::text])))
);

ALTER TABLE ONLY customhouse.data_keys FORCE ROW LEVEL SECURITY;

CREATE TABLE customhouse.deliveries (
    tenant_id text NOT NULL,
    delivery_id uuid NOT NULL,
    event_uid uuid NOT NULL,
    connection_id uuid NOT NULL,
    variant smallint NOT NULL,
    policy_version bigint NOT NULL
)
PARTITION BY RANGE (delivery_id);

ALTER TABLE ONLY customhouse.deliveries FORCE ROW LEVEL SECURITY;

ALTER TABLE customhouse.deliveries OWNER TO customhouse_upkeep;

CREATE TABLE customhouse.delivery_queue (
    tenant_id text NOT NULL,
    delivery_id uuid NOT NULL,
    event_uid uuid NOT NULL,
    connection_id uuid NOT NULL,
    variant smallint NOT NULL,
    policy_version bigint NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    next_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    owner uuid,
    lease integer DEFAULT 0 NOT NULL,
    lease_until timestamp with time zone,
    body_sha256 bytea,
    ordering_key bytea,
    ordering_place bigint,
    blocked boolean DEFAULT false NOT NULL,
    CONSTRAINT delivery_queue_check CHECK (((owner IS NULL) = (lease_until IS NULL))),
    CONSTRAINT delivery_queue_line_check CHECK ((((ordering_key IS NULL) = (ordering_place IS NULL)) AND ((NOT blocked) OR ((ordering_key IS NOT NULL) AND (owner IS NULL))))),
    CONSTRAINT delivery_queue_ordering_key_check CHECK ((octet_length(ordering_key) = 32))
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0.05', autovacuum_vacuum_threshold='1000', autovacuum_vacuum_cost_delay='1');

ALTER TABLE ONLY customhouse.delivery_queue FORCE ROW LEVEL SECURITY;

CREATE TABLE customhouse.disconnect_receipts (
    tenant_id text NOT NULL,
    connection_id uuid NOT NULL,
    version integer DEFAULT 1 NOT NULL,
    provider text NOT NULL,
    reason text NOT NULL,
    operation_id uuid,
    revocation_id uuid,
    revocation_status text NOT NULL,
    verified boolean DEFAULT false NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    shared boolean DEFAULT false NOT NULL,
    tokens_destroyed boolean NOT NULL,
    key_released boolean DEFAULT false NOT NULL,
    key_destroyed boolean DEFAULT false NOT NULL,
    escrow_until timestamp with time zone,
    actions_cancelled integer DEFAULT 0 NOT NULL,
    deliveries_cancelled integer DEFAULT 0 NOT NULL,
    subscriptions_ended integer DEFAULT 0 NOT NULL,
    notified boolean DEFAULT false NOT NULL,
    instructions text DEFAULT ''::text NOT NULL,
    audit_entry_id uuid NOT NULL,
    at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    CONSTRAINT disconnect_receipts_revocation_status_check CHECK ((revocation_status = ANY (ARRAY['revoked'::text, 'pending'::text, 'unsupported'::text, 'failed'::text])))
);

ALTER TABLE ONLY customhouse.disconnect_receipts FORCE ROW LEVEL SECURITY;

CREATE TABLE customhouse.ended_keys (
    tenant_id text NOT NULL,
    connection_id uuid NOT NULL,
    key_id uuid NOT NULL,
    ended_at timestamp with time zone NOT NULL
);

ALTER TABLE ONLY customhouse.ended_keys FORCE ROW LEVEL SECURITY;

CREATE TABLE customhouse.event_keys (
    tenant_id text NOT NULL,
    key_hash bytea NOT NULL,
    event_uid uuid NOT NULL,
    body_digest bytea NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    CONSTRAINT event_keys_key_hash_check CHECK ((octet_length(key_hash) = 32))
);

ALTER TABLE ONLY customhouse.event_keys FORCE ROW LEVEL SECURITY;

CREATE TABLE customhouse.event_types (
    tenant_id text NOT NULL,
    event_type text NOT NULL,
    description text DEFAULT ''::text NOT NULL,
    schema jsonb,
    pii jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE ONLY customhouse.event_types FORCE ROW LEVEL SECURITY;

CREATE TABLE customhouse.events (
    tenant_id text NOT NULL,
    event_uid uuid NOT NULL,
    event_id text,
    event_type text NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    correlation_id text,
    size_bytes integer NOT NULL,
    privacy jsonb NOT NULL,
    delivery_ids uuid[] NOT NULL,
    ordering_key bytea,
    ordering_place bigint
)
PARTITION BY RANGE (event_uid);

ALTER TABLE ONLY customhouse.events FORCE ROW LEVEL SECURITY;

ALTER TABLE customhouse.events OWNER TO customhouse_upkeep;

CREATE TABLE customhouse.idempotency_keys (
    tenant_id text NOT NULL,
    key_hash bytea NOT NULL,
    body_digest bytea NOT NULL,
    result_id text NOT NULL,
    expires_at timestamp with time zone DEFAULT (now() + '7 days'::interval) NOT NULL,
    CONSTRAINT idempotency_keys_key_hash_check CHECK ((octet_length(key_hash) = 32))
);

ALTER TABLE ONLY customhouse.idempotency_keys FORCE ROW LEVEL SECURITY;

CREATE TABLE customhouse.integration_tokens (
    tenant_id text NOT NULL,
    connection_id uuid NOT NULL,
    token_generation bigint NOT NULL,
    access_sealed bytea NOT NULL,
    refresh_sealed bytea,
    access_expires_at timestamp with time zone,
    refresh_expires_at timestamp with time zone,
    api_origin text,
    issued_at timestamp with time zone NOT NULL,
    refreshed_at timestamp with time zone
);

ALTER TABLE ONLY customhouse.integration_tokens FORCE ROW LEVEL SECURITY;

CREATE TABLE customhouse.key_rotations (
    rotation_id uuid NOT NULL,
    kind text NOT NULL,
    only_tenant text,
    cutoff timestamp with time zone NOT NULL,
    started_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone,
    CONSTRAINT key_rotations_kind_check CHECK ((kind = ANY (ARRAY['tenant'::text, 'connection'::text, 'all'::text])))
);

CREATE TABLE customhouse.notices (
    tenant_id text NOT NULL,
    notice_id uuid NOT NULL,
    user_id text NOT NULL,
    kind text NOT NULL,
    connection_id uuid,
    detail jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL,
    read_at timestamp with time zone,
    mail text NOT NULL,
    mail_reason text,
    address_sealed bytea,
    mail_attempts integer DEFAULT 0 NOT NULL,
    mail_next_at timestamp with time zone,
    mail_ended_at timestamp with time zone,
    CONSTRAINT notices_mail_check CHECK ((mail = ANY (ARRAY['none'::text, 'pending'::text, 'sent'::text, 'failed'::text]))),
    CONSTRAINT notices_mail_pending CHECK ((((mail = 'pending'::text) = (address_sealed IS NOT NULL)) AND ((mail = 'pending'::text) = (mail_next_at IS NOT NULL))))
);

ALTER TABLE ONLY customhouse.notices FORCE ROW LEVEL SECURITY;

CREATE SEQUENCE customhouse.ordering_places
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE customhouse.pasted_keys (
    tenant_id text NOT NULL,
    connection_id uuid NOT NULL,
    key_index bytea NOT NULL,
    live boolean NOT NULL,
    pasted_at timestamp with time zone NOT NULL,
    checked_at timestamp with time zone NOT NULL,
    next_check_at timestamp with time zone,
    told_at timestamp with time zone,
    CONSTRAINT pasted_keys_key_index_check CHECK ((octet_length(key_index) = 32))
);

ALTER TABLE ONLY customhouse.pasted_keys FORCE ROW LEVEL SECURITY;

CREATE TABLE customhouse.payloads (
    tenant_id text NOT NULL,
    event_uid uuid NOT NULL,
    variant smallint NOT NULL,
    sealed bytea NOT NULL
)
PARTITION BY RANGE (event_uid);

ALTER TABLE ONLY customhouse.payloads FORCE ROW LEVEL SECURITY;

ALTER TABLE customhouse.payloads OWNER TO customhouse_upkeep;

CREATE TABLE customhouse.pending_grants (
    tenant_id text NOT NULL,
    session_id uuid NOT NULL,
    connection_id uuid NOT NULL,
    requested text[] NOT NULL,
    granted text[] NOT NULL,
    missing text[] NOT NULL,
    scopes_known boolean NOT NULL,
    manifest_version integer NOT NULL,
    account_index bytea NOT NULL,
    account_sealed bytea NOT NULL,
    tokens_sealed bytea NOT NULL,
    access_expires_at timestamp with time zone,
    refresh_expires_at timestamp with time zone,
    api_origin text,
    granted_at timestamp with time zone NOT NULL,
    shared_index bytea,
    CONSTRAINT pending_grants_account_index_check CHECK ((octet_length(account_index) = 32)),
    CONSTRAINT pending_grants_shared_index_check CHECK ((octet_length(shared_index) = 32))
);

ALTER TABLE ONLY customhouse.pending_grants FORCE ROW LEVEL SECURITY;

CREATE TABLE customhouse.pgqueuer (
    id bigint NOT NULL,
    priority integer NOT NULL,
    queue_manager_id uuid,
    created timestamp with time zone DEFAULT now() NOT NULL,
    updated timestamp with time zone DEFAULT now() NOT NULL,
    heartbeat timestamp with time zone DEFAULT now() NOT NULL,
    execute_after timestamp with time zone DEFAULT now() NOT NULL,
    status customhouse.pgqueuer_status NOT NULL,
    entrypoint text NOT NULL,
    dedupe_key text,
    payload bytea,
    headers jsonb,
    attempts integer DEFAULT 0 NOT NULL,
    slot bigint
);

CREATE SEQUENCE customhouse.pgqueuer_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE customhouse.pgqueuer_id_seq OWNED BY customhouse.pgqueuer.id;

CREATE TABLE customhouse.pgqueuer_log (
    id bigint NOT NULL,
    created timestamp with time zone DEFAULT now() NOT NULL,
    job_id bigint NOT NULL,
    status customhouse.pgqueuer_status NOT NULL,
    priority integer NOT NULL,
    entrypoint text NOT NULL,
    traceback jsonb,
    aggregated boolean DEFAULT false
);

ALTER TABLE customhouse.pgqueuer_log ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME customhouse.pgqueuer_log_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE customhouse.pgqueuer_schedules (
    id bigint NOT NULL,
    expression text NOT NULL,
    entrypoint text NOT NULL,
    heartbeat timestamp with time zone DEFAULT now() NOT NULL,
    created timestamp with time zone DEFAULT now() NOT NULL,
    updated timestamp with time zone DEFAULT now() NOT NULL,
    next_run timestamp with time zone DEFAULT now() NOT NULL,
    last_run timestamp with time zone,
    status customhouse.pgqueuer_status DEFAULT 'queued'::customhouse.pgqueuer_status
);

CREATE SEQUENCE customhouse.pgqueuer_schedules_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE customhouse.pgqueuer_schedules_id_seq OWNED BY customhouse.pgqueuer_schedules.id;

CREATE TABLE customhouse.pgqueuer_statistics (
    id bigint NOT NULL,
    created timestamp with time zone DEFAULT date_trunc('sec'::text, now()) NOT NULL,
    count bigint NOT NULL,
    priority integer NOT NULL,
    status customhouse.pgqueuer_status NOT NULL,
    entrypoint text NOT NULL
);

CREATE SEQUENCE customhouse.pgqueuer_statistics_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE customhouse.pgqueuer_statistics_id_seq OWNED BY customhouse.pgqueuer_statistics.id;

CREATE TABLE customhouse.privacy_policies (
    tenant_id text NOT NULL,
    version bigint NOT NULL,
    allowed_fields text[] NOT NULL,
    connections jsonb DEFAULT '{}'::jsonb NOT NULL,
    on_violation text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT privacy_policies_on_violation_check CHECK ((on_violation = ANY (ARRAY['remove'::text, 'refuse'::text])))
);

ALTER TABLE ONLY customhouse.privacy_policies FORCE ROW LEVEL SECURITY;

CREATE TABLE customhouse.processes (
    process_id uuid NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    heartbeat_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE customhouse.provider_brakes (
    provider text NOT NULL,
    kind text NOT NULL,
    reason text NOT NULL,
    since timestamp with time zone NOT NULL,
    until timestamp with time zone NOT NULL,
    times integer DEFAULT 1 NOT NULL,
    CONSTRAINT provider_brakes_kind_check CHECK ((kind = ANY (ARRAY['refused'::text, 'slow'::text])))
);

CREATE TABLE customhouse.revocation_escrow (
    tenant_id text NOT NULL,
    revocation_id uuid NOT NULL,
    connection_id uuid NOT NULL,
    provider text NOT NULL,
    reason text NOT NULL,
    account_index bytea,
    api_origin text,
    tokens_sealed bytea,
    ends_key boolean NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    next_at timestamp with time zone NOT NULL,
    ends_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    access_sealed bytea,
    refresh_sealed bytea,
    token_generation bigint,
    access_expires_at timestamp with time zone,
    key_id uuid,
    tenant_key_id uuid,
    wrapped_key bytea,
    asked_at timestamp with time zone,
    pending_session uuid,
    CONSTRAINT revocation_escrow_account_index_check CHECK ((octet_length(account_index) = 32)),
    CONSTRAINT revocation_escrow_key CHECK (((wrapped_key IS NULL) = (tenant_key_id IS NULL))),
    CONSTRAINT revocation_escrow_tokens CHECK (((tokens_sealed IS NULL) = (access_sealed IS NOT NULL)))
);

ALTER TABLE ONLY customhouse.revocation_escrow FORCE ROW LEVEL SECURITY;

CREATE TABLE customhouse.schema_migrations (
    version integer NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE customhouse.tenant_keys (
    tenant_id text NOT NULL,
    key_id uuid NOT NULL,
    kms_key text NOT NULL,
    wrapped bytea,
    state text DEFAULT 'active'::text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    destroyed_at timestamp with time zone,
    retired_at timestamp with time zone,
    CONSTRAINT tenant_keys_check CHECK (((state = 'destroyed'::text) = (wrapped IS NULL))),
    CONSTRAINT tenant_keys_state_check CHECK ((state = ANY (ARRAY['active'::text, 'retired'::text, 'destroyed'::text])))
);

ALTER TABLE ONLY customhouse.tenant_keys FORCE ROW LEVEL SECURITY;

CREATE TABLE customhouse.tenants (
    tenant_id text NOT NULL,
    name text NOT NULL,
    status text DEFAULT 'active'::text NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT tenants_status_check CHECK ((status = ANY (ARRAY['active'::text, 'deleting'::text]))),
    CONSTRAINT tenants_tenant_id_check CHECK ((tenant_id ~ '^[A-Za-z0-9_.:-]{1,128}$'::text))
);

ALTER TABLE ONLY customhouse.tenants FORCE ROW LEVEL SECURITY;

CREATE TABLE customhouse.token_refreshes (
    tenant_id text NOT NULL,
    connection_id uuid NOT NULL,
    generation bigint NOT NULL,
    holder uuid,
    lease_until timestamp with time zone,
    started_at timestamp with time zone NOT NULL,
    attempts integer NOT NULL,
    lost integer DEFAULT 0 NOT NULL,
    lost_since timestamp with time zone,
    stored_by uuid,
    failures integer DEFAULT 0 NOT NULL,
    reason text,
    failing_since timestamp with time zone,
    not_before timestamp with time zone,
    checked_at timestamp with time zone,
    CONSTRAINT token_refreshes_check CHECK (((holder IS NULL) = (lease_until IS NULL)))
);

ALTER TABLE ONLY customhouse.token_refreshes FORCE ROW LEVEL SECURITY;

ALTER TABLE ONLY customhouse.pgqueuer ALTER COLUMN id SET DEFAULT nextval('customhouse.pgqueuer_id_seq'::regclass);

ALTER TABLE ONLY customhouse.pgqueuer_schedules ALTER COLUMN id SET DEFAULT nextval('customhouse.pgqueuer_schedules_id_seq'::regclass);

ALTER TABLE ONLY customhouse.pgqueuer_statistics ALTER COLUMN id SET DEFAULT nextval('customhouse.pgqueuer_statistics_id_seq'::regclass);

ALTER TABLE ONLY customhouse.api_keys
    ADD CONSTRAINT api_keys_pkey PRIMARY KEY (tenant_id, key_id);

ALTER TABLE ONLY customhouse.attempts
    ADD CONSTRAINT attempts_pkey PRIMARY KEY (tenant_id, delivery_id, attempt);

ALTER TABLE ONLY customhouse.audit_entries
    ADD CONSTRAINT audit_entries_pkey PRIMARY KEY (tenant_id, entry_id);

ALTER TABLE ONLY customhouse.brakes
    ADD CONSTRAINT brakes_pkey PRIMARY KEY (name);

ALTER TABLE ONLY customhouse.bulk_read_alarms
    ADD CONSTRAINT bulk_read_alarms_pkey PRIMARY KEY (tenant_id, actor_id, raised_at);

ALTER TABLE ONLY customhouse.bulk_read_counts
    ADD CONSTRAINT bulk_read_counts_pkey PRIMARY KEY (tenant_id, actor_id, window_at);

ALTER TABLE ONLY customhouse.bulk_read_seen
    ADD CONSTRAINT bulk_read_seen_pkey PRIMARY KEY (tenant_id, window_at, actor_id, connection_id);

ALTER TABLE ONLY customhouse.connect_exchanges
    ADD CONSTRAINT connect_exchanges_pkey PRIMARY KEY (tenant_id, session_id);

ALTER TABLE ONLY customhouse.connect_sessions
    ADD CONSTRAINT connect_sessions_pkey PRIMARY KEY (tenant_id, session_id);

ALTER TABLE ONLY customhouse.connect_states
    ADD CONSTRAINT connect_states_pkey PRIMARY KEY (tenant_id, state_hash);

ALTER TABLE ONLY customhouse.connection_dormancy
    ADD CONSTRAINT connection_dormancy_pkey PRIMARY KEY (tenant_id, connection_id);

ALTER TABLE ONLY customhouse.connection_grants
    ADD CONSTRAINT connection_grants_pkey PRIMARY KEY (tenant_id, connection_id);

ALTER TABLE ONLY customhouse.connection_health
    ADD CONSTRAINT connection_health_pkey PRIMARY KEY (tenant_id, connection_id);

ALTER TABLE ONLY customhouse.connection_secrets
    ADD CONSTRAINT connection_secrets_pkey PRIMARY KEY (tenant_id, connection_id, key_id);

ALTER TABLE ONLY customhouse.connection_uses
    ADD CONSTRAINT connection_uses_pkey PRIMARY KEY (tenant_id, connection_id);

ALTER TABLE ONLY customhouse.connections
    ADD CONSTRAINT connections_pkey PRIMARY KEY (tenant_id, connection_id);

ALTER TABLE ONLY customhouse.consents
    ADD CONSTRAINT consents_pkey PRIMARY KEY (tenant_id, connection_id, grant_version);

ALTER TABLE ONLY customhouse.data_keys
    ADD CONSTRAINT data_keys_pkey PRIMARY KEY (tenant_id, key_id);

ALTER TABLE ONLY customhouse.deliveries
    ADD CONSTRAINT deliveries_pkey PRIMARY KEY (tenant_id, delivery_id);

ALTER TABLE ONLY customhouse.delivery_queue
    ADD CONSTRAINT delivery_queue_pkey PRIMARY KEY (tenant_id, delivery_id);

ALTER TABLE ONLY customhouse.disconnect_receipts
    ADD CONSTRAINT disconnect_receipts_pkey PRIMARY KEY (tenant_id, connection_id);

ALTER TABLE ONLY customhouse.ended_keys
    ADD CONSTRAINT ended_keys_pkey PRIMARY KEY (tenant_id, connection_id, key_id);

ALTER TABLE ONLY customhouse.event_keys
    ADD CONSTRAINT event_keys_pkey PRIMARY KEY (tenant_id, key_hash);

ALTER TABLE ONLY customhouse.event_types
    ADD CONSTRAINT event_types_pkey PRIMARY KEY (tenant_id, event_type);

ALTER TABLE ONLY customhouse.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (tenant_id, event_uid);

ALTER TABLE ONLY customhouse.idempotency_keys
    ADD CONSTRAINT idempotency_keys_pkey PRIMARY KEY (tenant_id, key_hash);

ALTER TABLE ONLY customhouse.integration_tokens
    ADD CONSTRAINT integration_tokens_pkey PRIMARY KEY (tenant_id, connection_id);

ALTER TABLE ONLY customhouse.key_rotations
    ADD CONSTRAINT key_rotations_pkey PRIMARY KEY (rotation_id);

ALTER TABLE ONLY customhouse.notices
    ADD CONSTRAINT notices_pkey PRIMARY KEY (tenant_id, notice_id);

ALTER TABLE ONLY customhouse.pasted_keys
    ADD CONSTRAINT pasted_keys_once UNIQUE (tenant_id, key_index);

ALTER TABLE ONLY customhouse.pasted_keys
    ADD CONSTRAINT pasted_keys_pkey PRIMARY KEY (tenant_id, connection_id);

ALTER TABLE ONLY customhouse.payloads
    ADD CONSTRAINT payloads_pkey PRIMARY KEY (tenant_id, event_uid, variant);

ALTER TABLE ONLY customhouse.pending_grants
    ADD CONSTRAINT pending_grants_pkey PRIMARY KEY (tenant_id, session_id);

ALTER TABLE ONLY customhouse.pgqueuer_log
    ADD CONSTRAINT pgqueuer_log_pkey PRIMARY KEY (id);

ALTER TABLE ONLY customhouse.pgqueuer
    ADD CONSTRAINT pgqueuer_pkey PRIMARY KEY (id);

ALTER TABLE ONLY customhouse.pgqueuer_schedules
    ADD CONSTRAINT pgqueuer_schedules_expression_entrypoint_key UNIQUE (expression, entrypoint);

ALTER TABLE ONLY customhouse.pgqueuer_schedules
    ADD CONSTRAINT pgqueuer_schedules_pkey PRIMARY KEY (id);

ALTER TABLE ONLY customhouse.pgqueuer_statistics
    ADD CONSTRAINT pgqueuer_statistics_pkey PRIMARY KEY (id);

ALTER TABLE ONLY customhouse.privacy_policies
    ADD CONSTRAINT privacy_policies_pkey PRIMARY KEY (tenant_id, version);

ALTER TABLE ONLY customhouse.processes
    ADD CONSTRAINT processes_pkey PRIMARY KEY (process_id);

ALTER TABLE ONLY customhouse.provider_brakes
    ADD CONSTRAINT provider_brakes_pkey PRIMARY KEY (provider, kind);

ALTER TABLE ONLY customhouse.revocation_escrow
    ADD CONSTRAINT revocation_escrow_pkey PRIMARY KEY (tenant_id, revocation_id);

ALTER TABLE ONLY customhouse.schema_migrations
    ADD CONSTRAINT schema_migrations_pkey PRIMARY KEY (version);

ALTER TABLE ONLY customhouse.tenant_keys
    ADD CONSTRAINT tenant_keys_pkey PRIMARY KEY (tenant_id, key_id);

ALTER TABLE ONLY customhouse.tenants
    ADD CONSTRAINT tenants_pkey PRIMARY KEY (tenant_id);

ALTER TABLE ONLY customhouse.token_refreshes
    ADD CONSTRAINT token_refreshes_pkey PRIMARY KEY (tenant_id, connection_id);

CREATE INDEX api_keys_token_hash ON customhouse.api_keys USING btree (token_hash);

CREATE INDEX attempts_unhappy_end ON ONLY customhouse.attempts USING btree (tenant_id, outcome, delivery_id) WHERE (outcome = ANY (ARRAY['failed'::text, 'cancelled'::text, 'expired'::text]));

CREATE INDEX connect_sessions_deadline ON customhouse.connect_sessions USING btree (deadline);

CREATE INDEX connect_sessions_link ON customhouse.connect_sessions USING btree (link_hash);

CREATE INDEX connect_states_hash ON customhouse.connect_states USING btree (state_hash);

CREATE INDEX connect_states_session ON customhouse.connect_states USING btree (tenant_id, session_id);

CREATE INDEX connection_grants_account ON customhouse.connection_grants USING btree (account_index);

CREATE INDEX connection_grants_shared ON customhouse.connection_grants USING btree (COALESCE(shared_index, account_index));

CREATE INDEX connection_health_failing ON customhouse.connection_health USING btree (failing_since) WHERE (failing_since IS NOT NULL);

CREATE UNIQUE INDEX connection_secrets_active ON customhouse.connection_secrets USING btree (tenant_id, connection_id, purpose) WHERE (state = 'active'::text);

CREATE UNIQUE INDEX connection_secrets_next ON customhouse.connection_secrets USING btree (tenant_id, connection_id, purpose) WHERE (state = 'next'::text);

CREATE INDEX connection_secrets_turns ON customhouse.connection_secrets USING btree (activates_at, valid_until) WHERE (state = ANY (ARRAY['next'::text, 'previous'::text]));

CREATE INDEX connections_certificates ON customhouse.connections USING btree (certificate_expires_at) WHERE (certificate_expires_at IS NOT NULL);

CREATE INDEX connections_provider ON customhouse.connections USING btree (provider, mode, status) WHERE (provider <> 'webhook'::text);

CREATE UNIQUE INDEX data_keys_active ON customhouse.data_keys USING btree (tenant_id, purpose, scope) WHERE (state = 'active'::text);

CREATE UNIQUE INDEX data_keys_next ON customhouse.data_keys USING btree (tenant_id, purpose, scope) WHERE (state = 'next'::text);

CREATE INDEX data_keys_scope ON customhouse.data_keys USING btree (tenant_id, purpose, scope);

CREATE INDEX data_keys_turning_order ON customhouse.data_keys USING btree (tenant_id, state, key_id) WHERE (state = ANY (ARRAY['next'::text, 'retired'::text]));

CREATE INDEX data_keys_wrapped_by ON customhouse.data_keys USING btree (tenant_id, tenant_key_id) WHERE (state <> 'destroyed'::text);

CREATE INDEX deliveries_connection ON ONLY customhouse.deliveries USING btree (tenant_id, connection_id, delivery_id);

CREATE UNIQUE INDEX delivery_queue_head ON customhouse.delivery_queue USING btree (tenant_id, connection_id, ordering_key) WHERE ((ordering_key IS NOT NULL) AND (NOT blocked));

CREATE INDEX delivery_queue_leased ON customhouse.delivery_queue USING btree (owner, lease_until) WHERE (owner IS NOT NULL);

CREATE INDEX delivery_queue_line ON customhouse.delivery_queue USING btree (tenant_id, connection_id, ordering_key, ordering_place) WHERE (ordering_key IS NOT NULL);

CREATE INDEX delivery_queue_next ON customhouse.delivery_queue USING btree (tenant_id, connection_id, next_at) WHERE ((owner IS NULL) AND (NOT blocked));

CREATE INDEX disconnect_receipts_operation ON customhouse.disconnect_receipts USING btree (operation_id) WHERE (operation_id IS NOT NULL);

CREATE INDEX disconnect_receipts_unfinished ON customhouse.disconnect_receipts USING btree (updated_at) WHERE (NOT key_released);

CREATE INDEX event_keys_expiry ON customhouse.event_keys USING btree (expires_at);

CREATE INDEX events_given_id ON ONLY customhouse.events USING btree (tenant_id, event_id) WHERE (event_id IS NOT NULL);

CREATE INDEX idempotency_keys_expiry ON customhouse.idempotency_keys USING btree (expires_at);

CREATE INDEX integration_tokens_age ON customhouse.integration_tokens USING btree (issued_at);

CREATE INDEX integration_tokens_expiry ON customhouse.integration_tokens USING btree (access_expires_at);

CREATE UNIQUE INDEX key_rotations_under_way ON customhouse.key_rotations USING btree (kind, COALESCE(only_tenant, ''::text)) WHERE (finished_at IS NULL);

CREATE INDEX notices_age ON customhouse.notices USING btree (created_at);

CREATE INDEX notices_due ON customhouse.notices USING btree (mail_next_at) WHERE (mail = 'pending'::text);

CREATE INDEX notices_inbox ON customhouse.notices USING btree (tenant_id, user_id, notice_id);

CREATE INDEX pasted_keys_due ON customhouse.pasted_keys USING btree (next_check_at) WHERE (next_check_at IS NOT NULL);

CREATE INDEX pending_grants_account ON customhouse.pending_grants USING btree (account_index);

CREATE INDEX pending_grants_shared ON customhouse.pending_grants USING btree (COALESCE(shared_index, account_index));

CREATE INDEX pgqueuer_ep_ea_idx ON customhouse.pgqueuer USING btree (entrypoint, execute_after) WHERE (status = 'queued'::customhouse.pgqueuer_status);

CREATE INDEX pgqueuer_ep_prio_id_idx ON customhouse.pgqueuer USING btree (entrypoint, priority DESC, id) WHERE (status = 'queued'::customhouse.pgqueuer_status);

CREATE INDEX pgqueuer_log_created ON customhouse.pgqueuer_log USING btree (created);

CREATE INDEX pgqueuer_log_job_id_status ON customhouse.pgqueuer_log USING btree (job_id, created DESC);

CREATE INDEX pgqueuer_log_not_aggregated ON customhouse.pgqueuer_log USING btree ((1)) WHERE (NOT aggregated);

CREATE INDEX pgqueuer_log_status ON customhouse.pgqueuer_log USING btree (status);

CREATE INDEX pgqueuer_picked_heartbeat_idx ON customhouse.pgqueuer USING btree (heartbeat) WHERE (status = 'picked'::customhouse.pgqueuer_status);

CREATE UNIQUE INDEX pgqueuer_picked_slot_idx ON customhouse.pgqueuer USING btree (entrypoint, slot) WHERE ((status = 'picked'::customhouse.pgqueuer_status) AND (slot IS NOT NULL));

CREATE INDEX pgqueuer_priority_id_id1_idx ON customhouse.pgqueuer USING btree (priority, id DESC) INCLUDE (id) WHERE (status = 'queued'::customhouse.pgqueuer_status);

CREATE INDEX pgqueuer_queue_manager_id_idx ON customhouse.pgqueuer USING btree (queue_manager_id) WHERE (queue_manager_id IS NOT NULL);

CREATE UNIQUE INDEX pgqueuer_statistics_unique_count ON customhouse.pgqueuer_statistics USING btree (priority, date_trunc('sec'::text, timezone('UTC'::text, created)), status, entrypoint);

CREATE UNIQUE INDEX pgqueuer_unique_dedupe_key ON customhouse.pgqueuer USING btree (dedupe_key) WHERE ((status = ANY (ARRAY['queued'::customhouse.pgqueuer_status, 'picked'::customhouse.pgqueuer_status])) AND (dedupe_key IS NOT NULL));

CREATE INDEX pgqueuer_updated_id_id1_idx ON customhouse.pgqueuer USING btree (updated, id DESC) INCLUDE (id) WHERE (status = 'picked'::customhouse.pgqueuer_status);

CREATE INDEX revocation_escrow_connection ON customhouse.revocation_escrow USING btree (tenant_id, connection_id);

CREATE INDEX revocation_escrow_due ON customhouse.revocation_escrow USING btree (next_at);

CREATE INDEX revocation_escrow_tenant_key ON customhouse.revocation_escrow USING btree (tenant_id, tenant_key_id);

CREATE UNIQUE INDEX tenant_keys_active ON customhouse.tenant_keys USING btree (tenant_id) WHERE (state = 'active'::text);

CREATE INDEX tenant_keys_turning ON customhouse.tenant_keys USING btree (tenant_id) WHERE (state = 'retired'::text);

CREATE TRIGGER refuse_ended_keys BEFORE INSERT OR UPDATE OF account_sealed, user_sealed ON customhouse.connection_grants FOR EACH ROW EXECUTE FUNCTION customhouse.refuse_ended_keys('account_sealed', 'user_sealed');

CREATE TRIGGER refuse_ended_keys BEFORE INSERT OR UPDATE OF sealed ON customhouse.connection_secrets FOR EACH ROW EXECUTE FUNCTION customhouse.refuse_ended_keys('sealed');

CREATE TRIGGER refuse_ended_keys BEFORE INSERT OR UPDATE OF url_sealed, headers_sealed, client_certificate_sealed, client_key_sealed ON customhouse.connections FOR EACH ROW EXECUTE FUNCTION customhouse.refuse_ended_keys('url_sealed', 'headers_sealed', 'client_certificate_sealed', 'client_key_sealed');

CREATE TRIGGER refuse_ended_keys BEFORE INSERT OR UPDATE OF access_sealed, refresh_sealed ON customhouse.integration_tokens FOR EACH ROW EXECUTE FUNCTION customhouse.refuse_ended_keys('access_sealed', 'refresh_sealed');

CREATE TRIGGER refuse_ended_keys BEFORE INSERT OR UPDATE OF account_sealed, tokens_sealed ON customhouse.pending_grants FOR EACH ROW EXECUTE FUNCTION customhouse.refuse_ended_keys('account_sealed', 'tokens_sealed');

CREATE TRIGGER refuse_ended_keys BEFORE INSERT OR UPDATE OF tokens_sealed, access_sealed, refresh_sealed ON customhouse.revocation_escrow FOR EACH ROW EXECUTE FUNCTION customhouse.refuse_ended_keys('tokens_sealed', 'access_sealed', 'refresh_sealed');

CREATE TRIGGER tell_change AFTER UPDATE ON customhouse.api_keys FOR EACH ROW EXECUTE FUNCTION customhouse.tell_key_change();

CREATE TRIGGER tell_change AFTER INSERT OR UPDATE ON customhouse.connection_grants FOR EACH ROW EXECUTE FUNCTION customhouse.tell_change();

CREATE TRIGGER tell_change AFTER INSERT OR UPDATE ON customhouse.connection_secrets FOR EACH ROW EXECUTE FUNCTION customhouse.tell_change();

CREATE TRIGGER tell_change AFTER INSERT OR UPDATE ON customhouse.connections FOR EACH ROW EXECUTE FUNCTION customhouse.tell_change();

CREATE TRIGGER tell_change AFTER INSERT OR UPDATE ON customhouse.event_types FOR EACH ROW EXECUTE FUNCTION customhouse.tell_change();

CREATE TRIGGER tell_change AFTER INSERT OR UPDATE ON customhouse.privacy_policies FOR EACH ROW EXECUTE FUNCTION customhouse.tell_change();

CREATE TRIGGER tell_destroyed AFTER UPDATE ON customhouse.data_keys FOR EACH ROW WHEN ((new.state <> old.state)) EXECUTE FUNCTION customhouse.tell_key_change();

CREATE TRIGGER tell_destroyed AFTER UPDATE ON customhouse.tenant_keys FOR EACH ROW WHEN ((new.state <> old.state)) EXECUTE FUNCTION customhouse.tell_key_change();

CREATE TRIGGER tg_pgqueuer_changed AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON customhouse.pgqueuer FOR EACH STATEMENT EXECUTE FUNCTION customhouse.fn_pgqueuer_changed();

ALTER TABLE ONLY customhouse.api_keys
    ADD CONSTRAINT api_keys_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES customhouse.tenants(tenant_id);

ALTER TABLE ONLY customhouse.connect_exchanges
    ADD CONSTRAINT connect_exchanges_tenant_id_session_id_fkey FOREIGN KEY (tenant_id, session_id) REFERENCES customhouse.connect_sessions(tenant_id, session_id) ON DELETE CASCADE;

ALTER TABLE ONLY customhouse.connect_sessions
    ADD CONSTRAINT connect_sessions_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES customhouse.tenants(tenant_id);

ALTER TABLE ONLY customhouse.connect_states
    ADD CONSTRAINT connect_states_tenant_id_session_id_fkey FOREIGN KEY (tenant_id, session_id) REFERENCES customhouse.connect_sessions(tenant_id, session_id) ON DELETE CASCADE;

ALTER TABLE ONLY customhouse.connection_dormancy
    ADD CONSTRAINT connection_dormancy_tenant_id_connection_id_fkey FOREIGN KEY (tenant_id, connection_id) REFERENCES customhouse.connections(tenant_id, connection_id);

ALTER TABLE ONLY customhouse.connection_grants
    ADD CONSTRAINT connection_grants_tenant_id_connection_id_fkey FOREIGN KEY (tenant_id, connection_id) REFERENCES customhouse.connections(tenant_id, connection_id);

ALTER TABLE ONLY customhouse.connection_health
    ADD CONSTRAINT connection_health_tenant_id_connection_id_fkey FOREIGN KEY (tenant_id, connection_id) REFERENCES customhouse.connections(tenant_id, connection_id);

ALTER TABLE ONLY customhouse.connection_secrets
    ADD CONSTRAINT connection_secrets_tenant_id_connection_id_fkey FOREIGN KEY (tenant_id, connection_id) REFERENCES customhouse.connections(tenant_id, connection_id);

ALTER TABLE ONLY customhouse.connections
    ADD CONSTRAINT connections_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES customhouse.tenants(tenant_id);

ALTER TABLE ONLY customhouse.consents
    ADD CONSTRAINT consents_tenant_id_connection_id_fkey FOREIGN KEY (tenant_id, connection_id) REFERENCES customhouse.connections(tenant_id, connection_id);

ALTER TABLE ONLY customhouse.data_keys
    ADD CONSTRAINT data_keys_tenant_id_tenant_key_id_fkey FOREIGN KEY (tenant_id, tenant_key_id) REFERENCES customhouse.tenant_keys(tenant_id, key_id);

ALTER TABLE ONLY customhouse.disconnect_receipts
    ADD CONSTRAINT disconnect_receipts_tenant_id_connection_id_fkey FOREIGN KEY (tenant_id, connection_id) REFERENCES customhouse.connections(tenant_id, connection_id);

ALTER TABLE ONLY customhouse.event_types
    ADD CONSTRAINT event_types_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES customhouse.tenants(tenant_id);

ALTER TABLE ONLY customhouse.idempotency_keys
    ADD CONSTRAINT idempotency_keys_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES customhouse.tenants(tenant_id);

ALTER TABLE ONLY customhouse.integration_tokens
    ADD CONSTRAINT integration_tokens_tenant_id_connection_id_fkey FOREIGN KEY (tenant_id, connection_id) REFERENCES customhouse.connections(tenant_id, connection_id);

ALTER TABLE ONLY customhouse.notices
    ADD CONSTRAINT notices_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES customhouse.tenants(tenant_id);

ALTER TABLE ONLY customhouse.pasted_keys
    ADD CONSTRAINT pasted_keys_tenant_id_connection_id_fkey FOREIGN KEY (tenant_id, connection_id) REFERENCES customhouse.integration_tokens(tenant_id, connection_id) ON DELETE CASCADE;

ALTER TABLE ONLY customhouse.pending_grants
    ADD CONSTRAINT pending_grants_tenant_id_session_id_fkey FOREIGN KEY (tenant_id, session_id) REFERENCES customhouse.connect_sessions(tenant_id, session_id);

ALTER TABLE ONLY customhouse.privacy_policies
    ADD CONSTRAINT privacy_policies_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES customhouse.tenants(tenant_id);

ALTER TABLE ONLY customhouse.token_refreshes
    ADD CONSTRAINT token_refreshes_tenant_id_connection_id_fkey FOREIGN KEY (tenant_id, connection_id) REFERENCES customhouse.connections(tenant_id, connection_id);

ALTER TABLE customhouse.api_keys ENABLE ROW LEVEL SECURITY;

ALTER TABLE customhouse.attempts ENABLE ROW LEVEL SECURITY;

ALTER TABLE customhouse.audit_entries ENABLE ROW LEVEL SECURITY;

ALTER TABLE customhouse.bulk_read_alarms ENABLE ROW LEVEL SECURITY;

ALTER TABLE customhouse.bulk_read_counts ENABLE ROW LEVEL SECURITY;

ALTER TABLE customhouse.bulk_read_seen ENABLE ROW LEVEL SECURITY;

ALTER TABLE customhouse.connect_exchanges ENABLE ROW LEVEL SECURITY;

ALTER TABLE customhouse.connect_sessions ENABLE ROW LEVEL SECURITY;

ALTER TABLE customhouse.connect_states ENABLE ROW LEVEL SECURITY;

ALTER TABLE customhouse.connection_dormancy ENABLE ROW LEVEL SECURITY;

ALTER TABLE customhouse.connection_grants ENABLE ROW LEVEL SECURITY;

ALTER TABLE customhouse.connection_health ENABLE ROW LEVEL SECURITY;

ALTER TABLE customhouse.connection_secrets ENABLE ROW LEVEL SECURITY;

ALTER TABLE customhouse.connection_uses ENABLE ROW LEVEL SECURITY;

ALTER TABLE customhouse.connections ENABLE ROW LEVEL SECURITY;

ALTER TABLE customhouse.consents ENABLE ROW LEVEL SECURITY;

CREATE POLICY crossing ON customhouse.api_keys FOR SELECT TO customhouse_crossing USING (true);

CREATE POLICY crossing ON customhouse.connect_sessions FOR SELECT TO customhouse_crossing USING (true);

CREATE POLICY crossing ON customhouse.connect_states FOR SELECT TO customhouse_crossing USING (true);

CREATE POLICY crossing ON customhouse.connection_dormancy FOR SELECT TO customhouse_crossing USING (true);

CREATE POLICY crossing ON customhouse.connection_grants FOR SELECT TO customhouse_crossing USING (true);

CREATE POLICY crossing ON customhouse.connection_health FOR SELECT TO customhouse_crossing USING (true);

CREATE POLICY crossing ON customhouse.connection_secrets FOR SELECT TO customhouse_crossing USING (true);

CREATE POLICY crossing ON customhouse.consents FOR SELECT TO customhouse_crossing USING (true);

CREATE POLICY crossing ON customhouse.data_keys FOR SELECT TO customhouse_crossing USING (true);

CREATE POLICY crossing ON customhouse.delivery_queue TO customhouse_crossing USING (true);

CREATE POLICY crossing ON customhouse.disconnect_receipts FOR SELECT TO customhouse_crossing USING (true);

CREATE POLICY crossing ON customhouse.event_keys TO customhouse_crossing USING (true);

CREATE POLICY crossing ON customhouse.idempotency_keys TO customhouse_crossing USING (true);

CREATE POLICY crossing ON customhouse.integration_tokens FOR SELECT TO customhouse_crossing USING (true);

CREATE POLICY crossing ON customhouse.notices FOR SELECT TO customhouse_crossing USING (true);

CREATE POLICY crossing ON customhouse.pasted_keys FOR SELECT TO customhouse_crossing USING (true);

CREATE POLICY crossing ON customhouse.pending_grants FOR SELECT TO customhouse_crossing USING (true);

CREATE POLICY crossing ON customhouse.revocation_escrow FOR SELECT TO customhouse_crossing USING (true);

CREATE POLICY crossing ON customhouse.tenant_keys FOR SELECT TO customhouse_crossing USING (true);

CREATE POLICY crossing ON customhouse.token_refreshes FOR SELECT TO customhouse_crossing USING (true);

CREATE POLICY crossing_certificates ON customhouse.connections FOR SELECT TO customhouse_crossing USING ((certificate_expires_at IS NOT NULL));

CREATE POLICY crossing_consented ON customhouse.connections FOR SELECT TO customhouse_crossing USING ((provider <> 'webhook'::text));

CREATE POLICY crossing_dormant ON customhouse.connection_uses FOR SELECT TO customhouse_crossing USING (true);

CREATE POLICY crossing_health ON customhouse.connections FOR SELECT TO customhouse_crossing USING ((provider = 'webhook'::text));

ALTER TABLE customhouse.data_keys ENABLE ROW LEVEL SECURITY;

ALTER TABLE customhouse.deliveries ENABLE ROW LEVEL SECURITY;

ALTER TABLE customhouse.delivery_queue ENABLE ROW LEVEL SECURITY;

ALTER TABLE customhouse.disconnect_receipts ENABLE ROW LEVEL SECURITY;

ALTER TABLE customhouse.ended_keys ENABLE ROW LEVEL SECURITY;

ALTER TABLE customhouse.event_keys ENABLE ROW LEVEL SECURITY;

ALTER TABLE customhouse.event_types ENABLE ROW LEVEL SECURITY;

ALTER TABLE customhouse.events ENABLE ROW LEVEL SECURITY;

ALTER TABLE customhouse.idempotency_keys ENABLE ROW LEVEL SECURITY;

ALTER TABLE customhouse.integration_tokens ENABLE ROW LEVEL SECURITY;

ALTER TABLE customhouse.notices ENABLE ROW LEVEL SECURITY;

CREATE POLICY own_tenant ON customhouse.api_keys TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.attempts TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.audit_entries TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.bulk_read_alarms TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.bulk_read_counts TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.bulk_read_seen TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.connect_exchanges TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.connect_sessions TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.connect_states TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.connection_dormancy TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.connection_grants TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.connection_health TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.connection_secrets TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.connection_uses TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.connections TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.consents TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.data_keys TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.deliveries TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.delivery_queue TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.disconnect_receipts TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.ended_keys TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.event_keys TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.event_types TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.events TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.idempotency_keys TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.integration_tokens TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.notices TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.pasted_keys TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.payloads TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.pending_grants TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.privacy_policies TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.revocation_escrow TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.tenant_keys TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.tenants TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

CREATE POLICY own_tenant ON customhouse.token_refreshes TO customhouse_service USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

ALTER TABLE customhouse.pasted_keys ENABLE ROW LEVEL SECURITY;

ALTER TABLE customhouse.payloads ENABLE ROW LEVEL SECURITY;

ALTER TABLE customhouse.pending_grants ENABLE ROW LEVEL SECURITY;

CREATE POLICY platform_is_readable ON customhouse.event_types FOR SELECT TO customhouse_service USING (((tenant_id = '_platform'::text) AND (NULLIF(current_setting('app.tenant_id'::text, true), ''::text) IS NOT NULL)));

CREATE POLICY platform_is_readable ON customhouse.tenants FOR SELECT TO customhouse_service USING (((tenant_id = '_platform'::text) AND (NULLIF(current_setting('app.tenant_id'::text, true), ''::text) IS NOT NULL)));

ALTER TABLE customhouse.privacy_policies ENABLE ROW LEVEL SECURITY;

ALTER TABLE customhouse.revocation_escrow ENABLE ROW LEVEL SECURITY;

CREATE POLICY revoker ON customhouse.revocation_escrow TO customhouse_revoker USING ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))) WITH CHECK ((tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text)));

ALTER TABLE customhouse.tenant_keys ENABLE ROW LEVEL SECURITY;

ALTER TABLE customhouse.tenants ENABLE ROW LEVEL SECURITY;

ALTER TABLE customhouse.token_refreshes ENABLE ROW LEVEL SECURITY;

GRANT USAGE ON SCHEMA customhouse TO customhouse_service;
GRANT USAGE ON SCHEMA customhouse TO customhouse_crossing;
GRANT ALL ON SCHEMA customhouse TO customhouse_upkeep;
GRANT USAGE ON SCHEMA customhouse TO customhouse_revoker;

REVOKE ALL ON FUNCTION customhouse.certificates_expiring_v1(p_before timestamp with time zone, p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.certificates_expiring_v1(p_before timestamp with time zone, p_limit integer) TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.claim_due_v4(p_process uuid, p_limit integer, p_each integer, p_lease interval, p_skip uuid[], p_after_tenant text, p_after_connection uuid, p_visits integer) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.claim_due_v4(p_process uuid, p_limit integer, p_each integer, p_lease interval, p_skip uuid[], p_after_tenant text, p_after_connection uuid, p_visits integer) TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.claim_revocation_v1(p_revocation uuid, p_moment timestamp with time zone, p_until timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.claim_revocation_v1(p_revocation uuid, p_moment timestamp with time zone, p_until timestamp with time zone) TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.claim_revocation_v2(p_revocation uuid, p_moment timestamp with time zone, p_until timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.claim_revocation_v2(p_revocation uuid, p_moment timestamp with time zone, p_until timestamp with time zone) TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.connect_sessions_due_v1(p_moment timestamp with time zone, p_forget interval, p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.connect_sessions_due_v1(p_moment timestamp with time zone, p_forget interval, p_limit integer) TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.connections_of_account_v1(p_account_index bytea) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.connections_of_account_v1(p_account_index bytea) TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.connections_to_end_v1(p_provider text, p_tenant text, p_since timestamp with time zone, p_after_tenant text, p_after uuid, p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.connections_to_end_v1(p_provider text, p_tenant text, p_since timestamp with time zone, p_after_tenant text, p_after uuid, p_limit integer) TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.disconnects_unfinished_v1(p_before timestamp with time zone, p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.disconnects_unfinished_v1(p_before timestamp with time zone, p_limit integer) TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.dormant_connections_v1(p_warn timestamp with time zone, p_pause timestamp with time zone, p_told timestamp with time zone, p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.dormant_connections_v1(p_warn timestamp with time zone, p_pause timestamp with time zone, p_told timestamp with time zone, p_limit integer) TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.fleet_health_v1(p_period interval) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.fleet_health_v1(p_period interval) TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.grants_sharing_v1(p_account_index bytea) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.grants_sharing_v1(p_account_index bytea) TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.grants_sharing_v2(p_index bytea) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.grants_sharing_v2(p_index bytea) TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.key_holders_v1(p_after text, p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.key_holders_v1(p_after text, p_limit integer) TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.key_turns_v1(p_after text, p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.key_turns_v1(p_after text, p_limit integer) TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.long_failing_v1(p_period interval, p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.long_failing_v1(p_period interval, p_limit integer) TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.notice_mails_due_v1(p_moment timestamp with time zone, p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.notice_mails_due_v1(p_moment timestamp with time zone, p_limit integer) TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.notices_past_v1(p_read_before timestamp with time zone, p_made_before timestamp with time zone, p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.notices_past_v1(p_read_before timestamp with time zone, p_made_before timestamp with time zone, p_limit integer) TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.outgrown_connections_v1(p_provider text, p_mode text, p_scopes text[], p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.outgrown_connections_v1(p_provider text, p_mode text, p_scopes text[], p_limit integer) TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.overdue_deliveries_v1(p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.overdue_deliveries_v1(p_limit integer) TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.pasted_keys_due_v1(p_moment timestamp with time zone, p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.pasted_keys_due_v1(p_moment timestamp with time zone, p_limit integer) TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.purge_keys_v1(p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.purge_keys_v1(p_limit integer) TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.queue_depth_v2() FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.queue_depth_v2() TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.read_token_v1(p_tenant text, p_connection uuid, p_home text, p_actor text, p_moment timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.read_token_v1(p_tenant text, p_connection uuid, p_home text, p_actor text, p_moment timestamp with time zone) TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.read_tokens_v1(p_tenant text[], p_connection uuid[], p_home text[], p_actor text[], p_moment timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.read_tokens_v1(p_tenant text[], p_connection uuid[], p_home text[], p_actor text[], p_moment timestamp with time zone) TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.record_reads_v1(a_tenant text[], a_entry uuid[], a_at timestamp with time zone[], a_tag text[], a_actor_type text[], a_actor text[], a_connection uuid[], a_subject text[], a_request text[], a_correlation text[], a_detail text[], u_tenant text[], u_connection uuid[], u_at timestamp with time zone[], u_scopes text[], s_tenant text[], s_actor text[], s_connection uuid[], p_window timestamp with time zone, p_history interval, p_ripe interval) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.record_reads_v1(a_tenant text[], a_entry uuid[], a_at timestamp with time zone[], a_tag text[], a_actor_type text[], a_actor text[], a_connection uuid[], a_subject text[], a_request text[], a_correlation text[], a_detail text[], u_tenant text[], u_connection uuid[], u_at timestamp with time zone[], u_scopes text[], s_tenant text[], s_actor text[], s_connection uuid[], p_window timestamp with time zone, p_history interval, p_ripe interval) TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.recover_leases_v2(p_silence interval) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.recover_leases_v2(p_silence interval) TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.refreshes_due_v1(p_moment timestamp with time zone, p_provider text[], p_unused interval[], p_each integer) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.refreshes_due_v1(p_moment timestamp with time zone, p_provider text[], p_unused interval[], p_each integer) TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.resolve_api_key_v1(p_token_hash bytea) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.resolve_api_key_v1(p_token_hash bytea) TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.resolve_connect_link_v1(p_link_hash bytea) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.resolve_connect_link_v1(p_link_hash bytea) TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.resolve_connect_state_v1(p_state_hash bytea) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.resolve_connect_state_v1(p_state_hash bytea) TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.revocations_due_v1(p_moment timestamp with time zone, p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.revocations_due_v1(p_moment timestamp with time zone, p_limit integer) TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.signing_turns_due_v1(p_moment timestamp with time zone, p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.signing_turns_due_v1(p_moment timestamp with time zone, p_limit integer) TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.stalled_lines_v1(p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.stalled_lines_v1(p_limit integer) TO customhouse_service;

REVOKE ALL ON FUNCTION customhouse.upkeep_partitions_v1(p_days_ahead integer, p_payload_days integer) FROM PUBLIC;
GRANT ALL ON FUNCTION customhouse.upkeep_partitions_v1(p_days_ahead integer, p_payload_days integer) TO customhouse_service;

GRANT SELECT,INSERT ON TABLE customhouse.api_keys TO customhouse_service;

GRANT SELECT(tenant_id) ON TABLE customhouse.api_keys TO customhouse_crossing;

GRANT SELECT(key_id) ON TABLE customhouse.api_keys TO customhouse_crossing;

GRANT SELECT(token_hash) ON TABLE customhouse.api_keys TO customhouse_crossing;

GRANT UPDATE(revoked_at) ON TABLE customhouse.api_keys TO customhouse_service;

GRANT SELECT,INSERT ON TABLE customhouse.attempts TO customhouse_service;

GRANT SELECT,INSERT ON TABLE customhouse.audit_entries TO customhouse_service;

GRANT SELECT,INSERT,DELETE ON TABLE customhouse.brakes TO customhouse_service;

GRANT SELECT,INSERT,DELETE ON TABLE customhouse.bulk_read_alarms TO customhouse_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE customhouse.bulk_read_counts TO customhouse_service;

GRANT SELECT,INSERT,DELETE ON TABLE customhouse.bulk_read_seen TO customhouse_service;

GRANT SELECT,INSERT,DELETE ON TABLE customhouse.connect_exchanges TO customhouse_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE customhouse.connect_sessions TO customhouse_service;

GRANT SELECT(tenant_id) ON TABLE customhouse.connect_sessions TO customhouse_crossing;

GRANT SELECT(session_id) ON TABLE customhouse.connect_sessions TO customhouse_crossing;

GRANT SELECT(link_hash) ON TABLE customhouse.connect_sessions TO customhouse_crossing;

GRANT SELECT(state) ON TABLE customhouse.connect_sessions TO customhouse_crossing;

GRANT SELECT(deadline) ON TABLE customhouse.connect_sessions TO customhouse_crossing;

GRANT SELECT,INSERT,DELETE ON TABLE customhouse.connect_states TO customhouse_service;

GRANT SELECT(tenant_id) ON TABLE customhouse.connect_states TO customhouse_crossing;

GRANT SELECT(state_hash) ON TABLE customhouse.connect_states TO customhouse_crossing;

GRANT SELECT(session_id) ON TABLE customhouse.connect_states TO customhouse_crossing;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE customhouse.connection_dormancy TO customhouse_service;

GRANT SELECT(tenant_id) ON TABLE customhouse.connection_dormancy TO customhouse_crossing;

GRANT SELECT(connection_id) ON TABLE customhouse.connection_dormancy TO customhouse_crossing;

GRANT SELECT(told_at) ON TABLE customhouse.connection_dormancy TO customhouse_crossing;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE customhouse.connection_grants TO customhouse_service;

GRANT SELECT(tenant_id) ON TABLE customhouse.connection_grants TO customhouse_crossing;

GRANT SELECT(connection_id) ON TABLE customhouse.connection_grants TO customhouse_crossing;

GRANT SELECT(requested) ON TABLE customhouse.connection_grants TO customhouse_crossing;

GRANT SELECT(account_index) ON TABLE customhouse.connection_grants TO customhouse_crossing;

GRANT SELECT(shared_index) ON TABLE customhouse.connection_grants TO customhouse_crossing;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE customhouse.connection_health TO customhouse_service;

GRANT SELECT(tenant_id) ON TABLE customhouse.connection_health TO customhouse_crossing;

GRANT SELECT(connection_id) ON TABLE customhouse.connection_health TO customhouse_crossing;

GRANT SELECT(failing_since) ON TABLE customhouse.connection_health TO customhouse_crossing;

GRANT SELECT(last_success_at) ON TABLE customhouse.connection_health TO customhouse_crossing;

GRANT SELECT(last_failure_at) ON TABLE customhouse.connection_health TO customhouse_crossing;

GRANT SELECT,INSERT,UPDATE ON TABLE customhouse.connection_secrets TO customhouse_service;

GRANT SELECT(tenant_id) ON TABLE customhouse.connection_secrets TO customhouse_crossing;

GRANT SELECT(connection_id) ON TABLE customhouse.connection_secrets TO customhouse_crossing;

GRANT SELECT(purpose) ON TABLE customhouse.connection_secrets TO customhouse_crossing;

GRANT SELECT(state) ON TABLE customhouse.connection_secrets TO customhouse_crossing;

GRANT SELECT(activates_at) ON TABLE customhouse.connection_secrets TO customhouse_crossing;

GRANT SELECT(valid_until) ON TABLE customhouse.connection_secrets TO customhouse_crossing;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE customhouse.connection_uses TO customhouse_service;

GRANT SELECT(tenant_id) ON TABLE customhouse.connection_uses TO customhouse_crossing;

GRANT SELECT(connection_id) ON TABLE customhouse.connection_uses TO customhouse_crossing;

GRANT SELECT(last_used_at) ON TABLE customhouse.connection_uses TO customhouse_crossing;

GRANT SELECT,INSERT,UPDATE ON TABLE customhouse.connections TO customhouse_service;

GRANT SELECT(tenant_id) ON TABLE customhouse.connections TO customhouse_crossing;

GRANT SELECT(connection_id) ON TABLE customhouse.connections TO customhouse_crossing;

GRANT SELECT(provider) ON TABLE customhouse.connections TO customhouse_crossing;

GRANT SELECT(mode) ON TABLE customhouse.connections TO customhouse_crossing;

GRANT SELECT(status) ON TABLE customhouse.connections TO customhouse_crossing;

GRANT SELECT(updated_at) ON TABLE customhouse.connections TO customhouse_crossing;

GRANT SELECT(certificate_expires_at) ON TABLE customhouse.connections TO customhouse_crossing;

GRANT SELECT(certificate_told_for) ON TABLE customhouse.connections TO customhouse_crossing;

GRANT SELECT,INSERT ON TABLE customhouse.consents TO customhouse_service;

GRANT SELECT(tenant_id) ON TABLE customhouse.consents TO customhouse_crossing;

GRANT SELECT(connection_id) ON TABLE customhouse.consents TO customhouse_crossing;

GRANT SELECT(confirmed_at) ON TABLE customhouse.consents TO customhouse_crossing;

GRANT SELECT,INSERT,UPDATE ON TABLE customhouse.data_keys TO customhouse_service;

GRANT SELECT(tenant_id) ON TABLE customhouse.data_keys TO customhouse_crossing;

GRANT SELECT(state) ON TABLE customhouse.data_keys TO customhouse_crossing;

GRANT SELECT,INSERT ON TABLE customhouse.deliveries TO customhouse_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE customhouse.delivery_queue TO customhouse_service;
GRANT SELECT,UPDATE ON TABLE customhouse.delivery_queue TO customhouse_crossing;

GRANT SELECT,INSERT,UPDATE ON TABLE customhouse.disconnect_receipts TO customhouse_service;

GRANT SELECT(tenant_id) ON TABLE customhouse.disconnect_receipts TO customhouse_crossing;

GRANT SELECT(connection_id) ON TABLE customhouse.disconnect_receipts TO customhouse_crossing;

GRANT SELECT(operation_id) ON TABLE customhouse.disconnect_receipts TO customhouse_crossing;

GRANT SELECT(key_released) ON TABLE customhouse.disconnect_receipts TO customhouse_crossing;

GRANT SELECT(updated_at) ON TABLE customhouse.disconnect_receipts TO customhouse_crossing;

GRANT SELECT,INSERT ON TABLE customhouse.ended_keys TO customhouse_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE customhouse.event_keys TO customhouse_service;
GRANT SELECT,DELETE ON TABLE customhouse.event_keys TO customhouse_crossing;

GRANT SELECT,INSERT,UPDATE ON TABLE customhouse.event_types TO customhouse_service;

GRANT SELECT,INSERT ON TABLE customhouse.events TO customhouse_service;

GRANT SELECT,INSERT,DELETE ON TABLE customhouse.idempotency_keys TO customhouse_service;
GRANT SELECT,DELETE ON TABLE customhouse.idempotency_keys TO customhouse_crossing;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE customhouse.integration_tokens TO customhouse_service;

GRANT SELECT(tenant_id) ON TABLE customhouse.integration_tokens TO customhouse_crossing;

GRANT SELECT(connection_id) ON TABLE customhouse.integration_tokens TO customhouse_crossing;

GRANT SELECT(token_generation) ON TABLE customhouse.integration_tokens TO customhouse_crossing;

GRANT SELECT(access_expires_at) ON TABLE customhouse.integration_tokens TO customhouse_crossing;

GRANT SELECT(issued_at) ON TABLE customhouse.integration_tokens TO customhouse_crossing;

GRANT SELECT,INSERT,UPDATE ON TABLE customhouse.key_rotations TO customhouse_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE customhouse.notices TO customhouse_service;

GRANT SELECT(tenant_id) ON TABLE customhouse.notices TO customhouse_crossing;

GRANT SELECT(notice_id) ON TABLE customhouse.notices TO customhouse_crossing;

GRANT SELECT(created_at) ON TABLE customhouse.notices TO customhouse_crossing;

GRANT SELECT(read_at) ON TABLE customhouse.notices TO customhouse_crossing;

GRANT SELECT(mail) ON TABLE customhouse.notices TO customhouse_crossing;

GRANT SELECT(mail_next_at) ON TABLE customhouse.notices TO customhouse_crossing;

GRANT USAGE ON SEQUENCE customhouse.ordering_places TO customhouse_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE customhouse.pasted_keys TO customhouse_service;

GRANT SELECT(tenant_id) ON TABLE customhouse.pasted_keys TO customhouse_crossing;

GRANT SELECT(connection_id) ON TABLE customhouse.pasted_keys TO customhouse_crossing;

GRANT SELECT(next_check_at) ON TABLE customhouse.pasted_keys TO customhouse_crossing;

GRANT SELECT,INSERT,DELETE ON TABLE customhouse.payloads TO customhouse_service;

GRANT SELECT,INSERT,DELETE ON TABLE customhouse.pending_grants TO customhouse_service;

GRANT SELECT(tenant_id) ON TABLE customhouse.pending_grants TO customhouse_crossing;

GRANT SELECT(session_id) ON TABLE customhouse.pending_grants TO customhouse_crossing;

GRANT SELECT(account_index) ON TABLE customhouse.pending_grants TO customhouse_crossing;

GRANT UPDATE(account_sealed) ON TABLE customhouse.pending_grants TO customhouse_service;

GRANT UPDATE(tokens_sealed) ON TABLE customhouse.pending_grants TO customhouse_service;

GRANT SELECT(shared_index) ON TABLE customhouse.pending_grants TO customhouse_crossing;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE customhouse.pgqueuer TO customhouse_service;

GRANT USAGE ON SEQUENCE customhouse.pgqueuer_id_seq TO customhouse_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE customhouse.pgqueuer_log TO customhouse_service;

GRANT USAGE ON SEQUENCE customhouse.pgqueuer_log_id_seq TO customhouse_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE customhouse.pgqueuer_schedules TO customhouse_service;

GRANT USAGE ON SEQUENCE customhouse.pgqueuer_schedules_id_seq TO customhouse_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE customhouse.pgqueuer_statistics TO customhouse_service;

GRANT USAGE ON SEQUENCE customhouse.pgqueuer_statistics_id_seq TO customhouse_service;

GRANT SELECT,INSERT ON TABLE customhouse.privacy_policies TO customhouse_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE customhouse.processes TO customhouse_service;
GRANT SELECT,DELETE ON TABLE customhouse.processes TO customhouse_crossing;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE customhouse.provider_brakes TO customhouse_service;

GRANT INSERT,DELETE,UPDATE ON TABLE customhouse.revocation_escrow TO customhouse_service;
GRANT SELECT ON TABLE customhouse.revocation_escrow TO customhouse_revoker;

GRANT SELECT(tenant_id) ON TABLE customhouse.revocation_escrow TO customhouse_crossing;
GRANT SELECT(tenant_id) ON TABLE customhouse.revocation_escrow TO customhouse_service;

GRANT SELECT(revocation_id) ON TABLE customhouse.revocation_escrow TO customhouse_crossing;
GRANT SELECT(revocation_id) ON TABLE customhouse.revocation_escrow TO customhouse_service;

GRANT SELECT(connection_id) ON TABLE customhouse.revocation_escrow TO customhouse_service;

GRANT SELECT(provider) ON TABLE customhouse.revocation_escrow TO customhouse_service;

GRANT SELECT(reason) ON TABLE customhouse.revocation_escrow TO customhouse_service;

GRANT SELECT(account_index) ON TABLE customhouse.revocation_escrow TO customhouse_service;

GRANT SELECT(api_origin) ON TABLE customhouse.revocation_escrow TO customhouse_service;

GRANT SELECT(ends_key) ON TABLE customhouse.revocation_escrow TO customhouse_service;

GRANT SELECT(attempts) ON TABLE customhouse.revocation_escrow TO customhouse_service;

GRANT SELECT(next_at) ON TABLE customhouse.revocation_escrow TO customhouse_crossing;
GRANT SELECT(next_at) ON TABLE customhouse.revocation_escrow TO customhouse_service;
GRANT UPDATE(next_at) ON TABLE customhouse.revocation_escrow TO customhouse_revoker;

GRANT SELECT(ends_at) ON TABLE customhouse.revocation_escrow TO customhouse_service;

GRANT SELECT(created_at) ON TABLE customhouse.revocation_escrow TO customhouse_service;

GRANT SELECT(token_generation) ON TABLE customhouse.revocation_escrow TO customhouse_service;

GRANT SELECT(access_expires_at) ON TABLE customhouse.revocation_escrow TO customhouse_service;

GRANT SELECT(key_id) ON TABLE customhouse.revocation_escrow TO customhouse_service;

GRANT SELECT(tenant_key_id) ON TABLE customhouse.revocation_escrow TO customhouse_service;

GRANT SELECT(asked_at) ON TABLE customhouse.revocation_escrow TO customhouse_service;

GRANT SELECT(pending_session) ON TABLE customhouse.revocation_escrow TO customhouse_service;

GRANT SELECT ON TABLE customhouse.schema_migrations TO customhouse_service;

GRANT SELECT,INSERT,UPDATE ON TABLE customhouse.tenant_keys TO customhouse_service;

GRANT SELECT(tenant_id) ON TABLE customhouse.tenant_keys TO customhouse_crossing;

GRANT SELECT(state) ON TABLE customhouse.tenant_keys TO customhouse_crossing;

GRANT SELECT,INSERT,UPDATE ON TABLE customhouse.tenants TO customhouse_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE customhouse.token_refreshes TO customhouse_service;

GRANT SELECT(tenant_id) ON TABLE customhouse.token_refreshes TO customhouse_crossing;

GRANT SELECT(connection_id) ON TABLE customhouse.token_refreshes TO customhouse_crossing;

GRANT SELECT(lease_until) ON TABLE customhouse.token_refreshes TO customhouse_crossing;

GRANT SELECT(not_before) ON TABLE customhouse.token_refreshes TO customhouse_crossing;
