create index channels_resource_idx on channels (resource);
drop index channels_resource_id_idx;
