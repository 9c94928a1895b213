//! All that is known of a reason stands in its table: nothing else in the sources lists reasons, or says something of all whom it
//! does not name. A reason that is new has a place in each class then, or has none because somebody thought so.

use gatehouse::reason::Reason;

use super::{code_lines, sources};

/// So many labels may stand side by side outside their table, no more: conditions of the wire and keys of limits have the same words.
const MOST: usize = 2;

#[test]
fn reasons_are_listed_in_their_table_only() {
    let mut wrong = Vec::new();
    for (path, text) in elsewhere() {
        let several = lists(&text).into_iter().filter(|(_, count)| *count > 1);
        for (line, count) in
            several.chain(lists_of_labels(&text).into_iter().filter(|(_, count)| *count > MOST))
        {
            wrong.push(format!("{path}:{line}: {count} reasons in a row"));
        }
        wrong
            .extend(wildcards(&text).into_iter().map(|line| format!("{path}:{line}: whatever other reason")));
    }
    assert!(wrong.is_empty(), "make it a class or a column of src/reason/table.rs:\n{}", wrong.join("\n"));
}

// What the test above looks for it must find.
#[test]
fn a_list_of_reasons_and_an_arm_for_all_others_are_found() {
    let list = "const ALL: [Reason; 3] = [\n    Reason::Idle,\n    Reason::Shutdown, Reason::Internal,\n];";
    assert_eq!(lists(list), [(2, 3)]);
    assert_eq!(lists("matches!(reason, Reason::Idle | Reason::Shutdown | Reason::Banned)"), [(1, 3)]);
    assert_eq!(lists("(Reason::Idle, Cause::Cut), (Reason::Shutdown, Cause::Cut)"), [(1, 1), (1, 1)]);
    assert_eq!(lists("[Some(Reason::Idle), Some(Reason::Shutdown)]"), [(1, 2)]);
    assert_eq!(lists("why == Reason::Idle || (late && end.reason == Reason::Shutdown)"), [(1, 2)]);
    assert_eq!(lists("if late { Reason::Idle } else { Reason::Shutdown }"), [(1, 1), (1, 1)]);
    assert_eq!(
        lists_of_labels("x(\"idle\");\n[\"finished\",\n \"idle\", \"shutdown\", \"other\"]"),
        [(1, 1), (2, 3)]
    );
    let arms = |last: &str| format!("match reason {{\n    Reason::Idle => {{ one() }}\n    {last}\n}}");
    for last in ["_ => two(),", "other => two(other),", "_ if three() => two(),\n    _ => four(),"] {
        assert_eq!(wildcards(&arms(last)), [1], "{last}");
        let pair = arms(last).replace("Reason::Idle =>", "(1, Some(Reason::Idle)) =>");
        assert_eq!(wildcards(&pair), [1], "{last}");
    }
    assert!(wildcards(&arms("Reason::Shutdown => two(),")).is_empty());
    assert!(wildcards("match way {\n    Way::In => Reason::Idle,\n    _ => Reason::Banned,\n}").is_empty());
    assert!(wildcards("match way {\n    Way::In if reason == Reason::Idle => 1,\n    _ => 2,\n}").is_empty());
}

// The same where the reason stands inside of something else.
#[test]
fn an_arm_for_all_other_reasons_is_found_wherever_they_are() {
    let arms =
        |first: &str, last: &str| format!("match it {{\n    {first} => one(),\n    {last} => two(),\n}}");
    for (first, last) in [
        ("Err(Reason::Idle)", "Err(reason)"),
        ("Err(reason @ Reason::Idle)", "Err(_)"),
        ("Err(Reason::Idle) | Ok(())", "Err(ref other)"),
        ("Err(Why { reason: Reason::Idle, detail })", "Err(why)"),
        ("Err(Why { reason: Reason::Idle, .. })", "Err(Why { reason, detail })"),
        ("Event::Ruled { rule, reason: Reason::Idle, .. }", "Event::Ruled { .. }"),
        ("(true, Reason::Idle)", "(false, _)"),
        ("(true, reason) if so && reason != Reason::Idle", "(true, other)"),
        ("Err(reason) if reason != Reason::Idle", "it"),
        ("Err(why) if why.reason == Reason::Idle", "Err(why)"),
    ] {
        assert_eq!(wildcards(&arms(first, last)), [1], "{first}, {last}");
    }
    for (first, last) in [
        ("Err(Reason::Idle)", "Ok(it)"),
        ("Err(Reason::Idle)", "Err(Reason::Shutdown)"),
        ("Some((1, Reason::Idle))", "None"),
        ("Err(_late) if done", "Err(reason)"),
        ("Err(reason) if reason.is(Class::Idle)", "Err(reason)"),
    ] {
        assert!(wildcards(&arms(first, last)).is_empty(), "{first}, {last}");
    }
}

