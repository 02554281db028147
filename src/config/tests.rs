//! Configurations as a whole, from made-up sources.

use std::{collections::BTreeMap, io, path::Path};

use super::*;
use crate::domain::issuer::ProjectOf;

const KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const SECRET: &str = "correct horse battery staple, twice";

type Pairs<'a> = &'a [(&'a str, &'a str)];

/// What a test gives. The environment with full names; files by path.
#[derive(Clone, Copy, Default)]
struct Given<'a> {
    flags: Pairs<'a>,
    defaults: Pairs<'a>,
    environment: Pairs<'a>,
    toml: Option<&'a str>,
    files: Pairs<'a>,
}

impl Given<'_> {
    fn load(self) -> Result<Config, ConfigError> {
        let files: BTreeMap<&str, &str> = self.files.iter().copied().collect();
        let read = |path: &Path| {
            let content = path.to_str().and_then(|path| files.get(path));
            content.map(|text| (*text).to_owned()).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        };
        let environment: Vec<(OsString, OsString)> =
            self.environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let inputs = Inputs {
            flags: &self.flags.iter().copied().collect(),
            defaults: self.defaults,
            environment: &environment,
            file: self.toml.map(|text| (PathBuf::from("watchpost.toml"), text.to_owned())),
            read: &read,
        };
        Config::from_inputs(&inputs, Vec::new())
    }

    fn errors(self) -> Vec<String> {
        let error = self.load().expect_err("should not load");
        error.problems.iter().map(Problem::to_string).collect()
    }
}

fn flags(flags: Pairs<'_>) -> Result<Config, ConfigError> {
    Given { flags, ..Given::default() }.load()
}

fn environment(environment: Pairs<'_>) -> Given<'_> {
    Given { environment, ..Given::default() }
}

fn toml(text: &str) -> Given<'_> {
    Given { toml: Some(text), ..Given::default() }
}

fn shown<'a>(config: &'a Config, key: &str) -> (&'a str, String) {
    let described = config.describe().iter().find(|described| described.key == key).unwrap();
    (&described.value, described.origin.to_string())
}

