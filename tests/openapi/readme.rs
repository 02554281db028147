//! The README's table of settings against the one table that flags, variables and files come from.

use watchpost::config::SETTINGS;

const README: &str = include_str!("../../README.md");

#[test]
fn every_setting_has_its_row() {
    let rows: Vec<&str> = README.lines().filter(|line| line.starts_with("| `WATCHPOST_")).collect();
    let expected: Vec<String> = SETTINGS.iter().map(row).collect();
    assert_eq!(rows, expected);
}

fn row(setting: &watchpost::config::Setting) -> String {
    let default = if setting.default.is_empty() { String::new() } else { format!("`{}`", setting.default) };
    format!("| `WATCHPOST_{}` | {default} | {} |", setting.key, setting.help)
}
