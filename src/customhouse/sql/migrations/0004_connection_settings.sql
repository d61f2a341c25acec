-- What a webhook connection may set: its retry schedule, its rate limit, the certificate that it shows to the receiver.

alter table connections
  -- Seconds before the second, third … attempt; null: the service's own.
  add column retry_schedule integer[],
  -- Deliveries per second, and how many may go at once after a quiet time; null: no limit.
  add column rate_per_second double precision,
  add column rate_burst integer,
  -- The chain and its private key (PEM), sealed apart: to show the one, nobody opens the other.
  add column client_certificate_sealed bytea,
  add column client_key_sealed bytea,
  add column certificate_expires_at timestamptz,
  -- The end of validity that was announced already: each certificate is announced once.
  add column certificate_told_for timestamptz,
  add constraint connections_rate_check check ((rate_per_second is null) = (rate_burst is null)),
  add constraint connections_client_certificate_check check (
    (client_certificate_sealed is null) = (client_key_sealed is null)
    and (client_certificate_sealed is null) = (certificate_expires_at is null));
create index connections_certificates on connections (certificate_expires_at) where certificate_expires_at is not null;

-- Connections whose certificate ends before a moment, and nobody was told yet.
create policy crossing_certificates on connections for select to customhouse_crossing using (certificate_expires_at is not null);
grant select (tenant_id, connection_id, status, certificate_expires_at, certificate_told_for) on connections to customhouse_crossing;
create function certificates_expiring_v1(p_before timestamptz, p_limit integer) returns table (tenant_id text, connection_id uuid)
language sql stable security definer set search_path = customhouse, pg_temp as $$
  select c.tenant_id, c.connection_id from customhouse.connections c
  where c.certificate_expires_at <= p_before and c.certificate_told_for is distinct from c.certificate_expires_at
    and c.status in ('active', 'degraded', 'paused')
  order by c.certificate_expires_at, c.tenant_id, c.connection_id
  limit p_limit
$$;
grant create on schema customhouse to customhouse_crossing;
alter function certificates_expiring_v1(timestamptz, integer) owner to customhouse_crossing;
revoke create on schema customhouse from customhouse_crossing;
revoke all on function certificates_expiring_v1(timestamptz, integer) from public;
grant execute on function certificates_expiring_v1(timestamptz, integer) to customhouse_service;
