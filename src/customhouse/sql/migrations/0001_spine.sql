-- The spine: tenants, keys, webhook connections, events, deliveries, ledger.
--
-- Three roles (docs/explanation/tenancy.md):
--   the migrator             runs this file and owns the schema; the service never connects as it
--   customhouse_service      the service's login is a member of it; owns nothing, lives under row-level security
--   customhouse_crossing     NOLOGIN, owns the functions that may look across tenants; they return ids and counts only
--   customhouse_upkeep       NOLOGIN, owns the partitioned tables, so that partitions can be made without the migrator
-- Identifiers are UUIDv7 made by the service: their order is the order of time, and time partitions are ranges of ids.

do $$
declare
  role_name text;
begin
  foreach role_name in array array['customhouse_service', 'customhouse_crossing', 'customhouse_upkeep'] loop
    if not exists (select from pg_roles where rolname = role_name) then
      execute format('create role %I nologin', role_name);
    end if;
  end loop;
  -- Ownership can be given away only to a role that one may become; since PostgreSQL 16 its creator may not by itself.
  foreach role_name in array array['customhouse_crossing', 'customhouse_upkeep'] loop
    begin
      execute format('grant %I to %I', role_name, current_user);
    exception when insufficient_privilege then
      -- An operator made the roles: then the migrator must have been made a member, or the ownership below is refused.
      null;
    end;
  end loop;
end
$$;

grant usage on schema customhouse to customhouse_service;
grant usage, create on schema customhouse to customhouse_crossing, customhouse_upkeep;

-- Tenants --------------------------------------------------------------------------------------------------------------

create table tenants (
  tenant_id   text primary key check (tenant_id ~ '^[A-Za-z0-9_.:-]{1,128}$'),
  name        text not null,
  status      text not null default 'active' check (status in ('active', 'deleting')),
  -- Grows with every change to the tenant's connections, event types or policy; an accept that read an older one is refused.
  version     bigint not null default 1,
  created_at  timestamptz not null default now()
);

create table api_keys (
  tenant_id   text not null references tenants,
  key_id      uuid not null,
  name        text not null,
  scopes      text[] not null check (cardinality(scopes) > 0),
  token_hash  bytea not null check (octet_length(token_hash) = 32),
  created_at  timestamptz not null default now(),
  expires_at  timestamptz,
  revoked_at  timestamptz,
  primary key (tenant_id, key_id)
);
create index api_keys_token_hash on api_keys (token_hash);

create table idempotency_keys (
  tenant_id   text not null references tenants,
  key_hash    bytea not null check (octet_length(key_hash) = 32),
  body_digest bytea not null,
  result_id   text not null,
  expires_at  timestamptz not null default now() + interval '7 days',
  primary key (tenant_id, key_hash)
);
create index idempotency_keys_expiry on idempotency_keys (expires_at);

create table privacy_policies (
  tenant_id      text not null references tenants,
  version        bigint not null,
  allowed_fields text[] not null,
  -- {"con_…": ["work_email"]}: what a single connection may carry; it can only be narrower.
  connections    jsonb not null default '{}',
  on_violation   text not null check (on_violation in ('remove', 'refuse')),
  created_at     timestamptz not null default now(),
  primary key (tenant_id, version)
);

create table event_types (
  tenant_id    text not null references tenants,
  event_type   text not null,
  description  text not null default '',
  schema       jsonb,
  pii          jsonb not null default '{}',
  created_at   timestamptz not null default now(),
  updated_at   timestamptz not null default now(),
  primary key (tenant_id, event_type)
);

-- Keys of the vault ----------------------------------------------------------------------------------------------------

create table tenant_keys (
  tenant_id     text not null,
  key_id        uuid not null,
  kms_key       text not null,
  wrapped       bytea,
  state         text not null default 'active' check (state in ('active', 'retired', 'destroyed')),
  created_at    timestamptz not null default now(),
  destroyed_at  timestamptz,
  primary key (tenant_id, key_id),
  check ((state = 'destroyed') = (wrapped is null))
);
create unique index tenant_keys_active on tenant_keys (tenant_id) where state = 'active';

create table data_keys (
  tenant_id      text not null,
  key_id         uuid not null,
  -- 'connection': scope is the connection's uuid; 'payload': scope is the day (UTC)
  purpose        text not null,
  scope          text not null,
  tenant_key_id  uuid not null,
  wrapped        bytea,
  state          text not null default 'active' check (state in ('active', 'retired', 'destroyed')),
  created_at     timestamptz not null default now(),
  destroyed_at   timestamptz,
  primary key (tenant_id, key_id),
  foreign key (tenant_id, tenant_key_id) references tenant_keys (tenant_id, key_id),
  check ((state = 'destroyed') = (wrapped is null))
);
create unique index data_keys_active on data_keys (tenant_id, purpose, scope) where state = 'active';