fn durations(texts: &[&str]) -> Vec<Duration> {
    texts.iter().map(|text| crate::domain::duration::parse_duration(text).unwrap()).collect()
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let config = Given::default().load().unwrap();
    assert_eq!(config.listen, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(config.database, Database::Sqlite(PathBuf::from("./watchpost.db")));
    assert_eq!((&config.public_url, &config.api_url), (&None, &None));
    assert_eq!(config.native_prefix, "/v1");
    assert!(config.master_key.is_none() && config.jwt_secret.is_none());
    assert_eq!(config.auth, Auth::Jwt);
    let egress = EgressConfig {
        allow: vec![],
        http: false,
        ports: Ports::Only(vec![443, 8443]),
        ip_literals: false,
        ca_file: None,
        name_servers: Vec::new(),
        proxy: None,
    };
    assert_eq!(config.egress, egress);
    let schedule = ["0s", "5s", "30s", "2m", "10m", "30m", "1h", "2h", "4h", "8h"];
    assert_eq!(config.retry.schedule, durations(&schedule));
    assert_eq!(config.retry.window, Duration::from_hours(72));
    assert_eq!(config.attempt_timeout, Duration::from_secs(15));
    assert_eq!(config.host_window, 64);
    assert_eq!(config.destination_rate, NonZeroU32::new(50));
    assert_eq!(config.ttl, TtlConfig { default: Duration::from_hours(168), max: Duration::from_hours(720) });
    assert_eq!(config.cron.expiry, "*/5 * * * * *");
    assert_eq!(config.cron.retry, "*/10 * * * * *");
    assert_eq!(config.cron.retention, "0 17 * * * *");
    let days = |days: u64| Duration::from_hours(24 * days);
    assert_eq!(config.retention, RetentionConfig { events: days(30), attempts: days(14) });
    assert_eq!(config.resources, Resources::Open);
    assert_eq!(config.header_prefix, "Watchpost-");
    assert_eq!(config.user_agent, format!("watchpost/{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(config.state_dir, PathBuf::from("./.watchpost"));
    assert_eq!((config.log.as_str(), config.log_format), ("info", LogFormat::Text));
    assert_eq!(config.describe().len(), SETTINGS.len());
}

#[test]
fn every_setting_is_read() {
    for setting in &SETTINGS {
        // A control character is a value of no setting but these, which are paths.
        let takes_all = matches!(setting.key, "EGRESS_CA_FILE" | "STATE_DIR");
        let value = if setting.key == "LOG" { "a=loud" } else { "\u{1}" };
        let loaded = flags(&[(setting.key, value)]);
        assert_eq!(loaded.is_ok(), takes_all, "{}", setting.key);
        if let Err(error) = loaded {
            let text = error.to_string();
            assert!(text.starts_with(&format!("{} (from --", table::variable(setting.key))), "{text}");
        }
    }
}

#[test]
fn an_issuer_is_told_whole_or_not_at_all() {
    let whole = [
        ("JWKS_URL", "https://id.example.com/keys"),
        ("JWT_ISSUER", "https://id.example.com"),
        ("JWT_AUDIENCE", "watchpost"),
    ];
    let issuer = flags(&whole).unwrap().issuer.unwrap();
    assert_eq!(issuer.jwks_url.as_str(), whole[0].1);
    assert_eq!((issuer.rules.issuer.as_str(), issuer.rules.audience.as_str()), (whole[1].1, whole[2].1));
    assert_eq!(issuer.rules.project, ProjectOf::Claim("project".to_owned()));
    assert_eq!((issuer.rules.subject_claim.as_str(), issuer.rules.scope_claim.as_str()), ("sub", "scope"));
    let more = [("JWT_PROJECT", "shop"), ("JWT_SCOPE_MAP", "api:watch=channels")];
    let issuer = flags(&[&whole[..], &more].concat()).unwrap().issuer.unwrap();
    assert_eq!(issuer.rules.project, ProjectOf::Fixed("shop".to_owned()));

    let errors = |given: Pairs<'_>| Given { flags: given, ..Given::default() }.errors();
    assert_eq!(
        errors(&whole[..1]),
        [
            "WATCHPOST_JWT_ISSUER is required beside WATCHPOST_JWKS_URL",
            "WATCHPOST_JWT_AUDIENCE is required beside WATCHPOST_JWKS_URL"
        ]
    );
    assert_eq!(
        errors(&[whole[1], more[0]]),
        [
            "WATCHPOST_JWT_ISSUER means nothing without WATCHPOST_JWKS_URL",
            "WATCHPOST_JWT_PROJECT means nothing without WATCHPOST_JWKS_URL"
        ]
    );
    let operator = [&whole[..], &[("JWT_SCOPE_MAP", "a=operator")]].concat();
    assert!(errors(&operator)[0].contains("there is no scope `operator`"));
}

#[test]
fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
    let mut given = Given {
        defaults: &[("HOST_WINDOW", "1")],
        environment: &[("WATCHPOST_HOST_WINDOW", "3")],
        toml: Some("host_window = 2"),
        flags: &[("HOST_WINDOW", "4")],
        ..Given::default()
    };
    let window = |given: Given<'_>| {
        let config = given.load().unwrap();
        let (_, origin) = shown(&config, "HOST_WINDOW");
        (config.host_window, origin)
    };
    assert_eq!(window(given), (4, "--host-window".to_owned()));
    given.flags = &[];
    assert_eq!(window(given), (3, "WATCHPOST_HOST_WINDOW".to_owned()));
    given.environment = &[("WATCHPOST_HOST_WINDOW", "")];
    assert_eq!(window(given), (2, "host_window in watchpost.toml".to_owned()));
    given.toml = None;
    assert_eq!(window(given), (1, "default".to_owned()));
    given.defaults = &[];
    assert_eq!(window(given), (64, "default".to_owned()));
}

#[test]
fn the_file_takes_texts_numbers_booleans_and_lists() {
    let config = toml(
        r#"
        listen = "[::1]:0"
        host_window = 8
        egress_http = true
        egress_ports = [80, 443]
        egress_allow = ["10.0.0.0/8:9000", "::1"]
        retry_schedule = ["0s", "1s"]
        "#,
    );
    let config = config.load().unwrap();
    assert_eq!(config.listen, "[::1]:0".parse().unwrap());
    assert_eq!(config.host_window, 8);
    assert!(config.egress.http);
    assert_eq!(config.egress.ports, Ports::Only(vec![80, 443]));
    assert_eq!(config.egress.allow, ["10.0.0.0/8:9000".parse().unwrap(), "::1".parse().unwrap()]);
    assert_eq!(config.retry.schedule, durations(&["0s", "1s"]));
}

#[test]
fn what_the_file_cannot_hold_is_an_error_that_names_the_key() {
    for (text, expected) in [
        ("host_window = 1.5", "WATCHPOST_HOST_WINDOW (from host_window in watchpost.toml): a float is"),
        ("[listen]\nport = 1", "WATCHPOST_LISTEN (from listen in watchpost.toml): a table is"),
        ("egress_allow = [true]", "WATCHPOST_EGRESS_ALLOW (from egress_allow in watchpost.toml): a list"),
        ("egress_alow = []", "egress_alow in watchpost.toml is not a setting; did you mean egress_allow?"),
        ("LISTEN = \":0\"", "LISTEN in watchpost.toml is not a setting; did you mean listen?"),
        (
            "ops_listen = 9",
            "WATCHPOST_OPS_LISTEN (from ops_listen in watchpost.toml): `9` is not ADDRESS:PORT",
        ),
        ("[retry]", "retry in watchpost.toml is not a setting"),
        ("log = \"info\"\nlisten = ", "watchpost.toml: line 2: "),
        ("listen = \":0\"\nlisten = \":0\"", "watchpost.toml: line 2: "),
    ] {
        let errors = toml(text).errors();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].starts_with(expected), "{}", errors[0]);
    }
}

