//! Completions for bash, zsh and fish, made of the help texts: one table of commands and options for all.

use super::help::{self, Entry};

/// Name of the file and its text, for each shell; `boards` complete `--board`.
pub fn all(boards: &[String]) -> [(&'static str, String); 3] {
    [("weir.bash", bash(boards)), ("_weir", zsh(boards)), ("weir.fish", fish(boards))]
}

/// The first sentence, without what a shell would take for its own.
fn plain(text: &str) -> String {
    let first = text.split(['.', ';', ':']).next().unwrap_or(text);
    first.replace(['\'', '"', '`', '[', ']', '\\', '$'], "")
}

fn words(entries: &[Entry]) -> String {
    let words = entries
        .iter()
        .filter_map(Entry::option)
        .flat_map(|(long, short, _)| short.map(|short| format!("-{short}")).into_iter().chain([long.to_owned()]));
    words.collect::<Vec<_>>().join(" ")
}

fn bash(boards: &[String]) -> String {
    let (weir, commands) = help::all();
    let names: Vec<&str> = commands.iter().map(|command| command.name).collect();
    let cases: String = commands
        .iter()
        .map(|command| format!("    {}) words='{}' ;;\n", command.name, words(&command.options)))
        .collect();
    format!(
        "# bash completion for weir\n_weir() {{\n  local current=${{COMP_WORDS[COMP_CWORD]}} words\n  \
         case ${{COMP_WORDS[COMP_CWORD-1]}} in\n    -b|--board) COMPREPLY=($(compgen -W '{}' -- \"$current\")); return ;;\n  esac\n  \
         if [ \"$COMP_CWORD\" -eq 1 ]; then\n    COMPREPLY=($(compgen -W '{} help {}' -- \"$current\"))\n    return\n  fi\n  \
         case ${{COMP_WORDS[1]}} in\n{cases}    help) words='{}' ;;\n  esac\n  \
         if [ \"${{current#-}}\" != \"$current\" ] || [ \"${{COMP_WORDS[1]}}\" = help ]; then\n    \
         COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n  else\n    COMPREPLY=($(compgen -f -- \"$current\"))\n  fi\n}}\n\
         complete -o filenames -F _weir weir\n",
        boards.join(" "),
        names.join(" "),
        words(&weir.options),
        names.join(" "),
    )
}

fn zsh(boards: &[String]) -> String {
    let (weir, commands) = help::all();
    let spec = |entry: &Entry| {
        let (long, short, value) = entry.option()?;
        let action = match (value, long) {
            (false, _) => String::new(),
            (true, "--board") => format!(":board:({})", boards.join(" ")),
            (true, _) => ":value:".to_owned(),
        };
        let text = plain(&entry.text);
        let mut specs = format!("        '{long}[{text}]{action}'");
        if let Some(short) = short {
            specs += &format!(" '-{short}[{text}]{action}'");
        }
        Some(specs + " \\\n")
    };
    let list: String =
        weir.commands.iter().map(|entry| format!("    '{}:{}'\n", entry.term, plain(&entry.text))).collect();
    let cases: String = commands
        .iter()
        .map(|command| {
            let specs: String = command.options.iter().filter_map(spec).collect();
            format!("    {})\n      _arguments \\\n{specs}        '*:file:_files' ;;\n", command.name)
        })
        .collect();
    format!(
        "#compdef weir\n_weir() {{\n  local -a commands\n  commands=(\n{list}    'help:This text'\n  )\n  \
         if (( CURRENT == 2 )); then\n    _describe command commands\n    return\n  fi\n  \
         local command=$words[2]\n  shift words\n  (( CURRENT-- ))\n  case $command in\n{cases}  esac\n}}\n_weir \"$@\"\n"
    )
}

fn fish(boards: &[String]) -> String {
    let (weir, commands) = help::all();
    let mut text = String::from("# fish completion for weir\n");
    for entry in &weir.commands {
        text += &format!("complete -c weir -n __fish_use_subcommand -a {} -d '{}'\n", entry.term, plain(&entry.text));
    }
    for command in &commands {
        for entry in &command.options {
            let Some((long, short, value)) = entry.option() else { continue };
            let short = short.map(|short| format!(" -s {short}")).unwrap_or_default();
            let value = match (value, long) {
                (false, _) => String::new(),
                (true, "--board") => format!(" -x -a '{}'", boards.join(" ")),
                (true, _) => " -x".to_owned(),
            };
            text += &format!(
                "complete -c weir -n '__fish_seen_subcommand_from {}' -l {}{short}{value} -d '{}'\n",
                command.name,
                long.trim_start_matches('-'),
                plain(&entry.text)
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// The shells themselves read what is made, where they are installed.
    #[test]
    fn the_shells_take_them() {
        let folder = std::env::temp_dir().join(format!("weir-completions-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for ((name, text), shell) in all(&["pi-zero".to_owned(), "pi-5".to_owned()]).iter().zip(["bash", "zsh", "fish"])
        {
            let file = folder.join(name);
            std::fs::write(&file, text).unwrap();
            match Command::new(shell).arg("-n").arg(&file).output() {
                Ok(output) => assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr)),
                Err(_) => eprintln!("skipped: no {shell} on this machine"),
            }
        }
        let script = format!(
            "source {}; COMP_WORDS=(weir plan --board pi-z); COMP_CWORD=3; _weir; echo ${{COMPREPLY[@]}}; \
             COMP_WORDS=(weir pl); COMP_CWORD=1; _weir; echo ${{COMPREPLY[@]}}; \
             COMP_WORDS=(weir plan --js); COMP_CWORD=2; _weir; echo ${{COMPREPLY[@]}}",
            folder.join("weir.bash").display()
        );
        let output = Command::new("bash").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "pi-zero\nplan\n--json\n");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