-- Connections ----------------------------------------------------------------------------------------------------------

create table connections (
  tenant_id          text not null references tenants,
  connection_id      uuid not null,
  provider           text not null,
  user_id            text,
  mode               text not null default 'observe' check (mode in ('observe', 'act')),
  status             text not null check (status in ('pending', 'active', 'degraded', 'paused', 'reauthorization_required',
                                                     'revoked', 'disabled', 'disconnected')),
  status_reason      text,
  grant_version      bigint not null default 1,
  description        text not null default '',
  -- A webhook connection: the URL is sealed, because paths hold secrets; its host is what may be shown and logged.
  url_sealed         bytea,
  url_host           text,
  event_types        text[] not null default '{}',
  signature_profile  text check (signature_profile in ('queast-v1', 'standard-webhooks')),
  signature_algorithm text not null default 'v1' check (signature_algorithm in ('v1', 'v1a')),
  -- HMAC under a vault key over what the sender acts on: a row edited by hand does nothing.
  mac                bytea not null,
  created_at         timestamptz not null default now(),
  updated_at         timestamptz not null default now(),
  primary key (tenant_id, connection_id)
);

create table connection_secrets (
  tenant_id      text not null,
  connection_id  uuid not null,
  key_id         text not null,
  purpose        text not null check (purpose in ('signing', 'inbound')),
  state          text not null check (state in ('next', 'active', 'previous', 'destroyed')),
  sealed         bytea,
  activates_at   timestamptz not null default now(),
  valid_until    timestamptz,
  created_at     timestamptz not null default now(),
  primary key (tenant_id, connection_id, key_id),
  foreign key (tenant_id, connection_id) references connections (tenant_id, connection_id),
  check ((state = 'destroyed') = (sealed is null))
);
create unique index connection_secrets_active on connection_secrets (tenant_id, connection_id, purpose) where state = 'active';

-- Events and deliveries ------------------------------------------------------------------------------------------------

-- Uniqueness lives here, apart from the partitions. A key is the HMAC of an idempotency key or of a host-given event id.
create table event_keys (
  tenant_id   text not null,
  key_hash    bytea not null check (octet_length(key_hash) = 32),
  event_uid   uuid not null,
  body_digest bytea not null,
  expires_at  timestamptz not null,
  primary key (tenant_id, key_hash)
);
create index event_keys_expiry on event_keys (expires_at);

create table events (
  tenant_id       text not null,
  event_uid       uuid not null,
  event_id        text,                       -- only where the host gave one
  event_type      text not null,
  occurred_at     timestamptz not null,
  correlation_id  text,
  size_bytes      integer not null,
  privacy         jsonb not null,             -- one object per variant; names fields, never values
  delivery_ids    uuid[] not null,
  primary key (tenant_id, event_uid)
) partition by range (event_uid);
create index events_given_id on events (tenant_id, event_id) where event_id is not null;

-- One sealed variant of the envelope per distinct effective policy.
create table payloads (
  tenant_id  text not null,
  event_uid  uuid not null,
  variant    smallint not null,
  sealed     bytea not null,
  primary key (tenant_id, event_uid, variant)
) partition by range (event_uid);

create table deliveries (
  tenant_id       text not null,
  delivery_id     uuid not null,
  event_uid       uuid not null,
  connection_id   uuid not null,
  variant         smallint not null,
  policy_version  bigint not null,
  primary key (tenant_id, delivery_id)
) partition by range (delivery_id);
create index deliveries_connection on deliveries (tenant_id, connection_id, delivery_id);

-- What happened to a delivery. `sent` is false for an end without an HTTP try (cancelled, expired). The last row's outcome is
-- the status of a delivery that is not in the queue any more. Bodies are never kept.
create table attempts (
  tenant_id       text not null,
  delivery_id     uuid not null,
  attempt         integer not null,
  attempt_id      uuid not null,
  outcome         text not null check (outcome in ('delivered', 'retrying', 'failed', 'cancelled', 'expired')),
  reason          text,
  sent            boolean not null,
  at              timestamptz not null,
  status_code     integer,
  error           text,
  latency_ms      integer,
  request_bytes   integer,
  response_bytes  integer,
  body_sha256     bytea,
  primary key (tenant_id, delivery_id, attempt)
) partition by range (delivery_id);
create index attempts_unhappy_end on attempts (tenant_id, outcome, delivery_id) where outcome in ('failed', 'cancelled', 'expired');

