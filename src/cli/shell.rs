//! `gatehouse completions` and `gatehouse man`.

use clap_complete::Shell;

use super::{Console, Exit};

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(super) fn completions(args: &CompletionsArgs, console: &mut Console) -> Exit {
    let mut octets = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "gatehouse", &mut octets);
    console.raw(&octets);
    Exit::Done
}

pub(super) fn man(console: &mut Console) -> Exit {
    let mut octets = Vec::new();
    let whole = super::command();
    let mut rendered = clap_mangen::Man::new(whole.clone()).render(&mut octets);
    // One page: the binary, then each command in its own sections.
    for command in commands("gatehouse", &whole) {
        let page = clap_mangen::Man::new(command);
        rendered = rendered
            .and_then(|()| page.render_name_section(&mut octets))
            .and_then(|()| page.render_synopsis_section(&mut octets))
            .and_then(|()| page.render_options_section(&mut octets))
            .and_then(|()| page.render_extra_section(&mut octets));
    }
    if rendered.is_err() {
        return Exit::Fault;
    }
    console.raw(&octets);
    Exit::Done
}

/// Every command below `parent` that does something itself, under its whole name.
fn commands(name: &str, parent: &clap::Command) -> Vec<clap::Command> {
    let mut found = Vec::new();
    for command in parent.get_subcommands().filter(|command| command.get_name() != "help") {
        let whole = format!("{name} {}", command.get_name());
        if command.has_subcommands() {
            found.extend(commands(&whole, command));
        } else {
            found.push(command.clone().display_name(whole.clone()).bin_name(whole));
        }
    }
    found
}
