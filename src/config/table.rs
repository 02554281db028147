//! The one table of settings. Flags, environment variables, keys of the file, help and `watchpost config` are
//! all derived from it, so that none of them can know a setting that the others do not.

use super::error::Origin;

/// What the names of our environment variables start with.
pub const VARIABLE_PREFIX: &str = "WATCHPOST_";
/// The variable and flag that name the settings file. Not a setting itself: it cannot stand in the file.
pub const CONFIG_FILE_KEY: &str = "CONFIG";
/// Appended to the key of a secret: the value is the path of a file that holds the secret.
pub const FILE_SUFFIX: &str = "_FILE";

/// What must be hidden when a setting is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    Open,
    /// A URL that may hold a password.
    Password,
    /// The whole value.
    Secret,
}

#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// `JWT_SECRET`, for `WATCHPOST_JWT_SECRET`, `--jwt-secret` and `jwt_secret`.
    pub key: &'static str,
    /// Written as the user would; empty for none.
    pub default: &'static str,
    /// One line, with units where they are not in the value.
    pub help: &'static str,
    pub secrecy: Secrecy,
}

impl Setting {
    const fn open(key: &'static str, default: &'static str, help: &'static str) -> Self {
        Self { key, default, help, secrecy: Secrecy::Open }
    }

    const fn hidden(key: &'static str, default: &'static str, secrecy: Secrecy, help: &'static str) -> Self {
        Self { key, default, help, secrecy }
    }

    /// Whether the value may also be given as the path of a file.
    pub fn takes_file(&self) -> bool {
        self.secrecy != Secrecy::Open
    }
}

const DEFAULT_USER_AGENT: &str = concat!("watchpost/", env!("CARGO_PKG_VERSION"));

