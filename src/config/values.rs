//! Readers of single values: text in, typed value or the reason out. The reason never quotes a secret.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
    time::Duration,
};

use tracing_subscriber::EnvFilter;
use url::Url;

use super::secret::{MasterKey, Secret};
use crate::domain::{
    channel::RateLimit,
    claim::Reminders,
    duration::{format_duration, parse_duration},
    egress::AllowRule,
};

pub(super) const SECRET_BYTES_MIN: usize = 32;
pub(super) const SCHEDULE_ENTRIES_MAX: usize = 32;
pub(super) const ALLOW_RULES_MAX: usize = 256;
const RATE_MAX: u32 = 1_000_000;
pub(super) const NAME_SERVERS_MAX: usize = 8;
const DNS_PORT: u16 = 53;
const HOST_WINDOW_MAX: u32 = 1_024;
const HEADER_PREFIX_BYTES_MAX: usize = 64;
const USER_AGENT_BYTES_MAX: usize = 256;
const CRON_FIELDS: usize = 6;
/// Prefixes of headers that mean something else to receivers.
const FOREIGN_HEADER_PREFIXES: [&str; 2] = ["x-goog-", "webhook-"];

/// Where everything is stored.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// Embedded: the path of the file.
    Sqlite(PathBuf),
    /// The URL, which may hold a password.
    Postgres(String),
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
            Self::Postgres(url) => f.debug_tuple("Postgres").field(&without_password(url)).finish(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    Jwt,
    /// Any credential is ignored; everybody may do everything. On loopback only.
    Off,
}

/// Which resources exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resources {
    /// Every one that somebody watches or publishes to.
    Open,
    /// Those alone that were declared.
    Declared,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

pub(super) type Reading<T> = Result<T, String>;

/// `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080` or `:8080`; without an address loopback is meant, so that
/// nobody opens a server to the world by leaving something out.
pub(super) fn listen(text: &str) -> Reading<SocketAddr> {
    let port = text.strip_prefix("localhost:").or_else(|| text.strip_prefix(':'));
    let address = match port {
        Some(port) => port.parse().ok().map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        None => text.parse().ok(),
    };
    address.ok_or_else(|| format!("`{text}` is not ADDRESS:PORT, such as 127.0.0.1:8080 or [::1]:0"))
}

pub(super) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

pub(super) fn database(text: &str) -> Reading<Database> {
    if let Some(rest) = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://")) {
        let given = if rest.is_empty() { Err("names no server".to_owned()) } else { Ok(text.to_owned()) };
        return given.map(Database::Postgres);
    }
    if let Some(path) = text.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return match path {
            "" => Err("names no file: write sqlite:PATH".to_owned()),
            ":memory:" => Err("a database in memory keeps nothing: name a file".to_owned()),
            // SQLite itself would read both as more than a name.
            path if path.starts_with("file:") || path.contains('?') => {
                Err("takes a plain path after sqlite:, without file: and without parameters".to_owned())
            }
            path => Ok(Database::Sqlite(PathBuf::from(path))),
        };
    }
    // Anything else is not quoted in full: it may be a misspelt URL with a password in it.
    match text.split_once("://") {
        Some((scheme, _)) => {
            Err(format!("`{scheme}://` is not a supported database: write sqlite:PATH or postgres://…"))
        }
        None if text.contains(['@', ' ', '=']) => Err("write sqlite:PATH or postgres://…".to_owned()),
        None => Err(format!("write sqlite:PATH or postgres://…; for a file sqlite:{text}")),
    }
}

/// The URL of a PostgreSQL or a proxy as it may be shown: without a password, wherever in the URL it hides. What
/// cannot be told apart is left out as well.
pub(super) fn without_password(url: &str) -> String {
    /// Parameters that hold no secret.
    const SHOWN: [&str; 9] = [
        "application_name",
        "connect_timeout",
        "dbname",
        "host",
        "port",
        "sslmode",
        "sslrootcert",
        "target_session_attrs",
        "user",
    ];
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (user, rest) = match rest.rsplit_once('@') {
        None => (String::new(), rest),
        Some((credentials, rest)) => match credentials.split_once(':') {
            Some((user, _)) if !user.contains(['/', '?']) => (format!("{user}:***@"), rest),
            None if !credentials.contains(['/', '?']) => (format!("{credentials}@"), rest),
            _ => return format!("{scheme}://***"),
        },
    };
    let Some((place, query)) = rest.split_once('?') else { return format!("{scheme}://{user}{rest}") };
    let parameter = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if !SHOWN.contains(&name) => format!("{name}=***"),
        _ => pair.to_owned(),
    };
    let query: Vec<String> = query.split('&').map(parameter).collect();
    format!("{scheme}://{user}{place}?{}", query.join("&"))
}

/// A base that paths are appended to: `http:` or `https:`, with nothing behind the path.
pub(super) fn base_url(text: &str) -> Reading<Url> {
    let url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("not an http: or https: URL".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user name or password".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must end with its path: no `?` and no `#`".to_owned());
    }
    Ok(url)
}

