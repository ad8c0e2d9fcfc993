//! Takes a text in HTML apart at its tags, so that what stands between them can be translated and
//! everything else comes back as it was.

/// A part of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// Tags, comments, scripts, styles, and text without letters or digits.
    Markup(&'a str),
    /// Text to translate, its character references resolved.
    Text(String),
}

/// Elements whose content is no text.
const NO_TEXT: &[&str] = &["script", "style", "code", "pre", "textarea"];

/// The parts of a source, in order. Any text is taken for HTML: what is no tag is text.
pub(super) fn parts(source: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = source;
    while !rest.is_empty() {
        let markup = markup_length(rest);
        if markup > 0 {
            let (tag, after) = rest.split_at(markup);
            parts.push(Part::Markup(tag));
            rest = after;
            continue;
        }
        let text = text_length(rest);
        let (text, after) = rest.split_at(text);
        let has_words = text.contains(char::is_alphanumeric);
        parts.push(if has_words { Part::Text(unescape(text)) } else { Part::Markup(text) });
        rest = after;
    }
    parts
}

/// Length of the tag, comment or element without text that `source` begins with; 0 when it begins
/// with text.
fn markup_length(source: &str) -> usize {
    if !source.starts_with('<') {
        return 0;
    }
    if let Some(comment) = source.strip_prefix("<!--") {
        return comment.find("-->").map_or(source.len(), |end| 4 + end + 3);
    }
    let name: String = source[1..]
        .chars()
        .take_while(char::is_ascii_alphanumeric)
        .map(|letter| letter.to_ascii_lowercase())
        .collect();
    let is_tag = source[1..].starts_with(['/', '!', '?'])
        || name.starts_with(|letter: char| letter.is_ascii_alphabetic());
    if !is_tag {
        return 0;
    }
    let Some(end) = tag_end(source) else { return source.len() };
    if !NO_TEXT.contains(&name.as_str()) || source[..end].ends_with("/>") {
        return end;
    }
    let closing = format!("</{name}");
    let content = find_ignoring_case(&source[end..], &closing);
    content.map_or(source.len(), |content| {
        let close = end + content;
        close + tag_end(&source[close..]).unwrap_or(source.len() - close)
    })
}

/// Position after the `>` of a tag, which may stand within quotes.
fn tag_end(tag: &str) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in tag.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at + 1),
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), _) if open == byte => quote = None,
            _ => {}
        }
    }
    None
}

fn text_length(source: &str) -> usize {
    let mut from = source.chars().next().map_or(0, char::len_utf8);
    while let Some(next) = source[from..].find('<') {
        let at = from + next;
        if markup_length(&source[at..]) > 0 {
            return at;
        }
        from = at + 1;
    }
    source.len()
}

fn find_ignoring_case(text: &str, ascii: &str) -> Option<usize> {
    let (text, ascii) = (text.as_bytes(), ascii.as_bytes());
    text.windows(ascii.len()).position(|window| window.eq_ignore_ascii_case(ascii))
}

/// The references that texts use; others stay as they are.
const REFERENCES: &[(&str, char)] =
    &[("amp", '&'), ("lt", '<'), ("gt", '>'), ("quot", '"'), ("apos", '\''), ("nbsp", '\u{a0}')];

/// Bytes between the ampersand and after the semicolon of the longest reference that is resolved.
const LONGEST_REFERENCE: usize = 9;

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.bytes().skip(1).take(LONGEST_REFERENCE).position(|byte| byte == b';');
        let reference = end.map(|end| &rest[1..1 + end]);
        match reference.and_then(|name| Some((name, resolve(name)?))) {
            Some((name, character)) => {
                plain.push(character);
                rest = &rest[name.len() + 2..];
            }
            None => {
                plain.push('&');
                rest = &rest[1..];
            }
        }
    }
    plain.push_str(rest);
    plain
}

fn resolve(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let hexadecimal = number.strip_prefix(['x', 'X']).map(|digits| (digits, 16));
        let (digits, radix) = hexadecimal.unwrap_or((number, 10));
        return u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
    }
    REFERENCES.iter().find(|(known, _)| *known == name).map(|(_, character)| *character)
}

/// Text that may stand between tags.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(source: &str) -> Vec<String> {
        parts(source)
            .into_iter()
            .filter_map(|part| match part {
                Part::Text(text) => Some(text),
                Part::Markup(_) => None,
            })
            .collect()
    }

    #[test]
    fn tags_comments_and_scripts_are_no_text() {
        assert_eq!(
            texts("<p class=\"a>b\">Hello <b>world</b>.</p><!-- no <i>text</i> --><br/>End"),
            ["Hello ", "world", "End"]
        );
        assert_eq!(texts("<SCRIPT>if (a < b) c()</Script >yes<style>p{}</style>"), ["yes"]);
        assert_eq!(texts("<pre>code"), Vec::<String>::new());
    }

    #[test]
    fn references_are_resolved_and_what_looks_like_a_tag_is_text() {
        assert_eq!(texts("Tom &amp; J&#233;r&#xF4;me &copy; a & b"), ["Tom & Jérôme &copy; a & b"]);
        assert_eq!(texts("1 < 2 and <3"), ["1 < 2 and <3"]);
        assert_eq!(escape("a < b & c"), "a &lt; b &amp; c");
    }

    proptest! {
        #[test]
        fn markup_and_escaped_text_give_the_source_again(
            source in "(<[a-z!/]{0,4}[ \"'>-]{0,3}|[a-zé ]{1,5}|&lt;|</b>|<!--|-->){0,20}",
        ) {
            let again: String = parts(&source)
                .iter()
                .map(|part| match part {
                    Part::Markup(markup) => (*markup).to_owned(),
                    Part::Text(text) => escape(text),
                })
                .collect();
            // A stray bracket in text comes back escaped.
            prop_assert_eq!(unescape(&again), unescape(&source));
        }

        #[test]
        fn any_text_is_taken_apart(source in "\\PC{0,200}") {
            parts(&source);
        }
    }
}