#[test]
fn unknown_names_are_errors() {
    let errors = Given {
        environment: &[
            ("WATCHPOST_LISTN", ":0"),
            ("WATCHPOST_JWT_SECRET_FIL", "x"),
            ("WATCHPOST_ENTIRELY_ELSE", "x"),
            ("WATCHPOST_LISTEN_FILE", "x"),
            ("WATCHPOST_UNKNOWN_BUT_EMPTY", ""),
            ("WATCHPOST_CONFIG", "elsewhere.toml"),
            ("WATCH", "x"),
        ],
        flags: &[("HOST_WINDW", "1")],
        ..Given::default()
    }
    .errors();
    let expected = [
        "WATCHPOST_LISTN is not a setting; did you mean WATCHPOST_LISTEN?",
        "WATCHPOST_JWT_SECRET_FIL is not a setting; did you mean WATCHPOST_JWT_SECRET_FILE?",
        "WATCHPOST_ENTIRELY_ELSE is not a setting",
        "WATCHPOST_LISTEN_FILE is not a setting",
        "--host-windw is not a setting; did you mean --host-window?",
    ];
    assert_eq!(errors.len(), expected.len(), "{errors:?}");
    for (error, expected) in errors.iter().zip(expected) {
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn variables_that_kubernetes_adds_are_no_settings() {
    let links = [
        ("WATCHPOST_SERVICE_HOST", "10.0.0.1"),
        ("WATCHPOST_SERVICE_PORT", "80"),
        ("WATCHPOST_SERVICE_PORT_HTTP", "80"),
        ("WATCHPOST_PORT", "tcp://10.0.0.1:80"),
        ("WATCHPOST_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("WATCHPOST_PORT_80_TCP_PROTO", "tcp"),
        ("WATCHPOST_PORT_80_TCP_PORT", "80"),
        ("WATCHPOST_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("WATCHPOST_POSTGRES_SERVICE_HOST", "10.0.0.2"),
    ];
    assert!(environment(&links).load().is_ok());
    assert_eq!(environment(&[("WATCHPOST_PORT", "8080")]).errors(), ["WATCHPOST_PORT is not a setting"]);
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf_8_is_an_error_that_names_it() {
    use std::os::unix::ffi::OsStringExt;

    let environment = [(OsString::from("WATCHPOST_LISTEN"), OsString::from_vec(vec![0xff]))];
    let inputs = Inputs {
        flags: &SettingsArgs::default(),
        defaults: &[],
        environment: &environment,
        file: None,
        read: &read_bounded,
    };
    let error = Config::from_inputs(&inputs, Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "WATCHPOST_LISTEN: not UTF-8");
}

#[test]
fn a_secret_may_come_from_a_file() {
    let jwt = |given: Given<'_>| given.load().unwrap().jwt_secret.unwrap().reveal().to_owned();
    let files: &[(&str, String)] =
        &[("bare", SECRET.to_owned()), ("newline", format!("{SECRET}\n")), ("crlf", format!("{SECRET}\r\n"))];
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    for (path, _) in &files {
        let given = Given { files: &files, ..Given::default() };
        assert_eq!(jwt(Given { flags: &[("JWT_SECRET_FILE", path)], ..given }), SECRET);
        assert_eq!(jwt(Given { environment: &[("WATCHPOST_JWT_SECRET_FILE", path)], ..given }), SECRET);
        assert_eq!(jwt(Given { toml: Some(&format!("jwt_secret_file = '{path}'")), ..given }), SECRET);
    }
    // Only one newline is trimmed.
    let text = format!("{SECRET}\n\n");
    let given = Given { flags: &[("JWT_SECRET_FILE", "two")], files: &[("two", &text)], ..Given::default() };
    assert_eq!(jwt(given), format!("{SECRET}\n"));
    // The source above decides, whichever form it takes.
    let given = Given {
        flags: &[("JWT_SECRET", SECRET)],
        environment: &[("WATCHPOST_JWT_SECRET_FILE", "missing")],
        ..Given::default()
    };
    assert_eq!(jwt(given), SECRET);
}

#[test]
fn a_file_of_a_secret_that_cannot_be_used_is_an_error_that_names_its_key() {
    let file = [("WATCHPOST_JWT_SECRET_FILE", "path")];
    let given = environment(&file);
    let prefix = "WATCHPOST_JWT_SECRET (from WATCHPOST_JWT_SECRET_FILE): ";
    assert_eq!(given.errors(), [format!("{prefix}path: entity not found")]);
    let empty = Given { files: &[("path", "\n")], ..given };
    assert_eq!(empty.errors(), [format!("{prefix}path is empty")]);
    let short = Given { files: &[("path", "hunter2")], ..given };
    assert_eq!(short.errors(), [format!("{prefix}7 bytes, where at least 32 are needed")]);
    let both = [file[0], ("WATCHPOST_JWT_SECRET", SECRET)];
    assert_eq!(
        environment(&both).errors(),
        ["WATCHPOST_JWT_SECRET_FILE and WATCHPOST_JWT_SECRET are both given: keep one of them"]
    );
}

#[test]
fn impossible_combinations_name_their_keys() {
    for (pairs, expected) in [
        (
            &[("LISTEN", "0.0.0.0:80"), ("AUTH", "off"), ("PUBLIC_URL", "https://w.example")][..],
            "WATCHPOST_AUTH=off is only for loopback, and WATCHPOST_LISTEN is 0.0.0.0:80",
        ),
        (
            &[("LISTEN", "[::]:80")],
            "WATCHPOST_PUBLIC_URL is required because WATCHPOST_LISTEN is [::]:80, beyond loopback",
        ),
        (
            &[("DATABASE_URL", "postgres://db/w")],
            "WATCHPOST_MASTER_KEY is required because WATCHPOST_DATABASE_URL is PostgreSQL",
        ),
        (
            &[("CHANNEL_TTL_DEFAULT", "31d")],
            "WATCHPOST_CHANNEL_TTL_DEFAULT (31d) is longer than WATCHPOST_CHANNEL_TTL_MAX (30d)",
        ),
    ] {
        assert_eq!(flags(pairs).unwrap_err().to_string(), expected);
    }
    assert!(flags(&[("LISTEN", "[::ffff:127.0.0.1]:0"), ("AUTH", "off")]).is_ok());
    assert!(flags(&[("LISTEN", "0.0.0.0:80"), ("PUBLIC_URL", "https://w.example/base")]).is_ok());
    assert!(flags(&[("DATABASE_URL", "postgresql://db/w"), ("MASTER_KEY", KEY)]).is_ok());
}

#[test]
fn all_problems_are_reported_at_once() {
    let errors = Given {
        flags: &[("LISTEN", "0.0.0.0:80"), ("HOST_WINDOW", "0"), ("EGRESS_HTTP", "yes")],
        environment: &[("WATCHPOST_NOPE", "1"), ("WATCHPOST_MASTER_KEY", "short")],
        toml: Some("ops_listen = 9090"),
        ..Given::default()
    }
    .errors();
    for key in ["NOPE", "OPS_LISTEN", "HOST_WINDOW", "EGRESS_HTTP", "MASTER_KEY", "PUBLIC_URL"] {
        let count = errors.iter().filter(|error| error.starts_with(&table::variable(key))).count();
        assert_eq!(count, 1, "{key}: {errors:?}");
    }
    assert_eq!(errors.len(), 6, "{errors:?}");
}

#[test]
fn secrets_are_shown_nowhere() {
    let database = "postgres://watch:hunter2@db.example:5432/w?sslmode=require&password=hunter3";
    let config = flags(&[
        ("JWT_SECRET", SECRET),
        ("MASTER_KEY", KEY),
        ("DATABASE_URL", database),
        ("EGRESS_PROXY", "http://watch:hunter4@10.0.0.9:3128"),
    ])
    .unwrap();
    let debug = format!("{config:?} {:?}", config.describe());
    for secret in [SECRET, KEY, "hunter2", "hunter3", "hunter4", "[1, 1"] {
        assert!(!debug.contains(secret), "{debug}");
    }
    assert_eq!(shown(&config, "JWT_SECRET"), ("(set)", "--jwt-secret".to_owned()));
    assert_eq!(shown(&config, "MASTER_KEY").0, "(set)");
    assert_eq!(
        shown(&config, "DATABASE_URL").0,
        "postgres://watch:***@db.example:5432/w?sslmode=require&password=***"
    );
    assert_eq!(shown(&config, "EGRESS_PROXY").0, "http://watch:***@10.0.0.9:3128");
    assert_eq!(shown(&Given::default().load().unwrap(), "JWT_SECRET"), ("", "default".to_owned()));

    for given in [
        environment(&[("WATCHPOST_MASTER_KEY", "hunter2"), ("WATCHPOST_JWT_SECRET", "hunter2")]),
        environment(&[("WATCHPOST_DATABASE_URL", "mysql://watch:hunter2@db")]),
        environment(&[("WATCHPOST_DATABASE_URL", "host=db password=hunter2")]),
        environment(&[("WATCHPOST_EGRESS_PROXY", "http://watch:hunter2@proxy:3128")]),
        environment(&[("WATCHPOST_EGRESS_PROXY", "https://watch:hunter2@10.0.0.9:3128")]),
        toml("jwt_secret = \"hunter2"),
        toml("jwt_secret = hunter2"),
        toml("jwt_secret = { hunter2 = 1 }"),
    ] {
        let error = given.load().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}

#[test]
fn values_at_their_limits() {
    let schedule = vec!["1s"; 32].join(",");
    let long_schedule = vec!["1s"; 33].join(",");
    for (key, good, bad) in [
        (
            "LISTEN",
            &[":0", "localhost:80", "[::1]:1"][..],
            &["8080", "localhost", "example.com:80", ":65536"][..],
        ),
        (
            "PUBLIC_URL",
            &["http://localhost:1/x", ""],
            &["w.example", "ftp://w", "https://u:p@w", "https://w/?q"],
        ),
        ("API_URL", &["https://api.example/calendar"], &["/calendar", "https://w/#f"]),
        (
            "NATIVE_PREFIX",
            &["/v1", "/watch-post/v1"],
            &["", "/", "v1", "/v1/", "//v1", "/a b", "/../v1", "/%41"],
        ),
        ("AUTH", &["jwt", "off"], &["", "Off", "none"]),
        ("RETRY_SCHEDULE", &["0s", "0s, 1s", &schedule], &["", ",", "1s,", "1", &long_schedule]),
        ("RETRY_WINDOW", &["1m", "400d"], &["59s", "401d", "0s"]),
        ("ATTEMPT_TIMEOUT", &["1s", "60s", "1m"], &["999ms", "61s", ""]),
        ("HOST_WINDOW", &["1", "1024"], &["0", "1025", "-1", "many", ""]),
        ("CHANNEL_TTL_DEFAULT", &["1s", "30d"], &["0s"]),
        ("CRON_EXPIRY", &["0  17 * * * MON-FRI"], &["", "* * * * *", "* * * * * * *", "* * * * * ;"]),
        (
            "HEADER_PREFIX",
            &["X-Acme-", "acme_1-"],
            &["", "Acme", "A b-", "X-Goog-", "x-goog-x-", "Webhook-", "Ä-"],
        ),
        ("USER_AGENT", &["acme/1 (+https://acme.example)"], &["", " a", "a\r\nb", "ä"]),
        ("EGRESS_ALLOW", &["", "10.0.0.0/8, ::1"], &["10.0.0.0/8,", "everything"]),
        ("EGRESS_PORTS", &["any", "80"], &["", "0"]),
        ("EGRESS_IP_LITERALS", &["true", "false"], &["", "1"]),
        ("VERIFY", &["none", "challenge", "none,acme=challenge"], &["", "yes", "acme=challenge"]),
        ("DESTINATION_RATE", &["off", "1/s", "1000000/s"], &["", "0/s", "50", "50/m", "+5/s", "1000001/s"]),
        (
            "EGRESS_PROXY",
            &[
                "",
                "socks5://10.0.0.9",
                "socks5://[fd00::9]:9050",
                "socks5://a:b@10.0.0.9",
                "http://10.0.0.9:3128",
                "http://a:b%3A%40%25@[fd00::9]:3128",
            ],
            &[
                "10.0.0.9:1080",
                "socks5h://10.0.0.9",
                "https://10.0.0.9:3128",
                "http://10.0.0.9",
                "http://10.0.0.9:3128/",
                "http://a@10.0.0.9:3128",
                "http://:b@10.0.0.9:3128",
                "http://a:@10.0.0.9:3128",
                "http://a%3Ab:c@10.0.0.9:3128",
                "http://a:b%0D@10.0.0.9:3128",
                "http://a:b%FF@10.0.0.9:3128",
                "socks5://proxy:1080",
            ],
        ),
        ("EGRESS_DNS", &["", "10.0.0.53, [fd00::53]:5353", "::1"], &["dns", "10.0.0.53:0", "10.0.0.53,"]),
        ("MASTER_KEY", &[KEY, ""], &["AQEB", "?"]),
        (
            "JWT_SECRET",
            &[SECRET, "", "0123456789abcdef0123456789abcdef"],
            &["0123456789abcdef0123456789abcde"],
        ),
        ("STATE_DIR", &["/var/lib/watchpost"], &[""]),
        ("LOG", &["debug", "info,watchpost::engine=trace"], &["", "watchpost=loud", "loud", "info,verbose"]),
        ("LOG_FORMAT", &["text", "json"], &["xml"]),
    ] {
        for value in good {
            let loaded = flags(&[(key, value)]);
            assert!(loaded.is_ok(), "{key}={value}: {loaded:?}");
        }
        for value in bad {
            let error = flags(&[(key, value)]).expect_err(value).to_string();
            assert!(error.starts_with(&format!("{} (from ", table::variable(key))), "{key}={value}: {error}");
            assert!(!error.contains('\n') || value.contains('\n'), "{error}");
        }
    }
}

#[test]
fn the_state_directory_follows_xdg() {
    for (given, expected) in [
        (&[("XDG_STATE_HOME", "/x"), ("HOME", "/h")][..], "/x/watchpost"),
        (&[("XDG_STATE_HOME", "x"), ("HOME", "/h")], "/h/.local/state/watchpost"),
        (&[("XDG_STATE_HOME", ""), ("HOME", "")], "./.watchpost"),
        (&[("XDG_STATE_HOME", "/x"), ("WATCHPOST_STATE_DIR", "/s")], "/s"),
    ] {
        let config = environment(given).load().unwrap();
        assert_eq!(config.state_dir, PathBuf::from(expected));
    }
}

#[test]
fn a_settings_file_that_was_named_must_be_there() {
    let missing = SettingsArgs::default().with_config_file("/nowhere/watchpost.toml");
    let mut problems = Vec::new();
    assert_eq!(settings_file(&missing, &[], &mut problems), None);
    let environment = [(OsString::from("WATCHPOST_CONFIG"), OsString::from("/nowhere/else.toml"))];
    assert_eq!(settings_file(&SettingsArgs::default(), &environment, &mut problems), None);
    let texts: Vec<String> = problems.iter().map(Problem::to_string).collect();
    assert!(texts[0].starts_with("/nowhere/watchpost.toml: "), "{texts:?}");
    assert!(texts[1].starts_with("/nowhere/else.toml: "), "{texts:?}");
    assert_eq!(texts.len(), 2);
}

#[test]
fn names_in_the_table_are_distinct() {
    let mut names: Vec<String> = table::names().collect();
    names.push(table::CONFIG_FILE_KEY.to_owned());
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
}
