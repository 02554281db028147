//! From flags, environment, file and defaults to one text per setting, and where it came from.
//!
//! Pure but for the reader of files that it is handed.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use super::{
    error::{Origin, Problem},
    flags::SettingsArgs,
    table::{self, CONFIG_FILE_KEY, Lookup, SETTINGS, VARIABLE_PREFIX},
};

/// Everything a configuration is made from.
pub(super) struct Inputs<'a> {
    pub flags: &'a SettingsArgs,
    /// Replace defaults of the table, by key.
    pub defaults: &'a [(&'a str, &'a str)],
    pub environment: &'a [(OsString, OsString)],
    /// The settings file and what it says.
    pub file: Option<(PathBuf, String)>,
    pub read: &'a dyn Fn(&Path) -> io::Result<String>,
}

#[derive(Debug)]
pub(super) struct Found {
    pub text: String,
    pub origin: Origin,
}

/// By key. A setting is missing only where its value could not be read, which is a [`Problem`] by then.
pub(super) type Texts = BTreeMap<&'static str, Found>;

/// One value as it was given, under a name that may be unknown.
struct Entry {
    /// In the spelling of the table.
    name: String,
    origin: Origin,
    /// Or why it cannot be a value.
    value: Result<String, String>,
}

struct Chosen {
    text: String,
    origin: Origin,
    /// `text` is the path of a file that holds the value.
    is_path: bool,
}

pub(super) fn resolve(inputs: &Inputs<'_>, problems: &mut Vec<Problem>) -> Texts {
    let mut chosen = BTreeMap::new();
    let file = inputs.file.as_ref().map_or_else(Vec::new, |(path, text)| of_file(path, text, problems));
    // Later layers win.
    for layer in [of_defaults(inputs), file, of_environment(inputs), of_flags(inputs)] {
        apply(layer, &mut chosen, problems);
    }

    let mut texts = Texts::new();
    for (key, Chosen { text, origin, is_path }) in chosen {
        if !is_path {
            texts.insert(key, Found { text, origin });
            continue;
        }
        match (inputs.read)(Path::new(&text)) {
            Ok(content) => {
                let content = content.strip_suffix('\n').unwrap_or(&content);
                let content = content.strip_suffix('\r').unwrap_or(content);
                if content.is_empty() {
                    problems.push(Problem::Invalid { key, origin, reason: format!("{text} is empty") });
                } else {
                    texts.insert(key, Found { text: content.to_owned(), origin });
                }
            }
            Err(error) => problems.push(Problem::Invalid { key, origin, reason: format!("{text}: {error}") }),
        }
    }
    texts
}

/// Puts one layer over those below. Within a layer a secret and its file exclude each other.
fn apply(layer: Vec<Entry>, chosen: &mut BTreeMap<&'static str, Chosen>, problems: &mut Vec<Problem>) {
    let mut seen: BTreeMap<&'static str, Origin> = BTreeMap::new();
    for Entry { name, origin, value } in layer {
        let (setting, is_path) = match table::lookup(&name) {
            Lookup::Value(setting) => (setting, false),
            Lookup::FileOf(setting) => (setting, true),
            Lookup::Unknown => {
                problems.push(unknown(&name, origin));
                continue;
            }
        };
        // A default of the table is replaced, not given twice.
        if origin != Origin::Default
            && let Some(first) = seen.insert(setting.key, origin.clone())
        {
            chosen.remove(setting.key);
            problems.push(Problem::Twice { first, second: origin });
            continue;
        }
        match value {
            Ok(text) => {
                chosen.insert(setting.key, Chosen { text, origin, is_path });
            }
            Err(reason) => problems.push(Problem::Invalid { key: setting.key, origin, reason }),
        }
    }
}

fn unknown(name: &str, origin: Origin) -> Problem {
    let nearest = table::nearest(name).map(|known| table::spelled_as(&origin, &known));
    Problem::Unknown { origin, nearest }
}

fn of_defaults(inputs: &Inputs<'_>) -> Vec<Entry> {
    let entry =
        |key: &str, value: String| Entry { name: key.to_owned(), origin: Origin::Default, value: Ok(value) };
    let mut entries: Vec<Entry> = SETTINGS
        .iter()
        .map(|setting| match setting.key {
            "STATE_DIR" => entry(setting.key, default_state_dir(inputs.environment)),
            key => entry(key, setting.default.to_owned()),
        })
        .collect();
    entries.extend(inputs.defaults.iter().map(|(key, value)| entry(key, (*value).to_owned())));
    entries
}

