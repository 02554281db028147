-- API keys, by the hash of their text: the text itself is nowhere stored. `resources` is a list in JSON, null for the
-- whole project.
create table api_keys (
  id bigint generated always as identity primary key,
  project text not null,
  key_id text not null,
  name text,
  subject text not null,
  scopes text not null,
  resources text,
  hash bytea not null,
  created_at_ms bigint not null,
  expires_at_ms bigint,
  last_used_at_ms bigint,
  constraint api_keys_project_key_id_key unique (project, key_id),
  constraint api_keys_hash_key unique (hash)
);
create index api_keys_project_id_idx on api_keys (project, id);
