//! The `created_by` texts of an image's history, as BuildKit writes them.

use crate::operation::{Command, Run};

/// Of a RUN: the declared arguments, counted, then the whole command.
pub(crate) fn run(run: &Run) -> String {
    let arguments = match run.build_args.len() {
        0 => String::new(),
        count => {
            let values: Vec<String> = run
                .build_args
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            format!("|{count} {} ", values.join(" "))
        }
    };
    let command = match &run.command {
        Command::Shell(text) => format!("{} {text}", run.shell.join(" ")),
        Command::Exec(arguments) => arguments.join(" "),
    };
    format!("RUN {arguments}{command} # buildkit")
}

/// Of a list in exec form.
pub(crate) fn list(instruction: &str, arguments: &[String]) -> String {
    let quoted: Vec<String> = arguments
        .iter()
        .map(|argument| format!("{argument:?}"))
        .collect();
    format!("{instruction} [{}]", quoted.join(" "))
}