fn of_flags(inputs: &Inputs<'_>) -> Vec<Entry> {
    let entry = |(name, value): (&String, &String)| Entry {
        name: name.clone(),
        origin: Origin::Flag(format!("--{}", table::flag(name))),
        value: Ok(value.clone()),
    };
    inputs.flags.values.iter().map(entry).collect()
}

/// An empty variable counts as unset, whatever its name.
fn of_environment(inputs: &Inputs<'_>) -> Vec<Entry> {
    let entry = |(variable, value): &(OsString, OsString)| {
        let variable = variable.to_string_lossy();
        let name = variable.strip_prefix(VARIABLE_PREFIX)?;
        let text = value.to_str();
        if value.is_empty() || name == CONFIG_FILE_KEY || text.is_some_and(|text| is_service_link(name, text))
        {
            return None;
        }
        Some(Entry {
            name: name.to_owned(),
            origin: Origin::Variable(variable.to_string()),
            value: text.map(str::to_owned).ok_or_else(|| "not UTF-8".to_owned()),
        })
    };
    inputs.environment.iter().filter_map(entry).collect()
}

/// Kubernetes gives every pod beside a service named `watchpost` (or `watchpost-…`) variables such as
/// `WATCHPOST_SERVICE_HOST` and `WATCHPOST_PORT=tcp://…`. Nobody wrote those, so nobody is told about them.
fn is_service_link(name: &str, value: &str) -> bool {
    let words: Vec<&str> = name.split('_').collect();
    let is_protocol = |word: &&str| matches!(*word, "TCP" | "UDP" | "SCTP");
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    match words.as_slice() {
        [.., "SERVICE", "HOST" | "PORT"] => true,
        [.., "PORT"] if value.contains("://") => true,
        [.., "PORT", number, protocol] | [.., "PORT", number, protocol, "PROTO" | "PORT" | "ADDR"]
            if is_number(number) && is_protocol(protocol) =>
        {
            true
        }
        words => words.windows(2).any(|pair| pair == ["SERVICE", "PORT"]) && is_number(value),
    }
}

fn of_file(path: &Path, text: &str, problems: &mut Vec<Problem>) -> Vec<Entry> {
    let table = match text.parse::<toml::Table>() {
        Ok(table) => table,
        Err(error) => {
            // Not the error's own display: it quotes the line, which may hold a secret.
            let before = error.span().and_then(|span| text.get(..span.start));
            let reason = match before.map(|before| before.matches('\n').count() + 1) {
                Some(line) => format!("line {line}: {}", error.message()),
                None => error.message().to_owned(),
            };
            problems.push(Problem::File { path: path.to_owned(), reason });
            return Vec::new();
        }
    };
    let mut entries = Vec::new();
    for (key, value) in table {
        let origin = Origin::File { path: path.to_owned(), key: key.clone() };
        let name = key.to_ascii_uppercase();
        if key == table::file_key(&key) {
            entries.push(Entry { name, origin, value: text_of(&value) });
        } else {
            problems.push(unknown(&name, origin));
        }
    }
    entries
}

/// A value of the file as a flag or variable would carry it; lists are separated by commas.
fn text_of(value: &toml::Value) -> Result<String, String> {
    match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Boolean(value) => Ok(value.to_string()),
        toml::Value::Array(items) => {
            let is_scalar = |item: &toml::Value| item.is_str() || item.is_integer();
            if !items.iter().all(is_scalar) {
                return Err("a list may hold texts and whole numbers only".to_owned());
            }
            Ok(items.iter().map(text_of).collect::<Result<Vec<_>, _>>()?.join(","))
        }
        other => Err(format!("a {} is not a value: write it as text", other.type_str())),
    }
}

/// The XDG base directory for state; its specification has relative paths ignored.
fn default_state_dir(environment: &[(OsString, OsString)]) -> String {
    let absolute = |name: &str| {
        let (_, value) = environment.iter().find(|(variable, _)| variable == name)?;
        value.to_str().filter(|path| Path::new(path).is_absolute())
    };
    let path = absolute("XDG_STATE_HOME")
        .map(|base| Path::new(base).join("watchpost"))
        .or_else(|| absolute("HOME").map(|home| Path::new(home).join(".local/state/watchpost")));
    path.and_then(|path| path.to_str().map(str::to_owned)).unwrap_or_else(|| "./.watchpost".to_owned())
}