-- The hot table: a row lives from the accept to the end of its delivery. An owned row is leased to a process; a row without
-- an owner is due at next_at. History is elsewhere, so it stays small.
create table delivery_queue (
  tenant_id       text not null,
  delivery_id     uuid not null,
  event_uid       uuid not null,
  connection_id   uuid not null,
  variant         smallint not null,
  policy_version  bigint not null,
  attempts        integer not null default 0,
  next_at         timestamptz not null,
  expires_at      timestamptz not null,
  owner           uuid,
  lease           integer not null default 0,
  lease_until     timestamptz,
  body_sha256     bytea,
  primary key (tenant_id, delivery_id),
  check ((owner is null) = (lease_until is null))
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 1);
create index delivery_queue_due on delivery_queue (next_at) where owner is null;
create index delivery_queue_owned on delivery_queue (owner) where owner is not null;

-- Ledger ---------------------------------------------------------------------------------------------------------------

create table audit_entries (
  tenant_id       text not null,
  entry_id        uuid not null,
  at              timestamptz not null,
  tag             text not null,
  actor_type      text not null,
  actor_id        text not null,
  connection_id   uuid,
  subject         text not null default '',
  request_id      text,
  correlation_id  text,
  detail          jsonb not null default '{}',
  primary key (tenant_id, entry_id)
) partition by range (entry_id);

-- Without a tenant -----------------------------------------------------------------------------------------------------

create table processes (
  process_id    uuid primary key,
  started_at    timestamptz not null default now(),
  heartbeat_at  timestamptz not null default now()
);

-- Row-level security ---------------------------------------------------------------------------------------------------

do $$
declare
  table_name text;
begin
  foreach table_name in array array['tenants', 'api_keys', 'idempotency_keys', 'privacy_policies', 'event_types', 'tenant_keys',
      'data_keys', 'connections', 'connection_secrets', 'event_keys', 'events', 'payloads', 'deliveries', 'attempts',
      'delivery_queue', 'audit_entries'] loop
    execute format('alter table %I enable row level security', table_name);
    execute format('alter table %I force row level security', table_name);
    execute format($policy$
      create policy own_tenant on %I to customhouse_service
        using (tenant_id = nullif(current_setting('app.tenant_id', true), ''))
        with check (tenant_id = nullif(current_setting('app.tenant_id', true), ''))
    $policy$, table_name);
  end loop;
end
$$;

-- What the operator declares for everybody (event types, and the version that says whether they changed) is readable by each tenant.
create policy platform_is_readable on tenants for select to customhouse_service
  using (tenant_id = '_platform' and nullif(current_setting('app.tenant_id', true), '') is not null);
create policy platform_is_readable on event_types for select to customhouse_service
  using (tenant_id = '_platform' and nullif(current_setting('app.tenant_id', true), '') is not null);

grant select, insert, update on tenants to customhouse_service;
grant select, insert, update on api_keys to customhouse_service;
grant select, insert, delete on idempotency_keys to customhouse_service;
grant select, insert on privacy_policies to customhouse_service;
grant select, insert, update on event_types to customhouse_service;
grant select, insert, update on tenant_keys to customhouse_service;
grant select, insert, update on data_keys to customhouse_service;
grant select, insert, update on connections to customhouse_service;
grant select, insert, update on connection_secrets to customhouse_service;
grant select, insert, update, delete on event_keys to customhouse_service;
grant select, insert on events to customhouse_service;
grant select, insert, delete on payloads to customhouse_service;
grant select, insert on deliveries to customhouse_service;
grant select, insert on attempts to customhouse_service;
grant select, insert, update, delete on delivery_queue to customhouse_service;
grant select, insert on audit_entries to customhouse_service;
grant select, insert, update, delete on processes to customhouse_service;

-- Changes are told to every process ------------------------------------------------------------------------------------

create function tell_change() returns trigger language plpgsql as $$
begin
  update customhouse.tenants set version = version + 1 where tenant_id = new.tenant_id;
  perform pg_notify('customhouse_changed', new.tenant_id);
  return null;
end
$$;

create function tell_key_change() returns trigger language plpgsql as $$
begin
  perform pg_notify('customhouse_changed', new.tenant_id);
  return null;
