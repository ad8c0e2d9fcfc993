//! What a client accepts as the type of an answer (RFC 9110 §12.5.1).

use axum::http::{HeaderMap, header};

/// Whether an answer of this type (`application/sdp`) is welcome. The most specific range that fits
/// decides; a header that says nothing accepts everything.
pub(crate) fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let lines = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges = lines.flat_map(|line| line.split(',')).map(str::trim).filter(|r| !r.is_empty());
    let mut said_anything = false;
    let mut best = (0, false);
    for range in ranges {
        said_anything = true;
        let mut parts = range.split(';').map(str::trim);
        let specificity = specificity(parts.next().unwrap_or_default(), media_type);
        if specificity > best.0 {
            best = (specificity, parts.all(|parameter| !is_refusal(parameter)));
        }
    }
    best.1 || !said_anything
}

/// 3 for the type itself, 2 for `application/*`, 1 for `*/*`, 0 for another.
fn specificity(range: &str, media_type: &str) -> u8 {
    let main = |essence: &str| essence.split('/').next().unwrap_or_default().to_ascii_lowercase();
    match range {
        _ if range.eq_ignore_ascii_case(media_type) => 3,
        "*/*" | "*" => 1,
        _ if range.ends_with("/*") && main(range) == main(media_type) => 2,
        _ => 0,
    }
}

/// `q=0` is "not acceptable". A weight that cannot be read is none.
fn is_refusal(parameter: &str) -> bool {
    let weight =
        parameter.split_once('=').filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
    weight.and_then(|(_, weight)| weight.trim().parse::<f32>().ok()) == Some(0.0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    fn with(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (header::ACCEPT, HeaderValue::from_str(line).unwrap())).collect()
    }

    #[test]
    fn the_most_specific_range_decides() {
        let cases: [(&[&str], bool); 14] = [
            (&[], true),
            (&[""], true),
            (&["*/*"], true),
            (&["application/sdp"], true),
            (&["Application/SDP;charset=utf-8"], true),
            (&["application/*"], true),
            (&["text/html, */*;q=0.1"], true),
            (&["text/html", "application/sdp;q=0.2"], true),
            (&["application/json"], false),
            (&["text/*"], false),
            (&["application/sdp;q=0"], false),
            (&["*/*, application/sdp; Q = 0.000"], false),
            (&["application/*;q=0, */*"], false),
            (&["application/sdpx"], false),
        ];
        for (lines, expected) in cases {
            assert_eq!(accepts(&with(lines), "application/sdp"), expected, "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn the_order_of_ranges_does_not_matter(
            mut ranges in prop::collection::vec(
                prop::sample::select(&[
                    "*/*", "*/*;q=0", "application/*", "text/html", "image/*;q=0", "nonsense", ";;q",
                ][..]),
                1..5,
            ),
        ) {
            // Two that contradict each other are not compared.
            prop_assume!(!(ranges.contains(&"*/*") && ranges.contains(&"*/*;q=0")));
            let forwards = accepts(&with(&[&ranges.join(",")]), "application/sdp");
            ranges.reverse();
            prop_assert_eq!(forwards, accepts(&with(&[&ranges.join(", ")]), "application/sdp"));
        }

        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let headers = HeaderMap::from_iter([(header::ACCEPT, value)]);
                let _ = accepts(&headers, "application/sdp");
            }
        }
    }
}
