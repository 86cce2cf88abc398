//! The names that the store keeps for itself on every job, and where a job has their values.
//!
//! The list repeats that of the core crate, on which a derive cannot depend; a test compares them.

/// Each name of the envelope, with what to do instead of having a field of that name.
const NAMES: &[(&str, &str)] = &[
    ("_id", "the store makes it; read it with `job.id()`"),
    ("_type", "set it with `#[rocketjob(kind = \"…\")]`"),
    (
        "description",
        "set it with `#[rocketjob(description = \"…\")]` or `.description(…)`",
    ),
    (
        "priority",
        "set it with `#[rocketjob(priority = …)]` or `.priority(…)`",
    ),
    (
        "destroy_on_complete",
        "set it with `#[rocketjob(keep_completed)]` or `.keep_completed(…)`",
    ),
    ("run_at", "set it with `.run_at(…)`"),
    (
        "expires_at",
        "set it with `#[rocketjob(expires_in = \"…\")]` or `.expires_at(…)`",
    ),
    (
        "log_level",
        "set it with `#[rocketjob(log_level = \"…\")]` or `.log_level(…)`",
    ),
    ("state", READ),
    ("created_at", READ),
    ("started_at", READ),
    ("completed_at", READ),
    ("failure_count", READ),
    ("worker_name", READ),
    (
        "percent_complete",
        "`perform` sets it with `job.progress(…)`",
    ),
    ("exception", READ),
    ("throttle_group", "set it with `.throttle_group(…)`"),
    ("sub_state", KEPT),
    ("record_count", KEPT),
    ("input_categories", KEPT),
    ("output_categories", KEPT),
    ("ready", READ),
    ("hold", READ),
    ("claim", KEPT),
    ("unique_key", KEPT),
    ("unfinished_key", KEPT),
    ("unique_reason", KEPT),
    ("slots", KEPT),
    ("successors", KEPT),
    ("follows", KEPT),
    ("replacement", KEPT),
    ("lost_claims", READ),
    ("begun_claim", KEPT),
    ("retried_claim", KEPT),
    ("payload_version", KEPT),
    ("trace", "set it with `.trace(…)`"),
];

const READ: &str = "read it from `job.document()`";
const KEPT: &str = "the store keeps it";

/// What to do instead of having a field of this name; `None` when the name is free.
pub(crate) fn instead_of(name: &str) -> Option<&'static str> {
    let (_, instead) = NAMES.iter().find(|(reserved, _)| *reserved == name)?;
    Some(instead)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_core_crate() {
        let names: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, rocketjob_core::name::ENVELOPE);
    }
}
