-- The keys of a tenant that are under way in a rotation, in the order in which they are taken, however many there are.
create index data_keys_turning_order on data_keys (tenant_id, state, key_id) where state in ('next', 'retired');
drop index data_keys_turning;
