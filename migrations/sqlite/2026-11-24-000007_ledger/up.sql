-- The channels of one resource, page by page.
create index channels_resource_id_idx on channels (resource, id);
drop index channels_resource_idx;
