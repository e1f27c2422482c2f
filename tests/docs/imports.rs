//! Which file of a crate names what another defines, read from its tokens.
//!
//! A name counts where it is defined: a path through a module that only hands it on leads to the file
//! behind. Code of unit tests does not count, and a `pub use` counts only if its own file uses the name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The longest chain of names that hand on one another.
const HANDS: u8 = 32;

/// Arrows between files: who names, whom, and by which names.
pub(crate) type Arrows = BTreeMap<PathBuf, BTreeMap<PathBuf, BTreeSet<String>>>;

#[derive(Default)]
struct Module {
    file: PathBuf,
    parent: usize,
    children: BTreeMap<String, usize>,
    defines: BTreeSet<String>,
    imports: Vec<Import>,
    mentions: BTreeSet<Vec<String>>,
}

struct Import {
    /// What the module calls it: nothing stands for all names of a module.
    name: Option<String>,
    path: Vec<String>,
    public: bool,
}

#[derive(Clone, Copy)]
enum Target {
    Module(usize),
    Item(usize),
}

#[derive(Default)]
struct Tree {
    modules: Vec<Module>,
}

/// The arrows between the files of the crate with this root, `lib.rs` or `main.rs`.
pub(crate) fn arrows(root: &Path) -> Result<Arrows> {
    let mut tree = Tree::default();
    let folder = root.parent().context("a crate's folder")?;
    tree.load(root, folder, 0)?;
    let mut arrows = Arrows::new();
    for (at, module) in tree.modules.iter().enumerate() {
        let imports = module.imports.iter().filter(|import| !import.public);
        let paths = imports.map(|import| &import.path).chain(&module.mentions);
        for path in paths {
            let Some(Target::Item(to)) = tree.resolve(at, path, HANDS) else {
                continue;
            };
            let to = &tree.modules[to].file;
            if *to != module.file {
                let from = arrows.entry(module.file.clone()).or_default();
                let names = from.entry(to.clone()).or_default();
                names.insert(path.join("::"));
            }
        }
    }
    Ok(arrows)
}

impl Tree {
    /// Reads `file` as a new module, whose own modules stand in `folder`.
    fn load(&mut self, file: &Path, folder: &Path, parent: usize) -> Result<usize> {
        let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        let tokens: TokenStream = text
            .parse()
            .map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
        self.module(file, folder, parent, tokens)
    }

    fn module(
        &mut self,
        file: &Path,
        folder: &Path,
        parent: usize,
        tokens: TokenStream,
    ) -> Result<usize> {
        let at = self.modules.len();
        self.modules.push(Module {
            file: file.to_owned(),
            parent,
            ..Module::default()
        });
        for item in items(tokens) {
            if item.test {
                continue;
            }
            match item.keyword.as_deref() {
                Some("use") => self.modules[at].import(&item.tokens, item.public),
                Some("mod") => {
                    let name = item.name.context("a module's name")?;
                    let inner = folder.join(&name);
                    let child = if let Some(TokenTree::Group(body)) = item.tokens.last() {
                        self.module(file, &inner, at, body.stream())?
                    } else {
                        let file = match &item.path {
                            Some(path) => file.with_file_name(path),
                            None if inner.join("mod.rs").is_file() => inner.join("mod.rs"),
                            None => inner.with_extension("rs"),
                        };
                        self.load(&file, &inner, at)?
                    };
                    self.modules[at].children.insert(name, child);
                }
                _ => {
                    let module = &mut self.modules[at];
                    module.defines.extend(item.name);
                    module.scan(&item.tokens);
                }
            }
        }
        Ok(at)
    }

