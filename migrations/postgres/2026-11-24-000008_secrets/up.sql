-- Signing secrets that were replaced and sign until their receivers have switched: JSON, each sealed, few.
alter table channels add column retiring_secrets text;
create index channels_retiring_idx on channels (id)
  where retiring_secrets is not null;
