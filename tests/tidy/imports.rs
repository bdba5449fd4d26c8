//! Whether the files of a crate import each other in a circle. A newcomer who reads such files has
//! no place to begin. A part of a module may import what its whole defines; of the crate's root,
//! nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::{CRATES, Source, none, sources};

/// A file of a crate, by its path below `src`, as in `["lease", "idle"]`; the crate's root is
/// empty.
type File = Vec<String>;

/// The file that a source is.
fn file(source: &Source) -> File {
    let (_, path) = source.path.split_once("/src/").expect("a crate's source");
    let path = path.trim_end_matches(".rs");
    let is_root = ["lib", "main"].contains(&path);
    if is_root { vec![] } else { path.split('/').map(str::to_owned).collect() }
}

/// The paths that a `use` names, one for each name in braces.
fn paths(text: &str) -> Vec<String> {
    let Some((before, rest)) = text.split_once('{') else { return vec![text.to_owned()] };
    let inside = rest.rsplit_once('}').map_or(rest, |(inside, _)| inside);
    let mut depth = 0;
    let parts = inside.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    let parts = parts.map(str::trim).filter(|part| !part.is_empty());
    parts.flat_map(|part| paths(&format!("{before}{part}"))).collect()
}

/// The product part of a file, without comments.
fn product(source: &Source) -> String {
    let code: Vec<&str> =
        source.text.lines().filter(|l| !l.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    code.split("#[cfg(test)]").next().unwrap_or_default().to_owned()
}

/// Where a path leads from a file: the longest part of it that is a file.
fn resolve(path: &str, from: &File, files: &BTreeSet<File>) -> Option<File> {
    let mut at: File = vec![];
    let path = path.split(" as ").next().unwrap_or_default();
    for (n, part) in path.split("::").map(str::trim).enumerate() {
        match part {
            "crate" if n == 0 => at.clear(),
            "self" if n == 0 => at.clone_from(from),
            "super" if n == 0 => at = from[..from.len().checked_sub(1)?].to_vec(),
            "super" => drop(at.pop()),
            _ if n == 0 => return None,
            name => at.push(name.to_owned()),
        }
    }
    while !files.contains(&at) {
        at.pop()?;
    }
    Some(at)
}

/// The files that a file names: by `use`, by `crate::…`, and its own modules by name.
fn imports(code: &str, from: &File, files: &BTreeSet<File>) -> BTreeSet<File> {
    let mut named: Vec<String> = Vec::new();
    for keyword in ["\nuse ", "\npub use ", "\npub(super) use ", "\npub(crate) use "] {
        for import in code.split(keyword).skip(1) {
            named.extend(paths(import.split(';').next().unwrap_or_default()));
        }
    }
    for (at, _) in code.match_indices("crate::") {
        let end = code[at..].find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
        let path = &code[at..end.map_or(code.len(), |end| at + end)];
        // What comes before braces is read with them.
        named.extend((!path.ends_with("::")).then(|| path.to_owned()));
    }
    let children =
        files.iter().filter(|file| file.len() == from.len() + 1 && file.starts_with(from));
    let mut found: BTreeSet<File> =
        named.iter().filter_map(|path| resolve(path, from, files)).collect();
    for child in children {
        let name = format!("{}::", child.last().expect("a name"));
        let is_named = code.match_indices(&name).any(|(at, _)| {
            let before = code[..at].chars().next_back().unwrap_or(' ');
            !before.is_alphanumeric() && before != '_' && before != ':'
        });
        if is_named {
            found.insert(child.clone());
        }
    }
    found.retain(|file| file.is_empty() || !from.starts_with(file));
    found
}

/// A way from a file back to itself, if there is one.
fn circle(edges: &BTreeMap<File, BTreeSet<File>>) -> Option<Vec<File>> {
    fn walk(
        file: &File,
        edges: &BTreeMap<File, BTreeSet<File>>,
        way: &mut Vec<File>,
        done: &mut BTreeSet<File>,
    ) -> bool {
        if let Some(start) = way.iter().position(|seen| seen == file) {
            way.drain(..start);
            return true;
        }
        if done.contains(file) {
            return false;
        }
        way.push(file.clone());
        for next in edges.get(file).into_iter().flatten() {
            if walk(next, edges, way, done) {
                return true;
            }
        }
        way.pop();
        done.insert(file.clone());
        false
    }
    let (mut way, mut done) = (vec![], BTreeSet::new());
    edges.keys().any(|file| walk(file, edges, &mut way, &mut done)).then_some(way)
}

#[test]
fn no_files_of_a_crate_import_each_other_in_a_circle() {
    let all = sources(&["rs"]);
    let mut complaints = Vec::new();
    for (member, _) in CRATES {
        let of_crate: Vec<&Source> = all.iter().filter(|s| s.member() == Some(member)).collect();
        let files: BTreeSet<File> = of_crate.iter().map(|source| file(source)).collect();
        let edges = of_crate.iter().map(|source| {
            let from = file(source);
            let found = imports(&product(source), &from, &files);
            (from, found)
        });
        if let Some(way) = circle(&edges.collect()) {
            let way: Vec<String> = way.iter().map(|file| file.join("/")).collect();
            complaints.push(format!("host/{member}: a circle of imports: {}", way.join(" → ")));
        }
    }
    none(&complaints);
}

#[test]
fn a_circle_of_imports_is_found() {
    let files = [vec![], vec!["a"], vec!["b"], vec!["b", "c"]];
    let files: BTreeSet<File> =
        files.iter().map(|file| file.iter().map(|s| (*s).to_owned()).collect()).collect();
    let of = |from: &[&str], code: &str| {
        let from: File = from.iter().map(|s| (*s).to_owned()).collect();
        let found = imports(code, &from, &files);
        (from, found)
    };
    let a = of(&["a"], "\nuse super::{b::{self, c::X}};\n");
    let b = of(&["b"], "mod c;\nfn f() { c::f() }\n");
    let of_whole = of(&["b", "c"], "\nuse super::Y;\n");
    let c = of(&["b", "c"], "fn f() { crate::a::g() }\n");
    assert!(circle(&[a.clone(), b.clone(), of_whole].into()).is_none());
    assert!(circle(&[a, b, c].into()).is_some());
}
