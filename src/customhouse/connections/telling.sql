-- name: holder
select c.user_id, g.user_sealed, g.grant_version
from connections c
left join connection_grants g on g.tenant_id = c.tenant_id and g.connection_id = c.connection_id
where c.tenant_id = $1 and c.connection_id = $2

-- name: invited
select user_id from connect_sessions where tenant_id = $1 and session_id = $2
