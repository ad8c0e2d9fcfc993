//! The page: the browser's side, built into the program so that one file is the whole server.

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::IntoResponse;
use axum::routing::get;

/// Path and contents of each file that `web/` was built into; empty when it was not.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// What is served when the program was built without its page.
const NOT_BUILT: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>Dragoman</title>\
    <p>The page was not built. Run <code>make page</code>, then build the program again. The API \
    works without it.";

/// Everything the page loads comes from this server; it may talk to this server alone.
const POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; media-src 'self' blob: mediastream:; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

/// Serves `/` and whatever it loads.
pub(super) fn router() -> Router {
    with_files(FILES)
}

fn with_files(files: &'static [(&str, &[u8])]) -> Router {
    let index = files.iter().find(|(path, _)| *path == "index.html").map(|(_, body)| *body);
    let index = index.unwrap_or(NOT_BUILT.as_bytes());
    let mut router = Router::new().route("/", get(async || asset("index.html", index)));
    for (path, body) in files {
        let address = match *path {
            "index.html" => continue,
            // The API's reference, beside the document that it shows.
            "docs.html" => "/v1/docs".to_owned(),
            path => format!("/{path}"),
        };
        router = router.route(&address, get(async || asset(path, body)));
    }
    router
}

fn asset(path: &str, body: &'static [u8]) -> impl IntoResponse {
    let kind = match path.rsplit_once('.').map(|(_, suffix)| suffix) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    };
    // The names under `assets/` carry a hash of the contents.
    let kept = path.starts_with("assets/");
    let headers = [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, if kept { "public, max-age=31536000, immutable" } else { "no-cache" }),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, body)
}
