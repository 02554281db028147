//! The tables, equal in both migration trees. Column types are the portable ones: text, 64-bit milliseconds,
//! small integers, booleans, bytes.

diesel::table! {
    resources (id) {
        id -> BigInt,
        project -> Text,
        path -> Text,
        resource_id -> Text,
        shard -> SmallInt,
        head_seq -> BigInt,
        created_at_ms -> BigInt,
        declared -> Bool,
    }
}

diesel::table! {
    events (resource, seq) {
        resource -> BigInt,
        seq -> BigInt,
        project -> Text,
        event_id -> Text,
        name -> Text,
        state -> Text,
        changed -> Nullable<Text>,
        content_type -> Nullable<Text>,
        payload -> Nullable<Binary>,
        published_at_ms -> BigInt,
        erased_at_ms -> Nullable<BigInt>,
    }
}

diesel::table! {
    work (resource) {
        resource -> BigInt,
        head_seq -> BigInt,
        fanned_seq -> BigInt,
    }
}

diesel::table! {
    idempotency_keys (project, scope, key) {
        project -> Text,
        scope -> SmallInt,
        key -> Text,
        fingerprint -> Binary,
        answer -> Text,
        created_at_ms -> BigInt,
    }
}

diesel::table! {
    channels (id) {
        id -> BigInt,
        uid -> Text,
        project -> Text,
        channel_id -> Text,
        subject -> Text,
        resource -> BigInt,
        resource_uri -> Text,
        face -> Text,
        address -> Text,
        token -> Nullable<Text>,
        format -> Text,
        payload -> Bool,
        catch_up -> Text,
        state -> Text,
        start_seq -> BigInt,
        end_seq -> Nullable<BigInt>,
        rev -> BigInt,
        expires_at_ms -> BigInt,
        created_at_ms -> BigInt,
        ended_at_ms -> Nullable<BigInt>,
        options -> Text,
        sealed_secret -> Nullable<Binary>,
        claim_rotation -> BigInt,
        granted_at_ms -> BigInt,
        look_at_ms -> Nullable<BigInt>,
        state_before -> Nullable<Text>,
        replay_id -> Nullable<Text>,
        replay_through -> Nullable<BigInt>,
        replays -> BigInt,
        retiring_secrets -> Nullable<Text>,
    }
}

diesel::table! {
    cursors (channel) {
        channel -> BigInt,
        resource -> BigInt,
        seq -> BigInt,
        moved -> BigInt,
        behind -> Bool,
        due_at_ms -> Nullable<BigInt>,
        attempts -> BigInt,
        client_errors -> BigInt,
        failing_since_ms -> Nullable<BigInt>,
        pinned_seq -> Nullable<BigInt>,
        last_success_at_ms -> Nullable<BigInt>,
        failures -> BigInt,
        refusals -> BigInt,
        settled_map -> Nullable<Binary>,
    }
}

diesel::table! {
    attempts (id) {
        id -> BigInt,
        channel -> BigInt,
        number -> BigInt,
        attempt -> BigInt,
        started_at_ms -> BigInt,
        duration_ms -> BigInt,
        outcome -> Text,
        status -> Nullable<SmallInt>,
        error -> Nullable<Text>,
        notice -> Nullable<Text>,
        answer_ms -> Nullable<BigInt>,
        excerpt -> Nullable<Binary>,
    }
}

diesel::table! {
    exceptions (channel, seq) {
        channel -> BigInt,
        seq -> BigInt,
        kind -> Text,
        status -> Nullable<SmallInt>,
        attempts -> BigInt,
        created_at_ms -> BigInt,
        reason -> Nullable<Text>,
        error -> Nullable<Text>,
        due_at_ms -> Nullable<BigInt>,
        replay_id -> Nullable<Text>,
        told -> Bool,
    }
}

diesel::table! {
    ranges (channel, from_seq) {
        channel -> BigInt,
        from_seq -> BigInt,
        to_seq -> BigInt,
        kind -> Text,
        created_at_ms -> BigInt,
    }
}

diesel::table! {
    past_filters (channel, through_seq) {
        channel -> BigInt,
        through_seq -> BigInt,
        filter -> Text,
    }
}

diesel::table! {
    notices (id) {
        id -> BigInt,
        channel -> BigInt,
        kind -> Text,
        n -> BigInt,
        body -> Text,
        attempts -> BigInt,
        due_at_ms -> Nullable<BigInt>,
        created_at_ms -> BigInt,
    }
}

diesel::table! {
    reminders (channel) {
        channel -> BigInt,
        since_ms -> BigInt,
        due_at_ms -> BigInt,
    }
}

diesel::table! {
    facts (name) {
        name -> Text,
        value -> Text,
    }
}

diesel::table! {
    api_keys (id) {
        id -> BigInt,
        project -> Text,
        key_id -> Text,
        name -> Nullable<Text>,
        subject -> Text,
        scopes -> Text,
        resources -> Nullable<Text>,
        hash -> Binary,
        created_at_ms -> BigInt,
        expires_at_ms -> Nullable<BigInt>,
        last_used_at_ms -> Nullable<BigInt>,
    }
}

diesel::table! {
    signing_keys (n) {
        n -> BigInt,
        kid -> Text,
        sealed -> Binary,
        public_key -> Binary,
        created_at_ms -> BigInt,
        signs_from_ms -> BigInt,
        until_ms -> Nullable<BigInt>,
    }
}

// PostgreSQL only.
diesel::table! {
    changed_channels (channel) {
        channel -> BigInt,
    }
}

diesel::joinable!(channels -> resources (resource));
diesel::joinable!(cursors -> channels (channel));
diesel::joinable!(work -> resources (resource));
diesel::allow_tables_to_appear_in_same_query!(
    resources,
    events,
    work,
    channels,
    cursors,
    attempts,
    exceptions,
    ranges,
    past_filters,
    notices,
    reminders
);
