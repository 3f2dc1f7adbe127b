//! The floors of every crate: no circle of imports crosses folders, and in the API server no floor imports
//! from one above it.
//!
//! Files of one folder may lean on each other. A circle between folders means that neither can be
//! read, tested or replaced without the other, so it fails here, with the names that tie it. To see
//! the circles of all crates: `cargo test -p coffer-testkit --test structure`.
//!
//! What is read is the source itself (`syn`): `use` trees and paths, outside `#[cfg(test)]`. A path
//! counts as an import of the file of the deepest module that it names. Names that macros make are
//! not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::Visit;

/// A module's path below its crate, `["handlers", "watch"]`; empty for the crate's root.
type Module = Vec<String>;

/// One crate target: its files by module.
#[derive(Default)]
struct Target {
    files: BTreeMap<Module, PathBuf>,
    /// Modules that are written inside a file, with the file's module.
    inline: BTreeMap<Module, Module>,
}

impl Target {
    /// The file that holds this module, or the nearest one above it that is a file.
    fn file_of(&self, path: &[String]) -> Module {
        let mut path = path.to_vec();
        loop {
            if self.files.contains_key(&path) {
                return path;
            }
            if let Some(file) = self.inline.get(&path) {
                return file.clone();
            }
            path.pop();
        }
    }

    fn is_module(&self, path: &[String]) -> bool {
        self.files.contains_key(path) || self.inline.contains_key(path)
    }
}

/// The imports of one file.
struct Imports<'a> {
    target: &'a Target,
    /// The module that is being read: the file's own, or one inside it.
    here: Module,
    /// What the names in sight lead to, where that is a module of this crate.
    names: BTreeMap<String, Module>,
    /// By the module's file: a name that was taken from it.
    found: BTreeMap<Module, String>,
}

impl Imports<'_> {
    /// Where a path leads: the deepest module of this crate that it names, and the rest.
    fn resolve(&self, path: &[String]) -> Option<(Module, Vec<String>)> {
        let (first, mut rest) = path.split_first()?;
        let mut module = match first.as_str() {
            "crate" => Module::new(),
            "self" => self.here.clone(),
            "super" => {
                let mut module = self.here.clone();
                module.pop()?;
                while rest.first().is_some_and(|it| it == "super") {
                    module.pop()?;
                    rest = &rest[1..];
                }
                module
            }
            name => {
                let mut child = self.here.clone();
                child.push(name.to_owned());
                match self.names.get(name) {
                    Some(module) => module.clone(),
                    None if self.target.is_module(&child) => child,
                    None => return None,
                }
            }
        };
        while let Some((next, after)) = rest.split_first() {
            let mut child = module.clone();
            child.push(next.clone());
            if !self.target.is_module(&child) {
                break;
            }
            (module, rest) = (child, after);
        }
        Some((module, rest.to_vec()))
    }

    fn import(&mut self, path: &[String]) {
        if let Some((module, rest)) = self.resolve(path) {
            let file = self.target.file_of(&module);
            let name = rest.first().cloned().unwrap_or_else(|| "(the module)".to_owned());
            self.found.entry(file).or_insert(name);
        }
    }

    /// Each leaf of a `use` tree, and the names that it brings.
    fn tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let mut path = before.to_vec();
        match tree {
            syn::UseTree::Path(it) => {
                path.push(it.ident.to_string());
                self.tree(&path, &it.tree);
            }
            syn::UseTree::Group(it) => it.items.iter().for_each(|tree| self.tree(before, tree)),
            syn::UseTree::Glob(_) => self.import(&path),
            syn::UseTree::Name(it) => {
                let name = it.ident.to_string();
                if name != "self" {
                    path.push(name.clone());
                }
                self.bring(path.last().cloned().unwrap_or(name), &path);
            }
            syn::UseTree::Rename(it) => {
                if it.ident != "self" {
                    path.push(it.ident.to_string());
                }
                self.bring(it.rename.to_string(), &path);
            }
        }
    }

    fn bring(&mut self, name: String, path: &[String]) {
        match self.resolve(path) {
            // A module that is brought into sight is not used yet.
            Some((module, rest)) if rest.is_empty() => {
                self.names.insert(name, module);
            }
            _ => self.import(path),
        }
    }
}

