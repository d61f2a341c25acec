-- A new grant that waits for the host's word when its connection ends moves into escrow too, as it lies.

-- Null: tokens_sealed is sealed for its place in this table; else for that in pending_grants, of this session.
alter table revocation_escrow add column pending_session uuid;
grant select (pending_session) on revocation_escrow to customhouse_service;

create function claim_revocation_v2(p_revocation uuid, p_moment timestamptz, p_until timestamptz)
returns table (connection_id uuid, provider text, reason text, account_index bytea, api_origin text, tokens_sealed bytea,
               access_sealed bytea, refresh_sealed bytea, token_generation bigint, access_expires_at timestamptz, key_id uuid,
               tenant_key_id uuid, wrapped_key bytea, pending_session uuid, ends_key boolean, attempts integer, asked_at timestamptz,
               ends_at timestamptz)
language sql volatile security definer set search_path = customhouse, pg_temp as $$
  update customhouse.revocation_escrow r set next_at = p_until
  where r.tenant_id = nullif(current_setting('app.tenant_id', true), '') and r.revocation_id = p_revocation and r.next_at <= p_moment
  returning r.connection_id, r.provider, r.reason, r.account_index, r.api_origin, r.tokens_sealed, r.access_sealed, r.refresh_sealed,
            r.token_generation, r.access_expires_at, r.key_id, r.tenant_key_id, r.wrapped_key, r.pending_session, r.ends_key, r.attempts,
            r.asked_at, r.ends_at
$$;

do $$
begin
  grant create on schema customhouse to customhouse_revoker;
  alter function claim_revocation_v2(uuid, timestamptz, timestamptz) owner to customhouse_revoker;
  revoke all on function claim_revocation_v2(uuid, timestamptz, timestamptz) from public;
  grant execute on function claim_revocation_v2(uuid, timestamptz, timestamptz) to customhouse_service;
  revoke create on schema customhouse from customhouse_revoker;
end
$$;