pub static SETTINGS: [Setting; 50] = [
    Setting::open("LISTEN", "127.0.0.1:8080", "Address and port to listen on; port 0 picks a free one"),
    Setting::hidden(
        "DATABASE_URL",
        "sqlite:./watchpost.db",
        Secrecy::Password,
        "Where everything is stored: sqlite:PATH or postgres://…",
    ),
    Setting::open(
        "PUBLIC_URL",
        "",
        "Base of the URLs handed out for claims, hooks, bins and keys; from LISTEN while that is loopback, required beyond",
    ),
    Setting::open("API_URL", "", "Base of resource URIs, the host of your own API; else the public URL"),
    Setting::open("NATIVE_PREFIX", "/v1", "Path under which the native API lives"),
    Setting::open(
        "TRUSTED_PROXIES",
        "",
        "Networks of proxies whose X-Forwarded-For and Forwarded count, separated by commas; everybody else's are ignored",
    ),
    Setting::open(
        "OPS_LISTEN",
        "",
        "Address and port of a second listener, for /healthz and /readyz alone, which LISTEN then does not serve; port 0 picks a free one",
    ),
    Setting::open("REQUEST_RATE", "5000/s", "Requests of one subject per second, at most; off for no limit"),
    Setting::hidden(
        "MASTER_KEY",
        "",
        Secrecy::Secret,
        "32 bytes in base64, wraps secrets at rest; made beside an embedded database on first start, required with PostgreSQL",
    ),
    Setting::open("AUTH", "jwt", "jwt, or off to ignore all credentials, only while listening on loopback"),
    Setting::hidden(
        "JWT_SECRET",
        "",
        Secrecy::Secret,
        "Shared secret of at least 32 bytes under which others issue API tokens (HS256)",
    ),
    Setting::open(
        "JWKS_URL",
        "",
        "Key set of an external issuer whose tokens are taken as well: https:, or http: inside EGRESS_ALLOW",
    ),
    Setting::open("JWT_ISSUER", "", "What the `iss` of an external token must be; required beside JWKS_URL"),
    Setting::open("JWT_AUDIENCE", "", "What must stand in its `aud`; required beside JWKS_URL"),
    Setting::open("JWT_PROJECT", "", "The project of all external tokens; else each names its own"),
    Setting::open("JWT_PROJECT_CLAIM", "project", "The claim that names the project"),
    Setting::open("JWT_SUBJECT_CLAIM", "sub", "The claim that names the subject"),
    Setting::open(
        "JWT_SCOPE_CLAIM",
        "scope",
        "The claim that holds the scopes, separated by spaces or as a list",
    ),
    Setting::open(
        "JWT_SCOPE_MAP",
        "",
        "What the issuer's words grant, WORD=SCOPE or WORD=SCOPE+SCOPE, separated by commas; else they are the scopes",
    ),
    Setting::open(
        "AUTHORIZE_URL",
        "",
        "Asked who an unknown caller is, and whether a caller without `resources` may watch, renew, change or read; https:, or http: inside EGRESS_ALLOW",
    ),
    Setting::open(
        "EGRESS_ALLOW",
        "",
        "Networks opened beside public addresses, CIDR or CIDR:PORT, separated by commas",
    ),
    Setting::open("EGRESS_HTTP", "false", "Whether http: is allowed towards public addresses: true or false"),
    Setting::open(
        "EGRESS_PORTS",
        "443,8443",
        "Ports allowed towards public addresses, separated by commas, or any",
    ),
    Setting::open(
        "EGRESS_IP_LITERALS",
        "false",
        "Whether a public address may be written as an IP address instead of a name: true or false",
    ),
    Setting::open("EGRESS_CA_FILE", "", "PEM file of roots to trust beside the public ones"),
    Setting::hidden(
        "EGRESS_PROXY",
        "",
        Secrecy::Password,
        "Proxy on the way to every receiver, socks5://[USER:PASSWORD@]IP[:PORT] or http://[USER:PASSWORD@]IP:PORT; it is asked for addresses, never for names",
    ),
    Setting::open(
        "EGRESS_DNS",
        "",
        "Name servers to ask instead of the system's, IP or IP:PORT, separated by commas; the hosts file is then not read",
    ),
    Setting::open(
        "RETRY_SCHEDULE",
        "0s,5s,30s,2m,10m,30m,1h,2h,4h,8h",
        "Delay of the first attempt, then of each retry, separated by commas; the last repeats",
    ),
    Setting::open("RETRY_WINDOW", "72h", "How long a channel may fail before it is suspended, at least 1m"),
    Setting::open("ATTEMPT_TIMEOUT", "15s", "Time for one whole attempt, 1s to 60s"),
    Setting::open("HOST_WINDOW", "64", "Requests in flight per origin at most, 1 to 1024"),
    Setting::open(
        "VERIFY",
        "none",
        "Whether receivers are asked before anything is sent to them: none or challenge, then PROJECT=none or PROJECT=challenge, separated by commas",
    ),
    Setting::open(
        "DESTINATION_RATE",
        "50/s",
        "Requests a second to one registrable domain and to one address, over all projects, such as 50/s, or off; not for what EGRESS_ALLOW opens",
    ),
    Setting::open("CHANNEL_TTL_DEFAULT", "7d", "Lifetime of a channel that asks for none"),
    Setting::open("CHANNEL_TTL_MAX", "30d", "Longest lifetime of a channel; longer ones are shortened to it"),
    Setting::open("CRON_EXPIRY", "*/5 * * * * *", "When expired channels are ended, six-field cron in UTC"),
    Setting::open("CRON_RETRY", "*/10 * * * * *", "When due retries are looked for, six-field cron in UTC"),
    Setting::open(
        "CRON_RENEWAL",
        "0 * * * * *",
        "When channels near their end are looked at, six-field cron in UTC",
    ),
    Setting::open(
        "CRON_CLAIMS",
        "0 */5 * * * *",
        "When receivers are reminded of claims, six-field cron in UTC",
    ),
    Setting::open(
        "CLAIM_REMINDERS",
        "0s,1h,8h,24h",
        "When a receiver is reminded of what it has to claim, or probed, separated by commas; the last repeats",
    ),
    Setting::open(
        "CRON_RETENTION",
        "0 17 * * * *",
        "When what is older than the retention is deleted, six-field cron in UTC",
    ),
    Setting::open("RETENTION_EVENTS", "30d", "How long events are kept, and what a receiver missed of them"),
    Setting::open("RETENTION_ATTEMPTS", "14d", "How long attempts and notices that are through are kept"),
    Setting::open(
        "RESOURCES",
        "open",
        "open, or declared to let only resources be watched and published to that PUT /v1/resources has made",
    ),
    Setting::open("HEADER_PREFIX", "Watchpost-", "What our own notification headers start with"),
    Setting::open("USER_AGENT", DEFAULT_USER_AGENT, "User-Agent of notifications"),
    Setting::open(
        "STATE_DIR",
        "",
        "Where a node keeps its identity with PostgreSQL; else $XDG_STATE_HOME/watchpost, ~/.local/state/watchpost or ./.watchpost",
    ),
    Setting::open(
        "NETWORK_FILE_SYSTEM",
        "false",
        "Whether an embedded database may lie on a network file system, where SQLite can lose data: true or false",
    ),
    Setting::open(
        "LOG",
        "info",
        "What is logged: a level, or directives such as info,watchpost::engine=debug",
    ),
    Setting::open("LOG_FORMAT", "text", "How it is logged: text or json"),
];

