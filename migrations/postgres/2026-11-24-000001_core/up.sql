-- The log: one row per resource, one per event.
create table resources (
  id bigint generated always as identity primary key,
  project text not null,
  path text not null,
  resource_id text not null,
  shard smallint not null,
  head_seq bigint not null,
  created_at_ms bigint not null,
  constraint resources_project_path_key unique (project, path),
  constraint resources_project_resource_id_key unique (project, resource_id)
);

create table events (
  resource bigint not null references resources (id),
  seq bigint not null,
  project text not null,
  event_id text not null,
  name text not null,
  state text not null,
  changed text,
  content_type text,
  payload bytea,
  published_at_ms bigint not null,
  constraint events_resource_seq_pkey primary key (resource, seq)
);
create index events_project_event_id_idx on events (project, event_id);

-- Work: exists only for busy resources. No row means that every level channel has had the whole log.
create table work (
  resource bigint primary key references resources (id),
  head_seq bigint not null,
  fanned_seq bigint not null
);

-- First answers of publishes that name themselves: scope 0 is an event id, 1 an Idempotency-Key.
create table idempotency_keys (
  project text not null,
  scope smallint not null,
  key text not null,
  fingerprint bytea not null,
  answer text not null,
  created_at_ms bigint not null,
  constraint idempotency_keys_project_scope_key_pkey primary key (project, scope, key)
);
create index idempotency_keys_created_at_ms_idx on idempotency_keys (created_at_ms);

-- Channels are rarely written, cursors often: hot and cold are apart.
create table channels (
  id bigint generated always as identity primary key,
  uid text not null,
  project text not null,
  channel_id text not null,
  subject text not null,
  resource bigint not null references resources (id),
  resource_uri text not null,
  face text not null,
  address text not null,
  token text,
  format text not null,
  payload bool not null,
  catch_up text not null,
  state text not null,
  start_seq bigint not null,
  end_seq bigint,
  rev bigint not null,
  expires_at_ms bigint not null,
  created_at_ms bigint not null,
  ended_at_ms bigint,
  options text not null,
  sealed_secret bytea,
  constraint channels_uid_key unique (uid),
  constraint channels_project_channel_id_key unique (project, channel_id)
);
create index channels_resource_idx on channels (resource);
create index channels_project_subject_idx on channels (project, subject, id);
create index channels_expiring_idx on channels (expires_at_ms)
  where state in ('active', 'paused', 'suspended');
create index channels_grace_idx on channels (expires_at_ms)
  where state = 'expired' and end_seq is null;

create table cursors (
  channel bigint primary key references channels (id),
  resource bigint not null,
  seq bigint not null,
  moved bigint not null,
  behind bool not null,
  due_at_ms bigint,
  attempts bigint not null,
  client_errors bigint not null,
  failing_since_ms bigint,
  pinned_seq bigint,
  last_success_at_ms bigint
);
create index cursors_level_idx on cursors (resource, channel) where not behind;
create index cursors_due_idx on cursors (due_at_ms, channel) where due_at_ms is not null;

-- The ledger: one row per HTTP request that carried a notification.
create table attempts (
  id bigint generated always as identity primary key,
  channel bigint not null references channels (id),
  number bigint not null,
  attempt bigint not null,
  started_at_ms bigint not null,
  duration_ms bigint not null,
  outcome text not null,
  status smallint,
  error text
);
create index attempts_channel_idx on attempts (channel, id);

-- Notifications that are not simply before or after their cursor.
create table exceptions (
  channel bigint not null references channels (id),
  seq bigint not null,
  kind text not null,
  status smallint,
  attempts bigint not null,
  created_at_ms bigint not null,
  constraint exceptions_channel_seq_pkey primary key (channel, seq)
);

-- Who delivers. Times are the database's own: nodes never compare their clocks.
create table lease (
  id smallint primary key check (id = 1),
  owner text not null,
  epoch bigint not null,
  until timestamptz not null
);
insert into lease (id, owner, epoch, until) values (1, '', 0, '-infinity');

-- Channels that some node has changed and the delivering node has not yet looked at.
create table changed_channels (
  channel bigint primary key references channels (id)
);
