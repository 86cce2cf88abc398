//! The names of our options, and what to say of a name that is none of them.

/// The options of `#[rocketjob(…)]`.
pub(crate) const JOB_OPTIONS: &[&str] = &[
    "kind",
    "aliases",
    "description",
    "priority",
    "keep_completed",
    "expires_in",
    "log_level",
    "pausable",
    "timeout",
    "on_lost_claim",
    "max_lost_claims",
    "version",
    "unregistered",
    "cron",
    "depends_on",
    "processing_window",
    "rate_limit",
    "restart",
    "retry",
    "singleton",
    "throttle",
    "unique",
    "concern",
    "crate",
];

/// The options of `#[field(…)]`.
pub(crate) const FIELD_OPTIONS: &[&str] = &["user_editable", "copy_on_restart", "label", "default"];

/// Names that people try, and what they mean by them.
const JOB_ADVICE: &[(&str, &str)] = &[
    (
        "destroy_on_complete",
        "a completed job is removed anyway; write `keep_completed` to keep it",
    ),
    ("alias", "write `aliases(\"OldName\")`"),
    ("name", "write `kind = \"…\"`"),
    ("rename", "write `kind = \"…\"`"),
    ("about", "write a doc comment above the struct"),
];
const FIELD_ADVICE: &[(&str, &str)] = &[
    ("editable", "write `user_editable`"),
    ("description", "write a doc comment above the field"),
    ("rename", "write `#[serde(rename = \"…\")]`"),
    ("name", "write `#[serde(rename = \"…\")]`"),
    ("alias", "write `#[serde(alias = \"…\")]`"),
    (
        "type",
        "the type is known from the field; what `#[serde(with = …)]` makes is kept as it is",
    ),
];

/// What to say of an unknown option of `#[rocketjob(…)]`.
pub(crate) fn unknown_job_option(name: &str) -> String {
    let advice = advice(JOB_ADVICE, name).or_else(|| {
        let belongs = FIELD_OPTIONS.contains(&name);
        belongs.then(|| "it belongs on a field, in `#[field(…)]`".to_owned())
    });
    unknown("rocketjob", name, JOB_OPTIONS, advice)
}

/// What to say of an unknown option of `#[field(…)]`.
pub(crate) fn unknown_field_option(name: &str) -> String {
    let advice = advice(FIELD_ADVICE, name).or_else(|| {
        let belongs = JOB_OPTIONS.contains(&name);
        belongs.then(|| "it belongs on the struct, in `#[rocketjob(…)]`".to_owned())
    });
    unknown("field", name, FIELD_OPTIONS, advice)
}

fn advice(table: &[(&str, &str)], name: &str) -> Option<String> {
    let (_, advice) = table.iter().find(|(tried, _)| *tried == name)?;
    Some((*advice).to_owned())
}

fn unknown(attribute: &str, name: &str, known: &[&str], advice: Option<String>) -> String {
    let advice = advice.or_else(|| Some(format!("did you mean `{}`?", nearest(name, known)?)));
    let accepted = listed(known);
    match advice {
        Some(advice) => {
            format!("unknown option `{name}`: {advice}\n`#[{attribute}(…)]` accepts {accepted}")
        }
        None => format!("unknown option `{name}`\n`#[{attribute}(…)]` accepts {accepted}"),
    }
}

/// The names in backticks, as a sentence lists them.
pub(crate) fn listed(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

/// The known name that was probably meant.
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let begins = |known: &&&str| {
        let shared = known.len().min(name.len());
        shared >= 3 && known.as_bytes()[..shared] == name.as_bytes()[..shared]
    };
    if let Some(longer_or_shorter) = known.iter().find(begins) {
        return Some(longer_or_shorter);
    }
    let close = known.iter().map(|known| (distance(name, known), *known));
    let (distance, nearest) = close.min_by_key(|(distance, _)| *distance)?;
    // A third of the letters: enough for slips, too little to turn one word into another.
    (distance <= 1.max(nearest.len() / 3)).then_some(nearest)
}

/// How many letters must be changed, added or removed to get from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_name_and_another_word_does_not() {
        assert_eq!(nearest("priorty", JOB_OPTIONS), Some("priority"));
        assert_eq!(
            nearest("keep_complete", JOB_OPTIONS),
            Some("keep_completed")
        );
        assert_eq!(
            nearest("user-editable", FIELD_OPTIONS),
            Some("user_editable")
        );
        assert_eq!(nearest("expires", JOB_OPTIONS), Some("expires_in"));
        assert_eq!(nearest("kinds_of_job", JOB_OPTIONS), Some("kind"));
        assert_eq!(nearest("retries", JOB_OPTIONS), None);
        assert_eq!(nearest("pé", JOB_OPTIONS), None);
        assert_eq!(nearest("", FIELD_OPTIONS), None);
    }

    #[test]
    fn the_distance_counts_changed_added_and_removed_letters() {
        assert_eq!(distance("label", "label"), 0);
        assert_eq!(distance("lable", "label"), 2);
        assert_eq!(distance("", "kind"), 4);
        assert_eq!(distance("kinds", "kind"), 1);
    }
}