    /// What `path` means within the module `at`; nothing if it is another crate's, or local.
    fn resolve(&self, at: usize, path: &[String], hands: u8) -> Option<Target> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => self.walk(0, rest, hands),
            "self" => self.walk(at, rest, hands),
            "super" => {
                let mut up = self.modules[at].parent;
                let mut rest = rest;
                while let Some(("super", more)) = rest.split_first().map(|(a, b)| (a.as_str(), b)) {
                    (up, rest) = (self.modules[up].parent, more);
                }
                self.walk(up, rest, hands)
            }
            _ => self.walk(at, path, hands),
        }
    }

    /// What `path` means from the outside of the module `at`.
    fn walk(&self, at: usize, path: &[String], hands: u8) -> Option<Target> {
        let Some((name, rest)) = path.split_first() else {
            return Some(Target::Module(at));
        };
        let hands = hands.checked_sub(1)?;
        let module = &self.modules[at];
        let child = module.children.get(name);
        if let Some(&child) = child.filter(|_| !rest.is_empty()) {
            return self.walk(child, rest, hands);
        }
        if module.defines.contains(name) {
            return Some(Target::Item(at));
        }
        let named = module
            .imports
            .iter()
            .filter(|import| import.name.as_ref() == Some(name));
        for import in named {
            // `use x;` and `use self::x` within `x`'s own parent name the child.
            if import.path.len() == 1 {
                continue;
            }
            match self.resolve(at, &import.path, hands) {
                Some(Target::Module(to)) => return self.walk(to, rest, hands),
                Some(item @ Target::Item(_)) => return Some(item),
                None => {}
            }
        }
        if let Some(&child) = child {
            return Some(Target::Module(child));
        }
        let mut all = module.imports.iter().filter(|import| import.name.is_none());
        all.find_map(|import| match self.resolve(at, &import.path, hands)? {
            Target::Module(to) if to != at => self.walk(to, path, hands),
            Target::Module(_) | Target::Item(_) => None,
        })
    }
}

impl Module {
    fn import(&mut self, tokens: &[TokenTree], public: bool) {
        let start = tokens
            .iter()
            .position(|token| is(token, "use"))
            .map_or(0, |at| at + 1);
        self.tree(&tokens[start..], &[], public);
    }

    /// One tree of a `use`: `a::b::{c, d as e}`.
    fn tree(&mut self, tokens: &[TokenTree], prefix: &[String], public: bool) {
        for branch in tokens.split(|token| is(token, ",")) {
            let mut path = prefix.to_vec();
            let mut name = None;
            let mut whole = true;
            let mut renamed = false;
            for token in branch {
                match token {
                    TokenTree::Ident(ident) if renamed => name = Some(ident.to_string()),
                    TokenTree::Ident(ident) if ident == "as" => renamed = true,
                    TokenTree::Ident(ident) => path.push(ident.to_string()),
                    TokenTree::Group(group) => {
                        let inner: Vec<_> = group.stream().into_iter().collect();
                        self.tree(&inner, &path, public);
                        whole = false;
                    }
                    TokenTree::Punct(punct) if punct.as_char() == '*' => {
                        let path = path.clone();
                        self.imports.push(Import {
                            name: None,
                            path,
                            public,
                        });
                        whole = false;
                    }
                    TokenTree::Punct(_) | TokenTree::Literal(_) => {}
                }
            }
            if whole && path.len() > prefix.len() {
                if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
                    path.pop();
                }
                let name = name.or_else(|| path.last().cloned());
                self.imports.push(Import { name, path, public });
            }
        }
    }

    /// Takes up every path in code: `a`, `a::b`.
    fn scan(&mut self, tokens: &[TokenTree]) {
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Ident(ident) if ident == "use" => {
                    let ends = |token: &TokenTree| is(token, ";");
                    let end = tokens[at..].iter().position(ends);
                    let end = end.map_or(tokens.len(), |end| at + end);
                    self.import(&tokens[at..end], false);
                    at = end;
                }
                TokenTree::Ident(first) => {
                    let member = at > 0 && is(&tokens[at - 1], ".");
                    let mut path = vec![first.to_string()];
                    at += 1;
                    while let [a, b, TokenTree::Ident(next), ..] = &tokens[at..]
                        && is(a, ":")
                        && is(b, ":")
                    {
                        path.push(next.to_string());
                        at += 3;
                    }
                    if !member {
                        self.mentions.insert(path);
                    }
                    continue;
                }
                TokenTree::Group(group) => {
                    let inner: Vec<_> = group.stream().into_iter().collect();
                    self.scan(&inner);
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            at += 1;
        }
    }
}

