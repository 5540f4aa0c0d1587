//! The gateway's own help texts, taken apart: what the manual page and the completions are made of.

#[path = "../../../src/shell/cli/help.rs"]
mod texts;

/// The help of the program or of one of its commands.
pub struct Help {
    /// The command's name; empty for the program itself.
    pub name: &'static str,
    /// What stands before the usage.
    pub intro: String,
    /// The usage line, without the word.
    pub usage: String,
    /// The options.
    pub options: Vec<Entry>,
    /// The commands (of the program itself).
    pub commands: Vec<Entry>,
    /// What follows the usage and is neither: title (empty for prose) and lines.
    pub rest: Vec<(String, Vec<String>)>,
}

/// A line of a list: what is written, and what it means.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// `-b, --board NAME`, or `check`.
    pub term: String,
    /// One line.
    pub text: String,
}

impl Entry {
    /// `--board`, `-b` and whether a value follows.
    pub fn option(&self) -> Option<(&str, Option<char>, bool)> {
        let long = self.term.split([' ', ',']).find(|word| word.starts_with("--"))?;
        let short = self.term.strip_prefix('-').and_then(|rest| rest.chars().next()).filter(|c| *c != '-');
        Some((long, short, self.term.ends_with(|c: char| c.is_ascii_uppercase())))
    }
}

/// The program's help, and that of each command.
pub fn all() -> (Help, Vec<Help>) {
    (Help::parse("", texts::WEIR), texts::COMMANDS.iter().map(|(name, text)| Help::parse(name, text)).collect())
}

impl Help {
    fn parse(name: &'static str, text: &str) -> Self {
        let mut help = Self {
            name,
            intro: String::new(),
            usage: String::new(),
            options: Vec::new(),
            commands: Vec::new(),
            rest: Vec::new(),
        };
        for block in text.split("\n\n") {
            let block = block.trim_matches('\n');
            if let Some(usage) = block.strip_prefix("Usage: ") {
                usage.clone_into(&mut help.usage);
                continue;
            }
            let (first, lines) = block.split_once('\n').unwrap_or((block, ""));
            let lines = || lines.lines().map(str::to_owned).collect::<Vec<_>>();
            match first.strip_suffix(':').filter(|title| !title.contains(' ')) {
                Some("Options") => help.options = entries(&lines()),
                Some("Commands") if name.is_empty() => help.commands = entries(&lines()),
                Some(title) => help.rest.push((title.to_owned(), lines())),
                None if help.usage.is_empty() => help.intro += &(joined(block) + "\n"),
                None => help.rest.push((String::new(), vec![joined(block)])),
            }
        }
        help.intro = help.intro.trim_end().to_owned();
        help
    }
}

fn joined(block: &str) -> String {
    block.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

/// Lines of two columns, which two blanks or more part; a line that begins in the second one goes on.
fn entries(lines: &[String]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for line in lines {
        let text = line.trim_start();
        let deep = line.len() - text.len();
        match (text.split_once("  "), entries.last_mut()) {
            (None, Some(last)) if deep > 6 => last.text += &format!(" {text}"),
            (Some((term, meaning)), _) => {
                entries.push(Entry { term: term.to_owned(), text: meaning.trim_start().to_owned() });
            }
            (None, _) => entries.push(Entry { term: text.to_owned(), text: String::new() }),
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_listed_and_every_option_has_a_meaning() {
        let (weir, commands) = all();
        assert_eq!(weir.commands.len(), commands.len());
        for command in &commands {
            assert!(weir.commands.iter().any(|entry| entry.term == command.name), "{}", command.name);
            assert!(command.usage.starts_with(&format!("weir {}", command.name)), "{}", command.usage);
            assert!(!command.intro.is_empty() && !command.options.is_empty(), "{}", command.name);
            for option in &command.options {
                let (long, ..) = option.option().unwrap_or_else(|| panic!("{}: {option:?}", command.name));
                assert!(long.len() > 3 && !option.text.is_empty(), "{}: {option:?}", command.name);
            }
        }
    }

    #[test]
    fn an_option_is_taken_apart() {
        let lines =
            ["  -b, --board NAME    One that is", "                      known", "      --json          As JSON"];
        let entries = entries(&lines.map(str::to_owned));
        assert_eq!(entries[0].text, "One that is known");
        assert_eq!(entries[0].option(), Some(("--board", Some('b'), true)));
        assert_eq!(entries[1].option(), Some(("--json", None, false)));
    }
}
