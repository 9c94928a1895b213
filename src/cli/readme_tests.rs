//! The README names every command, and none that there is not.

use super::command;

const README: &str = include_str!("../../README.md");

/// What stands between backticks in the first column of the table of commands for a running gateway, the rows joined.
fn told() -> Vec<&'static str> {
    let (_, section) = README.split_once("## A running gateway").unwrap();
    let rows = section.lines().skip_while(|line| !line.starts_with("| ---")).skip(1);
    let first = rows.take_while(|row| row.starts_with('|')).filter_map(|row| row.split(" | ").next());
    first.flat_map(|column| column.split('`').skip(1).step_by(2)).collect()
}

/// The path of each command that asks a running gateway, as `policy shadow`, and of each that does not.
fn commands(of: &clap::Command, path: &str, running: &mut Vec<String>, others: &mut Vec<String>) {
    for one in of.get_subcommands() {
        let path = format!("{path} {}", one.get_name()).trim_start().to_owned();
        let by_socket = one.get_arguments().any(|argument| argument.get_id() == "socket");
        match (by_socket, one.has_subcommands()) {
            (true, _) => running.push(path.clone()),
            (false, false) => others.push(path.clone()),
            (false, true) => {}
        }
        commands(one, &path, running, others);
    }
}

#[test]
fn the_readme_tells_every_command_and_no_other() {
    let mut command = command();
    command.build();
    let (mut running, mut others) = (Vec::new(), Vec::new());
    commands(&command, "", &mut running, &mut others);
    let told = told();
    let words = |text: &'static str| text.trim_start_matches("gatehouse ").split(' ').collect::<Vec<_>>();
    for path in running.iter().filter(|path| !path.contains("help")) {
        let names: Vec<&str> = path.split(' ').collect();
        let begins = |text: &'static str| words(text).starts_with(&names);
        // Behind another of its kind the last word alone will do, as in `gatehouse quarantine list`, `approve`.
        let by_last = |text: &'static str| {
            words(text).first() == names.last()
                && told.iter().any(|other| words(other).first() == names.first())
        };
        assert!(told.iter().any(|text| begins(text) || by_last(text)), "the README does not tell of {path}");
    }
    for path in others.iter().filter(|path| !path.contains("help")) {
        // The demo is begun from the sources.
        let named = ["gatehouse", "cargo run --release --"].map(|program| format!("{program} {path}"));
        let known = named.iter().any(|named| README.contains(named))
            || told.iter().any(|text| text.starts_with(path));
        assert!(known, "the README does not tell of {path}");
    }
    let all: Vec<&str> = running.iter().chain(&others).flat_map(|path| path.split(' ')).collect();
    for text in told.iter().filter(|text| text.starts_with("gatehouse ")) {
        let name = words(text)[0];
        assert!(all.contains(&name), "there is no command {name}: {text}");
    }
}
