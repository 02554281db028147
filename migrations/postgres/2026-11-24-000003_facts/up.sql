-- What a store knows of itself, such as which master key it was made with.
create table facts (
  name text primary key,
  value text not null
);
