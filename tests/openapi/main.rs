//! The description of the native API against the sources: a route, a problem code or a request field that only
//! one of them knows is a lie to somebody.
//!
//! The sources are read as text. That is crude, but it needs no second list that would have to be kept as well.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod readme;

use std::collections::BTreeSet;

use serde_json::{Map, Value};

const ROUTES: &str = include_str!("../../src/web/v1/mod.rs");
const PROBLEMS: &str = include_str!("../../src/web/v1/problem.rs");
const CHANNELS: &str = concat!(
    include_str!("../../src/web/v1/channels/mod.rs"),
    include_str!("../../src/web/v1/channels/read.rs"),
    include_str!("../../src/web/v1/channels/show.rs"),
);
const COMMANDS: &str = include_str!("../../src/web/v1/commands.rs");
const LEDGER: &str = include_str!("../../src/web/v1/ledger.rs");
const FATES: &str = include_str!("../../src/web/v1/fates.rs");
const PUBLISH: &str = include_str!("../../src/web/v1/publish.rs");
const API_KEYS: &str = include_str!("../../src/web/v1/api_keys.rs");
const FEED: &str = include_str!("../../src/web/v1/events.rs");

type Names = BTreeSet<String>;

fn document() -> Value {
    serde_json::from_str(include_str!("../../openapi/v1.json")).unwrap()
}

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap_or_else(|| panic!("no object: {value}"))
}

fn names<'n>(of: impl IntoIterator<Item = &'n str>) -> Names {
    of.into_iter().map(str::to_owned).collect()
}

/// The functions of these names, from the signature to the closing brace.
fn functions(source: &str, of: &[&str]) -> String {
    let one = |name: &&str| {
        let from = source.find(&format!("fn {name}(")).unwrap_or_else(|| panic!("there is no fn {name}"));
        let length = source[from..].find("\n}\n").unwrap();
        &source[from..from + length]
    };
    of.iter().map(one).collect()
}

/// The fields that these functions take from the object that they call `object`.
fn taken(source: &str, object: &str, of: &[&str]) -> Names {
    // However the call is broken into lines.
    let text: String = functions(source, of).split_whitespace().collect();
    let take = format!("{object}.take");
    let takes = text.split(&take).skip(1);
    names(takes.filter_map(|call| call.split_once("(\"")?.1.split('"').next()))
}

fn properties(document: &Value, schema: &str) -> Names {
    let schema = &document["components"]["schemas"][schema];
    object(&schema["properties"]).keys().cloned().collect()
}

/// The parameters of one operation that stand in `place`, with those of its path.
fn parameters(document: &Value, path: &str, method: &str, place: &str) -> Names {
    let path = &document["paths"][path];
    let lists = [&path["parameters"], &path[method]["parameters"]];
    let all = lists.into_iter().filter_map(Value::as_array).flatten().map(|parameter| {
        let Some(name) = parameter["$ref"].as_str() else { return parameter };
        document.pointer(&name[1..]).unwrap_or_else(|| panic!("there is no {name}"))
    });
    names(
        all.filter(|parameter| parameter["in"] == place).map(|parameter| parameter["name"].as_str().unwrap()),
    )
}

/// Every object in the document.
fn walk<'d>(value: &'d Value, visit: &mut impl FnMut(&'d Map<String, Value>)) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| walk(item, visit)),
        Value::Object(fields) => {
            visit(fields);
            fields.values().for_each(|field| walk(field, visit));
        }
        _ => {}
    }
}

#[test]
fn routes() {
    let document = document();
    let mut described = Names::new();
    for (path, operations) in object(&document["paths"]) {
        for method in object(operations).keys().filter(|key| *key != "parameters") {
            described.insert(format!("{method} {path}"));
        }
    }
    let registered = ROUTES.split("config.route(&path(\"").skip(1).map(|route| {
        let (path, rest) = route.split_once("\"), web::").unwrap();
        format!("{} {path}", rest.split('(').next().unwrap())
    });
    let registered: Names = registered.collect();
    assert!(registered.len() >= 10, "the registrations are no longer found: {registered:?}");
    assert_eq!(described, registered);
}

