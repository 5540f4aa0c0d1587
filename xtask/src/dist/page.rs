//! The manual page `weir(1)`, made of the help texts.

use super::help::{self, Entry, Help};

/// The page as roff; `date` as `2026-01-31`.
pub fn manual(version: &str, date: &str) -> String {
    let (weir, commands) = help::all();
    let (name, intro) = weir.intro.split_once(". ").unwrap_or((&weir.intro, ""));
    let what = name.strip_prefix("weir: ").unwrap_or(name);
    let mut page = format!(".TH WEIR 1 {date} \"weir {version}\"\n.SH NAME\nweir \\- {}\n", escaped(what));
    page += &format!(".SH SYNOPSIS\n.B {}\n.SH DESCRIPTION\n{}\n", escaped(weir.usage.trim()), line(intro));
    page += ".SH OPTIONS\n";
    list(&mut page, &weir.options);
    page += ".SH COMMANDS\n";
    for command in &commands {
        page += &format!(".SS {}\n{}\n.PP\n.B {}\n", command.name, line(&command.intro), escaped(&command.usage));
        list(&mut page, &command.options);
        rest(&mut page, command, ".PP\n.I ", "\n");
    }
    rest(&mut page, &weir, ".SH ", "\n");
    page += ".SH FILES\n.TP\n.I /etc/weir/gateway.toml\nThe configuration; every key stands in it.\n\
             .TP\n.I /usr/share/weir/functions\nExample functions.\n\
             .TP\n.I /usr/share/weir/example.toml\nA site with all of them.\n\
             .TP\n.I /var/lib/weir\nJournal, lanes and state.\n";
    page += ".SH SEE ALSO\n.BR systemctl (1),\n.BR journalctl (1),\n.BR mosquitto (8)\n";
    page
}

fn list(page: &mut String, entries: &[Entry]) {
    for entry in entries {
        *page += &format!(".TP\n.B {}\n{}\n", escaped(&entry.term), line(&entry.text));
    }
}

fn rest(page: &mut String, help: &Help, before: &str, after: &str) {
    for (title, lines) in &help.rest {
        if title.is_empty() {
            *page += &format!(".PP\n{}\n", lines.iter().map(|text| line(text)).collect::<Vec<_>>().join("\n"));
            continue;
        }
        *page += &format!(
            "{before}{}{after}.nf\n",
            if before.starts_with(".SH") { title.to_uppercase() } else { title.clone() }
        );
        lines.iter().for_each(|text| *page += &(line(text) + "\n"));
        *page += ".fi\n";
    }
}

/// Text on a line of its own: no request.
fn line(text: &str) -> String {
    let text = escaped(text);
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('`', "").replace('…', "...")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_command_and_no_stray_request() {
        let page = manual("1.2.3", "2026-01-31");
        for want in [
            "weir \\- functions at the edge\n",
            ".SS check\n",
            ".SS plan\n",
            "\\-b, \\-\\-board NAME\n",
            ".SH EXAMPLES\n",
        ] {
            assert!(page.contains(want), "{want}\n{page}");
        }
        let known = [".TH", ".SH", ".SS", ".B", ".BR", ".I", ".TP", ".PP", ".nf", ".fi"];
        for request in page.lines().filter(|line| line.starts_with('.')) {
            assert!(known.contains(&request.split(' ').next().unwrap_or_default()), "{request}");
        }
    }
}
