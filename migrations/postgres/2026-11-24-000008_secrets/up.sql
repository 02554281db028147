-- Signing secrets that were replaced and sign until their receivers have switched: JSON, each sealed, few.
alter table channels add column retiring_secrets text;
create index channels_retiring_idx on channels (id)
  where retiring_secrets is not null;

-- The server's own Ed25519 keys, one after the other: published at once, signing from a moment, gone after another.
create table signing_keys (
  n bigint primary key,
  kid text not null,
  sealed bytea not null,
  public_key bytea not null,
  created_at_ms bigint not null,
  signs_from_ms bigint not null,
  until_ms bigint,
  constraint signing_keys_kid_key unique (kid)
);
