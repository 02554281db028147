-- Erasure finds the excerpts of one notification: few attempts have any.
create index attempts_excerpts_idx on attempts (channel, number)
  where excerpt is not null;
-- Channels of a deleted resource: they end once they have had its last event.
create index channels_ending_idx on channels (id)
  where end_seq is not null and state in ('active', 'paused', 'suspended');