// What comes to a relay, and what it says of itself: a variant that is new must be looked at wherever they are told apart. Whoever
// passes the rest on has named nothing yet, and may.
#[test]
fn no_input_of_a_relay_and_no_event_is_passed_over_unnamed() {
    let mut wrong = Vec::new();
    for (path, text) in elsewhere() {
        let inputs = if path.contains("src/relay/") { blind(&text, "Input::") } else { Vec::new() };
        let events = if path.contains("src/run/") { blind(&text, "Event::") } else { Vec::new() };
        wrong.extend([inputs, events].concat().into_iter().map(|line| format!("{path}:{line}")));
    }
    assert!(wrong.is_empty(), "name what is passed over:\n{}", wrong.join("\n"));
}

// What the test above looks for it must find.
#[test]
fn an_arm_that_names_nothing_is_found() {
    let arms = |first: &str, last: &str| {
        format!("match (side, input) {{\n    {first} => one(),\n    {first} if so => one(),\n    {last}\n}}")
    };
    for last in
        ["_ => {}", "(_, _) => {}", "(Side::Near, _) => {}", "_ if late => {}\n    input => two(input),"]
    {
        assert_eq!(blind(&arms("(_, Input::Drain)", last), "Input::"), [1], "{last}");
        assert!(blind(&arms("(_, initiating::Input::End)", last), "Input::").is_empty(), "{last}");
    }
    for last in ["(_, Input::Yield) => {}", "(side, input) => two(side, input),", "(_, of_leg!()) => {}"] {
        assert!(blind(&arms("(_, Input::Drain)", last), "Input::").is_empty(), "{last}");
    }
}

/// The sources without the rooms of the reasons themselves, comments taken out.
fn elsewhere() -> Vec<(String, String)> {
    let all = sources().into_iter().map(|(path, text)| {
        let mut lines = vec![""; text.lines().count()];
        for (number, line) in code_lines(&text) {
            if let Some(place) = lines.get_mut(number - 1) {
                *place = line;
            }
        }
        (path.display().to_string(), lines.join("\n"))
    });
    all.filter(|(path, _)| !path.contains("src/reason")).collect()
}

/// Where reasons stand side by side, with nothing between them but a comma or a bar, what wraps each, or what is compared with the
/// next one; and how many.
fn lists(text: &str) -> Vec<(usize, usize)> {
    const WORD: &str = "Reason::";
    let ends = |at: usize| {
        let name = &text[at + WORD.len()..];
        at + WORD.len() + name.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(name.len())
    };
    let places = text.match_indices(WORD).map(|(at, _)| (at, ends(at))).collect();
    side_by_side(text, places, |between| {
        let plain =
            ["Some(", "Err(", "Ok("].iter().fold(between.to_owned(), |text, word| text.replace(word, ""));
        let compared = plain.contains("||")
            && (plain.ends_with("== ") || plain.ends_with("==\n"))
            && plain.chars().all(|c| c.is_alphanumeric() || c.is_whitespace() || "|&()=._!".contains(c));
        compared || plain.chars().all(|c| c.is_whitespace() || ",|)&".contains(c))
    })
}

