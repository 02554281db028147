drop index channels_ending_idx;
drop index attempts_excerpts_idx;
