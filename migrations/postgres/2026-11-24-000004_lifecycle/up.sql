-- A channel's present life began when it was opened or last renewed; `look_at_ms` is when the renewal job looks at it
-- next. A channel that expires while it is paused or suspended is so again once it is renewed.
alter table channels add column granted_at_ms bigint not null default 0;
update channels set granted_at_ms = created_at_ms;
alter table channels add column look_at_ms bigint;
alter table channels add column state_before text;
-- The latest replay, the seq up to which notifications belong to it, and how many there were.
alter table channels add column replay_id text;
alter table channels add column replay_through bigint;
alter table channels add column replays bigint not null default 0;
create index channels_look_idx on channels (look_at_ms)
  where look_at_ms is not null;

-- Failures since the last 2xx or resumption; refusals of this very payload; what is settled above the cursor where
-- notifications may overtake each other.
alter table cursors add column failures bigint not null default 0;
alter table cursors add column refusals bigint not null default 0;
alter table cursors add column settled_map bytea;

-- An exception is parked, or waits for its own attempts. The owner is told of a parked one once.
alter table exceptions add column reason text;
alter table exceptions add column error text;
alter table exceptions add column due_at_ms bigint;
alter table exceptions add column replay_id text;
alter table exceptions add column told bool not null default true;
create index exceptions_waiting_idx on exceptions (channel, seq)
  where kind <> 'parked';
create index exceptions_untold_idx on exceptions (channel)
  where not told;

-- Runs of notifications with one end other than delivery: superseded, cancelled, expired.
create table ranges (
  channel bigint not null references channels (id),
  from_seq bigint not null,
  to_seq bigint not null,
  kind text not null,
  created_at_ms bigint not null,
  constraint ranges_channel_from_seq_pkey primary key (channel, from_seq)
);

-- Filters that a channel had before its present one, each up to the cursor's place when it was replaced.
create table past_filters (
  channel bigint not null references channels (id),
  through_seq bigint not null,
  filter text not null,
  constraint past_filters_channel_through_seq_pkey primary key (channel, through_seq)
);

-- What a channel is told besides its notifications. One row per notice, made once; a due time until it is through.
create table notices (
  id bigint generated always as identity primary key,
  channel bigint not null references channels (id),
  kind text not null,
  n bigint not null,
  body text not null,
  attempts bigint not null,
  due_at_ms bigint,
  created_at_ms bigint not null,
  constraint notices_channel_kind_n_key unique (channel, kind, n)
);
create index notices_due_idx on notices (due_at_ms, channel) where due_at_ms is not null;
create index notices_waiting_idx on notices (channel) where due_at_ms is not null;

-- Channels whose receiver is reminded of what it has to claim.
create table reminders (
  channel bigint primary key references channels (id),
  since_ms bigint not null,
  due_at_ms bigint not null
);
create index reminders_due_idx on reminders (due_at_ms);

-- The ledger: which notice an attempt carried, how long the status line took, what the answer said.
alter table attempts add column notice text;
alter table attempts add column answer_ms bigint;
alter table attempts add column excerpt bytea;
-- How often a notification was tried is asked for few of them: those that took more than one attempt.
create index attempts_repeated_idx on attempts (channel, number) where attempt > 1;

alter table events add column erased_at_ms bigint;
alter table resources add column declared bool not null default false;
