//! Which pairs are installed, and which programs make up a pair: Apertium's `modes` folder.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::Language;

/// One program of a pipeline with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stage {
    pub program: String,
    pub arguments: Vec<String>,
}

/// The pipelines of a folder by direction. Unreadable or odd files are left out: they belong to
/// pairs that nobody here can name.
///
/// # Errors
/// The folder cannot be read: Apertium is not installed there.
pub(super) fn discover(folder: &Path) -> io::Result<BTreeMap<(Language, Language), Vec<Stage>>> {
    let mut names: Vec<_> = std::fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "mode"))
        .collect();
    // Plain names sort before their variants (`spa-eng.mode`, `spa-eng_US.mode`): the first wins.
    names.sort_by_key(|path| path.file_stem().map(std::ffi::OsStr::len));
    let mut pairs = BTreeMap::new();
    for path in names {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let Some(direction) = direction(stem) else { continue };
        let Ok(mode) = std::fs::read_to_string(&path) else { continue };
        let stages = stages(&mode);
        if !stages.is_empty() {
            pairs.entry(direction).or_insert(stages);
        }
    }
    Ok(pairs)
}

/// The direction that a mode's name stands for, such as `eng-spa` or `es-pt_BR`.
fn direction(stem: &str) -> Option<(Language, Language)> {
    let (from, to) = stem.split_once('-')?;
    let language = |code: &str| {
        let code = code.split('_').next().unwrap_or_default();
        let short = THREE_LETTERS.iter().find(|(three, _)| *three == code);
        short.map_or(code, |(_, two)| two).parse().ok()
    };
    Some((language(from)?, language(to)?))
}

/// The programs of a mode: the last line, split at `|`, with `-z` (flush at NUL) after every
/// program, `$1` (how to mark unknown words) as `-n` and `$2` as nothing.
fn stages(mode: &str) -> Vec<Stage> {
    let line = mode.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    line.split('|')
        .filter_map(|command| {
            let mut words = words(command).into_iter();
            let program = words.next()?;
            let mut arguments = vec!["-z".to_owned()];
            arguments.extend(words.filter_map(|word| match word.as_str() {
                "$1" => Some("-n".to_owned()),
                "$2" => None,
                _ => Some(word),
            }));
            Some(Stage { program, arguments })
        })
        .collect()
}

/// Splits at spaces outside quotes.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    for character in command.chars() {
        match quote {
            Some(open) if character == open => quote = None,
            None if matches!(character, '\'' | '"') => quote = Some(character),
            None if character.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            _ => word.push(character),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// ISO 639-3 codes that Apertium's pairs use, with the codes of [`Language`].
const THREE_LETTERS: &[(&str, &str)] = &[
    ("afr", "af"),
    ("ara", "ar"),
    ("bel", "be"),
    ("bre", "br"),
    ("bul", "bg"),
    ("cat", "ca"),
    ("cym", "cy"),
    ("dan", "da"),
    ("deu", "de"),
    ("eng", "en"),
    ("eus", "eu"),
    ("fra", "fr"),
    ("glg", "gl"),
    ("hin", "hi"),
    ("ind", "id"),
    ("isl", "is"),
    ("ita", "it"),
    ("kaz", "kk"),
    ("mkd", "mk"),
    ("mlt", "mt"),
    ("nld", "nl"),
    ("nno", "nn"),
    ("nob", "no"),
    ("oci", "oc"),
    ("pol", "pl"),
    ("por", "pt"),
    ("ron", "ro"),
    ("rus", "ru"),
    ("slv", "sl"),
    ("spa", "es"),
    ("swe", "sv"),
    ("tat", "tt"),
    ("tur", "tr"),
    ("ukr", "uk"),
    ("urd", "ur"),
    ("zlm", "ms"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_becomes_programs_that_flush_at_nul() {
        let stages = stages("lt-proc '/a b/x.bin' | tagger -g $2 'y' | lt-proc $1 'z'\n");
        let shown: Vec<String> = stages
            .iter()
            .map(|stage| format!("{} {}", stage.program, stage.arguments.join(" ")))
            .collect();
        assert_eq!(shown, ["lt-proc -z /a b/x.bin", "tagger -z -g y", "lt-proc -z -n z"]);
    }

    #[test]
    fn names_of_two_and_three_letters_and_variants_are_known() {
        let french: Language = "fr".parse().expect("a known code");
        assert_eq!(direction("eng-spa"), Some((Language::EN, Language::ES)));
        assert_eq!(direction("spa-eng_US"), Some((Language::ES, Language::EN)));
        assert_eq!(direction("fr-es"), Some((french, Language::ES)));
        assert_eq!(direction("spa-arg"), None);
        assert_eq!(direction("nothing"), None);
    }

    #[test]
    fn the_plain_mode_wins_over_its_variant() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("spa-eng_US.mode"), "variant").expect("written");
        std::fs::write(folder.path().join("spa-eng.mode"), "plain").expect("written");
        std::fs::write(folder.path().join("eng-spa.mode"), "\n").expect("written");
        let pairs = discover(folder.path()).expect("readable");
        assert_eq!(pairs.len(), 1);
        assert_eq!(pairs[&(Language::ES, Language::EN)][0].program, "plain");
    }
}
