//! What imports between modules do not show: files that lean on each other, types whose methods lie all over the house, and how
//! much of the whole is the pure core.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{WATER_LINE, code_lines, floors, module, sources};

/// Knots of files that lean on each other, which are there and must not grow: to open one is to move a type. Whoever opens it
/// takes it out here.
const KNOTS: &[&[&str]] = &[];

/// Types with methods in more files than [`MOST_FILES`], and in how many: none is left, and none comes back. Functions that change the
/// first thing they are given count. What is only told something on the way (a `Turn`, `Words`, a `Reader`) is the last thing that a function
/// is given.
const SCATTERED: &[(&str, usize)] = &[];

/// So many files may hold the inherent methods of one type.
const MOST_FILES: usize = 3;

/// The pure core's share of the sources without demo and command line, in percent: what was reached is kept.
const PURE: usize = 42;

type Name = Vec<String>;

#[test]
fn files_do_not_lean_on_each_other() {
    let found: BTreeSet<BTreeSet<String>> = Graph::of_sources().knots();
    let known: BTreeSet<BTreeSet<String>> =
        KNOTS.iter().map(|knot| knot.iter().map(|file| (*file).to_owned()).collect()).collect();
    let told = |knots: Vec<&BTreeSet<String>>| {
        knots.iter().map(|knot| format!("{knot:?}")).collect::<Vec<_>>().join("\n")
    };
    let new: Vec<_> = found.iter().filter(|knot| !known.iter().any(|old| knot.is_subset(old))).collect();
    assert!(new.is_empty(), "files that lean on each other:\n{}", told(new));
    let gone: Vec<_> = known.iter().filter(|knot| !found.contains(*knot)).collect();
    assert!(
        gone.is_empty(),
        "opened, or smaller now: correct the list.\n{}\nfound:\n{}",
        told(gone),
        told(found.iter().collect())
    );
}

#[test]
fn the_methods_of_a_type_lie_together() {
    let mut files: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut free_ones = Vec::new();
    for (path, text) in sources() {
        let Some(module) = module(&path) else { continue };
        let mut lines = code_lines(&text).map(|(_, line)| line).peekable();
        while let Some(line) = lines.next() {
            // The arguments of a long one begin on the next line.
            let begins = line.ends_with('(').then(|| lines.peek().copied()).flatten();
            if let Some(name) = inherent(line) {
                files.entry(format!("{module}::{name}")).or_default().insert(path.display().to_string());
            } else if let Some(name) = free(line, begins.unwrap_or_default()) {
                free_ones.push((format!("{module}::{name}"), path.display().to_string()));
            }
        }
    }
    // A function that changes the first thing it is given is a method of it by another name, also in the file of something else.
    for (name, path) in free_ones {
        if let Some(files) = files.get_mut(&name) {
            files.insert(path);
        }
    }
    assert!(files.len() > 100, "the types were not found");
    let known: BTreeMap<_, _> = SCATTERED.iter().copied().collect();
    let found: BTreeMap<&str, usize> = files
        .iter()
        .filter(|(_, files)| files.len() > MOST_FILES)
        .map(|(name, files)| (name.as_str(), files.len()))
        .collect();
    assert_eq!(found, known, "at most {MOST_FILES} files; what has fewer now is taken off the list");
}

#[test]
fn the_pure_core_keeps_its_share() {
    let floors = floors();
    let (mut pure, mut all) = (0, 0);
    for (path, text) in sources() {
        let Some(module) =
            module(&path).filter(|module| !["demo", "cli", "manual"].contains(&module.as_str()))
        else {
            continue;
        };
        let lines = text.lines().count();
        all += lines;
        if floors.get(module.as_str()).is_some_and(|floor| *floor <= WATER_LINE) {
            pure += lines;
        }
    }
    // To the nearest percent.
    let share = (pure * 100 + all / 2) / all;
    println!("the pure core: {pure} of {all} lines, {share} %");
    assert!(share >= PURE, "the pure core has {share} % of {all} lines");
}

/// The type whose inherent methods this line opens, if it opens some.
fn inherent(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("impl")?;
    let rest = match rest.strip_prefix('<') {
        Some(generic) => generic.split_once("> ")?.1,
        None => rest.strip_prefix(' ')?,
    };
    if rest.contains(" for ") || !rest.ends_with('{') {
        return None;
    }
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
    (rest.as_bytes().get(end) != Some(&b':')).then(|| &rest[..end])
}

/// The type that the free function which begins on this line may change: that of the first thing it is given.
fn free<'a>(line: &'a str, next: &'a str) -> Option<&'a str> {
    let at =
        line.find("fn ").filter(|at| *at == 0 || is_visibility(&line[..*at]) && line.starts_with("pub"))?;
    let given = match line[at..].split_once('(')?.1 {
        "" => next.trim_start(),
        given => given,
    };
    let first = given.split_once(": &mut ")?;
    let end = first.1.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(first.1.len());
    first.0.chars().all(|c| c.is_ascii_alphanumeric() || c == '_').then(|| &first.1[..end])
}

#[test]
fn a_function_that_changes_what_it_is_given_is_counted() {
    for (line, next, found) in [
        ("pub(super) fn expire(of: &mut Inbound, turn: &mut Turn<'_>) {", "", Some("Inbound")),
        ("fn leave(", "    of: &mut Inbound,", Some("Inbound")),
        ("fn look(of: &Inbound, turn: &mut Turn<'_>) {", "", None),
        ("    fn expire(of: &mut Inbound) {", "", None),
        ("pub fn with<T>(of: &mut Map<T>) {", "", Some("Map")),
    ] {
        assert_eq!(free(line, next), found, "{line}");
    }
}

