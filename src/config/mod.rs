//! What an operator decided: read once at start from flags, environment, settings file and defaults, in this
//! order of precedence, checked as a whole and handed on as typed values.
//!
//! The only reader of the environment. It opens no listener, no store and no file other than the settings file
//! and those that hold secrets. Every problem is reported at once, and each names its key; secrets appear in
//! no error, no debug output and not in [`Config::describe`].

mod error;
mod file;
mod flags;
mod issuer;
mod proxy;
mod secret;
mod sources;
mod table;
mod values;

#[cfg(test)]
mod tests;

use std::{ffi::OsString, net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

pub use error::{ConfigError, Origin, Problem};
pub use flags::SettingsArgs;
pub use issuer::IssuerConfig;
pub use secret::{MasterKey, MasterKeyError, Secret};
pub use table::{SETTINGS, Secrecy, Setting};
use url::Url;
pub use values::{Auth, Database, LogFormat, Resources};

use self::{
    file::{read_bounded, settings_file},
    sources::{Inputs, Texts},
};
use crate::domain::{
    channel::RateLimit,
    claim::Reminders,
    consent::Verification,
    duration::DURATION_MAX,
    egress::{AllowRule, Ports},
    egress_proxy::EgressProxy,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

#[derive(Clone, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    /// A listener of its own for the probes.
    pub ops_listen: Option<SocketAddr>,
    pub database: Database,
    /// Absent only while listening on loopback: then the address that was bound stands in for it.
    pub public_url: Option<Url>,
    /// The public URL stands in for it.
    pub api_url: Option<Url>,
    /// Starts with a slash and does not end with one.
    pub native_prefix: String,
    /// Absent only with an embedded database, beside which it is then kept.
    pub master_key: Option<MasterKey>,
    /// Networks whose `X-Forwarded-For` and `Forwarded` count.
    pub trusted_proxies: Vec<AllowRule>,
    pub auth: Auth,
    pub jwt_secret: Option<Secret>,
    pub issuer: Option<IssuerConfig>,
    pub authorize_url: Option<Url>,
    /// How fast one caller may ask.
    pub request_rate: Option<RateLimit>,
    pub egress: EgressConfig,
    pub retry: RetryConfig,
    pub attempt_timeout: Duration,
    pub host_window: u32,
    /// Requests a second to one destination over all projects, where there is a limit.
    pub destination_rate: Option<NonZeroU32>,
    /// Whose receivers are asked before anything is sent to them.
    pub verification: Verification,
    pub ttl: TtlConfig,
    /// When a receiver is reminded of what it has to claim, since there is something.
    pub claim_reminders: Reminders,
    pub cron: CronConfig,
    pub retention: RetentionConfig,
    pub resources: Resources,
    /// Ends with `-`.
    pub header_prefix: String,
    pub user_agent: String,
    pub state_dir: PathBuf,
    /// Whether an embedded database may lie where SQLite's locks are not reliable.
    pub network_file_system: bool,
    /// Directives of `tracing_subscriber::EnvFilter`.
    pub log: String,
    pub log_format: LogFormat,
    described: Vec<Described>,
}

/// What is opened in the egress policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressConfig {
    pub allow: Vec<AllowRule>,
    /// The rest is about public addresses.
    pub http: bool,
    pub ports: Ports,
    pub ip_literals: bool,
    pub ca_file: Option<PathBuf>,
    /// None: whomever the system asks.
    pub name_servers: Vec<SocketAddr>,
    pub proxy: Option<EgressProxy>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryConfig {
    /// Never empty. The first entry is the delay of a first attempt, the last repeats.
    pub schedule: Vec<Duration>,
    pub window: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TtlConfig {
    pub default: Duration,
    /// Not below `default`.
    pub max: Duration,
}

/// Six-field cron expressions, in UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CronConfig {
    pub expiry: String,
    pub retry: String,
    pub renewal: String,
    pub claims: String,
    pub retention: String,
}

/// How long things are kept, by their age alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionConfig {
    pub events: Duration,
    pub attempts: Duration,
}

/// A setting as `watchpost config` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// `LISTEN`
    pub key: &'static str,
    /// As it was given, empty where it is not; a secret that is set shows as `(set)`.
    pub value: String,
    pub origin: Origin,
}

impl Config {
    /// Reads flags, the environment of this process and the settings file.
    pub fn load(flags: &SettingsArgs) -> Result<Self, ConfigError> {
        Self::load_with_defaults(flags, &[])
    }

