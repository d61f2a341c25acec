-- What is sealed under the keys of webhook connections, for their rotation: `find_…` locks what it finds and waits for nobody, `put_…`
-- writes it back, `left_…` tells which keys are still named. $1 tenant, $2 connections, $3 the key of each (16 bytes).

-- name: find_connections
select connection_id, connection_id::text as row, 0::bigint as generation, url_sealed, headers_sealed, client_certificate_sealed,
       client_key_sealed
from connections
where tenant_id = $1 and connection_id = any ($2::uuid[])
  and (substring(url_sealed from 2 for 16) = any ($3::bytea[]) or substring(headers_sealed from 2 for 16) = any ($3::bytea[])
       or substring(client_certificate_sealed from 2 for 16) = any ($3::bytea[])
       or substring(client_key_sealed from 2 for 16) = any ($3::bytea[]))
for no key update skip locked

-- name: put_connections
update connections c set url_sealed = n.url, headers_sealed = n.headers, client_certificate_sealed = n.certificate, client_key_sealed = n.secret
from unnest($2::text[], $3::uuid[], $4::bytea[], $5::bytea[], $6::bytea[], $7::bytea[]) n (row, connection_id, url, headers, certificate, secret)
where c.tenant_id = $1 and c.connection_id = n.connection_id

-- name: left_connections
select k.key from connections c,
  lateral (values (substring(c.url_sealed from 2 for 16)), (substring(c.headers_sealed from 2 for 16)),
                  (substring(c.client_certificate_sealed from 2 for 16)), (substring(c.client_key_sealed from 2 for 16))) k (key)
where c.tenant_id = $1 and c.connection_id = any ($2::uuid[]) and k.key = any ($3::bytea[])
group by k.key

-- name: find_secrets
select connection_id, key_id as row, 0::bigint as generation, sealed from connection_secrets
where tenant_id = $1 and connection_id = any ($2::uuid[]) and substring(sealed from 2 for 16) = any ($3::bytea[])
for no key update skip locked

-- name: put_secrets
update connection_secrets s set sealed = n.sealed from unnest($2::text[], $3::uuid[], $4::bytea[]) n (row, connection_id, sealed)
where s.tenant_id = $1 and s.key_id = n.row and s.connection_id = n.connection_id

-- name: left_secrets
select distinct substring(sealed from 2 for 16) as key from connection_secrets
where tenant_id = $1 and connection_id = any ($2::uuid[]) and substring(sealed from 2 for 16) = any ($3::bytea[])
