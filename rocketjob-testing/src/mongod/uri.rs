//! Puts a database's name into a server's URI.

use super::Attempt;

/// `uri` with `database` as its path, and everything else as it was.
///
/// The path is also where credentials are looked up unless `authSource` says so; where the URI has
/// credentials, that stays as it was too.
pub(super) fn with_database(uri: &str, database: &str) -> Attempt<String> {
    let (scheme, rest) = uri
        .split_once("://")
        .filter(|(scheme, _)| scheme.starts_with("mongodb"))
        .ok_or_else(|| format!("`{uri}` is not the URI of a MongoDB server"))?;
    let (address, mut options) = match rest.split_once('?') {
        Some((address, options)) => (address, options.to_owned()),
        None => (rest, String::new()),
    };
    let (hosts, path) = address.split_once('/').unwrap_or((address, ""));
    if hosts.contains('@') && !options.to_lowercase().contains("authsource=") {
        let source = if path.is_empty() { "admin" } else { path };
        let separator = if options.is_empty() { "" } else { "&" };
        options = format!("{options}{separator}authSource={source}");
    }
    let mark = if options.is_empty() { "" } else { "?" };
    Ok(format!("{scheme}://{hosts}/{database}{mark}{options}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_becomes_the_path() {
        for (uri, expected) in [
            ("mongodb://a", "mongodb://a/db"),
            ("mongodb://a/", "mongodb://a/db"),
            ("mongodb://a:1,b:2/old", "mongodb://a:1,b:2/db"),
            ("mongodb://a/?replicaSet=x", "mongodb://a/db?replicaSet=x"),
            ("mongodb://a?replicaSet=x", "mongodb://a/db?replicaSet=x"),
            ("mongodb+srv://a/old?w=1", "mongodb+srv://a/db?w=1"),
            ("mongodb://u:p@a", "mongodb://u:p@a/db?authSource=admin"),
            (
                "mongodb://u:p@a/old?w=1",
                "mongodb://u:p@a/db?w=1&authSource=old",
            ),
            (
                "mongodb://u:p@a/old?authsource=x",
                "mongodb://u:p@a/db?authsource=x",
            ),
        ] {
            assert_eq!(with_database(uri, "db").as_deref(), Ok(expected), "{uri}");
        }
    }

    #[test]
    fn what_is_no_uri_is_refused_by_name() {
        let problem = with_database("localhost:27017", "db").unwrap_err();
        assert!(problem.contains("`localhost:27017`"), "{problem}");
    }
}
