//! A page of the protocol: services, messages and enums with their comments.

/// What is read of a protocol file so far.
#[derive(Default)]
struct Page {
    text: String,
    /// The names of the blocks that are open; a block without a name of its own has an empty one.
    open: Vec<String>,
    comment: Vec<String>,
}

/// The services, messages and enums of a protocol file, with their comments.
pub(crate) fn page(source: &str) -> String {
    let mut page = Page::default();
    let mut statement = String::new();
    for line in source.lines() {
        let (code, comment) = line.split_once("//").map_or((line, None), |(a, b)| (a, Some(b)));
        let code = code.trim();
        match comment.map(str::trim) {
            Some(text) if text.starts_with("buf:") => {}
            Some(text) => page.comment.push(text.to_owned()),
            None if code.is_empty() => page.comment.clear(),
            None => {}
        }
        statement = format!("{statement} {code}").trim().to_owned();
        if code.ends_with(['{', ';', '}']) {
            page.take(&std::mem::take(&mut statement));
        }
    }
    page.text
}

impl Page {
    /// A statement: to its semicolon, or the beginning or the end of a block.
    fn take(&mut self, whole: &str) {
        let mut words = whole.split([' ', '{', ';', '}']).filter(|it| !it.is_empty());
        match (words.next(), words.next()) {
            (Some(kind @ ("service" | "message" | "enum")), Some(name)) if whole.contains('{') => {
                self.begin(kind, name);
            }
            (Some("oneof"), _) => {
                self.open.push(String::new());
                self.comment.clear();
            }
            (Some("rpc"), _) => self.call(whole),
            (Some("syntax" | "package" | "import" | "option" | "reserved"), _) => {
                self.comment.clear();
                return;
            }
            (Some(_), _) => self.field(whole),
            (None, _) => self.comment.clear(),
        }
        if whole.ends_with('}') {
            self.open.pop();
        }
    }

    fn begin(&mut self, kind: &str, name: &str) {
        self.open.push(name.to_owned());
        let path = self.open.iter().filter(|it| !it.is_empty()).cloned().collect::<Vec<_>>();
        let about = self.said();
        let about = if about.is_empty() { about } else { format!("{about}\n\n") };
        let head = match kind {
            "service" => "| call | takes | gives | |\n|---|---|---|---|\n",
            "message" => "| field | type | |\n|---|---|---|\n",
            _ => "| value | |\n|---|---|\n",
        };
        self.text += &format!("\n### {kind} {}\n\n{about}{head}", path.join("."));
    }

    fn call(&mut self, whole: &str) {
        let of = |part: Option<&str>| {
            part.and_then(|part| part.split(')').next()).unwrap_or_default().trim().to_owned()
        };
        let mut parts = whole.trim_start_matches("rpc ").split('(');
        let (name, takes) = (of(parts.next()), of(parts.next()));
        let gives = of(parts.next());
        let said = self.said();
        self.text += &format!("| `{name}` | `{takes}` | `{gives}` | {said} |\n");
        if whole.ends_with('{') {
            self.open.push(String::new());
        }
    }

    fn field(&mut self, whole: &str) {
        let field = whole.split('=').next().unwrap_or_default().trim();
        let (kind, name) = field.rsplit_once(' ').unwrap_or(("", field));
        let kind = if kind.is_empty() { String::new() } else { format!(" `{kind}` |") };
        let said = self.said();
        self.text += &format!("| `{name}` |{kind} {said} |\n");
    }

    /// What the comment says, as a paragraph or a cell of a table.
    fn said(&mut self) -> String {
        self.comment.drain(..).collect::<Vec<_>>().join(" ").replace('|', "\\|")
    }
}