impl<'ast> Visit<'ast> for Imports<'_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if item.leading_colon.is_none() && !only_for_tests(&item.attrs) {
            self.tree(&[], &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() && path.segments.len() > 1 {
            let names: Vec<_> = path.segments.iter().map(|it| it.ident.to_string()).collect();
            self.import(&names);
        }
        syn::visit::visit_path(self, path);
    }

    // `pub(in crate::x)` says who may see, not what is seen.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_macro(&mut self, it: &'ast syn::Macro) {
        self.visit_path(&it.path);
        // What looks like expressions, as the arguments of `format!` and `assert!` do.
        let parser = syn::punctuated::Punctuated::<syn::Expr, syn::Token![,]>::parse_terminated;
        if let Ok(arguments) = it.parse_body_with(parser) {
            arguments.iter().for_each(|argument| self.visit_expr(argument));
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if only_for_tests(&item.attrs) {
            return;
        }
        let Some((_, items)) = &item.content else { return };
        let outer = std::mem::take(&mut self.names);
        self.here.push(item.ident.to_string());
        read_items(self, items);
        self.here.pop();
        self.names = outer;
    }

    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes = match item {
            syn::Item::Fn(it) => &it.attrs,
            syn::Item::Impl(it) => &it.attrs,
            syn::Item::Struct(it) => &it.attrs,
            syn::Item::Const(it) => &it.attrs,
            _ => &Vec::new(),
        };
        if !only_for_tests(attributes) {
            syn::visit::visit_item(self, item);
        }
    }
}

/// `use` first: a path may stand above the import that it leans on.
fn read_items(imports: &mut Imports<'_>, items: &[syn::Item]) {
    let (uses, others): (Vec<_>, Vec<_>) =
        items.iter().partition(|item| matches!(item, syn::Item::Use(_)));
    uses.into_iter().chain(others).for_each(|item| imports.visit_item(item));
}

fn only_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|it| {
        it.path().is_ident("cfg")
            && it.parse_args::<syn::Path>().is_ok_and(|what| what.is_ident("test"))
    })
}

/// Reads a module's file and the files of the modules that it declares.
fn declare(target: &mut Target, module: Module, file: PathBuf) {
    let items = parse(&file).items;
    let own = file.file_stem().is_some_and(|it| it == "mod" || it == "lib" || it == "main");
    let below = if own { file.parent().unwrap().to_owned() } else { file.with_extension("") };
    target.files.insert(module.clone(), file);
    declare_items(target, &module, &module, &below, &items);
}

fn declare_items(
    target: &mut Target,
    file: &Module,
    here: &Module,
    folder: &Path,
    items: &[syn::Item],
) {
    for item in items {
        let syn::Item::Mod(item) = item else { continue };
        if only_for_tests(&item.attrs) {
            continue;
        }
        let name = item.ident.to_string();
        let mut module = here.clone();
        module.push(name.clone());
        match &item.content {
            Some((_, items)) => {
                target.inline.insert(module.clone(), file.clone());
                declare_items(target, file, &module, &folder.join(&name), items);
            }
            None => {
                let beside = folder.join(format!("{name}.rs"));
                let inside = folder.join(&name).join("mod.rs");
                declare(target, module, if beside.exists() { beside } else { inside });
            }
        }
    }
}

fn parse(file: &Path) -> syn::File {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
    syn::parse_file(&text).unwrap_or_else(|error| panic!("{file:?}: {error}"))
}

/// The folder that a module's file belongs to: with `foo/`, `foo.rs` is part of it.
fn folder(target: &Target, module: &Module) -> Module {
    let has_children =
        target.files.keys().any(|it| it.len() > module.len() && it.starts_with(module));
    if has_children || module.is_empty() {
        module.clone()
    } else {
        module[..module.len() - 1].to_vec()
    }
}

