//! Settings as command-line flags, made from the table. Commands take them with `#[command(flatten)]`.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::LazyLock};

use clap::{Arg, ArgMatches, Command, error::Result, value_parser};

use super::table::{self, CONFIG_FILE_KEY, FILE_SUFFIX, SETTINGS};

const HEADING: &str = "Settings";

/// The settings that were given as flags, by key. Debug shows their names only: some are secrets.
#[derive(Clone, Default)]
pub struct SettingsArgs {
    pub(super) values: BTreeMap<String, String>,
    pub(super) config_file: Option<PathBuf>,
}

impl SettingsArgs {
    /// As if `--config` had been given.
    #[must_use]
    pub fn with_config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.config_file = Some(path.into());
        self
    }
}

/// Pairs of key (`LISTEN`, `JWT_SECRET_FILE`) and value; of one key the last counts.
impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for SettingsArgs {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let values = pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Self { values, config_file: None }
    }
}

impl fmt::Debug for SettingsArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&String> = self.values.keys().collect();
        f.debug_struct("SettingsArgs")
            .field("keys", &keys)
            .field("config_file", &self.config_file)
            .finish_non_exhaustive()
    }
}

/// One flag. Lives in a static because clap keeps names by reference.
struct Flag {
    /// The key: in capitals, so that it meets no argument of a command's own.
    id: String,
    long: String,
    help: String,
    value_name: &'static str,
}

static FLAGS: LazyLock<Vec<Flag>> = LazyLock::new(|| {
    let mut flags = Vec::new();
    for setting in &SETTINGS {
        let default = if setting.default.is_empty() {
            String::new()
        } else {
            format!(" [default: {}]", setting.default)
        };
        flags.push(Flag {
            id: setting.key.to_owned(),
            long: table::flag(setting.key),
            help: format!("{} [env: {}]{default}", setting.help, table::variable(setting.key)),
            value_name: "VALUE",
        });
        if setting.takes_file() {
            let id = format!("{}{FILE_SUFFIX}", setting.key);
            flags.push(Flag {
                long: table::flag(&id),
                help: format!(
                    "File that holds --{} [env: {}]",
                    table::flag(setting.key),
                    table::variable(&id)
                ),
                value_name: "PATH",
                id,
            });
        }
    }
    flags
});

static CONFIG_HELP: LazyLock<String> = LazyLock::new(|| {
    format!("Settings file, TOML; watchpost.toml where it exists [env: {}]", table::variable(CONFIG_FILE_KEY))
});

fn argument(id: &'static str, long: &'static str, help: &'static str, value_name: &'static str) -> Arg {
    Arg::new(id).long(long).help(help).value_name(value_name).help_heading(HEADING)
}

impl clap::Args for SettingsArgs {
    fn augment_args(command: Command) -> Command {
        let config = argument(CONFIG_FILE_KEY, "config", CONFIG_HELP.as_str(), "PATH")
            .value_parser(value_parser!(PathBuf));
        command
            .arg(config)
            .args(FLAGS.iter().map(|flag| argument(&flag.id, &flag.long, &flag.help, flag.value_name)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for SettingsArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<()> {
        for flag in FLAGS.iter() {
            if let Ok(Some(value)) = matches.try_get_one::<String>(&flag.id) {
                self.values.insert(flag.id.clone(), value.clone());
            }
        }
        if let Ok(Some(path)) = matches.try_get_one::<PathBuf>(CONFIG_FILE_KEY) {
            self.config_file = Some(path.clone());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        settings: SettingsArgs,
        /// An argument of the command's own after the settings keeps its own heading.
        #[arg(long)]
        project: Option<String>,
    }

    #[test]
    fn every_setting_is_a_flag_with_its_variable_and_default_in_the_help() {
        Program::command().debug_assert();
        let help = Program::command().term_width(1_000).render_long_help().to_string();
        for setting in &SETTINGS {
            let line =
                help.split("\n\n").find(|line| line.contains(&format!("--{} <", table::flag(setting.key))));
            let line = line.unwrap_or_else(|| panic!("{} is missing", setting.key));
            assert!(line.contains(&format!("[env: {}]", table::variable(setting.key))), "{line}");
            assert!(line.contains(setting.default), "{line}");
        }
        assert!(help.contains("Settings:") && help.contains("--config <PATH>"), "{help}");
        let (options, _) = help.split_once("Settings:").unwrap();
        assert!(options.contains("--project"), "{help}");
    }

    #[test]
    fn flags_are_kept_by_key() {
        let program =
            Program::parse_from(["watchpost", "--listen", ":0", "--jwt-secret-file=x", "--config", "w.toml"]);
        let expected =
            [("LISTEN".to_owned(), ":0".to_owned()), ("JWT_SECRET_FILE".to_owned(), "x".to_owned())];
        assert_eq!(program.settings.values, BTreeMap::from(expected));
        assert_eq!(program.settings.config_file, Some(PathBuf::from("w.toml")));
        assert_eq!(program.project, None);
    }

    #[test]
    fn debug_shows_no_value() {
        let args = SettingsArgs::from_iter([("JWT_SECRET", "hunter2")]);
        assert!(!format!("{args:?}").contains("hunter2"));
    }
}
