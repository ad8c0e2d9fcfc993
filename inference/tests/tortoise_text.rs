//! Tortoise's text front end against the reference implementation: `fixtures/tortoise/text.json`,
//! made by `make_text.py` beside it.

use std::path::Path;

use inference::tortoise::text::Tokenizer;
use serde::Deserialize;

#[derive(Deserialize)]
struct Entry {
    text: String,
    clean: String,
    ids: Vec<u32>,
}

#[test]
fn texts_become_the_ids_of_the_reference() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tortoise/text.json");
    let entries = std::fs::read_to_string(path).expect("the texts are part of the repository");
    let entries: Vec<Entry> = serde_json::from_str(&entries).expect("texts");
    assert!(entries.len() > 150);
    let tokenizer = Tokenizer::english();
    let mut others = Vec::new();
    for Entry { text, clean, ids } in &entries {
        let ours = (tokenizer.clean(text), tokenizer.encode(text).expect("ids"));
        if (&ours.0, &ours.1) != (clean, ids) {
            others.push(format!("{text:?}\n  is {ours:?}\n  not {:?}", (clean, ids)));
        }
    }
    assert!(others.is_empty(), "{} texts differ:\n{}", others.len(), others.join("\n"));
}