/// Files that lean on each other, directly or through others; each circle once.
fn circles(arrows: &Arrows) -> Vec<BTreeSet<Module>> {
    let reach = |from: &Module| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(at) = next.pop() {
            for to in arrows.get(&at).into_iter().flat_map(BTreeMap::keys) {
                if seen.insert(to.clone()) {
                    next.push(to.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<_, _> = arrows.keys().map(|it| (it.clone(), reach(it))).collect();
    let mut circles = BTreeSet::new();
    for (from, seen) in &reached {
        let back = |to: &&Module| reached.get(*to).is_some_and(|it| it.contains(from));
        let circle: BTreeSet<_> = seen.iter().filter(back).cloned().collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

/// By importing module: the modules that it imports, each with a name that it takes from there.
type Arrows = BTreeMap<Module, BTreeMap<Module, String>>;

/// One target and the imports of its files.
fn read(root: &Path) -> (Target, Arrows) {
    let mut target = Target::default();
    declare(&mut target, Module::new(), root.to_owned());
    let mut arrows = BTreeMap::new();
    for (module, file) in &target.files {
        let mut imports = Imports {
            target: &target,
            here: module.clone(),
            names: BTreeMap::new(),
            found: BTreeMap::new(),
        };
        read_items(&mut imports, &parse(file).items);
        imports.found.remove(module);
        arrows.insert(module.clone(), imports.found);
    }
    (target, arrows)
}

fn shown(module: &Module) -> String {
    if module.is_empty() { "crate".to_owned() } else { module.join("::") }
}

/// The circles of one target that cross folders, as text.
fn crossing(root: &Path) -> Vec<String> {
    let (target, arrows) = read(root);
    let mut found = Vec::new();
    for circle in circles(&arrows) {
        let folders: BTreeSet<_> = circle.iter().map(|it| folder(&target, it)).collect();
        if folders.len() < 2 {
            continue;
        }
        let mut text = format!("{}: a circle of {} files", root.display(), circle.len());
        for from in &circle {
            for (to, name) in arrows[from].iter().filter(|(to, _)| circle.contains(*to)) {
                if folder(&target, from) != folder(&target, to) {
                    text += &format!("\n    {} -> {}: {name}", shown(from), shown(to));
                }
            }
        }
        found.push(text);
    }
    found
}

/// The floors of `crates/apiserver`, the lowest first: each imports only itself and those below. The crate's
/// root builds them all.
const FLOORS: &[(&str, &[&str])] = &[
    (
        "objects",
        &[
            "body",
            "cache",
            "certificates",
            "clock",
            "deadline",
            "decode",
            "encode",
            "encoded",
            "failure",
            "fair_queue",
            "identity",
            "listen",
            "memory_pool",
            "object",
            "options",
            "request",
            "respond",
            "scale",
            "tasks",
            "tls",
        ],
    ),
    ("admission", &["admission", "authz", "tokens"]),
    ("registry", &["call", "managed", "registry"]),
    ("core", &["core"]),
    (
        "handlers",
        &["authn", "executor", "handlers", "kubelets", "representation", "reviews", "tunnels"],
    ),
    (
        "HTTP",
        &[
            "access",
            "discovery",
            "encoding",
            "health",
            "limits",
            "openapi",
            "openapi_routes",
            "serve",
        ],
    ),
];

/// The imports of a target that lead to a higher floor, and its modules that are on none, as text.
fn upward(root: &Path, floors: &[(&str, &[&str])]) -> Vec<String> {
    let floor_of = |module: &str| floors.iter().position(|(_, on_it)| on_it.contains(&module));
    let mut found = Vec::new();
    for (from, imports) in read(root).1 {
        let Some(top) = from.first() else { continue };
        let Some(floor) = floor_of(top) else {
            found.push(format!("{top} is on no floor"));
            continue;
        };
        for (to, name) in imports {
            let above = to.first().and_then(|top| floor_of(top)).filter(|above| *above > floor);
            if let Some(above) = above {
                let (floor, above) = (floors[floor].0, floors[above].0);
                let (from, to) = (shown(&from), shown(&to));
                found.push(format!("{from} ({floor}) -> {to} ({above}): {name}"));
            }
        }
    }
    found.dedup();
    found
}

#[test]
fn no_floor_of_the_api_server_imports_from_above() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let root = crates.join("apiserver/src/lib.rs");
    let found = upward(&root, FLOORS);
    assert!(found.is_empty(), "imports lead up:\n{}", found.join("\n"));
    let (target, _) = read(&root);
    for (_, modules) in FLOORS {
        for module in *modules {
            let is_there = target.files.contains_key(&vec![(*module).to_owned()]);
            assert!(is_there, "{module} is on a floor and does not exist");
        }
    }
}

#[test]
fn an_import_from_above_and_a_module_without_a_floor_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("lib.rs", "mod upper; mod lower; mod new; use crate::upper::A;");
    write("upper.rs", "pub struct A; use crate::lower::B;");
    write("lower.rs", "pub struct B; fn f() { crate::upper::A; }");
    write("new.rs", "");
    let found =
        upward(&folder.path().join("lib.rs"), &[("ground", &["lower"]), ("top", &["upper"])]);
    assert_eq!(found, ["lower (ground) -> upper (top): A", "new is on no floor"]);
}

#[test]
fn no_circle_of_imports_crosses_folders() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut roots: Vec<_> = std::fs::read_dir(crates)
        .unwrap()
        .flat_map(|one| {
            ["lib.rs", "main.rs"].map(|file| one.as_ref().unwrap().path().join("src").join(file))
        })
        .filter(|root| root.exists())
        .collect();
    roots.sort();
    assert!(roots.len() >= 10, "only {roots:?}");
    let found: Vec<_> = roots.iter().flat_map(|root| crossing(root)).collect();
    assert!(found.is_empty(), "circles cross folders:\n{}", found.join("\n"));
}

/// Two folders that lean on each other through a third file, a re-export and a path in a function.
#[test]
fn a_circle_through_a_path_and_a_renamed_module_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    };
    write("lib.rs", "mod upper; mod lower; mod alone;");
    write("upper/mod.rs", "pub struct A; use crate::lower::deep as d; fn f() { d::g() }");
    write("lower/mod.rs", "pub mod deep;");
    write("lower/deep.rs", "pub fn g() { let _ = format!(\"{}\", size(super::super::upper::A)); }");
    write("alone.rs", "use crate::upper::A; #[cfg(test)] mod tests { use crate::alone; }");
    let found = crossing(&folder.path().join("lib.rs"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("upper -> lower::deep: g"), "{found:?}");
    assert!(found[0].contains("lower::deep -> upper: A"), "{found:?}");
    assert!(!found[0].contains("alone"), "{found:?}");
}