/// A name in somebody else's documents.
pub(super) fn name(text: &str) -> Reading<String> {
    if text.chars().any(char::is_control) {
        return Err("holds control characters".to_owned());
    }
    Ok(text.to_owned())
}

/// A service that is asked: a whole URL, with a query where it needs one.
pub(super) fn service_url(text: &str) -> Reading<Url> {
    let url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("not an http: or https: URL".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err("must hold neither a user name nor a password, and no `#`".to_owned());
    }
    Ok(url)
}

pub(super) fn native_prefix(text: &str) -> Reading<String> {
    let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let is_segment =
        |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(is_unreserved);
    let is_path = text.strip_prefix('/').is_some_and(|path| path.split('/').all(is_segment));
    if is_path {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is not a path such as /v1: a slash in front and none at the end"))
    }
}

pub(super) fn master_key(text: &str) -> Reading<MasterKey> {
    MasterKey::from_base64(text).map_err(|error| error.to_string())
}

pub(super) fn jwt_secret(text: &str) -> Reading<Secret> {
    if text.len() < SECRET_BYTES_MIN {
        return Err(format!("{} bytes, where at least {SECRET_BYTES_MIN} are needed", text.len()));
    }
    Ok(Secret::new(text))
}

pub(super) fn auth(text: &str) -> Reading<Auth> {
    one_of(text, &[("jwt", Auth::Jwt), ("off", Auth::Off)])
}

pub(super) fn log_format(text: &str) -> Reading<LogFormat> {
    one_of(text, &[("text", LogFormat::Text), ("json", LogFormat::Json)])
}

pub(super) fn resources(text: &str) -> Reading<Resources> {
    one_of(text, &[("open", Resources::Open), ("declared", Resources::Declared)])
}

pub(super) fn boolean(text: &str) -> Reading<bool> {
    one_of(text, &[("true", true), ("false", false)])
}

fn one_of<T: Copy>(text: &str, choices: &[(&str, T)]) -> Reading<T> {
    choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        format!("`{text}` is not {}", names.join(" or "))
    })
}

pub(super) fn allow_rules(text: &str) -> Reading<Vec<AllowRule>> {
    list(text, ALLOW_RULES_MAX, |rule| {
        rule.parse().map_err(|error: <AllowRule as std::str::FromStr>::Err| error.to_string())
    })
}

/// An address without a port means DNS's own.
pub(super) fn name_servers(text: &str) -> Reading<Vec<SocketAddr>> {
    list(text, NAME_SERVERS_MAX, |server| {
        at_port(server, DNS_PORT).ok_or_else(|| {
            format!("`{server}` is no name server: write 10.0.0.53, 10.0.0.53:5353 or [fd00::53]:53")
        })
    })
}

/// An address and port, or an address alone, unless that leaves it without a port.
pub(super) fn at_port(text: &str, port: u16) -> Option<SocketAddr> {
    let ip = || text.trim_matches(['[', ']']).parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, port));
    text.parse().ok().or_else(ip).filter(|address| address.port() != 0)
}

/// `None` for `off`.
pub(super) fn rate(text: &str) -> Reading<Option<NonZeroU32>> {
    if text == "off" {
        return Ok(None);
    }
    let rate = text.strip_suffix("/s").filter(|rate| rate.bytes().all(|byte| byte.is_ascii_digit()));
    let rate = rate.and_then(|rate| rate.parse().ok()).filter(|rate: &NonZeroU32| rate.get() <= RATE_MAX);
    rate.map(Some).ok_or_else(|| format!("`{text}` is no rate: write 50/s, at most {RATE_MAX}/s, or off"))
}

/// Networks without ports.
pub(super) fn networks(text: &str) -> Reading<Vec<AllowRule>> {
    let rules = allow_rules(text)?;
    match rules.iter().find(|rule| rule.port.is_some()) {
        Some(_) => Err("takes networks without ports, such as 10.0.0.0/8".to_owned()),
        None => Ok(rules),
    }
}

/// `100/s`, or `off`. After a rest twice as many may come at once.
pub(super) fn request_rate(text: &str) -> Reading<Option<RateLimit>> {
    if text == "off" {
        return Ok(None);
    }
    let most = RateLimit::BURST_MAX / 2;
    let per_second = text.strip_suffix("/s").and_then(|number| number.parse().ok());
    match per_second.filter(|number| (1..=most).contains(number)) {
        Some(per_second) => Ok(Some(RateLimit { per_second, burst: 2 * per_second })),
        None => Err(format!("`{text}` is neither off nor such as 100/s, from 1/s to {most}/s")),
    }
}

pub(super) fn schedule(text: &str) -> Reading<Vec<Duration>> {
    list(text, SCHEDULE_ENTRIES_MAX, |entry| parse_duration(entry).map_err(|error| error.to_string()))
}