/// The same of their labels.
fn lists_of_labels(text: &str) -> Vec<(usize, usize)> {
    let labels = Reason::ALL.iter().map(|reason| format!("\"{}\"", reason.label()));
    let places =
        |label: String| text.match_indices(&label).map(|(at, it)| (at, at + it.len())).collect::<Vec<_>>();
    let mut all: Vec<_> = labels.flat_map(places).collect();
    all.sort_unstable();
    side_by_side(text, all, |between| between.chars().all(|c| c.is_whitespace() || c == ',' || c == '|'))
}

/// Where these stand side by side, and how many.
fn side_by_side(
    text: &str,
    places: Vec<(usize, usize)>,
    joins: impl Fn(&str) -> bool,
) -> Vec<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    let mut end = None;
    for (at, behind) in places {
        let beside = end.is_some_and(|end| at >= end && joins(&text[end..at]));
        match found.last_mut().filter(|_| beside) {
            Some((_, count)) => *count += 1,
            None => found.push((line_of(text, at), 1)),
        }
        end = Some(behind);
    }
    found
}

/// Where a `match` has an arm for a reason, and another for whatever is not named in its place.
fn wildcards(text: &str) -> Vec<usize> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("match ") {
        let Some(open) = text[at..].find('{').map(|open| at + open) else { continue };
        let arms: Vec<Arm> = arms(&text[open + 1..]).iter().flat_map(|arm| Arm::read(arm)).collect();
        let named: Vec<Place> = arms.iter().flat_map(Arm::reasons).collect();
        if arms.iter().any(|arm| named.iter().any(|place| arm.takes_whatever(place))) {
            found.push(line_of(text, at));
        }
    }
    found
}

/// Where in a pattern something stands: what it is in, and its number or its name there, from outside.
type Place = Vec<(String, String)>;

/// A pattern, and what is asked besides.
struct Arm {
    pattern: Pattern,
    asked: String,
}

enum Pattern {
    /// This name, or none, for whatever it is.
    Any(String),
    Reason,
    /// Something of this name, and what it has inside; `..` for what is not told of it.
    Of(String, Vec<(String, Pattern)>),
}

impl Arm {
    fn read(arm: &str) -> Vec<Self> {
        let (patterns, asked) = arm.split_once(" if ").unwrap_or((arm, ""));
        let one = |pattern: String| Self { pattern: Pattern::read(&pattern), asked: asked.to_owned() };
        parts(patterns, '|').into_iter().map(one).collect()
    }

    /// Where it names reasons.
    fn reasons(&self) -> Vec<Place> {
        self.pattern.places(&|pattern| match pattern {
            Pattern::Reason => true,
            Pattern::Any(name) => self.asks_which(name),
            Pattern::Of(..) => false,
        })
    }

    /// Whether it asks which reason that is.
    fn asks_which(&self, name: &str) -> bool {
        let words: Vec<_> = self.asked.split(|c: char| c.is_whitespace() || "(){}*&".contains(c)).collect();
        let mut compared =
            words.windows(2).filter(|pair| pair[1] == "==" || pair[1] == "!=").map(|pair| pair[0]);
        self.asked.contains("Reason::") && compared.any(|word| word.split('.').next() == Some(name))
    }

    /// Whether it takes whatever stands in this place.
    fn takes_whatever(&self, place: &Place) -> bool {
        let mut pattern = &self.pattern;
        let mut inside = place.iter();
        loop {
            match (pattern, inside.next()) {
                (Pattern::Any(name), _) => return !self.asks_which(name),
                (Pattern::Of(name, parts), Some((of, part))) if name == of => {
                    let part =
                        [part.as_str(), ".."].iter().find_map(|key| parts.iter().find(|(k, _)| k == key));
                    let Some((_, next)) = part else { return false };
                    pattern = next;
                }
                _ => return false,
            }
        }
    }
}