#[test]
fn problem_codes() {
    /// What stands before a literal that is a field or a header, not a code.
    const OTHERS: [&str; 6] =
        ["in_field(", "FieldError::new(", "not_found(", "body[", "Some((", "insert_header(("];
    let document = document();
    let listed = document["components"]["schemas"]["ProblemCode"]["oneOf"].as_array().unwrap();
    let described = names(listed.iter().map(|code| code["const"].as_str().unwrap()));

    let mut used = Names::new();
    let parts: Vec<&str> = PROBLEMS.split('"').collect();
    for at in (1..parts.len()).step_by(2) {
        let is_word = parts[at].starts_with(|first: char| first.is_ascii_lowercase())
            && parts[at].bytes().all(|byte| byte.is_ascii_alphabetic());
        let is_member = parts.get(at + 1).is_some_and(|after| after.starts_with(':'));
        if is_word && !is_member && !OTHERS.iter().any(|other| parts[at - 1].ends_with(other)) {
            used.insert(parts[at].to_owned());
        }
    }
    assert_eq!(described, used);

    for source in [CHANNELS, LEDGER, FATES, PUBLISH, FEED] {
        for call in source.split("Problem::new(").skip(1) {
            let code = call.split('"').nth(1).unwrap();
            assert!(described.contains(code), "{code} is not described");
        }
    }
}

#[test]
fn codes_named_by_a_response_exist_and_every_code_is_named_by_one() {
    let document = document();
    let listed = document["components"]["schemas"]["ProblemCode"]["oneOf"].as_array().unwrap();
    let mut unnamed = names(listed.iter().map(|code| code["const"].as_str().unwrap()));
    let known = unnamed.clone();
    walk(&document["paths"], &mut |fields| {
        let problem =
            fields.get("content").is_some_and(|content| content.get("application/problem+json").is_some());
        if !problem {
            return;
        }
        let text = fields["description"].as_str().unwrap();
        let (_, codes) = text.split_once(": ").unwrap();
        for code in codes.split('`').skip(1).step_by(2) {
            assert!(known.contains(code), "{code} is named but not listed");
            unnamed.remove(code);
        }
    });
    // No route of this API leads to these: a stop by a stranger on the Google face or no route at all.
    assert_eq!(unnamed, names(["notOwner", "noSuchRoute"]));
}

#[test]
fn request_bodies() {
    const SHARED: [&str; 7] = [
        "take_expiry",
        "take_format",
        "take_catch_up",
        "take_options",
        "take_retry",
        "take_auth",
        "take_rate_limit",
    ];
    let document = document();
    let opening = [&["read_open", "take_signatures", "take_ordering"], SHARED.as_slice()].concat();
    assert_eq!(properties(&document, "NewChannel"), taken(CHANNELS, "channel", &opening));
    let changing = [&["read_change"], SHARED.as_slice()].concat();
    assert_eq!(properties(&document, "ChannelChange"), taken(CHANNELS, "channel", &changing));
    for schema in ["NewChannel", "ChannelChange"] {
        let retry = &document["components"]["schemas"][schema]["properties"]["retry"]["properties"];
        let described: Names = object(retry).keys().cloned().collect();
        assert_eq!(described, taken(CHANNELS, "retry", &["take_retry"]));
        let limit = &document["components"]["schemas"][schema]["properties"]["rateLimit"]["properties"];
        let described: Names = object(limit).keys().cloned().collect();
        let within = functions(CHANNELS, &["take_rate_limit"]);
        let within = within.split("within(\"").skip(1).filter_map(|call| call.split('"').next());
        assert_eq!(described, names(within));
    }
    assert_eq!(properties(&document, "NewEvent"), taken(PUBLISH, "event", &["draft", "changed", "payload"]));
    assert_eq!(properties(&document, "NewApiKey"), taken(API_KEYS, "key", &["read"]));
    let kinds = document["components"]["schemas"]["Auth"]["oneOf"].as_array().unwrap();
    let kinds = kinds.iter().filter_map(|kind| kind["properties"].as_object());
    let described: Names = kinds.flat_map(|kind| kind.keys().cloned()).collect();
    assert_eq!(described, taken(CHANNELS, "auth", &["take_auth"]));
    assert_eq!(properties(&document, "KeyRotation"), taken(COMMANDS, "body", &["take_overlap"]));
    assert_eq!(
        properties(&document, "SecretRotation"),
        taken(COMMANDS, "body", &["read_rotation", "take_overlap"])
    );
    assert_eq!(properties(&document, "NewEvents"), taken(PUBLISH, "object", &["read"]));
}