#[derive(Default)]
struct Item {
    tokens: Vec<TokenTree>,
    keyword: Option<String>,
    name: Option<String>,
    /// Where `#[path]` says that the module stands.
    path: Option<String>,
    public: bool,
    test: bool,
}

/// Splits a module into its items.
fn items(tokens: TokenStream) -> Vec<Item> {
    const KEYWORDS: [&str; 12] = [
        "use",
        "mod",
        "fn",
        "struct",
        "enum",
        "union",
        "trait",
        "type",
        "const",
        "static",
        "impl",
        "macro_rules",
    ];
    let mut items = Vec::new();
    let mut item = Item::default();
    for token in tokens {
        let keyword = item.keyword.clone();
        let keyword = keyword.as_deref();
        let ends = match &token {
            TokenTree::Ident(ident) => {
                let ident = ident.to_string();
                let again = keyword == Some("const") && ident == "fn" && item.name.is_none();
                if ident == "pub" && keyword.is_none() {
                    item.public = true;
                } else if KEYWORDS.contains(&ident.as_str()) && (keyword.is_none() || again) {
                    item.keyword = Some(ident);
                } else if keyword.is_some() && item.name.is_none() && keyword != Some("impl") {
                    item.name = Some(ident);
                }
                false
            }
            TokenTree::Group(group) => match group.delimiter() {
                Delimiter::Bracket if item.keyword.is_none() => {
                    let inner: Vec<_> = group.stream().into_iter().collect();
                    item.attribute(&inner);
                    false
                }
                Delimiter::Brace => !matches!(keyword, Some("use" | "const" | "static" | "type")),
                Delimiter::Parenthesis | Delimiter::Bracket | Delimiter::None => false,
            },
            TokenTree::Punct(punct) => punct.as_char() == ';',
            TokenTree::Literal(_) => false,
        };
        item.tokens.push(token);
        if ends {
            if item.keyword.is_none() {
                item.name = None;
            }
            items.push(std::mem::take(&mut item));
        }
    }
    items
}

impl Item {
    fn attribute(&mut self, tokens: &[TokenTree]) {
        match tokens {
            [name, TokenTree::Group(group)] if is(name, "cfg") => {
                self.test |= group.stream().into_iter().any(|token| is(&token, "test"));
            }
            [name, _, TokenTree::Literal(path)] if is(name, "path") => {
                self.path = Some(path.to_string().trim_matches('"').to_owned());
            }
            _ => {}
        }
    }
}

fn is(token: &TokenTree, text: &str) -> bool {
    match token {
        TokenTree::Ident(ident) => ident == text,
        TokenTree::Punct(punct) => text.len() == 1 && text.starts_with(punct.as_char()),
        TokenTree::Group(_) | TokenTree::Literal(_) => false,
    }
}

/// The groups of files that reach one another, each in order.
pub(crate) fn circles(arrows: &Arrows) -> Vec<BTreeSet<PathBuf>> {
    let reach = |from: &PathBuf| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(file) = open.pop() {
            for next in arrows.get(&file).into_iter().flat_map(BTreeMap::keys) {
                if seen.insert(next.clone()) {
                    open.push(next.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<_, _> = arrows
        .keys()
        .map(|file| (file.clone(), reach(file)))
        .collect();
    let mut circles = BTreeSet::new();
    for (file, seen) in &reached {
        if seen.contains(file) {
            let back = |other: &&PathBuf| reached.get(*other).is_some_and(|to| to.contains(file));
            circles.insert(seen.iter().filter(back).cloned().collect());
        }
    }
    circles.into_iter().collect()
}