    /// As [`Config::load`], with other defaults for some keys. They still yield to whatever the user gave.
    pub fn load_with_defaults(flags: &SettingsArgs, defaults: &[(&str, &str)]) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let environment = process_environment();
        let file = settings_file(flags, &environment, &mut problems);
        let inputs = Inputs { flags, defaults, environment: &environment, file, read: &read_bounded };
        Self::from_inputs(&inputs, problems)
    }

    /// Of `pairs` and defaults alone: neither environment nor settings file count.
    pub fn from_pairs(pairs: &[(&str, &str)]) -> Result<Self, ConfigError> {
        let flags = pairs.iter().copied().collect();
        let inputs =
            Inputs { flags: &flags, defaults: &[], environment: &[], file: None, read: &read_bounded };
        Self::from_inputs(&inputs, Vec::new())
    }

    /// All settings in the order of the table, with secrets hidden.
    pub fn describe(&self) -> &[Described] {
        &self.described
    }

    fn from_inputs(inputs: &Inputs<'_>, mut problems: Vec<Problem>) -> Result<Self, ConfigError> {
        let texts = sources::resolve(inputs, &mut problems);
        let config = Reader { texts: &texts, problems: &mut problems }.config();
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(ConfigError { problems }),
        }
    }
}

/// Turns texts into values and collects what is wrong with them.
struct Reader<'a> {
    texts: &'a Texts,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    /// None where there are problems, but not wherever there are.
    fn config(mut self) -> Option<Config> {
        // Every value is read before the first `?`, so that all problems are found.
        let listen = self.required("LISTEN", values::listen);
        let ops_listen = self.optional("OPS_LISTEN", values::listen);
        let database = self.required("DATABASE_URL", values::database);
        let public_url = self.optional("PUBLIC_URL", values::base_url);
        let api_url = self.optional("API_URL", values::base_url);
        let native_prefix = self.required("NATIVE_PREFIX", values::native_prefix);
        let master_key = self.optional("MASTER_KEY", values::master_key);
        let trusted_proxies = self.optional("TRUSTED_PROXIES", values::networks);
        let auth = self.required("AUTH", values::auth);
        let jwt_secret = self.optional("JWT_SECRET", values::jwt_secret);
        let issuer = self.issuer();
        let authorize_url = self.optional("AUTHORIZE_URL", values::service_url);
        let request_rate = self.required("REQUEST_RATE", values::request_rate);
        let egress = self.egress();
        let retry_schedule = self.required("RETRY_SCHEDULE", values::schedule);
        let retry_window = self.duration("RETRY_WINDOW", MINUTE, DURATION_MAX);
        let attempt_timeout = self.duration("ATTEMPT_TIMEOUT", SECOND, MINUTE);
        let host_window = self.required("HOST_WINDOW", values::host_window);
        let destination_rate = self.required("DESTINATION_RATE", values::rate);
        let verification = self.required("VERIFY", |text| text.parse().map_err(as_reason));
        let ttl_default = self.duration("CHANNEL_TTL_DEFAULT", SECOND, DURATION_MAX);
        let ttl_max = self.duration("CHANNEL_TTL_MAX", SECOND, DURATION_MAX);
        let cron_expiry = self.required("CRON_EXPIRY", values::cron);
        let cron_retry = self.required("CRON_RETRY", values::cron);
        let cron_renewal = self.required("CRON_RENEWAL", values::cron);
        let cron_claims = self.required("CRON_CLAIMS", values::cron);
        let claim_reminders = self.required("CLAIM_REMINDERS", values::reminders);
        let cron_retention = self.required("CRON_RETENTION", values::cron);
        let retention_events = self.duration("RETENTION_EVENTS", MINUTE, DURATION_MAX);
        let retention_attempts = self.duration("RETENTION_ATTEMPTS", MINUTE, DURATION_MAX);
        let resources = self.required("RESOURCES", values::resources);
        let header_prefix = self.required("HEADER_PREFIX", values::header_prefix);
        let user_agent = self.required("USER_AGENT", values::user_agent);
        let state_dir = self.required("STATE_DIR", |text| Ok(PathBuf::from(text)));
        let network_file_system = self.required("NETWORK_FILE_SYSTEM", values::boolean);
        let log = self.required("LOG", values::log_filter);
        let log_format = self.required("LOG_FORMAT", values::log_format);

        if let Some(listen) = listen.filter(|listen| !values::is_loopback(listen.ip())) {
            if auth == Some(Auth::Off) {
                self.problems.push(Problem::AuthOffBeyondLoopback { listen });
            }
            if public_url == Some(None) {
                self.problems.push(Problem::PublicUrlRequired { listen });
            }
        }
        if matches!((&database, &master_key), (Some(Database::Postgres(_)), Some(None))) {
            self.problems.push(Problem::MasterKeyRequired);
        }
        if let (Some(default), Some(max)) = (ttl_default, ttl_max)
            && default > max
        {
            self.problems.push(Problem::TtlDefaultAboveMax { default, max });
        }

        Some(Config {
            listen: listen?,
            ops_listen: ops_listen?,
            database: database?,
            public_url: public_url?,
            api_url: api_url?,
            native_prefix: native_prefix?,
            master_key: master_key?,
            trusted_proxies: trusted_proxies?.unwrap_or_default(),
            auth: auth?,
            jwt_secret: jwt_secret?,
            issuer: issuer?,
            authorize_url: authorize_url?,
            request_rate: request_rate?,
            egress: egress?,
            retry: RetryConfig { schedule: retry_schedule?, window: retry_window? },
            attempt_timeout: attempt_timeout?,
            host_window: host_window?,
            destination_rate: destination_rate?,
            verification: verification?,
            ttl: TtlConfig { default: ttl_default?, max: ttl_max? },
            claim_reminders: claim_reminders?,
            cron: CronConfig {
                expiry: cron_expiry?,
                retry: cron_retry?,
                renewal: cron_renewal?,
                claims: cron_claims?,
                retention: cron_retention?,
            },
            retention: RetentionConfig { events: retention_events?, attempts: retention_attempts? },
            resources: resources?,
            header_prefix: header_prefix?,
            user_agent: user_agent?,
            state_dir: state_dir?,
            network_file_system: network_file_system?,
            log: log?,
            log_format: log_format?,
            described: self.described(),
        })
    }

    fn egress(&mut self) -> Option<EgressConfig> {
        let allow = self.optional("EGRESS_ALLOW", values::allow_rules);
        let http = self.required("EGRESS_HTTP", values::boolean);
        let ports = self.required("EGRESS_PORTS", |text| text.parse().map_err(as_reason));
        let ip_literals = self.required("EGRESS_IP_LITERALS", values::boolean);
        let ca_file = self.optional("EGRESS_CA_FILE", |text| Ok(PathBuf::from(text)));
        let name_servers = self.optional("EGRESS_DNS", values::name_servers);
        let proxy = self.optional("EGRESS_PROXY", proxy::read);
        Some(EgressConfig {
            allow: allow?.unwrap_or_default(),
            http: http?,
            ports: ports?,
            ip_literals: ip_literals?,
            ca_file: ca_file?,
            name_servers: name_servers?.unwrap_or_default(),
            proxy: proxy?,
        })
    }

    fn duration(&mut self, key: &'static str, min: Duration, max: Duration) -> Option<Duration> {
        self.required(key, |text| values::duration_within(text, min, max))
    }

    fn required<T>(&mut self, key: &'static str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let not_empty = |text: &str| if text.is_empty() { Err("is empty".to_owned()) } else { read(text) };
        self.read(key, not_empty)
    }

    /// The outer option tells whether it could be read, the inner one whether it was given.
    #[expect(clippy::option_option, reason = "could it be read, and was it given, are two questions")]
    fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Option<T>> {
        self.read(key, |text| if text.is_empty() { Ok(None) } else { read(text).map(Some) })
    }

    fn read<T>(&mut self, key: &'static str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let found = self.texts.get(key)?;
        match read(&found.text) {
            Ok(value) => Some(value),
            Err(reason) => {
                self.problems.push(Problem::Invalid { key, origin: found.origin.clone(), reason });
                None
            }
        }
    }

    fn described(&self) -> Vec<Described> {
        let describe = |setting: &Setting| {
            let found = self.texts.get(setting.key)?;
            let value = match setting.secrecy {
                Secrecy::Secret if !found.text.is_empty() => "(set)".to_owned(),
                Secrecy::Password => values::without_password(&found.text),
                Secrecy::Open | Secrecy::Secret => found.text.clone(),
            };
            Some(Described { key: setting.key, value, origin: found.origin.clone() })
        };
        SETTINGS.iter().filter_map(describe).collect()
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn process_environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os().collect()
}

fn as_reason(error: impl std::fmt::Display) -> String {
    error.to_string()
}
