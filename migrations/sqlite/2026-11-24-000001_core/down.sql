drop table exceptions;
drop table attempts;
drop table cursors;
drop table channels;
drop table idempotency_keys;
drop table work;
drop table events;
drop table resources;