end
$$;

create trigger tell_change after insert or update on connections for each row execute function tell_change();
create trigger tell_change after insert or update on connection_secrets for each row execute function tell_change();
create trigger tell_change after insert or update on privacy_policies for each row execute function tell_change();
create trigger tell_change after insert or update on event_types for each row execute function tell_change();
create trigger tell_change after update on api_keys for each row execute function tell_key_change();
create trigger tell_destroyed after update on tenant_keys for each row when (new.state <> old.state) execute function tell_key_change();
create trigger tell_destroyed after update on data_keys for each row when (new.state <> old.state) execute function tell_key_change();

-- Batch functions: SECURITY INVOKER, one tenant after the other, row-level security in force ----------------------------

-- Accept events: keys, events, payloads, deliveries and queue rows in one transaction.
--
-- The rows come sorted by tenant; element i of the *_to arrays is the last index of tenant i's slice. p_version is the
-- tenant's and p_platform_version the operator's version that the caller read when it chose connections, policy and schema.
-- Answers one row per event: accepted; duplicate or conflict, with the event that holds the key; stale, when the caller
-- has to read the tenant again; gone, when there is no such active tenant.
create function accept_batch_v1(
  p_process uuid, p_lease interval, p_platform_version bigint,
  p_tenant text[], p_version bigint[], p_event_to integer[], p_key_to integer[], p_payload_to integer[], p_delivery_to integer[],
  e_uid uuid[], e_id text[], e_type text[], e_occurred timestamptz[], e_correlation text[], e_size integer[], e_privacy text[],
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

-- Which of our events are there: asked when the reply to a COMMIT was lost.
create function accepted_among_v1(p_tenant text[], p_event uuid[]) returns setof uuid
language plpgsql set search_path = customhouse, pg_temp as $$
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

-- Where payloads are not kept, the transaction that ends the last delivery of a variant deletes it. Two that end the last two
-- at the same moment would each still see the other's delivery waiting: they take turns, before they change anything.
create function hold_payloads_v1(p_tenant text, p_delivery uuid[]) returns void
language plpgsql set search_path = customhouse, pg_temp as $$
begin
  perform pg_advisory_xact_lock(turn) from (
    select distinct hashtextextended('payloads' || d.event_uid::text, 0) as turn
    from deliveries d where d.tenant_id = p_tenant and d.delivery_id = any (p_delivery)
    order by turn
  ) turns;
end
$$;

create function drop_ended_payloads_v1(p_tenant text, p_delivery uuid[]) returns void
language plpgsql set search_path = customhouse, pg_temp as $$
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

-- Write what came of attempts, where the lease still holds; rows come sorted by tenant, slices as in accept_batch.
-- A delivery can be there twice, under its old lease and its new one. Answers the attempts that were written.
create function record_batch_v1(
  p_process uuid, p_drop_payloads boolean,
  p_tenant text[], p_to integer[],
  r_delivery uuid[], r_lease integer[], r_outcome text[], r_reason text[], r_sent boolean[], r_attempt_id uuid[], r_at timestamptz[],
  r_status integer[], r_error text[], r_latency integer[], r_request integer[], r_response integer[], r_sha bytea[], r_retry_in double precision[]
) returns setof uuid
language plpgsql set search_path = customhouse, pg_temp as $$
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

-- What a claimed delivery needs to be sent, and the version of its tenant at this moment.
create function load_batch_v1(p_process uuid, p_tenant text[], p_delivery uuid[])
returns table (tenant_id text, tenant_version bigint, platform_version bigint, delivery_id uuid, lease integer, event_uid uuid, event_id text,
               event_type text, connection_id uuid, variant smallint, policy_version bigint, attempts integer, expires_at timestamptz,
               body_sha256 bytea, sealed bytea)
language plpgsql set search_path = customhouse, pg_temp as $$
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

-- Give rows back: at a graceful stop at once, for a paused connection after a while. No attempt is counted.
create function release_batch_v1(p_process uuid, p_tenant text[], p_delivery uuid[], p_lease integer[], p_in interval) returns void
language plpgsql set search_path = customhouse, pg_temp as $$
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

-- Crossing functions: SECURITY DEFINER of customhouse_crossing; ids and counts only ------------------------------------

create policy crossing on api_keys for select to customhouse_crossing using (true);
grant select (tenant_id, key_id, token_hash) on api_keys to customhouse_crossing;
create policy crossing on delivery_queue to customhouse_crossing using (true);
grant select, update on delivery_queue to customhouse_crossing;
grant select, delete on processes to customhouse_crossing;
create policy crossing on event_keys to customhouse_crossing using (true);
grant select, delete on event_keys to customhouse_crossing;
create policy crossing on idempotency_keys to customhouse_crossing using (true);
grant select, delete on idempotency_keys to customhouse_crossing;

create function resolve_api_key_v1(p_token_hash bytea) returns table (tenant_id text, key_id uuid)
language sql stable security definer set search_path = customhouse, pg_temp as $$
  select k.tenant_id, k.key_id from customhouse.api_keys k where k.token_hash = p_token_hash
$$;

create function claim_due_v1(p_process uuid, p_limit integer, p_lease interval) returns table (tenant_id text, delivery_id uuid, lease integer)
language sql security definer set search_path = customhouse, pg_temp as $$
  -- By place, not by key: whatever the planner believes about the table, no more than these rows are read.
  update customhouse.delivery_queue q
  set owner = p_process, lease = q.lease + 1, lease_until = now() + p_lease
  where q.ctid = any (array(
    select d.ctid from customhouse.delivery_queue d
    where d.owner is null and d.next_at <= now()
    order by d.next_at
    limit p_limit
    for update skip locked
  ))
  returning q.tenant_id, q.delivery_id, q.lease
$$;

-- Take the rows of dead processes, and those whose hard deadline has passed, out of their lease.
create function recover_leases_v1(p_silence interval) returns integer
language plpgsql security definer set search_path = customhouse, pg_temp as $$
declare
  recovered integer;
begin
  update customhouse.delivery_queue q
  set owner = null, lease_until = null, lease = q.lease + 1, next_at = now()
  where q.ctid = any (array(
    select d.ctid from customhouse.delivery_queue d
    where d.owner is not null
      and (d.lease_until < now()
           or not exists (select from customhouse.processes p where p.process_id = d.owner and p.heartbeat_at > now() - p_silence))
    limit 5000
    for update skip locked
  ));
  get diagnostics recovered = row_count;
  delete from customhouse.processes p where p.heartbeat_at < now() - p_silence * 10;
  return recovered;
end
$$;

create function queue_depth_v1() returns table (due bigint, waiting bigint, leased bigint)
language sql stable security definer set search_path = customhouse, pg_temp as $$
  select count(*) filter (where q.owner is null and q.next_at <= now()), count(*) filter (where q.owner is null and q.next_at > now()),
         count(*) filter (where q.owner is not null)
  from customhouse.delivery_queue q
$$;

create function purge_keys_v1(p_limit integer) returns integer
language plpgsql security definer set search_path = customhouse, pg_temp as $$
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

-- Partitions: made ahead, dropped when past; run as the owner of the partitioned tables ---------------------------------

create function uuid_floor(p_moment timestamptz) returns uuid
language sql immutable strict parallel safe as $$
  select (lpad(to_hex((extract(epoch from p_moment) * 1000)::bigint), 12, '0') || '70008000000000000000')::uuid
$$;

create function upkeep_partitions_v1(p_days_ahead integer, p_payload_days integer) returns table (made integer, dropped integer)
language plpgsql security definer set search_path = customhouse, pg_temp set lock_timeout = '200ms' set timezone = 'UTC' as $$
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

do $$
declare
  name text;
begin
  foreach name in array array['resolve_api_key_v1(bytea)', 'claim_due_v1(uuid, integer, interval)', 'recover_leases_v1(interval)',
      'queue_depth_v1()', 'purge_keys_v1(integer)'] loop
    execute format('alter function %s owner to customhouse_crossing', name);
    execute format('revoke all on function %s from public', name);
    execute format('grant execute on function %s to customhouse_service', name);
  end loop;
  alter function upkeep_partitions_v1(integer, integer) owner to customhouse_upkeep;
  revoke all on function upkeep_partitions_v1(integer, integer) from public;
  grant execute on function upkeep_partitions_v1(integer, integer) to customhouse_service;
  foreach name in array array['events', 'payloads', 'deliveries', 'attempts', 'audit_entries'] loop
    execute format('alter table %I owner to customhouse_upkeep', name);
  end loop;
end
$$;
revoke create on schema customhouse from customhouse_crossing;

-- The operator's own tenant, and the first partitions.
alter table tenants no force row level security;
insert into tenants (tenant_id, name) values ('_platform', 'The operator');
alter table tenants force row level security;
select from upkeep_partitions_v1(14, 7);
