//! All that is known of a reason stands in its table: nothing else in the sources lists reasons, or says something of all whom it
//! does not name. A reason that is new has a place in each class then, or has none because somebody thought so.

use gatehouse::reason::Reason;

use super::{code_lines, sources};

/// So many reasons may stand side by side outside their table, no more.
const MOST: usize = 2;

#[test]
fn reasons_are_listed_in_their_table_only() {
    let mut wrong = Vec::new();
    for (path, text) in elsewhere() {
        for (line, count) in lists(&text).into_iter().chain(lists_of_labels(&text)) {
            if count > MOST {
                wrong.push(format!("{path}:{line}: {count} reasons in a row"));
            }
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

/// Where reasons stand side by side, with nothing between them but a comma or a bar, and how many.
fn lists(text: &str) -> Vec<(usize, usize)> {
    const WORD: &str = "Reason::";
    let ends = |at: usize| {
        let name = &text[at + WORD.len()..];
        at + WORD.len() + name.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(name.len())
    };
    side_by_side(text, text.match_indices(WORD).map(|(at, _)| (at, ends(at))).collect())
}

/// The same of their labels.
fn lists_of_labels(text: &str) -> Vec<(usize, usize)> {
    let labels = Reason::ALL.iter().map(|reason| format!("\"{}\"", reason.label()));
    let places =
        |label: String| text.match_indices(&label).map(|(at, it)| (at, at + it.len())).collect::<Vec<_>>();
    let mut all: Vec<_> = labels.flat_map(places).collect();
    all.sort_unstable();
    side_by_side(text, all)
}

/// Where these stand side by side, and how many.
fn side_by_side(text: &str, places: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    let mut end = None;
    for (at, behind) in places {
        let beside = end.is_some_and(|end| {
            at >= end && text[end..at].chars().all(|c| c.is_whitespace() || c == ',' || c == '|')
        });
        match found.last_mut().filter(|_| beside) {
            Some((_, count)) => *count += 1,
            None => found.push((line_of(text, at), 1)),
        }
        end = Some(behind);
    }
    found
}

/// Where a `match` has an arm for a reason, and another for whatever is not named.
fn wildcards(text: &str) -> Vec<usize> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("match ") {
        let Some(open) = text[at..].find('{').map(|open| at + open) else { continue };
        let arms = patterns(&text[open + 1..]);
        let catches = |pattern: &&String| {
            let mut letters = pattern.chars();
            letters.next().is_some_and(|c| c == '_' || c.is_ascii_lowercase())
                && letters.all(|c| c == '_' || c.is_ascii_alphanumeric())
        };
        if arms.iter().any(|arm| arm.contains("Reason::")) && arms.iter().any(|arm| catches(&arm)) {
            found.push(line_of(text, at));
        }
    }
    found
}

/// Where a `match` tells these apart, and has an arm that names none of them and does not even take what it is given.
fn blind(text: &str, word: &str) -> Vec<usize> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("match ") {
        let Some(open) = text[at..].find('{').map(|open| at + open) else { continue };
        let arms = patterns(&text[open + 1..]);
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

/// The patterns of the arms of this body, without what they ask besides.
fn patterns(body: &str) -> Vec<String> {
    let (mut found, mut depth, mut pattern, mut in_pattern) = (Vec::new(), 0_usize, String::new(), true);
    let mut letters = body.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '}' if depth == 0 => break,
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth = depth.saturating_sub(1),
            '=' if depth == 0 && in_pattern && letters.peek() == Some(&'>') => {
                letters.next();
                let plain = pattern.split(" if ").next().unwrap_or_default();
                found.push(plain.trim().to_owned());
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