impl Pattern {
    fn read(text: &str) -> Self {
        let text = text.trim().trim_start_matches(['&', ' ']);
        let text = text.strip_prefix("ref ").or_else(|| text.strip_prefix("mut ")).unwrap_or(text);
        if let Some((_, inner)) = text.split_once(" @ ").filter(|(name, _)| is_name(name)) {
            return Self::read(inner);
        }
        let open = text.find(['(', '{', '[']).filter(|_| text.ends_with([')', '}', ']']));
        let Some(open) = open else {
            return match text {
                _ if text.contains("Reason::") => Self::Reason,
                _ if is_name(text) || text == ".." => Self::Any(text.to_owned()),
                _ => Self::Of(text.to_owned(), Vec::new()),
            };
        };
        let (named, inner) = (text[open..].starts_with('{'), &text[open + 1..text.len() - 1]);
        let part = |(number, part): (usize, String)| match part.split_once(": ").filter(|_| named) {
            _ if part == ".." => (part, Self::Any("..".to_owned())),
            Some((key, inner)) => (key.to_owned(), Self::read(inner)),
            None if named => (part.clone(), Self::Any(part)),
            None => (number.to_string(), Self::read(&part)),
        };
        Self::Of(
            text[..open].trim().to_owned(),
            parts(inner, ',').into_iter().enumerate().map(part).collect(),
        )
    }

    /// Where such stand in it.
    fn places(&self, such: &impl Fn(&Pattern) -> bool) -> Vec<Place> {
        let mut found = if such(self) { vec![Vec::new()] } else { Vec::new() };
        if let Self::Of(name, parts) = self {
            for (key, part) in parts {
                let inside = part.places(such).into_iter();
                found.extend(inside.map(|place| [vec![(name.clone(), key.clone())], place].concat()));
            }
        }
        found
    }
}

fn is_name(text: &str) -> bool {
    let begins = text.starts_with(|c: char| c == '_' || c.is_ascii_lowercase());
    begins && text != "true" && text != "false" && text.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())
}

/// What stands between these, but for those inside of brackets.
fn parts(text: &str, between: char) -> Vec<String> {
    let (mut found, mut depth) = (vec![String::new()], 0_usize);
    for letter in text.chars() {
        match letter {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        match found.last_mut() {
            Some(part) if letter != between || depth > 0 => part.push(letter),
            _ => found.push(String::new()),
        }
    }
    found.into_iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

/// Where a `match` tells these apart, and has an arm that names none of them and does not even take what it is given.
fn blind(text: &str, word: &str) -> Vec<usize> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("match ") {
        let Some(open) = text[at..].find('{').map(|open| at + open) else { continue };
        let arms: Vec<String> = arms(&text[open + 1..]).iter().map(|arm| unasked(arm)).collect();
        let tells = |arm: &String| {
            arm.match_indices(word)
                .any(|(at, _)| !arm[..at].ends_with(|c: char| c == ':' || c.is_alphanumeric()))
        };
        let passes_over = |arm: &String| arm == "_" || arm.ends_with(", _)") && !arm.contains(word);
        // Who asks whether it is this one has not told them apart.
        if arms.iter().filter(|arm| tells(arm)).count() > 1 && arms.iter().any(passes_over) {
            found.push(line_of(text, at));
        }
    }
    found
}

/// A pattern without what it asks besides.
fn unasked(arm: &str) -> String {
    arm.split(" if ").next().unwrap_or_default().trim().to_owned()
}

/// The patterns of the arms of this body, with what they ask besides.
fn arms(body: &str) -> Vec<String> {
    let (mut found, mut depth, mut pattern, mut in_pattern) = (Vec::new(), 0_usize, String::new(), true);
    let mut letters = body.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '}' if depth == 0 => break,
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth = depth.saturating_sub(1),
            '=' if depth == 0 && in_pattern && letters.peek() == Some(&'>') => {
                letters.next();
                found.push(pattern.trim().to_owned());
                (pattern, in_pattern) = (String::new(), false);
                continue;
            }
            _ => {}
        }
        if in_pattern {
            pattern.push(letter);
        } else if depth == 0 && (letter == ',' || letter == '}') {
            // A block ends its arm by itself, unless something is called on it.
            in_pattern = letters.peek() != Some(&'.');
        }
        if in_pattern && pattern.trim() == "," {
            pattern.clear();
        }
        if in_pattern && pattern.trim_start() == "else" {
            (pattern, in_pattern) = (String::new(), false);
        }
    }
    found
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}