#[test]
fn query_parameters_and_headers() {
    let document = document();
    // Others than these are refused, so the list is what there is.
    let read = |source: &str, of: &str| {
        let text = functions(source, &[of]);
        let (_, list) = text.split_once("Query::read(&request, &[").unwrap();
        names(list.split(']').next().unwrap().split('"').skip(1).step_by(2))
    };
    let described = |path: &str, method: &str| parameters(&document, path, method, "query");
    assert_eq!(described("/channels", "get"), read(CHANNELS, "list"));
    assert_eq!(described("/channels", "delete"), read(CHANNELS, "stop_all"));
    assert_eq!(described("/channels/{id}/attempts", "get"), read(LEDGER, "attempts"));
    assert_eq!(described("/channels/{id}/parked", "get"), read(LEDGER, "parked"));
    assert_eq!(described("/apikeys", "get"), read(API_KEYS, "list"));
    assert_eq!(described("/events/{id}", "get"), read(FATES, "show"));
    assert_eq!(described("/events", "get"), read(FEED, "feed"));
    assert_eq!(described("/events", "post"), read(PUBLISH, "publish"));
    assert_eq!(parameters(&document, "/events", "post", "header"), names(["Idempotency-Key"]));
    assert!(PUBLISH.contains("\"Idempotency-Key\""));
}

#[test]
fn answers() {
    let document = document();
    let words =
        |source: &str, function: &str| names(functions(source, &[function]).split('"').skip(1).step_by(2));
    let shown = |function: &str| words(CHANNELS, function);
    let mut channel = shown("channel_json");
    // Not members of the channel: what stands inside `retry`.
    for other in ["schedule", "window", "maxAttempts", "onExhausted"] {
        assert!(channel.remove(other), "{other}");
    }
    assert_eq!(properties(&document, "Channel"), channel);
    assert_eq!(properties(&document, "Attempt"), shown("attempt_json"));
    assert_eq!(properties(&document, "LastError"), shown("error_json"));
    assert_eq!(properties(&document, "Parked"), {
        let mut parked = words(LEDGER, "parked_json");
        // What a sync is called.
        assert!(parked.remove("watchpost.channel.sync") && parked.remove("sync"));
        parked
    });
    let mut key = words(API_KEYS, "key_json");
    assert!(!key.contains("key"), "its text is shown once");
    assert_eq!(properties(&document, "ApiKey"), key);
    key.insert("key".to_owned());
    assert_eq!(properties(&document, "CreatedApiKey"), key);
    assert_eq!(properties(&document, "Fate"), words(FATES, "fate_json"));
    let mut cursor: Names = shown("view_json").union(&shown("detail_json")).cloned().collect();
    assert!(cursor.remove("cursor") && cursor.remove("lastAttempt"));
    assert_eq!(properties(&document, "Cursor"), cursor);
}

#[test]
fn references_lead_somewhere_and_every_field_says_what_it_is() {
    let document = document();
    walk(&document, &mut |fields| {
        if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
            assert!(document.pointer(&reference[1..]).is_some(), "there is no {reference}");
        }
    });
    for (name, schema) in object(&document["components"]["schemas"]) {
        let Some(fields) = schema.get("properties") else { continue };
        for (field, described) in object(fields) {
            let told =
                ["description", "$ref", "const", "properties"].iter().any(|key| described.get(key).is_some());
            assert!(told, "{name}.{field} has no description");
        }
    }
}
