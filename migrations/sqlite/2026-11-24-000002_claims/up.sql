-- How often the channel's claim URL was replaced: each count has a URL of its own.
alter table channels add column claim_rotation bigint not null default 0;
