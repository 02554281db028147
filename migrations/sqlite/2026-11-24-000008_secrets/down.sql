drop table signing_keys;
drop index channels_retiring_idx;
alter table channels drop column retiring_secrets;