fn list<T>(text: &str, entries_max: usize, read: impl Fn(&str) -> Reading<T>) -> Reading<Vec<T>> {
    let entries = text.split(',').map(|entry| read(entry.trim())).collect::<Reading<Vec<T>>>()?;
    if entries.len() > entries_max {
        return Err(format!("{} entries, where at most {entries_max} are taken", entries.len()));
    }
    Ok(entries)
}

pub(super) fn duration_within(text: &str, min: Duration, max: Duration) -> Reading<Duration> {
    let duration = parse_duration(text).map_err(|error| error.to_string())?;
    if duration < min || duration > max {
        return Err(format!("`{text}` is not within {} and {}", format_duration(min), format_duration(max)));
    }
    Ok(duration)
}

pub(super) fn host_window(text: &str) -> Reading<u32> {
    let window = text.parse().ok().filter(|window| (1..=HOST_WINDOW_MAX).contains(window));
    window.ok_or_else(|| format!("`{text}` is not a whole number within 1 and {HOST_WINDOW_MAX}"))
}

pub(super) fn reminders(text: &str) -> Reading<Reminders> {
    Reminders::new(schedule(text)?)
        .ok_or_else(|| format!("`{text}` does not rise from step to step, or ends with less than a minute"))
}

/// The form only; which numbers a field may hold is the scheduler's to say.
pub(super) fn cron(text: &str) -> Reading<String> {
    let is_field =
        |field: &str| field.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"*/,-?#".contains(&byte));
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() == CRON_FIELDS && fields.iter().copied().all(is_field) {
        Ok(fields.join(" "))
    } else {
        Err(format!("`{text}` is not a cron expression of six fields, seconds first, such as */5 * * * * *"))
    }
}

pub(super) fn header_prefix(text: &str) -> Reading<String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !text.ends_with('-') || !text.bytes().all(is_token) || text.len() > HEADER_PREFIX_BYTES_MAX {
        return Err(format!("`{text}` is not the start of a header name that ends with `-`"));
    }
    let lower = text.to_ascii_lowercase();
    match FOREIGN_HEADER_PREFIXES.iter().find(|foreign| lower.starts_with(**foreign)) {
        Some(foreign) => Err(format!("`{foreign}` headers have a meaning of their own")),
        None => Ok(text.to_owned()),
    }
}

pub(super) fn user_agent(text: &str) -> Reading<String> {
    let is_safe = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    if text.trim() == text && text.bytes().all(is_safe) && text.len() <= USER_AGENT_BYTES_MAX {
        Ok(text.to_owned())
    } else {
        Err(format!("must be up to {USER_AGENT_BYTES_MAX} printable ASCII characters"))
    }
}

pub(super) fn log_filter(text: &str) -> Reading<String> {
    // A single word is read as the name of a module: a misspelt level would turn everything off.
    let is_level = |word: &str| word.parse::<tracing::level_filters::LevelFilter>().is_ok();
    let odd = |part: &&str| !part.contains(['=', ':', '[']) && !is_level(part) && *part != "watchpost";
    if let Some(word) = text.split(',').map(str::trim).find(odd) {
        return Err(format!("{word} is no level: off, error, warn, info, debug or trace"));
    }
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_left_in_a_url() {
        for (url, expected) in [
            ("sqlite:./watchpost.db", "sqlite:./watchpost.db"),
            ("postgres://db/w", "postgres://db/w"),
            ("postgres://u@db/w", "postgres://u@db/w"),
            ("postgres://u:p@a:1,b:2/w", "postgres://u:***@a:1,b:2/w"),
            ("postgres://u:p@p/p?p@db/w", "postgres://u:***@db/w"),
            ("postgres://db/w?password=p&application_name=a@b", "postgres://***"),
            ("postgres://db/w?p%61ssword=p&host=x&flag", "postgres://db/w?p%61ssword=***&host=x&flag"),
        ] {
            assert_eq!(without_password(url), expected);
        }
    }

    #[test]
    fn a_database_is_sqlite_or_postgresql() {
        for (url, path) in [
            ("sqlite:w.db", "w.db"),
            ("sqlite:/var/w.db", "/var/w.db"),
            ("sqlite:///var/w.db", "/var/w.db"),
            ("sqlite://w.db", "w.db"),
        ] {
            assert_eq!(database(url), Ok(Database::Sqlite(PathBuf::from(path))), "{url}");
        }
        for (url, hint) in [
            ("./w.db", "sqlite:./w.db"),
            ("mysql://db", "`mysql://` is not a supported database"),
            ("sqlite:", "names no file"),
            ("sqlite::memory:", "in memory"),
            ("sqlite:w.db?mode=ro", "without parameters"),
            ("postgres://", "names no server"),
        ] {
            let reason = database(url).unwrap_err();
            assert!(reason.contains(hint), "{url}: {reason}");
        }
    }
}