#[derive(Clone, Copy, Debug)]
pub enum Lookup {
    Value(&'static Setting),
    /// The path of a file that holds the value.
    FileOf(&'static Setting),
    Unknown,
}

/// What `name` (`JWT_SECRET`, `JWT_SECRET_FILE`, …) stands for.
pub fn lookup(name: &str) -> Lookup {
    let by_key = |key: &str| SETTINGS.iter().find(|setting| setting.key == key);
    if let Some(setting) = by_key(name) {
        return Lookup::Value(setting);
    }
    let of_file = name.strip_suffix(FILE_SUFFIX).and_then(by_key).filter(|setting| setting.takes_file());
    of_file.map_or(Lookup::Unknown, Lookup::FileOf)
}

/// Names that may be given, with those of secrets' files.
pub fn names() -> impl Iterator<Item = String> {
    SETTINGS.iter().flat_map(|setting| {
        let file = setting.takes_file().then(|| format!("{}{FILE_SUFFIX}", setting.key));
        std::iter::once(setting.key.to_owned()).chain(file)
    })
}

/// The known name that `name` was most likely meant to be.
pub fn nearest(name: &str) -> Option<String> {
    let distance_max = (name.len() / 3).clamp(1, 4);
    names()
        .map(|known| (distance(name, &known), known))
        .filter(|(distance, _)| *distance <= distance_max)
        .min()
        .map(|(_, known)| known)
}

pub fn variable(name: &str) -> String {
    format!("{VARIABLE_PREFIX}{name}")
}

/// Without the dashes in front.
pub fn flag(name: &str) -> String {
    // `token mint` has a `--resources` of its own.
    if name == "RESOURCES" {
        return "resources-mode".to_owned();
    }
    name.to_ascii_lowercase().replace('_', "-")
}

pub fn file_key(name: &str) -> String {
    name.to_ascii_lowercase()
}

/// `name` as it is spelled where `origin` is.
pub fn spelled_as(origin: &Origin, name: &str) -> String {
    match origin {
        Origin::Flag(_) => format!("--{}", flag(name)),
        Origin::Default | Origin::Variable(_) => variable(name),
        Origin::File { .. } => file_key(name),
    }
}

/// Levenshtein distance in bytes.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(right.bytes()) {
            let replaced = diagonal + usize::from(a != b);
            diagonal = *cell;
            *cell = replaced.min(diagonal + 1).min(before + 1);
            before = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(left.len())
}