/// Which file leans on which. A file and those below it count as one: they are written to be read together.
struct Graph {
    texts: BTreeMap<Name, String>,
    /// What a module hands on from below itself: by its name there, the file that it comes from.
    handed_on: BTreeMap<Name, BTreeMap<String, Name>>,
}

impl Graph {
    fn of_sources() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut texts = BTreeMap::new();
        for (path, text) in sources() {
            let inside = path.strip_prefix(&root).unwrap().with_extension("");
            let mut name: Name =
                inside.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
            if name.last().is_some_and(|last| last == "mod") {
                name.pop();
            }
            if name != ["lib"] && name != ["main"] {
                let code: Vec<&str> = code_lines(&text).map(|(_, line)| line).collect();
                texts.insert(name, code.join("\n"));
            }
        }
        let mut graph = Self { texts, handed_on: BTreeMap::new() };
        let mut handed_on: BTreeMap<Name, BTreeMap<String, Name>> = BTreeMap::new();
        for (name, text) in &graph.texts {
            for path in imports(text) {
                let own = path.rsplit([':', ' ']).next().unwrap_or_default().to_owned();
                if let Some(from) =
                    graph.resolve(name, &path).filter(|from| from != name && from.starts_with(name))
                {
                    handed_on.entry(name.clone()).or_default().insert(own, from);
                }
            }
        }
        graph.handed_on = handed_on;
        graph
    }

    /// The file that this path, as `me` writes it, leads to.
    fn resolve(&self, me: &Name, path: &str) -> Option<Name> {
        let mut parts = path.split(" as ").next()?.split("::").map(str::trim).peekable();
        let mut at = match *parts.peek()? {
            "crate" => Name::new(),
            "self" | "super" => me.clone(),
            child => {
                let below = [me.as_slice(), &[child.to_owned()]].concat();
                self.texts.contains_key(&below).then(|| me.clone())?
            }
        };
        while let Some(part) = parts.next_if(|part| ["crate", "self", "super"].contains(part)) {
            if part == "super" {
                at.pop();
            }
        }
        for part in parts {
            let below = [at.as_slice(), &[part.to_owned()]].concat();
            if self.texts.contains_key(&below) {
                at = below;
            } else {
                let from = self.handed_on.get(&at).and_then(|names| names.get(part));
                return from.cloned().or_else(|| self.texts.contains_key(&at).then_some(at));
            }
        }
        self.texts.contains_key(&at).then_some(at)
    }

    fn edges(&self) -> BTreeMap<Name, BTreeSet<Name>> {
        let mut edges = BTreeMap::new();
        for (name, text) in &self.texts {
            let paths = imports(text).into_iter().chain(inline(text));
            let others = paths.filter_map(|path| self.resolve(name, &path));
            let apart = others.filter(|other| !other.starts_with(name) && !name.starts_with(other));
            edges.insert(name.clone(), apart.collect::<BTreeSet<Name>>());
        }
        edges
    }

    /// The sets of files of which each leads to each.
    fn knots(&self) -> BTreeSet<BTreeSet<String>> {
        let edges = self.edges();
        let reach: BTreeMap<&Name, BTreeSet<&Name>> = edges
            .keys()
            .map(|from| {
                let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
                while let Some(one) = open.pop() {
                    open.extend(edges[one].iter().filter(|next| seen.insert(*next)));
                }
                (from, seen)
            })
            .collect();
        let knot = |file: &Name| -> BTreeSet<String> {
            let together = reach[file].iter().filter(|other| reach[**other].contains(file));
            together.map(|other| other.join("/")).collect()
        };
        edges.keys().map(knot).filter(|knot| !knot.is_empty()).collect()
    }
}

/// Each single path of the `use` declarations.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let declarations = text.split(";\n").filter_map(|part| {
        let at =
            part.rfind("use ").filter(|at| part[..*at].rsplit('\n').next().is_some_and(is_visibility))?;
        Some(&part[at + 4..])
    });
    for declaration in declarations {
        expand("", &declaration.replace('\n', " "), &mut found);
    }
    found
}

/// Whether nothing but `pub` stands before it on its line.
fn is_visibility(before: &str) -> bool {
    before.trim().is_empty() || before.trim_start().starts_with("pub")
}

fn expand(before: &str, tree: &str, found: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((path, list)) = tree.split_once('{') else {
        found.push(format!("{before}{tree}").trim_end_matches("::self").to_owned());
        return;
    };
    let list = list.trim_end().strip_suffix('}').unwrap_or(list);
    let (mut depth, mut begin) = (0, 0);
    for (at, letter) in list.char_indices().chain([(list.len(), ',')]) {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !list[begin..at].trim().is_empty() {
                    expand(&format!("{before}{path}"), &list[begin..at], found);
                }
                begin = (at + 1).min(list.len());
            }
            _ => {}
        }
    }
}

/// Paths in the midst of the code.
fn inline(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("use ")) {
        for word in line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':') {
            if ["crate::", "super::", "self::"].iter().any(|begin| word.starts_with(begin)) {
                found.push(word.trim_end_matches(':').to_owned());
            }
        }
    }
    found
}
