-- Reads of tokens that arrive at the same time share a round trip.

-- `read_token_v1` for many reads, each in its own tenant; `place` is the element of the arrays (from 1). No row: no such connection.
create function read_tokens_v1(p_tenant text[], p_connection uuid[], p_home text[], p_actor text[], p_moment timestamptz)
returns table (
  place integer, provider text, mode text, status text, status_reason text, grant_version bigint, mac bytea, requested text[],
  granted text[], scopes_known boolean, account_index bytea, token_generation bigint, access_sealed bytea,
  access_expires_at timestamptz, api_origin text, hold_until timestamptz, stopped_until timestamptz)
language plpgsql set search_path = customhouse, pg_temp as $$
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
revoke all on function read_tokens_v1(text[], uuid[], text[], text[], timestamptz) from public;
grant execute on function read_tokens_v1(text[], uuid[], text[], text[], timestamptz) to customhouse_service;
