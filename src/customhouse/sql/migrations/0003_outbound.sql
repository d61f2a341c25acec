-- Outbound at full strength.

-- Of an API key the service may only write that it is revoked: nobody brings one back, or gives it scopes, with the service's login.
revoke update on api_keys from customhouse_service;
grant update (revoked_at) on api_keys to customhouse_service;

-- Engine ---------------------------------------------------------------------------------------------------------------

-- Claims go from connection to connection, at most p_each of each: neither a tenant with a long backlog nor a dead endpoint stands
-- before the others. They begin after the connection at which the last claim ended, pass over those that the process has no place
-- for, and end after p_visits connections. The last row answered holds the place to go on from, and no delivery.
create index delivery_queue_turn on delivery_queue (tenant_id, connection_id, next_at) where owner is null;
drop index delivery_queue_due;
drop function claim_due_v1(uuid, integer, interval);

create function claim_due_v2(
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
    where q.owner is null and (q.tenant_id, q.connection_id) > (at_tenant, at_connection)
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
        where d.owner is null and d.tenant_id = at_tenant and d.connection_id = at_connection and d.next_at <= now()
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
grant create on schema customhouse to customhouse_crossing;
alter function claim_due_v2(uuid, integer, integer, interval, uuid[], text, uuid, integer) owner to customhouse_crossing;
revoke create on schema customhouse from customhouse_crossing;
revoke all on function claim_due_v2(uuid, integer, integer, interval, uuid[], text, uuid, integer) from public;
grant execute on function claim_due_v2(uuid, integer, integer, interval, uuid[], text, uuid, integer) to customhouse_service;

-- Connections ----------------------------------------------------------------------------------------------------------

-- Rotation: what the call that made a key answered about the earlier ones, so that its repetition answers the same.
alter table connection_secrets add column previous_until timestamptz;
create unique index connection_secrets_next on connection_secrets (tenant_id, connection_id, purpose) where state = 'next';
create index connection_secrets_turns on connection_secrets (activates_at, valid_until) where state in ('next', 'previous');

-- Custom headers hold secrets of the receiver, so they are sealed like its URL.
alter table connections add column headers_sealed bytea;

-- Connections whose signing keys have had a turn that is not written down yet.
create policy crossing on connection_secrets for select to customhouse_crossing using (true);
grant select (tenant_id, connection_id, purpose, state, activates_at, valid_until) on connection_secrets to customhouse_crossing;
create function signing_turns_due_v1(p_moment timestamptz, p_limit integer) returns table (tenant_id text, connection_id uuid)
language sql stable security definer set search_path = customhouse, pg_temp as $$
  select distinct s.tenant_id, s.connection_id from customhouse.connection_secrets s
  where s.purpose = 'signing'
    and ((s.state = 'next' and s.activates_at <= p_moment)
         or (s.state = 'previous' and (s.valid_until is null or s.valid_until <= p_moment)))
  limit p_limit
$$;
grant create on schema customhouse to customhouse_crossing;
alter function signing_turns_due_v1(timestamptz, integer) owner to customhouse_crossing;
revoke create on schema customhouse from customhouse_crossing;
revoke all on function signing_turns_due_v1(timestamptz, integer) from public;
grant execute on function signing_turns_due_v1(timestamptz, integer) to customhouse_service;

-- Operations -----------------------------------------------------------------------------------------------------------
